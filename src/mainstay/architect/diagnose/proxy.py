"""The wire proxy: stands between one actor's service and PostgreSQL, sees every statement, and can hold it.

**Where it holds.** Before a Query, or before the Bind whose portal is executed, because a statement's
snapshot is taken at Bind. Everything from the Parse on is kept back with it, so that a held statement has
touched nothing on the server. One statement at a time: where a client pipelines, the proxy lets the next one go
only when the one before has finished, and asks for the server's answer with a Flush of its own (which has no
answer, so the client's stream stays as it would have been).

**What it changes.** Nothing between login and goodbye. The login itself is the proxy's: it authenticates
to the server with the laboratory's credentials and lets any client in.

**Moving.** `Proxy.attach` points all connections at another database while the client's sockets stay open. A
connection is opened to the new database when its client next speaks (at once if it LISTENs).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from mainstay.architect.diagnose import wire
from mainstay.architect.diagnose.login import Login, Refused, Stream, cancel, log_in
from mainstay.architect.diagnose.postgres import Database, Postgres
from mainstay.architect.diagnose.session import Prepared, Session
from mainstay.architect.diagnose.values import readable, shorten
from mainstay.architect.errors import MainstayError

Status = Literal["I", "T", "E"]

PATIENCE = 1.0
"""Seconds that `attach` lets a statement outside a transaction finish before it closes its connection."""

FULL = 1 << 20
"""Bytes from a client that wait to be handled; beyond, the proxy stops reading from it."""

_FLUSH = wire.Flush().encode()
_SYNC = wire.Sync().encode()
_ROLLBACK_TO = re.compile(r"\s*ROLLBACK\s+(?:WORK\s+|TRANSACTION\s+)?TO\b", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class Statement:
    """One statement that a client ran, from the moment the proxy could hold it."""

    number: int
    """From 1, in the order in which they came to the gate, for each actor and run."""
    actor: str
    connection: int
    """Number of the actor's connection, from 1 in the order of their first statement in this run."""
    sql: str
    """As sent; several statements where a client sent several at once."""
    parameters: tuple[str | None, ...] = ()
    """Text form; cut at 4096 characters; hexadecimal where a binary value's type is not known."""
    status_before: Status = "I"
    """``I`` outside a transaction, ``T`` in one, ``E`` in a failed one."""
    status_after: Status = "I"
    """In the midst of a pipeline ``T``: PostgreSQL keeps a transaction open until its end."""
    rows: int | None = None
    """Rows returned or changed; None for statements that have none, such as BEGIN."""
    tag: str = ""
    """As PostgreSQL says it: ``UPDATE 1``. ``BIND`` where a cursor was opened and no row fetched yet."""
    sqlstate: str = ""
    error: str = ""
    first_row: tuple[str | None, ...] | None = None
    columns: tuple[str, ...] = ()
    """Names of the columns of the result, where the client asked for them."""
    started: float = 0.0
    """`time.perf_counter()` when it was let go."""
    ended: float = 0.0
    backend_pid: int = 0
    """The process in PostgreSQL that runs it."""
    continues: bool = False
    """More rows are fetched from a portal that is open already; not a query of its own."""
    pipelined: bool = False
    """The client sent it without waiting for the answer of the statement before."""


class Gate(Protocol):
    """Decides when a statement may run, and hears when it has."""

    async def before(self, s: Statement) -> None:
        """`s` is about to run; it is forwarded when this returns."""

    def after(self, s: Statement) -> None:
        """`s` has finished, well or with an error; the client has not seen the answer yet."""


class OpenGate:
    """Lets everything through."""

    async def before(self, s: Statement) -> None:
        pass

    def after(self, s: Statement) -> None:
        pass


@dataclass(slots=True)
class _Expected:
    """A message for which the server owes an answer."""

    kind: str
    """Type of the frontend message, as a letter. CopyDone and CopyFail (``c``) have no answer of their own."""
    prepared: Prepared | None = None
    name: str = ""


