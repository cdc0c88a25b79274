"""The scheduler: decides, statement by statement, which actor goes on.

One actor has the turn. The others are held before their next statement or outside call, so nothing runs that
was not decided here. A `Plan` says who has the turn: actors run up to a point (the switch), then others, then all
run to their replies. If PostgreSQL says (`pg_blocking_pids`) that the actor with the turn waits for a lock
of another, that other one has the turn until it is done. No decision hangs on time: `WATCHDOG` only turns a
run that hangs into an undecided one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mainstay.architect.diagnose.client import Hangup, Reply
from mainstay.architect.diagnose.oracle import shorten
from mainstay.architect.diagnose.outside import OutsideCall
from mainstay.architect.diagnose.postgres import Postgres
from mainstay.architect.diagnose.proxy import Proxy, Statement
from mainstay.architect.diagnose.statements import Meaning, Reader, shape
from mainstay.architect.effects import Kind
from mainstay.architect.findings import Event, Location

WATCHDOG = 30.0
"""Seconds after which a run that does not end is undecided."""

LINGER = 5.0
"""Seconds that an actor's transaction may stay open after the reply, until it counts as left open."""

LOOK = 0.003
"""Seconds between two questions to PostgreSQL whether a running statement waits for a lock."""

SPINS = 300
"""Statements after which an actor that has the turn is taken to ask again and again for what another one holds."""

_COMMENT = re.compile(r"\s*/\*mainstay:(?P<place>[^*]*)\*/\s*$")
"""The comment in which the probe tells a statement's line of code."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place in what an actor does: before the `occurrence`-th statement of a shape (counted from 1)."""

    actor: str
    shape: str
    occurrence: int
    number: int
    """Which of all statements of the actor it is, from 1. For reading: extra statements may come before it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who has the turn. Each of `legs` runs up to its point, then those in `then` run to their replies, in order."""

    then: tuple[str, ...]
    legs: tuple[Point, ...] = ()


@dataclass(slots=True)
class Trace:
    """One statement as it went."""

    actor: str
    number: int
    """From 1 for each actor and run."""
    sql: str
    """Without the probe's comment."""
    shape: str
    occurrence: int
    meaning: Meaning
    connection: int
    parameters: tuple[str | None, ...]
    location: Location | None
    function: str
    before: str
    """Transaction status before: ``I`` idle, ``T`` open, ``E`` failed."""
    pipelined: bool = False
    """Sent before the answer of the one before it had come: it did not cost the client a wait of its own."""
    after: str = ""
    rows: int | None = None
    sqlstate: str = ""
    error: str = ""
    first_row: tuple[str | None, ...] | None = None
    columns: tuple[str, ...] = ()
    event: int = -1
    """Index of its event."""
    started: float = 0.0

    @property
    def point(self) -> Point:
        """The place just before this statement."""
        return Point(self.actor, self.shape, self.occurrence, self.number)


@dataclass(slots=True)
class Call:
    """One call to the outside world, with what the actor's transactions held at that moment."""

    actor: str
    call: OutsideCall
    open: list[list[Trace]] = field(default_factory=list)
    """Statements of each transaction that was open, one list a connection."""
    locks: list[str] = field(default_factory=list)
    """``RowExclusiveLock on orders``, held by those transactions."""
    event: int = -1
    location: Location | None = None
    """The line of code that calls, where the probe saw it."""
    function: str = ""


Send = Callable[[str], Awaitable[Reply]]
"""Sends the actor's request and gives the reply; raises `Hangup`."""


class Undecided(Exception):
    """A run that cannot be judged; the message says why."""


