"""The laboratory: a service, its database and its outside world, set up so that every run starts the same.

There is one copy of the service for each actor, each with a proxy and a stub of its own, so a statement's or a
call's actor is known. The set-up is done once, in a template database; every run works in a fresh clone, to
which the proxies move the services' connections. The copies stay up from run to run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from mainstay.architect.diagnose.client import Client, Hangup, Reply
from mainstay.architect.diagnose.oracle import Left, Oracle, shorten
from mainstay.architect.diagnose.outside import Outside
from mainstay.architect.diagnose.postgres import Database, Postgres
from mainstay.architect.diagnose.proxy import OpenGate, Proxy, Statement
from mainstay.architect.diagnose.scenario import SAFE_METHODS, Scenario
from mainstay.architect.diagnose.scheduler import Call, Conductor, Plan, Trace, Undecided
from mainstay.architect.diagnose.schema import Schema, read_schema
from mainstay.architect.diagnose.service import Service
from mainstay.architect.diagnose.snapshot import (
    Snapshot,
    TooManyRows,
    advance_sequences,
    fingerprint,
    take_snapshot,
)
from mainstay.architect.diagnose.statements import Reader
from mainstay.architect.document import relative
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Event, Location

PROBE = Path(__file__).parent / "probe"

SETTLE = 0.25
"""Seconds for which is looked whether a service goes on working after its reply."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be tried."""

    schedules: int = 200
    """Most schedules for each pair of requests."""
    seconds: float = 600.0
    """Most seconds for all experiments together."""


class NotServed(MainstayError):
    """A request that only prepares was not answered as the scenario expects."""


@dataclass(slots=True)
class Station:
    """One actor's copy of everything."""

    actor: str
    proxy: Proxy
    outside: Outside
    service: Service
    client: Client


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what happened, and what it left behind."""

    events: list[Event]
    traces: dict[str, list[Trace]]
    calls: list[Call]
    replies: dict[str, Reply]
    left: Left
    trouble: list[str]
    seconds: float


class Ear(OpenGate):
    """Lets everything through, and hears when the last statement came."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.heard: float | None = None
        """Seconds after which the last statement came; None where none did."""

    async def before(self, s: Statement) -> None:
        self.heard = time.perf_counter() - self.began