@dataclass(slots=True)
class _Portal:
    """A bound statement."""

    sql: str
    parameters: tuple[str | None, ...]
    prepared: Prepared | None
    formats: tuple[int, ...]
    bind: wire.Bind | None

    def again(self) -> list[bytes]:
        """The batch that runs it again, with the unnamed statement and portal."""
        if self.prepared is None or self.bind is None:
            return [_SYNC]
        bind = replace(self.bind, portal="", statement="")
        parse = wire.Parse("", self.prepared.sql, self.prepared.types)
        return [parse.encode(), bind.encode(), wire.Execute("").encode(), _SYNC]


class _Skip(Exception):
    """The statement in hand is not run: one before it in its batch has failed."""


@dataclass(slots=True)
class _Running:
    """The statement that runs now, and what is known of its result so far."""

    statement: Statement
    extended: bool
    again: Callable[[], list[bytes]]
    """Gives the batch that would run it again."""
    columns: tuple[wire.Column, ...] = ()
    formats: tuple[int, ...] = ()
    rows: int = 0
    complete: bool = False
    bind_only: bool = False


class Connection:
    """One client connection and the server connection behind it."""

    def __init__(self, proxy: Proxy, client: Stream) -> None:
        self.number = 0
        """From 1 in the order of their first statement in the present run; 0 before that."""
        self.status: Status = "I"
        self.held: Statement | None = None
        """The statement that waits at the gate."""
        self.transaction: list[Statement] = []
        """Statements of the transaction that is open, from its BEGIN on."""
        self.startup: dict[str, str] = {}
        self._proxy = proxy
        self._client = client
        self._session = Session()
        self._login: Login | None = None
        self._database: Database | None = None
        self._opening = asyncio.Lock()
        self._public_key = (0, b"")
        self._framer = wire.Framer()
        self._inbox: deque[bytes] = deque()
        self._inbox_size = 0
        self._arrival: asyncio.Future[None] | None = None
        self._out: list[bytes] = []  # to be forwarded to the server in one go
        self._batch: list[tuple[bytes, _Expected | None]] = []  # of an extended batch, not forwarded yet
        self._bound: str | None = None  # portal of a Bind in the batch that nobody has executed yet
        self._portals: dict[str, _Portal] = {}
        self._expected: deque[_Expected] = deque()
        self._running: _Running | None = None
        self._quiet: asyncio.Future[None] | None = None
        self._ready = asyncio.Event()  # the server has answered a batch
        self._skipping = False  # after an error, the server ignores everything up to Sync
        self._copying = False
        self._closing = False
        self._task = asyncio.get_running_loop().create_task(self._serve())

    # ------------------------------------------------------------------------------ looking at it

    @property
    def running(self) -> Statement | None:
        """The statement that PostgreSQL runs for this connection now."""
        return self._running.statement if self._running else None

    @property
    def backend_pid(self) -> int:
        """The process in PostgreSQL behind it; 0 while there is none (after a move, until the client speaks)."""
        return self._login.pid if self._login else 0

    @property
    def busy(self) -> bool:
        """Whether anything is under way: a statement, a transaction, or half a batch."""
        return bool(
            self._running or self.held or self._batch or self._expected or self._inbox or self._out
        ) or (self.status != "I" or self._copying or self._skipping)

    # ------------------------------------------------------------------------------ life

    async def _serve(self) -> None:
        """Handle what the client says, message after message, until it or the server leaves."""
        try:
            if await self._greet():
                while not self._closing:
                    while self._inbox:
                        raw = self._inbox.popleft()
                        self._inbox_size -= len(raw)
                        if self._inbox_size < FULL // 2 <= self._inbox_size + len(raw):
                            self._client.resume()
                        await self._from_client(raw)
                    self._flush()
                    if self._login is not None:
                        await self._login.stream.drained()
                    await self._more()
        except (wire.ProtocolError, OSError) as error:
            self._say_fatal("08P01", str(error))
        except Refused as refused:
            self._client.write(refused.error.encode())
        finally:
            self.close()

    async def _more(self) -> None:
        """Wait until the inbox holds something."""
        if not self._inbox and not self._closing:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival

    def _arrived(self, data: bytes) -> None:
        try:
            for _, begin, end in self._framer.feed(data):
                self._inbox.append(self._framer.data[begin:end])
                self._inbox_size += end - begin
        except wire.ProtocolError as error:
            self._say_fatal("08P01", str(error))
            self.close()
        if self._inbox_size >= FULL:
            self._client.pause()
        if self._arrival is not None and self._inbox and not self._arrival.done():
            self._arrival.set_result(None)

    def close(self) -> None:
        """Close both sides; what runs is left to PostgreSQL to notice, a held statement never runs."""
        if self._closing:
            return
        self._closing = True
        self._proxy._forget(self)
        self._detach()
        self._client.close()
        if self._running is not None:
            self._fail("", "the connection was closed")
            self._finish("I")
        self._task.cancel()

    def kill(self) -> None:
        """Cut both sides off, as a network fault would."""
        self._client.abort()
        self.close()

    def _server_lost(self) -> None:
        if self._running is not None:
            self._fail("", "PostgreSQL closed the connection")
            self._finish("I")
        self.close()

    def _say_fatal(self, sqlstate: str, message: str) -> None:
        fields = {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": message}
        self._client.write(wire.ErrorResponse(fields).encode())

    # ------------------------------------------------------------------------------ login and moving

    async def _greet(self) -> bool:
        """Read the client's first message and log it in; False if it only wanted to cancel something."""
        received = b""
        while True:
            while len(received) < 4 or len(received) < int.from_bytes(received[:4], "big"):
                if (
                    len(received) >= 4
                    and not 8 <= int.from_bytes(received[:4], "big") <= wire.LONGEST_STARTUP
                ):
                    raise wire.ProtocolError("this is a PostgreSQL server, and that was no PostgreSQL client")
                received += await self._client.read()
            length = int.from_bytes(received[:4], "big")
            first, received = wire.decode_first(received[:length]), received[length:]
            if not isinstance(first, wire.EncryptionRequest):
                break
            self._client.write(b"N")
        if isinstance(first, wire.CancelRequest):
            await self._proxy._cancel(first)
            return False
        self.startup = {
            key: value
            for key, value in first.parameters.items()
            if key not in ("user", "database", "replication") and not key.startswith("_pq_.")
        }
        if first.protocol != wire.PROTOCOL_3_0:
            options = tuple(key for key in first.parameters if key.startswith("_pq_."))
            self._client.write(wire.NegotiateProtocolVersion(0, options).encode())
        login = await self._open()
        self._public_key = (login.pid, secrets.token_bytes(4))
        self._client.write(
            b"".join(
                message.encode()
                for message in (
                    wire.Authentication(0),
                    *(wire.ParameterStatus(name, value) for name, value in login.settings.items()),
                    wire.BackendKeyData(*self._public_key),
                    wire.ReadyForQuery("I"),
                )
            )
        )
        self._client.lost = self.close
        if self._client.is_lost:
            return False
        if received:
            self._arrived(received)
        self._client.deliver(self._arrived)
        return True

    async def _open(self) -> Login:
        """The connection to the database that the proxy is attached to now, opened if it is not open."""
        async with self._opening:
            while self._login is None or self._database is not self._proxy.database:
                self._detach()
                database = self._proxy.database
                if database is None:
                    raise OSError("the laboratory has not attached a database to this proxy yet")
                startup = {"user": self._proxy.postgres.user, "database": database.name, **self.startup}
                login = await log_in(self._proxy.postgres, startup, self._session.replay())
                self._login, self._database = login, database
                self._client.peer = login.stream
                login.stream.lost = self._server_lost
                login.stream.deliver(self._from_server)
                if login.stream.is_lost:
                    raise ConnectionResetError("PostgreSQL closed the connection")
            return self._login

    def _detach(self) -> None:
        """Leave the server."""
        login, self._login, self._database = self._login, None, None
        if login is not None:
            login.stream.lost = lambda: None
            login.stream.received = lambda data: None
            self._client.peer = None
            login.stream.write(wire.Terminate().encode())
            login.stream.close()

    async def _move(self) -> None:
        """Leave the present database for the one that the proxy is attached to now."""
        self.number = 0
        if self._opening.locked():
            return  # `_open` looks itself
        if self.busy and self.status == "I" and self.held is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled(), PATIENCE)
        if self.busy:
            self._say_fatal(
                "57P01", "the laboratory moved on to another database while a transaction was open"
            )
            self.close()
            return
        self._detach()
        self._portals.clear()
        if self._session.listens:
            try:
                await self._open()
            except (OSError, Refused):
                self.close()

    async def _settled(self) -> None:
        while self.busy and self.status == "I" and not self._closing:
            self._ready.clear()
            await self._ready.wait()

    # ------------------------------------------------------------------------------ from the client

    async def _from_client(self, raw: bytes) -> None:
        """Handle one message of the client's."""
        kind = raw[:1]
        if kind == b"X":
            self.close()
            return
        if self._login is None or self._database is not self._proxy.database:
            await self._open()
        if self._copying and kind in b"dcfHS":
            self._copying = kind not in b"cf"
            self._out.append(raw)  # in this state the server ignores Flush and Sync
            if kind == b"d" and self._login is not None:
                self._flush()
                await self._login.stream.drained()
            return
        if self._skipping and kind != b"S":
            return  # as the server does
        try:
            await self._dispatch(kind, raw)
        except _Skip:
            self._bound = None
            self._batch.clear()

    async def _dispatch(self, kind: bytes, raw: bytes) -> None:
        match kind:
            case b"Q":
                await self._query(raw)
            case b"P" | b"B" | b"D" | b"C":
                await self._collect(kind, raw)
            case b"E":
                await self._execute(raw)
            case b"S":
                with contextlib.suppress(_Skip):
                    if not self._skipping:
                        await self._forward_batch()
                self._bound = None
                self._batch.clear()
                self._skipping = False
                self._send(raw, _Expected("S"))
            case b"H":
                await self._forward_batch()
                self._out.append(raw)
            case b"F":
                await self._forward_batch()
                await self._quiesce()
                self._send(raw, _Expected("F"))
            case b"c" | b"f":
                # The client did not wait to hear that the server copies. Which Sync the server then
                # ignores depends on whether it came before this.
                self._send(raw, _Expected("c"))
            case _:
                self._out.append(raw)

    async def _query(self, raw: bytes) -> None:
        query = wire.decode(raw, wire.FRONTEND)
        assert isinstance(query, wire.Query)
        await self._forward_batch()
        await self._hold(query.sql, (), extended=False, again=lambda: [raw])
        self._send(raw, _Expected("Q"))

    async def _collect(self, kind: bytes, raw: bytes) -> None:
        """Keep a message of an extended batch back until it is known whether something is executed."""
        message = wire.decode(raw, wire.FRONTEND)
        match message:
            case wire.Parse(name, sql, types):
                prepared = Prepared(name, sql, types, raw)
                self._batch.append((raw, _Expected("P", prepared)))
            case wire.Bind():
                if self._bound is not None:
                    await self._forward_batch()
                self._portals[message.portal] = self._portal(message)
                self._bound = message.portal
                self._batch.append((raw, _Expected("B")))
            case wire.Describe("S", name):
                self._batch.append((raw, _Expected("D", self._known(name))))
            case wire.Describe(_, name):
                portal = self._portals.get(name)
                self._batch.append((raw, _Expected("D", portal.prepared if portal else None, name="portal")))
            case wire.Close(what, name):
                self._batch.append((raw, _Expected("C", name=what + name)))

    def _known(self, name: str) -> Prepared | None:
        """The prepared statement `name`, also if its Parse is still in the batch or on its way."""
        on_the_way = (expected for _, expected in reversed(self._batch) if expected and expected.kind == "P")
        forwarded = (expected for expected in reversed(self._expected) if expected.kind == "P")
        for expected in itertools.chain(on_the_way, forwarded):
            if expected.prepared is not None and expected.prepared.name == name:
                return expected.prepared
        return self._session.prepared.get(name)

    def _portal(self, bind: wire.Bind) -> _Portal:
        prepared = self._known(bind.statement)
        types = prepared.types if prepared else ()
        parameters = []
        for index, value in enumerate(bind.values):
            oid = types[index] if index < len(types) else 0
            parameters.append(readable(value, oid, _format(bind.formats, index) == 1))
        sql = prepared.sql if prepared else f"(unknown statement {bind.statement!r})"
        return _Portal(sql, tuple(parameters), prepared, bind.result_formats, bind)

    async def _execute(self, raw: bytes) -> None:
        message = wire.decode(raw, wire.FRONTEND)
        assert isinstance(message, wire.Execute)
        portal = self._portals.get(message.portal)
        if self._bound is not None and self._bound != message.portal:
            await self._forward_batch()
        if portal is None:
            portal = _Portal(f"FETCH FROM {message.portal}", (), None, (), None)
        continues = self._bound != message.portal
        await self._hold_portal(portal, continues=continues)
        self._bound = None
        await self._forward_batch()
        self._send(raw, _Expected("E"))

    async def _forward_batch(self) -> None:
        """Let go what was kept back, after asking the gate if a Bind is in it that nobody has executed."""
        if self._bound is not None:
            portal = self._portals[self._bound]
            self._bound = None
            await self._hold_portal(portal, continues=False)
            assert self._running is not None
            self._running.bind_only = True
        for raw, expected in self._batch:
            self._send(raw, expected)
        self._batch.clear()

    async def _hold_portal(self, portal: _Portal, *, continues: bool) -> None:
        await self._hold(
            portal.sql,
            portal.parameters,
            extended=True,
            again=portal.again,
            portal=portal,
            continues=continues,
        )

    async def _hold(
        self,
        sql: str,
        parameters: tuple[str | None, ...],
        *,
        extended: bool,
        again: Callable[[], list[bytes]],
        portal: _Portal | None = None,
        continues: bool = False,
    ) -> None:
        """Let the statement before finish, then ask the gate; on return the statement counts as running."""
        pipelined = self._running is not None
        await self._quiesce()
        self._flush()
        if self._skipping:
            raise _Skip
        if self.number == 0:
            self.number = self._proxy._next_connection()
        statement = Statement(
            number=self._proxy._next_statement(),
            actor=self._proxy.actor,
            connection=self.number,
            sql=sql,
            parameters=parameters,
            status_before=self.status,
            backend_pid=self.backend_pid,
            continues=continues,
            pipelined=pipelined,
        )
        self.held = statement
        try:
            await self._proxy.gate.before(statement)
        finally:
            self.held = None
        columns = portal.prepared.columns if portal and portal.prepared else ()
        formats = portal.formats if portal else ()
        statement.started = time.perf_counter()
        self._running = _Running(statement, extended, again, columns, formats)

    async def _quiesce(self) -> None:
        """Wait until the running statement has finished, asking the server for its answer if nobody has."""
        while self._running is not None:
            if self._running.extended and not self._syncing:
                self._out.append(_FLUSH)
            self._flush()
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet

    @property
    def _syncing(self) -> bool:
        """Whether the server has been sent the Sync that ends the running statement's batch."""
        latest = next((expected.kind for expected in reversed(self._expected) if expected.kind in "SEB"), "")
        return latest == "S"

    def _send(self, raw: bytes, expected: _Expected | None) -> None:
        self._out.append(raw)
        if expected is not None:
            self._expected.append(expected)

    def _flush(self) -> None:
        if self._out and self._login is not None:
            self._login.stream.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()

    # ------------------------------------------------------------------------------ from the server

    def _from_server(self, data: bytes) -> None:
        """Take note of what the server says, then pass it on."""
        assert self._login is not None
        framer = self._login.framer
        complete = 0
        try:
            for kind, begin, end in framer.feed(data):
                complete = end
                if kind == 68:  # DataRow, by far the most frequent
                    running = self._running
                    if running is not None:
                        running.rows += 1
                        if running.rows == 1:
                            running.statement.first_row = _row(framer.data[begin:end], running)
                elif kind not in _IGNORED:
                    self._note(kind, framer.data[begin:end])
        except wire.ProtocolError as error:
            self._say_fatal("08P01", f"PostgreSQL said something that is not protocol 3: {error}")
            self.close()
            return
        if complete:
            self._client.write(framer.data if complete == len(framer.data) else framer.data[:complete])

    def _note(self, kind: int, raw: bytes) -> None:
        while self._expected and self._expected[0].kind == "c":
            self._expected.popleft()  # nothing was copied: the server took no notice
        head = self._expected[0] if self._expected else None
        running = self._running
        match chr(kind):
            case "1" if head is not None and head.prepared is not None:  # ParseComplete
                self._session.prepared[head.prepared.name] = head.prepared
                self._expected.popleft()
            case "2":  # BindComplete
                self._expected.popleft()
                if running is not None and running.bind_only:
                    running.statement.tag = "BIND"
                    self._complete()
            case "3" if head is not None:  # CloseComplete
                if head.name.startswith("S"):
                    self._session.prepared.pop(head.name[1:], None)
                else:
                    self._portals.pop(head.name[1:], None)
                self._expected.popleft()
            case "t":  # ParameterDescription; RowDescription or NoData follows
                message = wire.decode(raw, wire.BACKEND)
                assert isinstance(message, wire.ParameterDescription)
                if head is not None and head.prepared is not None:
                    head.prepared.types = message.types
            case "T":  # RowDescription
                message = wire.decode(raw, wire.BACKEND)
                assert isinstance(message, wire.RowDescription)
                if head is not None and head.kind == "D":
                    if head.prepared is not None:
                        head.prepared.columns = message.columns
                    if head.name == "portal" and running is not None:
                        running.columns = message.columns
                    self._expected.popleft()
                elif running is not None:
                    running.columns, running.formats = message.columns, ()
            case "n":  # NoData
                self._expected.popleft()
            case "C" | "I" | "s" if head is not None and running is not None:
                # CommandComplete, EmptyQueryResponse, PortalSuspended
                self._note_result(chr(kind), raw, head, running)
            case "G" | "W":  # CopyInResponse, CopyBothResponse
                self._copying = True
                while len(self._expected) > 1 and self._expected[1].kind in "Sc" and self._copying:
                    # The server reads and ignores a Sync while it copies.
                    self._copying = self._expected[1].kind != "c"
                    del self._expected[1]
            case "E":
                self._note_error(raw, head)
            case "Z":
                self._note_ready(chr(raw[5]), head)

    def _note_result(self, kind: str, raw: bytes, head: _Expected, running: _Running) -> None:
        statement = running.statement
        statement.columns = tuple(column.name for column in running.columns)
        if kind == "C":
            tag = raw[5:-1].decode("utf-8", "replace")
            statement.tag = f"{statement.tag}; {tag}" if statement.tag else tag
            count = tag.rpartition(" ")[2]
            if count.isdecimal():
                statement.rows = (statement.rows or 0) + int(count)
        elif kind == "s":
            statement.rows = running.rows
            statement.tag = f"SELECT {running.rows}"
        if head.kind == "E":
            self._expected.popleft()
            self._complete()

    def _complete(self) -> None:
        """The server has answered the running statement, though perhaps not the Sync that commits it."""
        assert self._running is not None
        self._running.complete = True
        if not self._syncing:
            self._finish(self._status_in_batch(self._running.statement))

    def _status_in_batch(self, statement: Statement) -> Status:
        """The transaction's state before the end of a batch, which the server has not told yet."""
        word = statement.tag.partition(" ")[0]
        if statement.error:
            return "E"
        if word == "COMMIT" or (word == "ROLLBACK" and not _ROLLBACK_TO.match(statement.sql)):
            return "I"
        return "T"

    def _note_error(self, raw: bytes, head: _Expected | None) -> None:
        message = wire.decode(raw, wire.BACKEND)
        assert isinstance(message, wire.ErrorResponse)
        self._fail(message.fields.get("C", ""), message.fields.get("M", ""))
        self._copying = False
        if head is None or head.kind in "QSF":
            return  # ReadyForQuery follows by itself
        while self._expected and self._expected[0].kind != "S":
            self._expected.popleft()
        if self._running is not None:
            self._complete()
        self._skipping = not self._expected

    def _fail(self, sqlstate: str, error: str) -> None:
        if self._running is not None and not self._running.statement.error:
            self._running.statement.sqlstate = sqlstate
            self._running.statement.error = shorten(error)

    def _note_ready(self, status: str, head: _Expected | None) -> None:
        if head is not None:
            self._expected.popleft()
        before, self.status = self.status, _status(status)
        if self._running is not None and (self._running.complete or not self._running.extended):
            self._finish(self.status)
        elif before != "I" and self.status == "I":
            self._session.ended(committed=not any(each.error for each in self.transaction))
            self.transaction = []
        self._ready.set()

    def _finish(self, status: Status) -> None:
        """The running statement is over: write down how, and tell the gate."""
        running, self._running = self._running, None
        assert running is not None
        statement = running.statement
        statement.ended = time.perf_counter()
        statement.status_after = self.status = status
        if not statement.error and not statement.continues:
            first = statement.parameters[0] if statement.parameters else None
            self._session.ran(statement.sql, first, running.again)
        if status == "I":
            self.transaction = []
            self._session.ended(committed=not statement.error and not statement.tag.startswith("ROLLBACK"))
        else:
            self.transaction.append(statement)
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)
        self._proxy.gate.after(statement)


