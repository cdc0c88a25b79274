"""Messages of the PostgreSQL protocol, version 3: cutting them out of a stream, reading and writing them. No I/O.

Source: PostgreSQL documentation, part "Frontend/Backend Protocol", chapter "Message Formats".

A message is one byte for its type, four for its length (which counts itself, not the type), and a
body; the first message of a client has no type. Text is kept as `str` and travels as UTF-8 with
``surrogateescape``, so that whatever came in goes out again byte for byte, in any encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102
PROTOCOL_3_0 = 3 << 16

LONGEST_STARTUP = 10_000
"""A first message longer than this is no PostgreSQL client (PostgreSQL has the same limit)."""

_header = struct.Struct("!cI")
_int = struct.Struct("!i")
_uint = struct.Struct("!I")
_short = struct.Struct("!h")
_ushort = struct.Struct("!H")


class ProtocolError(Exception):
    """What came over the wire is not protocol 3."""


class Framer:
    """Cuts a stream of bytes, however it arrives in pieces, into messages.

    `feed` takes what has arrived; iterating gives each complete message as ``(type, begin, end)``, where the
    whole message, header and all, is ``framer.data[begin:end]``. What is incomplete waits for more. The positions are
    good until the next `feed`.
    """

    __slots__ = ("_waiting", "_wanted", "data")

    def __init__(self) -> None:
        self.data = b""
        self._waiting: list[bytes] = []  # pieces of a message that is not complete yet
        self._wanted = 0  # bytes still missing until the next message can be complete

    @property
    def waiting(self) -> int:
        """Number of bytes of an incomplete message."""
        return sum(map(len, self._waiting))

    def feed(self, piece: bytes) -> Iterator[tuple[int, int, int]]:
        """Take `piece` and iterate over the messages that are complete now. The iterator must be used up."""
        self._wanted -= len(piece)
        if self._wanted > 0:
            # A long message: joining at every piece would take time quadratic in its length.
            self._waiting.append(piece)
            self.data = b""
            return
        data = self.data = b"".join((*self._waiting, piece)) if self._waiting else piece
        begin, size = 0, len(data)
        while size - begin >= 5:
            length = int.from_bytes(data[begin + 1 : begin + 5], "big")
            if length < 4 or length > 0x7FFFFFFF:
                raise ProtocolError(f"message {data[begin : begin + 1]!r} has the impossible length {length}")
            end = begin + 1 + length
            if end > size:
                self._wanted = end - size
                break
            yield data[begin], begin, end
            begin = end
        else:
            self._wanted = 5 - (size - begin)
        self._waiting = [data[begin:]] if begin < size else []


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape") + b"\0"


def _string(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class _Reader:
    """Reads the fields of one body in order; whatever does not fit raises `ProtocolError`."""

    __slots__ = ("at", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def take(self, count: int) -> bytes:
        piece = self.body[self.at : self.at + count]
        if count < 0 or len(piece) < count:
            raise ProtocolError("a message is shorter than its fields")
        self.at += count
        return piece

    def rest(self) -> bytes:
        return self.take(len(self.body) - self.at)

    def byte(self) -> str:
        return self.take(1).decode("latin-1")

    def short(self) -> int:
        return int(_short.unpack(self.take(2))[0])

    def count(self) -> int:
        return int(_ushort.unpack(self.take(2))[0])

    def int32(self) -> int:
        return int(_int.unpack(self.take(4))[0])

    def uint32(self) -> int:
        return int(_uint.unpack(self.take(4))[0])

    def text(self) -> str:
        end = self.body.find(b"\0", self.at)
        if end < 0:
            raise ProtocolError("a text in a message has no end")
        piece = self.body[self.at : end]
        self.at = end + 1
        return _string(piece)

    def value(self) -> bytes | None:
        length = self.int32()
        return None if length == -1 else self.take(length)

    def done(self) -> None:
        if self.at != len(self.body):
            raise ProtocolError("a message is longer than its fields")


def _values(values: tuple[bytes | None, ...]) -> bytes:
    fields = (_int.pack(-1) if value is None else _int.pack(len(value)) + value for value in values)
    return _ushort.pack(len(values)) + b"".join(fields)


def _shorts(values: tuple[int, ...]) -> bytes:
    return struct.pack(f"!H{len(values)}h", len(values), *values)


class Message:
    """One message. `encode` and `decode` are each other's inverse."""

    type: ClassVar[bytes] = b""

    __slots__ = ()

    def body(self) -> bytes:
        return b""

    @classmethod
    def read(cls, reader: _Reader) -> Message:
        return cls()

    def encode(self) -> bytes:
        """The bytes on the wire."""
        body = self.body()
        return self.type + _uint.pack(len(body) + 4) + body