@dataclass(slots=True)
class Laboratory:
    """Open it with `laboratory`."""

    scenario: Scenario
    command: list[str]
    postgres: Postgres
    stations: dict[str, Station]
    budget: Budget
    progress: Progress
    template: Database
    shared: dict[str, Any] = field(default_factory=dict)
    """What set-up requests saved."""
    schema: Schema = field(default_factory=Schema)
    reader: Reader = field(default_factory=lambda: Reader(Schema()))
    start: Snapshot = field(default_factory=lambda: Snapshot({}, {}))
    """The rows of the template."""
    runs: int = 0
    schedules: int = 0
    racing: float = 0.0
    """Seconds spent in schedules, a fresh clone for each included."""
    deadline: float = 0.0
    root: Path = Path()
    """Where the files of locations are named from."""
    cache: dict[Any, Any] = field(default_factory=dict)
    """What experiments have found out and others may use."""
    _clone: asyncio.Task[Database] | None = None
    _present: Database | None = None
    _settle: dict[str, float] = field(default_factory=dict)
    """For how long the service must be quiet after a request until a run counts as over; not 0 where it goes on
    working after its reply."""
    _random: random.Random = field(default_factory=lambda: random.Random(20251120))

    # ----------------------------------------------------------------------------------------- state

    @property
    def actors(self) -> tuple[str, str]:
        """The two that meet in races. The first one also sends what is measured alone."""
        first, second = list(self.stations)[:2]
        return first, second

    @property
    def out_of_time(self) -> bool:
        """Whether the budget's seconds have run out."""
        return time.monotonic() > self.deadline

    def oracle(self) -> Oracle:
        """An oracle for runs that start from the template."""
        return Oracle(self.schema, self.start, self.scenario.ignore, datetime.now(UTC))

    def starting_state(self) -> dict[str, Any]:
        """`Witness.starting_state` of this laboratory."""
        return fingerprint(self.start, self.clock_columns())

    def clock_columns(self) -> dict[str, set[str]]:
        """Columns that the database fills with clocks or random values: different each time it is set up."""
        return {
            table.name: {
                column.name
                for column in table.columns.values()
                if column.category == "D"
                or (column.default and "(" in column.default and "nextval" not in column.default)
            }
            for table in self.schema.tables.values()
        }

    async def _next_clone(self, old: Database | None) -> Database:
        """Make the clone for the next run, then drop that of the run before: both while a run works in its own."""
        clone = await self.postgres.create(self.template)
        if old is not None:
            await self.postgres.drop(old)
        return clone

    async def reset(
        self, stride: int = 0, grow: Callable[[psycopg.AsyncConnection[Any]], Any] | None = None
    ) -> None:
        """Move everything to a fresh clone. `grow` may change it before the service sees it."""
        database = await (self._clone or self.postgres.create(self.template))
        if stride or grow is not None:
            async with await self.postgres.connect(database) as connection:
                if stride:
                    await advance_sequences(connection, self.schema, stride)
                if grow is not None:
                    await grow(connection)
        for station in self.stations.values():
            station.proxy.gate = OpenGate()
            station.outside.reset()
            station.client.forget()
        await asyncio.gather(*(station.proxy.attach(database) for station in self.stations.values()))
        old, self._present = self._present, database
        self._clone = asyncio.create_task(self._next_clone(old))
        if self.scenario.service.restart == "each":
            for station in self.stations.values():
                await station.service.stop()
                await station.service.start()
                station.client.base_url = station.service.url
                await station.client.close()

    def stride(self) -> int:
        """A step for sequences that no two runs share."""
        return self._random.randrange(1000, 9000)

    # ------------------------------------------------------------------------------------------ runs

    async def run(
        self,
        cast: Mapping[str, str],
        plan: Plan,
        *,
        stride: int = 0,
        grow: Callable[[psycopg.AsyncConnection[Any]], Any] | None = None,
        locks: bool = False,
    ) -> Run:
        """Run a plan in a fresh clone. `cast` says which actor sends which request.

        Raises `Undecided` where the run cannot be judged, `MainstayError` where the scenario does not work.
        """
        self.runs += 1
        await self.reset(stride, grow)
        assert self._present is not None
        requests = self.scenario.requests
        for actor, name in cast.items():
            for step in self._before(actor, name):
                await self._step(self.stations[actor], step)
        settle = max(self._settle.get(name, 0.0) for name in cast.values())
        started = time.perf_counter()
        async with await self.postgres.connect(self._present) as connection:
            conductor = Conductor(
                self.postgres,
                {actor: station.proxy for actor, station in self.stations.items()},
                self.reader,
                plan,
                {actor: self.line(name) for actor, name in cast.items()},
                settle=settle,
                place=self.code,
                locks=(lambda pids: _held_locks(connection, pids)) if locks else None,
            )
            for station in self.stations.values():
                station.proxy.gate = conductor
                station.outside.gate = conductor
            try:
                await conductor.run(
                    lambda actor: self.stations[actor].client.send(cast[actor], requests[cast[actor]])
                )
                seconds = time.perf_counter() - started
                snapshot = await take_snapshot(connection, self.schema, self.start)
            except TooManyRows as error:
                raise Undecided(str(error)) from None
            finally:
                for station in self.stations.values():
                    station.proxy.gate = OpenGate()
                    station.outside.gate = None
        left = Left(
            {
                actor: replace(
                    (reply := conductor.replies[actor]).answer,
                    unexpected=not requests[cast[actor]].expected(reply.status),
                )
                for actor in plan.then
            },
            snapshot,
            _effects(conductor.calls, plan.then),
        )
        return Run(
            conductor.events,
            conductor.traces,
            conductor.calls,
            conductor.replies,
            left,
            list(dict.fromkeys(conductor.trouble)),
            seconds,
        )

    async def alone(self, name: str, actor: str | None = None) -> Run:
        """One request of one actor, on a service that has answered it before. Done once, then remembered.

        Raises `MainstayError` where the reply is not what the scenario expects.
        """
        actor = actor or self.actors[0]
        if (name, actor) not in self.cache:
            await self.run({actor: name}, Plan((actor,)))
            # Does the service go on working after its reply? Then runs must wait for it to be quiet.
            if name not in self._settle:
                self.stations[actor].proxy.gate = ear = Ear()
                await asyncio.sleep(SETTLE)
                self._settle[name] = 0.0 if ear.heard is None else SETTLE + 3 * ear.heard
            run = await self.run({actor: name}, Plan((actor,)), locks=True)
            request = self.scenario.requests[name]
            reply = run.replies[actor]
            if not request.expected(reply.status):
                wanted = "below 400" if request.expect is None else " or ".join(map(str, request.expect))
                place = f"{self.scenario.places[name]}: " if name in self.scenario.places else ""
                # One that only prepares others may be refused a second time: what it makes is there already.
                kind = Undecided if name in self.scenario.preparing else MainstayError
                raise kind(
                    f"{place}request {name!r} was answered {reply}, expected {wanted}"
                    f"{self._complaint(actor, reply.status)}; mend the scenario or set `expect`"
                )
            self.cache[(name, actor)] = run
        run_or_none: Run = self.cache[(name, actor)]
        return run_or_none

    def _complaint(self, actor: str, status: int) -> str:
        """The service's last line, where it broke."""
        last = shorten(self.stations[actor].service.tail().strip().rpartition("\n")[2])
        return f" (the service's last line: {last})" if status >= 500 and last else ""

    def _before(self, actor: str, name: str) -> list[str]:
        """The requests that an actor sends before this one, each once, in order."""
        found: list[str] = []

        def add(step: str, way: tuple[str, ...]) -> None:
            if step in way:
                raise MainstayError(
                    f"the requests {' -> '.join((*way, step))} wait for each other; break the circle"
                )
            for earlier in self.scenario.requests[step].before:
                add(earlier, (*way, step))
            if step not in found:
                found.append(step)

        for step in self.scenario.actors[actor].before:
            add(step, ())
        for step in self.scenario.requests[name].before:
            add(step, (name,))
        # One that prepares others is sent at its own place among them.
        return found[: found.index(name)] if name in found else found

    async def _step(self, station: Station, name: str) -> Reply:
        """Send a request that only prepares. Raises `NotServed` where the reply is not as expected."""
        request = self.scenario.requests[name]
        try:
            reply = await station.client.send(name, request)
        except Hangup as error:
            raise NotServed(
                f"request {name!r} got no reply: {error}{self._complaint(station.actor, 500)}"
            ) from None
        if not request.expected(reply.status):
            raise NotServed(
                f"request {name!r} was answered {reply}, which the scenario does not expect"
                f"{self._complaint(station.actor, reply.status)}"
            )
        return reply

    def line(self, name: str) -> str:
        """A request as a reader knows it: ``POST /orders {"product": 1}``."""
        request = self.scenario.requests[name]
        body = request.content if request.content is not None else request.form or request.body
        return f"{request.send} {shorten(body)}".strip()

    def location(self, name: str) -> Location:
        """Where a request stands in the scenario."""
        place = self.scenario.places.get(name) or Location(f"{self.scenario.name}.yaml", 1)
        return replace(place, file=relative(self.scenario.base / Path(place.file).name, self.root))

    def code(self, location: Location) -> Location:
        """A line that the probe saw, with its file named from the root."""
        return replace(location, file=relative(self.scenario.directory / location.file, self.root))

    async def broken_invariants(self) -> list[str]:
        """The scenario's invariants that do not hold in the present database, with the first row that breaks each."""
        found = []
        assert self._present is not None
        async with await self.postgres.connect(self._present) as connection:
            for name, sql in self.scenario.invariants.items():
                try:
                    row = await (await connection.execute(sql.encode())).fetchone()
                except psycopg.Error as error:
                    raise MainstayError(
                        f"invariant {name!r} does not run: {str(error).splitlines()[0]}"
                    ) from None
                if row is not None:
                    found.append(f"{name}: {', '.join(map(str, row))}")
        return found


