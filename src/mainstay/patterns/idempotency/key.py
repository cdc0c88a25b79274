"""What a key is: how the header is read, within what scope it counts, and which request it stands for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

HEADER = b"idempotency-key"
LONGEST = 255
"""Characters of a key at most."""

# A String of RFC 8941, section 3.3.3, or what many clients send: the same without the quotes.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")


class BadKey(ValueError):
    """The header cannot be read as one key; the message says why."""


def parse_key(value: str) -> str:
    r"""The key in an ``Idempotency-Key`` header.

    The draft has a String of structured fields, in double quotes: ``"8e03978e-40d5"``. Without quotes the same
    key is meant, as Stripe and many others have it; then it has no space, quote, comma, semicolon or backslash.

    Raises:
        BadKey: it is neither, it is empty, or it has more than 255 characters.

    Sources: draft-ietf-httpapi-idempotency-key-header-07, section 2.1; RFC 8941, section 3.3.3.
    """
    value = value.strip(" \t")
    if quoted := _QUOTED.fullmatch(value):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _BARE.fullmatch(value):
        key = value
    else:
        raise BadKey(
            'the key is one string of visible ASCII characters, best in double quotes: "8e03978e-40d5"'
        )
    if not 1 <= len(key) <= LONGEST:
        raise BadKey(f"the key has {len(key)} characters; it may have 1 to {LONGEST}")
    return key


@dataclass(frozen=True)
class IdempotencyKey:
    """A key within its scope. The same key of another tenant or on another route is another key.

    Attributes:
        tenant: on whose behalf the request is made; empty where keys are shared by all.
        route: method and path, ``POST /orders``.
        key: what the client has sent.
    """

    tenant: str
    route: str
    key: str

    @cached_property
    def id(self) -> UUID:
        """The key's own id: the same in every attempt, and not to be guessed from outside.

        A handler that calls another system hands it on as that call's idempotency key.
        """
        digest = _digest(text.encode() for text in (self.tenant, self.route, self.key))
        number = int.from_bytes(digest[:16], "big")
        return UUID(int=number & ~(0xF << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62)  # RFC 9562, version 8

    @property
    def lock(self) -> int:
        """Number of the advisory lock that a request with this key holds while it is at work."""
        return int.from_bytes(self.id.bytes[8:], "big", signed=True)

    def fingerprint(self, query: bytes, content_type: bytes, body: bytes) -> bytes:
        """SHA-256 of the request: scope, query string, content type and body, byte for byte.

        The body is not brought into a canonical form. A retry repeats the same bytes; and what counts as "the
        same JSON" (order, doubles, 1 and 1.0) is better not guessed when money hangs on it.
        """
        scope = (text.encode() for text in (self.tenant, self.route, self.key))
        return _digest((*scope, query, content_type, hashlib.sha256(body).digest()))


def _digest(pieces: Iterable[bytes]) -> bytes:
    """SHA-256 of the pieces, each led by its length, so that no two lists of pieces look alike."""
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(len(piece).to_bytes(8, "big"))
        whole.update(piece)
    return whole.digest()