# ------------------------------------------------------------------------------ from the client


@dataclass(frozen=True, slots=True)
class Startup(Message):
    """The first message: which protocol, and ``user``, ``database`` and settings."""

    parameters: dict[str, str]
    protocol: int = PROTOCOL_3_0

    def encode(self) -> bytes:
        pairs = b"".join(_text(key) + _text(value) for key, value in self.parameters.items())
        return _uint.pack(len(pairs) + 9) + _uint.pack(self.protocol) + pairs + b"\0"


@dataclass(frozen=True, slots=True)
class EncryptionRequest(Message):
    """Asks for TLS (`SSL_REQUEST`) or GSSAPI (`GSS_REQUEST`) instead of a `Startup`."""

    code: int

    def encode(self) -> bytes:
        return _uint.pack(8) + _uint.pack(self.code)


@dataclass(frozen=True, slots=True)
class CancelRequest(Message):
    """Asks, on a connection of its own, to cancel what another connection runs."""

    pid: int
    secret: bytes

    def encode(self) -> bytes:
        return _uint.pack(len(self.secret) + 12) + struct.pack("!II", CANCEL_REQUEST, self.pid) + self.secret


def decode_first(raw: bytes) -> Startup | EncryptionRequest | CancelRequest:
    """Read a client's first message, which has no type byte. Raises `ProtocolError`."""
    reader = _Reader(raw)
    if reader.uint32() != len(raw):
        raise ProtocolError("the first message is cut off")
    code = reader.uint32()
    if code in (SSL_REQUEST, GSS_REQUEST):
        reader.done()
        return EncryptionRequest(code)
    if code == CANCEL_REQUEST:
        return CancelRequest(reader.uint32(), reader.rest())
    if code >> 16 != 3:
        raise ProtocolError(f"protocol {code >> 16}.{code & 0xFFFF} is not supported")
    parameters = {}
    while key := reader.text():
        parameters[key] = reader.text()
    reader.done()
    return Startup(parameters, code)


@dataclass(frozen=True, slots=True)
class Query(Message):
    """One or several statements as text, run at once."""

    type = b"Q"
    sql: str

    def body(self) -> bytes:
        return _text(self.sql)

    @classmethod
    def read(cls, reader: _Reader) -> Query:
        return cls(reader.text())


@dataclass(frozen=True, slots=True)
class Parse(Message):
    """Prepare a statement; the unnamed one lives until the next."""

    type = b"P"
    name: str
    sql: str
    types: tuple[int, ...] = ()
    """OIDs of the parameters; 0 is unspecified, and the list may be short."""

    def body(self) -> bytes:
        return (
            _text(self.name)
            + _text(self.sql)
            + struct.pack(f"!H{len(self.types)}I", len(self.types), *self.types)
        )

    @classmethod
    def read(cls, reader: _Reader) -> Parse:
        return cls(reader.text(), reader.text(), tuple(reader.uint32() for _ in range(reader.count())))


@dataclass(frozen=True, slots=True)
class Bind(Message):
    """Give a prepared statement its parameters; the result is a portal."""

    type = b"B"
    portal: str
    statement: str
    formats: tuple[int, ...] = ()
    """0 text, 1 binary, for each value; none is all text, one is for all."""
    values: tuple[bytes | None, ...] = ()
    result_formats: tuple[int, ...] = ()

    def body(self) -> bytes:
        return (
            _text(self.portal)
            + _text(self.statement)
            + _shorts(self.formats)
            + _values(self.values)
            + _shorts(self.result_formats)
        )

    @classmethod
    def read(cls, reader: _Reader) -> Bind:
        return cls(
            reader.text(),
            reader.text(),
            tuple(reader.short() for _ in range(reader.count())),
            tuple(reader.value() for _ in range(reader.count())),
            tuple(reader.short() for _ in range(reader.count())),
        )