# ------------------------------------------------------------------------------------------- opening


@asynccontextmanager
async def laboratory(
    scenario: Scenario,
    *,
    command: list[str] | None,
    database_url: str | None,
    budget: Budget,
    progress: Progress,
    root: Path | None = None,
) -> AsyncIterator[Laboratory]:
    """Set up a laboratory, and take all of it down at the end, however that comes."""
    words = command or scenario.service.command
    if not words:
        raise MainstayError(
            "there is no command that starts the service; set service.command in the scenario or name it after --"
        )
    if not scenario.directory.is_dir():
        raise MainstayError(
            f"the service's directory {scenario.directory} does not exist; mend service.directory"
        )
    async with AsyncExitStack() as stack:
        progress("starting PostgreSQL" if database_url is None else "connecting to PostgreSQL")
        postgres = await (Postgres.at(database_url) if database_url is not None else Postgres.embedded())
        stack.push_async_callback(postgres.close)
        template = await postgres.create()
        shared: dict[str, Any] = {}
        stations: dict[str, Station] = {}
        for actor in list(scenario.actors)[:2]:
            stations[actor] = await _station(stack, scenario, words, postgres, actor, shared)
        lab = Laboratory(
            scenario,
            words,
            postgres,
            stations,
            budget,
            progress,
            template,
            shared,
            deadline=time.monotonic() + budget.seconds,
            root=(root or scenario.base).resolve(),
        )
        await _set_up(lab)
        try:
            yield lab
        finally:
            if lab._clone is not None:
                lab._clone.cancel()
                await asyncio.gather(lab._clone, return_exceptions=True)


