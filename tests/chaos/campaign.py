"""Kill at random, for a long time, and count afterwards: ``python tests/chaos/campaign.py --kills 1000``, `make chaos`.

A PostgreSQL server of its own, workers and publishing services as processes of their own, a proxy and a stub provider.
The seed decides what is killed, in which order and after which pause; what a process is doing at that moment is up to
the machine, so a seed repeats a campaign as far as that goes.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import platform
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parent))
import chaos_programs
from audit import audit
from cluster import MOVE_TIME, Cluster
from cutting_proxy import CuttingProxy

from mainstay.patterns import Database
from mainstay.patterns.schema import upgrade

REPORT = Path(__file__).parents[2] / "docs" / "chaos.md"
SIZE = "\n## Size over millions of messages\n"
LEASE = 2.0
WORKERS = 3
SERVICES = 2

CHANCES = {
    "worker killed": 36,
    "service killed": 14,
    "backend terminated": 28,
    "one connection cut": 9,
    "all connections of the proxy cut": 3,
    "worker stopped past its lease": 3,
    "server stopped at once and started": 2,
    "clock stepped": 5,
}
"""What happens, and how often of a hundred times."""

TABLES = """
CREATE TABLE ledger (token text PRIMARY KEY, kind text NOT NULL, source text NOT NULL);
CREATE TABLE effect (
    id bigserial PRIMARY KEY, token text NOT NULL, kind text NOT NULL, source text, number integer);
CREATE TABLE account (id integer PRIMARY KEY, balance integer NOT NULL);
INSERT INTO account SELECT id, 1000 FROM generate_series(1, 20) AS id;
"""


@dataclass
class Result:
    """What was done and what came of it."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    published: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    clock: str = ""
    server: str = ""