# ParameterStatus, NoticeResponse, NotificationResponse, CopyData, CopyDone, CopyOutResponse, FunctionCallResponse, …
_IGNORED = frozenset(b"SNAdcHVRKv")


def _status(letter: str) -> Status:
    return "T" if letter == "T" else "E" if letter == "E" else "I"


def _format(formats: tuple[int, ...], index: int) -> int:
    """The format of value `index`: none given is all text, one is for all."""
    if len(formats) <= 1:
        return formats[0] if formats else 0
    return formats[index] if index < len(formats) else 0


def _row(raw: bytes, running: _Running) -> tuple[str | None, ...]:
    row = wire.decode(raw, wire.BACKEND)
    assert isinstance(row, wire.DataRow)
    columns = running.columns
    return tuple(
        readable(value, columns[i].type if i < len(columns) else 0, _format(running.formats, i) == 1)
        for i, value in enumerate(row.values)
    )


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that has begun and not ended."""

    connection: Connection
    statements: list[Statement] = field(default_factory=list)
    """What has run in it so far, from its BEGIN on."""


class Proxy:
    """The proxy of one actor: a port on 127.0.0.1, and the connections that came in by it."""

    def __init__(self, postgres: Postgres, actor: str) -> None:
        self.postgres = postgres
        self.actor = actor
        self.gate: Gate = OpenGate()
        """May be set at any time; statements already held stay with the gate that holds them."""
        self.database: Database | None = None
        self.port = 0
        self._connections: dict[Connection, None] = {}
        self._server: asyncio.Server | None = None
        self._statements = 0
        self._numbers = 0

    async def start(self, port: int = 0) -> int:
        """Listen on `port` of 127.0.0.1 (0: a free one) and return it. Raises `MainstayError` if it is in use."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accept, "127.0.0.1", port)
        except OSError as error:
            raise MainstayError(
                f"port {port} is in use or not allowed ({error.strerror}); stop what listens there or choose another."
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    def url(self, driver: str = "postgresql", database: str = "mainstay") -> str:
        """The address to give to the service. Any user, password and database name get in."""
        return f"{driver}://{self.postgres.user}:mainstay@127.0.0.1:{self.port}/{database}"

    async def attach(self, database: Database) -> None:
        """Point every connection, those to come included, at `database`, and count statements from 1 again.

        Idle connections move without their client noticing: settings, LISTENs and prepared statements come along.
        One that is in a transaction or held is closed, after an error 57P01. One that runs a statement
        outside a transaction may finish it first, for at most `PATIENCE` seconds.
        """
        self.database = database
        self._statements = self._numbers = 0
        await asyncio.gather(*(connection._move() for connection in list(self._connections)))

    @property
    def connections(self) -> list[Connection]:
        """The live connections, oldest first."""
        return [connection for connection in self._connections if connection._public_key[0]]

    def in_transaction(self) -> list[OpenTransaction]:
        """Connections with an open transaction, and the statements run in it so far."""
        return [OpenTransaction(c, list(c.transaction)) for c in self._connections if c.status != "I"]

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
        closing = list(self._connections)
        for connection in closing:
            connection.close()
        await asyncio.gather(*(connection._task for connection in closing), return_exceptions=True)
        for connection in closing:
            connection._client.abort()  # one that does not read would keep its socket for ever

    def _accept(self) -> Stream:
        return _ClientStream(self)

    def _forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    def _next_statement(self) -> int:
        self._statements += 1
        return self._statements

    def _next_connection(self) -> int:
        self._numbers += 1
        return self._numbers

    async def _cancel(self, request: wire.CancelRequest) -> None:
        """Cancel what runs on the connection that was given this key."""
        for connection in self.connections:
            login = connection._login
            if connection._public_key == (request.pid, request.secret) and login is not None:
                await cancel(self.postgres, login.pid, login.secret)


class _ClientStream(Stream):
    """A client's end; its connection begins when it has connected."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy._connections[Connection(self._proxy, self)] = None
