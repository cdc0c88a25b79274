"""Messages of protocol 3: what is written can be read, however it is cut to pieces on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.architect.diagnose import wire

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
# Any bytes may come where text is meant, in whatever encoding the client has chosen.
foreign = st.binary(max_size=20).map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
anything = texts | foreign
oids = st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple)
formats = st.lists(st.integers(0, 1), max_size=5).map(tuple)
values = st.lists(st.none() | st.binary(max_size=30), max_size=5).map(tuple)
kinds = st.sampled_from("SP")
shorts, ints = st.integers(-(2**15), 2**15 - 1), st.integers(-(2**31), 2**31 - 1)
fields = st.dictionaries(st.sampled_from("SVCMDHPpqWF"), anything, max_size=6)

frontend = st.one_of(
    st.builds(wire.Query, anything),
    st.builds(wire.Parse, anything, anything, oids),
    st.builds(wire.Bind, anything, anything, formats, values, formats),
    st.builds(wire.Describe, kinds, anything),
    st.builds(wire.Close, kinds, anything),
    st.builds(wire.Execute, anything, ints),
    st.builds(wire.Sync),
    st.builds(wire.Flush),
    st.builds(wire.Terminate),
    st.builds(wire.Password, st.binary(max_size=40)),
)
columns = st.builds(
    wire.Column, anything, st.integers(0, 2**32 - 1), shorts, st.integers(0, 2**32 - 1), shorts, ints, shorts
)
backend = st.one_of(
    st.builds(wire.Authentication, ints, st.binary(max_size=40)),
    st.builds(wire.ParameterStatus, anything, anything),
    st.builds(wire.BackendKeyData, st.integers(0, 2**32 - 1), st.binary(max_size=32)),
    st.builds(wire.NegotiateProtocolVersion, ints, st.lists(anything, max_size=3).map(tuple)),
    st.builds(wire.ReadyForQuery, st.sampled_from("ITE")),
    st.builds(wire.RowDescription, st.lists(columns, max_size=4).map(tuple)),
    st.builds(wire.DataRow, values),
    st.builds(wire.CommandComplete, anything),
    st.builds(wire.ErrorResponse, fields),
    st.builds(wire.NoticeResponse, fields),
    st.builds(wire.ParameterDescription, oids),
    st.builds(wire.NotificationResponse, st.integers(0, 2**32 - 1), anything, anything),
)


@given(frontend)
async def test_what_a_client_writes_is_read_back(message: wire.Message) -> None:
    """`decode` undoes `encode` for every frontend message."""
    assert wire.decode(message.encode(), wire.FRONTEND) == message


@given(backend)
async def test_what_a_server_writes_is_read_back(message: wire.Message) -> None:
    """`decode` undoes `encode` for every backend message."""
    assert wire.decode(message.encode(), wire.BACKEND) == message


@given(
    st.one_of(
        st.builds(
            wire.Startup,
            st.dictionaries(anything.filter(bool), anything, max_size=4),
            st.integers(0, 0xFFFF).map(lambda minor: 3 << 16 | minor),
        ),
        st.builds(wire.EncryptionRequest, st.sampled_from([wire.SSL_REQUEST, wire.GSS_REQUEST])),
        st.builds(wire.CancelRequest, st.integers(0, 2**32 - 1), st.binary(max_size=32)),
    )
)
async def test_first_messages_are_read_back(message: wire.Message) -> None:
    """The messages without a type byte are told apart by what is in them."""
    assert wire.decode_first(message.encode()) == message


@given(st.lists(frontend | backend, max_size=8), st.data())
async def test_pieces_make_no_difference(messages: list[wire.Message], data: st.DataObject) -> None:
    """A stream cut anywhere, even within a header, gives the same messages in the same order."""
    stream = b"".join(message.encode() for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    framer = wire.Framer()
    got = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for kind, first, last in framer.feed(stream[begin:end]):
            assert framer.data[first] == kind
            got.append(framer.data[first:last])
    assert got == [message.encode() for message in messages]
    assert framer.waiting == 0


@given(st.binary(max_size=60))
async def test_rubbish_is_refused_and_nothing_else(raw: bytes) -> None:
    """Whatever bytes come, reading them gives a message or `ProtocolError`."""
    for read in (
        lambda: wire.decode(raw, wire.FRONTEND),
        lambda: wire.decode(raw, wire.BACKEND),
        lambda: wire.decode_first(raw),
        lambda: list(wire.Framer().feed(raw)),
    ):
        try:
            read()
        except wire.ProtocolError:
            continue


async def test_an_impossible_length_is_noticed_at_once() -> None:
    """A stream that lost its beat is not waited for."""
    with pytest.raises(wire.ProtocolError, match="impossible length"):
        list(wire.Framer().feed(b"Q\0\0\0\1abc"))


async def test_a_long_message_in_many_pieces_takes_linear_time() -> None:
    """16 MB in pieces of 1 kB are joined once, not at every piece."""
    message = wire.Query("x" * (1 << 24)).encode()
    framer = wire.Framer()
    found = 0
    for begin in range(0, len(message), 1024):
        found += sum(1 for _ in framer.feed(message[begin : begin + 1024]))
    assert found == 1