class Conductor:
    """Runs one plan. It is the gate of every proxy and outside stub while it is entered (`with`)."""

    def __init__(
        self,
        postgres: Postgres,
        proxies: Mapping[str, Proxy],
        reader: Reader,
        plan: Plan,
        requests: Mapping[str, str],
        *,
        settle: float = 0.0,
        locks: Callable[[Sequence[int]], Awaitable[list[str]]] | None = None,
        place: Callable[[Location], Location] = lambda location: location,
    ) -> None:
        self.plan = plan
        self.events: list[Event] = []
        self.traces: dict[str, list[Trace]] = {actor: [] for actor in proxies}
        self.calls: list[Call] = []
        self.replies: dict[str, Reply] = {}
        self.trouble: list[str] = []
        """Why what happened cannot be trusted, a sentence each."""
        self._postgres = postgres
        self._proxies = proxies
        self._reader = reader
        self._requests = requests
        self._settle = settle
        self._locks = locks
        self._place = place
        self._leg = 0
        self._favoured: list[str] = []
        self._turn: str | None = None
        self._go = {actor: asyncio.Event() for actor in proxies}
        self._started: set[str] = set()
        self._done: set[str] = set()
        self._flying: dict[int, Trace] = {}
        self._blocked: dict[str, Trace] = {}
        self._shapes: Counter[tuple[str, str]] = Counter()
        self._paused: dict[str, int] = {}
        self._stirred = asyncio.Event()
        self._last = time.perf_counter()
        self._began = self._last
        self._in_transaction: dict[tuple[str, int], list[Trace]] = {}

    # ------------------------------------------------------------------------------------- the run

    async def run(self, send: Send) -> None:
        """Run the plan to its end. Raises `Undecided` where it does not end."""
        self._began = self._last = time.perf_counter()
        watch = asyncio.create_task(self._watch())
        drives = [asyncio.create_task(self._drive(actor, send)) for actor in self.plan.then]
        self._retarget()
        try:
            async with asyncio.timeout(WATCHDOG):
                await asyncio.gather(*drives)
                await self._quiet(self.plan.then)
        except TimeoutError:
            waiting = [actor for actor in self.plan.then if actor not in self._done]
            raise Undecided(
                f"{' and '.join(waiting)} did not get a reply within {WATCHDOG:.0f} seconds, "
                "and PostgreSQL knows of no lock that is waited for"
            ) from None
        finally:
            self._done.update(self._go)
            for event in self._go.values():
                event.set()
            for task in (watch, *drives):
                task.cancel()
            await asyncio.gather(watch, *drives, return_exceptions=True)

    async def _drive(self, actor: str, send: Send) -> None:
        await self._go[actor].wait()
        self._started.add(actor)
        self._event(actor, "request", self._requests[actor])
        try:
            reply = await send(actor)
        except Hangup as error:
            reply = Reply(599, {}, f"no reply: {error}")
        self.replies[actor] = reply
        self._last = time.perf_counter()
        self._event(actor, "reply", str(reply), result=str(reply.status))
        await self._quiet([actor])
        self._done.add(actor)
        self._retarget()

    async def _quiet(self, actors: Sequence[str]) -> None:
        """Wait until the actors' connections are idle, and stay so for the settling time if there is one."""
        deadline = time.perf_counter() + LINGER
        while True:
            busy = [actor for actor in actors if self._busy(actor)]
            now = time.perf_counter()
            if not busy and now - self._last >= self._settle:
                return
            if now > deadline and not self._flying:
                self.trouble.append(
                    f"{busy[0] if busy else actors[0]} leaves a transaction open after the reply"
                )
                return
            self._stirred.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await self._stirred.wait()

    def _busy(self, actor: str) -> bool:
        return any(trace.actor == actor for trace in self._flying.values()) or any(
            connection.status != "I" or connection.running is not None
            for connection in self._proxies[actor].connections
        )

    # ---------------------------------------------------------------------------------- who goes on

    def _retarget(self) -> None:
        """Find who has the turn now, and let that one go."""
        while self._favoured and self._favoured[-1] in self._done:
            self._favoured.pop()
        while self._leg < len(self.plan.legs) and self.plan.legs[self._leg].actor in self._done:
            self._leg += 1
        if self._favoured:
            turn: str | None = self._favoured[-1]
        elif self._leg < len(self.plan.legs):
            turn = self.plan.legs[self._leg].actor
        else:
            turn = next((actor for actor in self.plan.then if actor not in self._done), None)
        if turn != self._turn:
            self._turn = turn
            for actor, event in self._go.items():
                if actor == turn or actor in self._done:
                    event.set()
                else:
                    event.clear()
        self._stirred.set()

    def _at_switch(self, trace: Trace) -> bool:
        if self._favoured or self._leg >= len(self.plan.legs):
            return False
        point = self.plan.legs[self._leg]
        return (point.actor, point.shape, point.occurrence) == (trace.actor, trace.shape, trace.occurrence)

    async def _wait_for_turn(self, actor: str, what: str) -> None:
        if self._turn == actor or actor in self._done:
            return
        if actor not in self._paused:
            self._paused[actor] = self._event(actor, "pause", what)
        while self._turn != actor and actor not in self._done:
            await self._go[actor].wait()
        if self._paused.pop(actor, None) is not None:
            self._event(actor, "resume", what)

    # ------------------------------------------------------------------------------------ the gates

    async def before(self, s: Statement) -> None:
        """The proxy asks: may this statement run? Returns when it may."""
        if s.continues:  # more rows of a cursor whose statement has run: its snapshot is taken
            return
        trace = self._trace(s)
        if s.actor not in self._started or s.actor in self._done:
            # A connection that a pool tends to in the background touches no table; anything else is out of hand.
            if trace.meaning.touches or trace.meaning.opaque:
                late = s.actor in self._done
                self.trouble.append(
                    f"{s.actor} ran {_short(trace.sql)!r} {'after the reply' if late else 'before the request'}"
                )
        else:
            if self._at_switch(trace):
                self._leg += 1
                self._paused[s.actor] = self._event(s.actor, "pause", f"before {_short(trace.sql)}")
                self._retarget()
            elif trace.number % SPINS == 0:
                self._yield(s.actor)
            await self._wait_for_turn(s.actor, f"before {_short(trace.sql)}")
        trace.started = time.perf_counter()
        self._flying[id(s)] = trace
        self._stirred.set()

    def after(self, s: Statement) -> None:
        """The proxy tells: this statement is over."""
        trace = self._flying.pop(id(s), None)
        if trace is None:
            return
        self._last = time.perf_counter()
        trace.after = s.status_after
        trace.rows = s.rows
        trace.sqlstate = s.sqlstate or ""
        trace.error = s.error or ""
        trace.first_row = s.first_row
        trace.columns = s.columns
        if self._blocked.get(s.actor) is trace:
            del self._blocked[s.actor]
            self._event(s.actor, "unblocked", _short(trace.sql), connection=trace.connection)
        key = (s.actor, s.connection)
        if trace.after == "I":
            self._in_transaction.pop(key, None)
        else:
            self._in_transaction.setdefault(key, []).append(trace)
        meaning = trace.meaning
        trace.event = self._event(
            s.actor,
            "statement",
            " ".join(trace.sql.split())[:4000],
            effect=meaning.kind.value if meaning.kind else "",
            target=meaning.target,
            rows=s.rows,
            transaction={"I": "idle", "T": "open", "E": "failed"}.get(trace.after, ""),
            parameters=trace.parameters,
            result=f"{trace.sqlstate} {trace.error}".strip() or _row(trace),
            connection=trace.connection,
            location=trace.location,
        )
        self._stirred.set()

    async def before_call(self, call: OutsideCall) -> None:
        """The outside stub asks: may this call be answered? Returns when it may."""
        noted = Call(call.actor, call)
        if call.actor in self._started and call.actor not in self._done:
            await self._wait_for_turn(call.actor, f"before {call.method} {call.name}{call.path}")
        else:
            self.trouble.append(f"{call.actor} called {call.name} outside of its request")
        proxy = self._proxies.get(call.actor)
        open_now = [] if proxy is None else [c for c in proxy.connections if c.status != "I"]
        noted.open = [list(self._in_transaction.get((call.actor, c.number), ())) for c in open_now]
        if open_now and self._locks is not None:
            noted.locks = await self._locks([c.backend_pid for c in open_now])
        self.calls.append(noted)

    def after_call(self, call: OutsideCall) -> None:
        """The outside stub tells: this call has been answered."""
        self._last = time.perf_counter()
        noted = next((noted for noted in reversed(self.calls) if noted.call is call), None)
        location, function = read_location(call.headers.get("x-mainstay-place", ""))
        index = self._event(
            call.actor,
            "outside",
            f"{call.method} {call.path} {shorten(call.body)}".strip(),
            effect=Kind.CALL.value,
            target=call.name,
            transaction="open" if noted and noted.open else "idle",
            result=str(call.status or "no answer"),
            location=self._place(location) if location else None,
        )
        if noted is not None:
            noted.location, noted.function = self.events[index].location, function
            noted.event = index

    # ---------------------------------------------------------------------------------- the watcher

    async def _watch(self) -> None:
        """Ask PostgreSQL whether statements that run wait for locks, and give the turn to whoever holds them."""
        while True:
            now = time.perf_counter()
            flying = {key: trace for key, trace in self._flying.items() if now - trace.started >= LOOK}
            if not flying:
                if not self._flying:
                    self._stirred.clear()
                    await self._stirred.wait()
                await asyncio.sleep(LOOK)
                continue
            owners = {
                connection.backend_pid: actor
                for actor, proxy in self._proxies.items()
                for connection in proxy.connections
            }
            pids = {
                connection.backend_pid: trace
                for trace in flying.values()
                for connection in self._proxies[trace.actor].connections
                if connection.number == trace.connection
            }
            for pid, blockers in (await self._postgres.blocking(list(pids))).items():
                trace = pids.get(pid)
                holders = [owners[blocker] for blocker in blockers if blocker in owners]
                if trace is None or trace.actor in self._blocked or trace not in self._flying.values():
                    continue
                others = [holder for holder in holders if holder != trace.actor]
                if others:
                    self._blocked[trace.actor] = trace
                    self._event(
                        trace.actor,
                        "blocked",
                        f"{_short(trace.sql)} waits for {' and '.join(sorted(set(others)))}",
                        target=trace.meaning.target,
                        connection=trace.connection,
                    )
                    if self._turn == trace.actor:
                        self._favoured.append(others[0])
                        self._retarget()
            await asyncio.sleep(LOOK)

    def _yield(self, actor: str) -> None:
        """An actor that spins lets another one go on."""
        others = [other for other in self.plan.then if other != actor and other not in self._done]
        if others and self._turn == actor:
            self._favoured.append(others[0])
            self._retarget()

    # ------------------------------------------------------------------------------------ recording

    def _trace(self, s: Statement) -> Trace:
        sql, location, function = read_place(s.sql)
        traces = self.traces[s.actor]
        kind = shape(sql)
        self._shapes[(s.actor, kind)] += 1
        trace = Trace(
            s.actor,
            len(traces) + 1,
            sql,
            kind,
            self._shapes[(s.actor, kind)],
            self._reader.read(sql),
            s.connection,
            tuple(s.parameters),
            self._place(location) if location else None,
            function,
            s.status_before,
            s.pipelined,
        )
        traces.append(trace)
        return trace

    def _event(self, actor: str, kind: str, text: str, **more: Any) -> int:
        since = (time.perf_counter() - self._began) * 1000
        self.events.append(Event(actor, kind, text, milliseconds=round(since, 1), **more))
        return len(self.events) - 1


def read_place(sql: str) -> tuple[str, Location | None, str]:
    """A statement without the probe's comment, the line of code in the comment, and the function's name."""
    match = _COMMENT.search(sql)
    if match is None:
        return sql, None, ""
    return sql[: match.start()], *read_location(match["place"])


def read_location(place: str) -> tuple[Location | None, str]:
    """Line and function of a place as the probe writes it: ``file:line:function``."""
    file, _, rest = place.rpartition(":")[0].rpartition(":")
    return (Location(file, int(rest)), place.rpartition(":")[2]) if file and rest.isdecimal() else (None, "")


def _row(trace: Trace) -> str:
    if not trace.first_row or trace.meaning.kind not in (Kind.READ, Kind.LOCK):
        return ""
    values = ["null" if value is None else shorten(value, 60) for value in trace.first_row[:8]]
    if len(trace.columns) == len(trace.first_row):
        values = [f"{name} = {value}" for name, value in zip(trace.columns, values, strict=False)]
    return ", ".join(values)


def _short(sql: str, most: int = 100) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= most else text[: most - 1] + "…"
