"""Opening a connection to PostgreSQL at the level of its protocol: transport, TLS, authentication, settings.

A driver's connection would do no good here: the proxy needs the bare stream behind the login.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from scramp import ScramClient  # type: ignore[import-untyped]

from mainstay.architect.diagnose import wire


class Server(Protocol):
    """The address of a server, as `Postgres` has it."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def sslmode(self) -> str: ...


class Refused(Exception):
    """The server refused the login, or something that was replayed for it; `error` is what it said."""

    def __init__(self, error: wire.ErrorResponse) -> None:
        super().__init__(error.fields.get("M", "refused"))
        self.error = error


class Stream(asyncio.Protocol):
    """One end of a connection. Bytes go to `received`; while this end cannot take more, `peer` stops reading."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: Stream | None = None
        self.received: Callable[[bytes], None] = self._keep
        self.lost: Callable[[], None] = self._note_loss
        self.is_lost = False
        self._kept: list[bytes] = []
        self._arrival: asyncio.Future[None] | None = None
        self._full: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._arrive()
        if self._full is not None:
            self.resume_writing()
        self.lost()

    def pause_writing(self) -> None:
        self._full = asyncio.get_running_loop().create_future()
        if self.peer is not None:
            self.peer.pause()

    def resume_writing(self) -> None:
        if self._full is not None and not self._full.done():
            self._full.set_result(None)
        self._full = None
        if self.peer is not None:
            self.peer.resume()

    def pause(self) -> None:
        """Stop reading, so that the other side feels that we are slow."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    async def drained(self) -> None:
        """Wait until this end can take more."""
        if self._full is not None:
            await asyncio.shield(self._full)

    def close(self) -> None:
        """Close when what is waiting has been sent."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close without sending what is still waiting to be sent."""
        if self.transport is not None:
            self.transport.abort()

    # While logging in, what arrives is asked for with `read`; afterwards it is delivered.

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._arrive()

    def _note_loss(self) -> None:
        pass

    def _arrive(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def deliver(self, received: Callable[[bytes], None]) -> None:
        """From now on give what arrives to `received`, beginning with what nobody has read yet."""
        kept, self._kept = self._kept, []
        self.received = received
        for data in kept:
            received(data)

    async def read(self) -> bytes:
        """What has arrived. Raises `ConnectionError` where the other side has gone."""
        while not self._kept:
            if self.is_lost:
                raise ConnectionResetError("the other side closed the connection")
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self._kept.pop(0)


@dataclass
class Login:
    """A connection to a server that is ready for queries."""

    stream: Stream
    framer: wire.Framer
    """Has cut up what came so far, and goes on from there."""
    pid: int = 0
    secret: bytes = b""
    settings: dict[str, str] = field(default_factory=dict)
    """What the server said in `ParameterStatus`."""


async def log_in(server: Server, startup: dict[str, str], replay: list[list[bytes]]) -> Login:
    """Connect, authenticate, and send each batch of `replay` (which ends with Query or Sync), ignoring what it answers.

    `startup` are the parameters of the startup message, ``user`` and ``database`` among them. Raises `Refused`
    or `OSError`.
    """
    stream = await connect(server)
    framer = wire.Framer()
    login = Login(stream, framer)
    try:
        stream.write(wire.Startup(startup).encode())
        scram: ScramClient | None = None
        ready = 1
        while ready:
            for kind, begin, end in framer.feed(await stream.read()):
                raw = framer.data[begin:end]
                if kind == ord("R"):
                    message = wire.decode(raw, wire.BACKEND)
                    assert isinstance(message, wire.Authentication)
                    scram = _authenticate(stream, server, message, scram)
                elif kind == ord("E"):
                    error = wire.decode(raw, wire.BACKEND)
                    assert isinstance(error, wire.ErrorResponse)
                    if not login.pid or error.fields.get("V", error.fields.get("S")) == "FATAL":
                        raise Refused(error)
                elif kind == ord("S"):
                    setting = wire.decode(raw, wire.BACKEND)
                    assert isinstance(setting, wire.ParameterStatus)
                    login.settings[setting.name] = setting.value
                elif kind == ord("K"):
                    key = wire.decode(raw, wire.BACKEND)
                    assert isinstance(key, wire.BackendKeyData)
                    login.pid, login.secret = key.pid, key.secret
                elif kind == ord("Z"):
                    ready -= 1
                    if replay:
                        ready += len(replay)
                        stream.write(b"".join(b"".join(batch) for batch in replay))
                        replay = []
    except BaseException:
        stream.abort()
        raise
    return login


async def connect(server: Server) -> Stream:
    """Open the transport, with TLS where the server's `sslmode` or address asks for it. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    if server.host.startswith("/"):
        path = f"{server.host}/.s.PGSQL.{server.port}"
        return (await loop.create_unix_connection(Stream, path))[1]
    stream = (await loop.create_connection(Stream, server.host, server.port))[1]
    demanded = server.sslmode in ("require", "verify-ca", "verify-full")
    near = server.host in ("localhost", "127.0.0.1", "::1")
    if not demanded and (near or server.sslmode in ("disable", "allow")):
        return stream
    try:
        stream.write(wire.EncryptionRequest(wire.SSL_REQUEST).encode())
        if await stream.read() == b"S":
            context = ssl.create_default_context()
            context.check_hostname = server.sslmode == "verify-full"
            if not server.sslmode.startswith("verify"):
                context.verify_mode = ssl.CERT_NONE
            assert stream.transport is not None
            secured = await loop.start_tls(stream.transport, stream, context, server_hostname=server.host)
            assert secured is not None
            stream.transport = secured
        elif demanded:
            raise OSError(f"the server at {server.host}:{server.port} speaks no TLS")
    except BaseException:
        stream.abort()
        raise
    return stream


async def cancel(server: Server, pid: int, secret: bytes) -> None:
    """Ask the server to cancel what backend `pid` runs; return when it has taken note."""
    with contextlib.suppress(OSError):
        stream = await connect(server)
        stream.write(wire.CancelRequest(pid, secret).encode())
        with contextlib.suppress(ConnectionError):
            await stream.read()  # the server answers nothing and closes
        stream.close()


def _authenticate(
    stream: Stream, server: Server, asked: wire.Authentication, scram: ScramClient | None
) -> ScramClient | None:
    """Answer one authentication request; return the SCRAM exchange under way, if there is one."""
    match asked.code:
        case 0:
            return None
        case 3:
            stream.write(wire.Password(server.password.encode() + b"\0").encode())
        case 5:
            inner = hashlib.md5(server.password.encode() + server.user.encode()).hexdigest()
            outer = hashlib.md5(inner.encode() + asked.data).hexdigest()
            stream.write(wire.Password(b"md5" + outer.encode() + b"\0").encode())
        case 10:
            offered = [
                name for name in asked.data.decode().split("\0") if name and not name.endswith("-PLUS")
            ]
            scram = ScramClient(offered, server.user, server.password)
            first = scram.get_client_first().encode()
            data = scram.mechanism_name.encode() + b"\0" + len(first).to_bytes(4, "big") + first
            stream.write(wire.Password(data).encode())
        case 11 if scram is not None:
            scram.set_server_first(asked.data.decode())
            stream.write(wire.Password(scram.get_client_final().encode()).encode())
        case 12 if scram is not None:
            scram.set_server_final(asked.data.decode())
        case code:
            raise OSError(
                f"the server at {server.host}:{server.port} asks for authentication of kind {code}, which the "
                "laboratory does not speak; allow trust, a password or SCRAM for it"
            )
    return scram