class Provider:
    """The outside world: writes down under which idempotency keys it was called for what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            key, token = (await reader.readline()).decode().split()
            self.calls.append((key, token))
            writer.write(b"ok\n")
            await writer.drain()
        writer.close()


class Campaign:
    """One run."""

    def __init__(self, kills: int, seed: int, *, pace: float, pause: float, clock: bool) -> None:
        self._kills, self._pace, self._pause = kills, pace, pause
        self._chance = random.Random(seed)
        self.result = Result(seed)
        self._cluster = Cluster(clock=clock)
        self._proxy = CuttingProxy(self._cluster.port)
        self._provider = Provider()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["chaos_programs"])
        self._workers: list[Any] = []
        self._services: list[Any] = []
        self._started = 0
        self._offset = self._furthest = 0.0
        self._stopped: list[tuple[float, Any]] = []

    async def run(self) -> Result:
        """All of it: set up, kill, let it come to rest, count, take down."""
        begun = time.monotonic()
        with self._cluster:
            try:
                await self._set_up()
                while self.result.kills.total() < self._kills:
                    await asyncio.sleep(self._chance.expovariate(1 / self._pace))
                    await self._strike()
                    await self._look()
                await self._rest()
                with self._connect() as connection:
                    audit(connection, self.result, self._provider.calls)
            finally:
                for process in [*self._workers, *self._services]:
                    process.kill()
                    process.join()
                await self._proxy.close()
                await self._provider.close()
        self.result.seconds = time.monotonic() - begun
        return self.result

    async def _set_up(self) -> None:
        result = self.result
        url = self._cluster.dsn.replace("postgresql:", "postgresql+psycopg:")
        async with Database(url) as db:
            await upgrade(db)
        with self._connect() as connection:
            connection.execute(TABLES)
            result.server = str(connection.execute("SHOW server_version").fetchall()[0][0])
        result.clock = (
            "of the server's clock, by libfaketime"
            if self._cluster.clock
            else "of all rows' times (libfaketime is not installed)"
        )
        await self._proxy.start()
        await self._provider.start()
        self._workers = [self._worker() for _ in range(WORKERS)]
        self._services = [self._service() for _ in range(SERVICES)]
        with self._connect() as connection:
            end = time.monotonic() + 60
            while connection.execute("SELECT count(DISTINCT source) FROM ledger").fetchall() < [(SERVICES,)]:
                assert time.monotonic() < end, "the services do not begin"
                await asyncio.sleep(0.1)

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._cluster.dsn, autocommit=True, application_name="chaos")

    def _url(self) -> str:
        """Either driver; two of three through the proxy."""
        driver = self._chance.choice(["psycopg", "asyncpg"])
        port = self._chance.choice([self._proxy.port, self._proxy.port, self._cluster.port])
        return f"postgresql+{driver}://postgres@127.0.0.1:{port}/postgres"

    def _worker(self) -> Any:
        return self._start(chaos_programs.work, self._url(), self._provider.port, LEASE)

    def _service(self) -> Any:
        self._started += 1
        seed = self.result.seed * 100_000 + self._started
        return self._start(chaos_programs.serve, self._url(), seed, self._pause)

    def _start(self, program: Any, *arguments: Any) -> Any:
        process = self._context.Process(target=program, args=arguments, daemon=True)
        process.start()
        return process

    # ------------------------------------------------------------------------------------- striking

    async def _strike(self) -> None:
        what = self._chance.choices(list(CHANCES), list(CHANCES.values()))[0]
        chosen = self._chance.randrange(10**6)
        done = 1
        match what:
            case "worker killed":
                self._replace(self._workers, chosen, self._worker)
            case "service killed":
                self._replace(self._services, chosen, self._service)
            case "backend terminated":
                done = self._terminate(chosen)
            case "one connection cut":
                done = min(1, self._proxy.cut(self._chance))
            case "all connections of the proxy cut":
                done = min(1, self._proxy.cut(self._chance, everything=True))
            case "worker stopped past its lease":
                process = self._workers[chosen % len(self._workers)]
                os.kill(process.pid, signal.SIGSTOP)
                self._stopped.append((time.monotonic() + 2 * LEASE, process))
            case "server stopped at once and started":
                await asyncio.to_thread(self._cluster.stop, "immediate")
                await asyncio.to_thread(self._cluster.start)
            case "clock stepped":
                self._step()
        self.result.kills[what] += done

    def _replace(self, processes: list[Any], chosen: int, start: Any) -> None:
        place = chosen % len(processes)
        processes[place].kill()
        processes[place].join()
        self._stopped = [(at, process) for at, process in self._stopped if process is not processes[place]]
        processes[place] = start()

    def _terminate(self, chosen: int) -> int:
        with suppress(psycopg.OperationalError), self._connect() as connection:
            pids = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                " ORDER BY pid"
            ).fetchall()
            if pids:
                connection.execute("SELECT pg_terminate_backend(%s)", pids[chosen % len(pids)])
                return 1
        return 0

    def _step(self) -> None:
        """Back or forth by seconds as time daemons do it, or by an hour forth as people do it."""
        by = self._chance.choice([-20, -3, -0.5, 0.5, 3, 20, 3600])
        self._shift(by)

    def _shift(self, by: float) -> None:
        self._offset += by
        self._furthest = max(self._furthest, self._offset)
        if self._cluster.clock:
            self._cluster.set_clock(self._offset)
            return
        with suppress(psycopg.OperationalError), self._connect() as connection:
            connection.execute(MOVE_TIME.replace(":by", f"interval '{by} seconds'"))

    async def _look(self) -> None:
        """Let go on what was stopped long enough; see that processes run that have not been killed."""
        now = time.monotonic()
        for at, process in self._stopped:
            if at <= now:
                os.kill(process.pid, signal.SIGCONT)
        self._stopped = [(at, process) for at, process in self._stopped if at > now]
        for processes, start in ((self._workers, self._worker), (self._services, self._service)):
            for place, process in enumerate(processes):
                if not process.is_alive():
                    # Only one that finds no database as it starts may end: then its supervisor starts it again.
                    self.result.notes["ended by themselves"] = (
                        self.result.notes.get("ended by themselves", 0) + 1
                    )
                    processes[place] = start()

    # ------------------------------------------------------------------------------------- afterwards

    async def _rest(self) -> None:
        for process in self._services:
            process.kill()
            process.join()
        self._services = []
        for _, process in self._stopped:
            os.kill(process.pid, signal.SIGCONT)
        self._stopped = []
        if self._offset < self._furthest:
            self._shift(
                self._furthest - self._offset + 5
            )  # what a clock set back made wait, need not wait any longer
        begun = time.monotonic()
        while time.monotonic() - begun < 120:
            await self._look()
            with suppress(psycopg.OperationalError), self._connect() as connection:
                (row,) = connection.execute(
                    "SELECT (SELECT count(*) FROM mainstay.message WHERE ended_at IS NULL),"
                    " (SELECT count(*) FROM mainstay.worker WHERE alive_until > now())"
                ).fetchall()
                if row[0] == 0 and row[1] >= len(self._workers):
                    break
            await asyncio.sleep(0.2)
        self.result.notes["seconds until all had ended"] = round(time.monotonic() - begun, 1)
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            await asyncio.to_thread(process.join, 30)
            if process.exitcode != 0:
                self.result.faults.append(
                    f"a worker did not end in good order on SIGTERM: {process.exitcode}"
                )


def describe(result: Result) -> str:
    """The report, as Markdown."""
    rows = "\n".join(f"| {what} | {result.kills[what]} |" for what in CHANCES)
    kinds = "\n".join(f"| {kind} | {number} |" for kind, number in sorted(result.published.items()))
    notes = "\n".join(f"- {what}: {value}" for what, value in result.notes.items())
    verdict = (
        "**Nothing lost, nothing doubled, nothing stuck.**"
        if not result.faults
        else "**Faults:**\n\n" + "\n".join(f"- {fault}" for fault in result.faults)
    )
    return f"""# Chaos: the last campaign