@dataclass(frozen=True, slots=True)
class Describe(Message):
    """Ask what a prepared statement (``S``) or portal (``P``) takes and returns."""

    type = b"D"
    kind: str
    name: str

    def body(self) -> bytes:
        return self.kind.encode("latin-1") + _text(self.name)

    @classmethod
    def read(cls, reader: _Reader) -> Describe:
        return cls(reader.byte(), reader.text())


@dataclass(frozen=True, slots=True)
class Close(Message):
    """Forget a prepared statement (``S``) or portal (``P``)."""

    type = b"C"
    kind: str
    name: str

    def body(self) -> bytes:
        return self.kind.encode("latin-1") + _text(self.name)

    @classmethod
    def read(cls, reader: _Reader) -> Close:
        return cls(reader.byte(), reader.text())


@dataclass(frozen=True, slots=True)
class Execute(Message):
    """Run a portal, for at most `max_rows` rows (0: all)."""

    type = b"E"
    portal: str
    max_rows: int = 0

    def body(self) -> bytes:
        return _text(self.portal) + _int.pack(self.max_rows)

    @classmethod
    def read(cls, reader: _Reader) -> Execute:
        return cls(reader.text(), reader.int32())


@dataclass(frozen=True, slots=True)
class Sync(Message):
    """End of a batch: commit what stands outside a transaction, and answer `ReadyForQuery`."""

    type = b"S"


@dataclass(frozen=True, slots=True)
class Flush(Message):
    """Send what answers there are."""

    type = b"H"


@dataclass(frozen=True, slots=True)
class Terminate(Message):
    """The client leaves."""

    type = b"X"


@dataclass(frozen=True, slots=True)
class Password(Message):
    """An answer to an authentication request: a password, a hash or a SASL message, without interpretation."""

    type = b"p"
    data: bytes

    def body(self) -> bytes:
        return self.data

    @classmethod
    def read(cls, reader: _Reader) -> Password:
        return cls(reader.rest())


# ------------------------------------------------------------------------------ from the server


@dataclass(frozen=True, slots=True)
class Authentication(Message):
    """0: all well; 3: clear text; 5: MD5 with `data` as salt; 10, 11, 12: SASL."""

    type = b"R"
    code: int
    data: bytes = b""

    def body(self) -> bytes:
        return _int.pack(self.code) + self.data

    @classmethod
    def read(cls, reader: _Reader) -> Authentication:
        return cls(reader.int32(), reader.rest())


@dataclass(frozen=True, slots=True)
class ParameterStatus(Message):
    """A setting that clients like to know has this value now."""

    type = b"S"
    name: str
    value: str

    def body(self) -> bytes:
        return _text(self.name) + _text(self.value)

    @classmethod
    def read(cls, reader: _Reader) -> ParameterStatus:
        return cls(reader.text(), reader.text())


@dataclass(frozen=True, slots=True)
class BackendKeyData(Message):
    """What a `CancelRequest` for this connection must carry."""

    type = b"K"
    pid: int
    secret: bytes

    def body(self) -> bytes:
        return _uint.pack(self.pid) + self.secret

    @classmethod
    def read(cls, reader: _Reader) -> BackendKeyData:
        return cls(reader.uint32(), reader.rest())


@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion(Message):
    """The server speaks an older minor version, and does not know these options."""

    type = b"v"
    newest_minor: int
    options: tuple[str, ...] = ()

    def body(self) -> bytes:
        return struct.pack("!ii", self.newest_minor, len(self.options)) + b"".join(map(_text, self.options))

    @classmethod
    def read(cls, reader: _Reader) -> NegotiateProtocolVersion:
        return cls(reader.int32(), tuple(reader.text() for _ in range(reader.int32())))