async def _station(
    stack: AsyncExitStack,
    scenario: Scenario,
    command: list[str],
    postgres: Postgres,
    actor: str,
    shared: dict[str, Any],
) -> Station:
    proxy = Proxy(postgres, actor)
    stack.push_async_callback(proxy.close)
    await proxy.start()
    outside = Outside(actor, scenario.outside)
    stack.push_async_callback(outside.close)
    await outside.start()
    environment = {
        **_environment(),
        **scenario.service.environment,
        **{name: proxy.url(scheme) for name, scheme in scenario.service.database.items()},
        **{
            host.environment: outside.url(name) for name, host in scenario.outside.items() if host.environment
        },
    }
    if scenario.service.probe:
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(PROBE), *([path] if path else [])])
        environment["MAINSTAY_PROBE"] = str(scenario.directory)
    service = Service(
        command,
        scenario.directory,
        environment,
        ready=scenario.service.ready,
        timeout=scenario.service.timeout,
    )
    stack.push_async_callback(service.stop)
    client = Client(actor, "", scenario.actors[actor], shared)
    stack.push_async_callback(client.close)
    return Station(actor, proxy, outside, service, client)


def _environment() -> dict[str, str]:
    """What every service gets: no detour to this machine's own ports, and Mainstay's own Python found first.

    Where a virtual environment is active, its programs are found first, as in the user's shell.
    """
    environment = {
        **os.environ,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if "VIRTUAL_ENV" not in os.environ:
        path = os.environ.get("PATH", os.defpath)
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    return environment


async def _set_up(lab: Laboratory) -> None:
    """Do the scenario's set-up in the template, start the services, and read what came of it."""
    first, *others = lab.stations.values()
    await first.proxy.attach(lab.template)
    waiting = await lab.postgres.create()
    started = False
    async with await lab.postgres.connect(lab.template) as connection:
        for number, step in enumerate(lab.scenario.setup, 1):
            lab.progress(f"set-up {number} of {len(lab.scenario.setup)}")
            if step.sql is not None or step.file is not None:
                await _run_sql(lab, connection, step.sql, step.file, number)
            elif step.run is not None:
                await _run_command(lab, first, step.run, number)
            else:
                if not started:
                    await _start(first)
                    started = True
                name = step.request or ""
                for earlier in lab._before(first.actor, name):
                    await lab._step(first, earlier)
                await lab._step(first, name)
                lab.shared.update(first.client.saved)
    lab.progress("starting the service")
    if started:
        await first.proxy.attach(waiting)  # nothing may be connected to a template while it is cloned
    # What the first copy does to the template when it starts belongs to the set-up. The others start in clones
    # of their own, so that all can start at once and none is in another's way.
    for station in others:
        await station.proxy.attach(await lab.postgres.create(lab.template))
    await asyncio.gather(*(_start(station) for station in ([] if started else [first]) + others))
    async with await lab.postgres.connect(lab.template) as connection:
        lab.schema = await read_schema(connection)
        lab.reader = Reader(lab.schema)
        lab.start = await take_snapshot(connection, lab.schema)
    for station in lab.stations.values():
        await station.proxy.attach(waiting)
    lab._present = waiting


async def _start(station: Station) -> None:
    await station.service.start()
    station.client.base_url = station.service.url


async def _run_sql(
    lab: Laboratory, connection: psycopg.AsyncConnection[Any], sql: str | None, file: str | None, number: int
) -> None:
    if file is not None:
        try:
            sql = (lab.scenario.base / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MainstayError(f"set-up step {number} cannot read {file}: {error}") from None
    try:
        await connection.execute((sql or "").encode())
    except psycopg.Error as error:
        raise MainstayError(
            f"set-up step {number} failed in PostgreSQL: {str(error).splitlines()[0]}"
        ) from None


async def _run_command(lab: Laboratory, station: Station, command: Sequence[str], number: int) -> None:
    """Run a set-up command with the service's directory and environment, and wait for it."""
    try:
        process = await asyncio.create_subprocess_exec(
            *map(station.service.fill, command),
            cwd=lab.scenario.directory,
            env=station.service.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise MainstayError(f"set-up step {number}: {command[0]} cannot be run: {error.strerror}") from None
    try:
        output, _ = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        raise
    if process.returncode:
        said = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
        last = " | ".join(shorten(line) for line in said[-3:]) or "it printed nothing"
        raise MainstayError(
            f"set-up step {number} ({' '.join(command)}) ended with {process.returncode}: {last}"
        )


def _effects(calls: Sequence[Call], actors: Sequence[str]) -> dict[str, list[Any]]:
    """The calls that do something outside, as JSON values, by actor; calls with one Idempotency-Key are one."""
    found: dict[str, list[Any]] = {actor: [] for actor in actors}
    keys: set[tuple[str, str, str, str]] = set()
    for noted in calls:
        call = noted.call
        if call.actor not in found or call.method in SAFE_METHODS or not call.effect:
            continue
        key = call.headers.get("idempotency-key", "")
        if key:
            if (identity := (call.name, call.method, call.path, key)) in keys:
                continue
            keys.add(identity)
        body = _json(call.body)
        found[call.actor].append({"to": call.name, "send": f"{call.method} {call.path}", "body": body})
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


async def _held_locks(connection: psycopg.AsyncConnection[Any], pids: Sequence[int]) -> list[str]:
    """Locks on tables that backends hold beyond reading, in words."""
    rows = await connection.execute(
        "SELECT DISTINCT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
        "WHERE l.pid = ANY(%s) AND l.granted AND c.relkind IN ('r', 'p') AND l.mode <> 'AccessShareLock' "
        "AND c.relnamespace <> 'pg_catalog'::regnamespace ORDER BY 1, 2",
        (list(pids),),
    )
    return [f"{mode} on {name}" for name, mode in await rows.fetchall()]