Written by `make chaos` (`tests/chaos/campaign.py`). {WORKERS} workers (leases of {LEASE:g} s) and {SERVICES} publishing
services as processes of their own, on both drivers, two of three through a TCP proxy; a PostgreSQL server of its own.
Workers and services are started anew as they are killed.

{verdict}

{result.kills.total()} times in {result.seconds:.0f} seconds, seed {result.seed}; PostgreSQL {result.server},
Python {platform.python_version()}, psycopg {version("psycopg")}, asyncpg {version("asyncpg")}. Clock steps are
{result.clock}: half a second to twenty seconds back or forth, or an hour forth.

| what | times |
|---|---|
{rows}

What committed transactions had published, and the audit found done:

| kind | things |
|---|---|
{kinds}

- `transfer`, `keyed`, `slotted`, `limited`, `failing`: handlers with a transaction; each has its effect exactly once.
  Balances add up. Of a key with a limit of one, effects are in the order of publishing.
- `outside`: calls to a stub provider; each was called for at least once, always under the same idempotency key, and no
  two under the same one.
- `delivered`: published two or three times and shuffled, as a broker delivers; one effect each, by the inbox.
- `doomed`: gives up; is dead, with its error history, and has no effect.
- `blocking`: plain functions in threads; done.

{notes}

A seed repeats what is struck, in which order and after which pause; not what a process is doing at that moment. What
brokers do when they are killed is in `tests/brokers`, kills at single statements in `tests/messages/test_crash.py`.
"""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    parser.add_argument("--pace", type=float, default=0.7, help="seconds between two strikes, on average")
    parser.add_argument("--report", type=Path, default=REPORT, help="the file to write")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    result = asyncio.run(Campaign(options.kills, seed, pace=options.pace, pause=0.05, clock=True).run())
    report = describe(result)
    if options.report.exists():  # what tests/chaos/bloat.py measured stands below, and stays
        report += "".join(options.report.read_text(encoding="utf-8").partition(SIZE)[1:])
    options.report.write_text(report, encoding="utf-8")
    print(report)
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