@dataclass(frozen=True, slots=True)
class ReadyForQuery(Message):
    """The server waits: ``I`` idle, ``T`` in a transaction, ``E`` in a failed one."""

    type = b"Z"
    status: str

    def body(self) -> bytes:
        return self.status.encode("latin-1")

    @classmethod
    def read(cls, reader: _Reader) -> ReadyForQuery:
        return cls(reader.byte())


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result, as `RowDescription` gives it."""

    name: str
    table: int
    attribute: int
    type: int
    size: int
    modifier: int
    format: int


@dataclass(frozen=True, slots=True)
class RowDescription(Message):
    """The columns of the rows that follow."""

    type = b"T"
    columns: tuple[Column, ...]

    def body(self) -> bytes:
        return _ushort.pack(len(self.columns)) + b"".join(
            _text(c.name) + struct.pack("!IhIhih", c.table, c.attribute, c.type, c.size, c.modifier, c.format)
            for c in self.columns
        )

    @classmethod
    def read(cls, reader: _Reader) -> RowDescription:
        return cls(
            tuple(
                Column(reader.text(), *struct.unpack("!IhIhih", reader.take(18)))
                for _ in range(reader.count())
            )
        )


@dataclass(frozen=True, slots=True)
class DataRow(Message):
    """One row."""

    type = b"D"
    values: tuple[bytes | None, ...]

    def body(self) -> bytes:
        return _values(self.values)

    @classmethod
    def read(cls, reader: _Reader) -> DataRow:
        return cls(tuple(reader.value() for _ in range(reader.count())))


@dataclass(frozen=True, slots=True)
class CommandComplete(Message):
    """A statement has run: ``SELECT 3``, ``UPDATE 1``, ``BEGIN``."""

    type = b"C"
    tag: str

    def body(self) -> bytes:
        return _text(self.tag)

    @classmethod
    def read(cls, reader: _Reader) -> CommandComplete:
        return cls(reader.text())


@dataclass(frozen=True, slots=True)
class _Fields(Message):
    """Fields by their letters: ``S`` severity, ``C`` SQLSTATE, ``M`` message, ``D`` detail, and others."""

    fields: dict[str, str]

    def body(self) -> bytes:
        return b"".join(key.encode("latin-1") + _text(value) for key, value in self.fields.items()) + b"\0"

    @classmethod
    def read(cls, reader: _Reader) -> Message:
        fields = {}
        while (key := reader.byte()) != "\0":
            fields[key] = reader.text()
        return cls(fields)


@dataclass(frozen=True, slots=True)
class ErrorResponse(_Fields):
    """A statement failed."""

    type = b"E"


@dataclass(frozen=True, slots=True)
class NoticeResponse(_Fields):
    """A remark that needs no answer."""

    type = b"N"


@dataclass(frozen=True, slots=True)
class ParameterDescription(Message):
    """The types of a prepared statement's parameters."""

    type = b"t"
    types: tuple[int, ...]

    def body(self) -> bytes:
        return struct.pack(f"!H{len(self.types)}I", len(self.types), *self.types)

    @classmethod
    def read(cls, reader: _Reader) -> ParameterDescription:
        return cls(tuple(reader.uint32() for _ in range(reader.count())))


@dataclass(frozen=True, slots=True)
class NotificationResponse(Message):
    """A NOTIFY of backend `pid` on a channel that was listened to."""

    type = b"A"
    pid: int
    channel: str
    payload: str

    def body(self) -> bytes:
        return _uint.pack(self.pid) + _text(self.channel) + _text(self.payload)

    @classmethod
    def read(cls, reader: _Reader) -> NotificationResponse:
        return cls(reader.uint32(), reader.text(), reader.text())


FRONTEND: dict[int, type[Message]] = {
    kind.type[0]: kind
    for kind in (Query, Parse, Bind, Describe, Close, Execute, Sync, Flush, Terminate, Password)
}
BACKEND: dict[int, type[Message]] = {
    kind.type[0]: kind
    for kind in (
        Authentication,
        ParameterStatus,
        BackendKeyData,
        NegotiateProtocolVersion,
        ReadyForQuery,
        RowDescription,
        DataRow,
        CommandComplete,
        ErrorResponse,
        NoticeResponse,
        ParameterDescription,
        NotificationResponse,
    )
}


def decode(raw: bytes, kinds: dict[int, type[Message]]) -> Message:
    """Read one whole message; `kinds` is `FRONTEND` or `BACKEND`. Raises `ProtocolError`, also for an unknown type."""
    if len(raw) < 5 or _header.unpack_from(raw)[1] != len(raw) - 1:
        raise ProtocolError("a message is cut off")
    kind = kinds.get(raw[0])
    if kind is None:
        raise ProtocolError(f"there is no message of type {raw[:1]!r}")
    reader = _Reader(raw[5:])
    message = kind.read(reader)
    reader.done()
    return message
