"""What a key is: reading the header, scope, fingerprint; and which replies and headers are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.patterns.idempotency import BadKey, IdempotencyKey, parse_key
from mainstay.patterns.idempotency.reply import is_outcome, kept_headers, restored_headers

visible = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)
token = st.text("abcdefXYZ0189-_.~:/+=!*", min_size=1, max_size=255)
texts = st.text(max_size=20)
scopes = st.builds(IdempotencyKey, texts, texts, visible)


@given(visible)
def test_a_quoted_string_gives_its_characters(key: str) -> None:
    """What RFC 8941 writes for a string of visible ASCII is read back as that string."""
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert parse_key(quoted) == key


@given(token)
def test_quotes_make_no_other_key(key: str) -> None:
    """A client that leaves the quotes out means the same key."""
    assert parse_key(key) == parse_key(f' "{key}"\t') == key


NO_KEYS = [
    *["", " ", '""', '"a', 'a"', '"a" b', "a b", "a,b", '"a", "b"', '"a";p=1', "a;b", "a\\b", '"\\n"'],
    *["schlüssel", '"é"', "a\x00", "\x7f", '"' + "k" * 256 + '"', "k" * 256],
]  # fmt: skip


@pytest.mark.parametrize("value", NO_KEYS)
def test_what_is_not_one_key_is_refused(value: str) -> None:
    """Neither guessed at nor cut: lists, parameters, other characters, none, or more than 255."""
    with pytest.raises(BadKey):
        parse_key(value)


@given(scopes, scopes)
def test_an_id_stands_for_tenant_route_and_key(one: IdempotencyKey, two: IdempotencyKey) -> None:
    """Equal scope, equal id and lock; otherwise another one, wherever the pieces are cut."""
    assert (one.id == two.id) == (one == two)
    assert one.id.version == 8 and one.id.variant == "specified in RFC 4122"
    assert -(2**63) <= one.lock < 2**63


def test_pieces_of_a_scope_do_not_run_into_each_other() -> None:
    """Tenant "a" with route "bc" is not tenant "ab" with route "c"."""
    assert IdempotencyKey("a", "bc", "k").id != IdempotencyKey("ab", "c", "k").id
    key = IdempotencyKey("t", "r", "k")
    assert key.fingerprint(b"a", b"b", b"") != key.fingerprint(b"ab", b"", b"")


@given(st.tuples(*[st.binary(max_size=8)] * 3), st.tuples(*[st.binary(max_size=8)] * 3))
def test_a_fingerprint_stands_for_query_type_and_body(one: tuple[bytes, ...], two: tuple[bytes, ...]) -> None:
    """Any byte more, less or elsewhere gives another one."""
    key = IdempotencyKey("t", "POST /orders", "k")
    assert (key.fingerprint(*one) == key.fingerprint(*two)) == (one == two)
    assert key.fingerprint(*one) != IdempotencyKey("u", "POST /orders", "k").fingerprint(*one)


OUTCOMES = [200, 201, 204, 303, 400, 402, 404, 409, 412, 422]
OTHERS = [401, 403, 407, 408, 425, 429, 500, 503]


@pytest.mark.parametrize("status", [*OUTCOMES, *OTHERS])
def test_a_reply_that_judges_the_request_is_an_outcome(status: int) -> None:
    """What asks to sign in or to come again is none, and what went wrong is none."""
    assert is_outcome(status, []) is (status in OUTCOMES)


def test_a_refusal_that_asks_to_come_again_is_no_outcome() -> None:
    """A 4xx with Retry-After; a 202 with it has been accepted."""
    assert not is_outcome(409, [(b"Retry-After", b"1")])
    assert is_outcome(202, [(b"retry-after", b"1")])


def test_headers_are_kept_except_those_of_the_connection_and_cookies() -> None:
    """Order, doubles and bytes above ASCII stay; what Connection names goes too."""
    kept = [
        (b"content-type", b"text/plain"),
        (b"link", b"a"),
        (b"link", b"b"),
        (b"x-name", "é".encode("latin-1")),
    ]
    dropped = [
        (b"Connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Date", b"today"),
        (b"Server", b"us"),
        (b"Set-Cookie", b"session=secret"),
    ]
    assert restored_headers(kept_headers([*dropped, *kept])) == kept
