"""Kill at random, for a long time, and count afterwards: ``python tests/chaos/campaign.py --kills 1000``, `make chaos`.

A PostgreSQL server and brokers of its own with proxies in front of them, workers and services as processes of their
own, and a stub provider. What workers do is in `chaos_programs.py`, with `chaos_sagas.py` and `chaos_events.py`; what
must be true afterwards, in `audit.py` and `saga_audit.py`.
The seed decides what is killed, in which order and after which pause; what a process is doing at that moment is up to
the machine, so a seed repeats a campaign as far as that goes.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parent))
import chaos_events
import chaos_programs
import chaos_sagas
from audit import audit, audit_broker
from broker_server import BrokerServer, available
from chaos_report import Result, describe
from cluster import MOVE_TIME, Cluster
from cutting_proxy import CuttingProxy
from stub_provider import Provider

from mainstay.patterns import Database
from mainstay.patterns.schema import upgrade

REPORT = Path(__file__).parents[2] / "docs" / "chaos.md"
SIZE = "\n## Size over millions of messages\n"
LEASE = 2.0
PROMISED = "SELECT least((SELECT count(*) FROM saga_ledger), (SELECT count(*) FROM ledger) / 2)"
WORKERS = 3
SERVICES = 2
SAGAS_A_STRIKE = 0.8
"""So many at least, so that there is work in hand to strike at."""

CHANCES = {
    "worker killed": 36,
    "service killed": 14,
    "backend terminated": 28,
    "one connection cut": 9,
    "all connections of the proxy cut": 3,
    "worker stopped past its lease": 3,
    "server stopped at once and started": 2,
    "clock stepped": 5,
    "broker killed, and started in a while": 4,
    "broker stopped past its time-out": 3,
    "one connection of a broker's proxy cut": 5,
}
"""What happens, and how often for each other."""

PRELOADED = [
    # Only what is installed: the fork server of Python 3.11 does not know the path of the tests, and says nothing.
    "mainstay.patterns.saga.runner",
    "mainstay.patterns.events.relay",
    "mainstay.patterns.events.receiving",
    "mainstay.patterns.brokers.clients.nats",
    "mainstay.patterns.brokers.clients.redis",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "psycopg",
    "asyncpg",
]

TABLES = (
    """
CREATE TABLE ledger (token text, kind text, source text NOT NULL, PRIMARY KEY (token, kind));
CREATE TABLE effect (
    id bigserial PRIMARY KEY, token text NOT NULL, kind text NOT NULL, source text, number integer);
CREATE TABLE account (id integer PRIMARY KEY, balance integer NOT NULL);
INSERT INTO account SELECT id, 1000 FROM generate_series(1, 20) AS id;
"""
    + chaos_sagas.TABLES
)

ALIVE = """
SELECT count(*) FROM mainstay.worker
WHERE alive_until > now() AND substring(name FROM '[0-9]+$') = ANY (string_to_array('{}', ' '))
"""
LEFT = f"""
SELECT (SELECT count(*) FROM mainstay.message WHERE ended_at IS NULL AND kind NOT LIKE 'saga/%')
     + (SELECT count(*) FROM mainstay.saga_status JOIN saga_ledger ON saga = id
        WHERE ended_at IS NULL AND (stuck IS NULL OR fate NOT IN ('{"', '".join(chaos_sagas.STUCK)}')))
"""
"""How much there is still to do. A saga that has to be stuck is done when it is."""


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
        self._context.set_forkserver_preload(PRELOADED)
        self._brokers = [BrokerServer(kind) for kind in available()]
        self._broker_proxies = {broker.kind: CuttingProxy(broker.port) for broker in self._brokers}
        self._listeners: list[CuttingProxy | Provider] = [
            self._proxy,
            *self._broker_proxies.values(),
            self._provider,
        ]
        self._workers: list[Any] = []
        self._services: list[Any] = []
        self._started = 0
        self._offset = self._furthest = 0.0
        self._later: list[tuple[float, object, Callable[[], Any]]] = []
        """When, to which process, and what is to be done."""

    async def run(self) -> Result:
        """All of it: set up, kill, let it come to rest, count, take down."""
        begun = time.monotonic()
        with self._cluster:
            try:
                await self._set_up()
                each_once = self._chance.sample(list(CHANCES), len(CHANCES))
                while self.result.kills.total() < self._kills:
                    await asyncio.sleep(self._chance.expovariate(1 / self._pace))
                    by_chance = self._chance.choices(list(CHANCES), list(CHANCES.values()))[0]
                    await self._until_there_are(self.result.kills.total() * SAGAS_A_STRIKE)
                    await self._look()
                    await self._strike(each_once.pop() if each_once else by_chance)
                    await self._look()
                await self._rest()
                with self._connect() as connection:
                    audit(connection, self.result, self._provider.asked)
                self.result.notes["calls outside that came after their undo, and were refused"] = (
                    self._provider.late
                )
            finally:
                for process in [*self._workers, *self._services]:
                    process.kill()
                    process.join()
                for listener in self._listeners:
                    await listener.close()
                for broker in self._brokers:
                    await broker.close()
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
        for listener in self._listeners:
            await listener.start()
        for broker in self._brokers:
            await asyncio.to_thread(broker.start)
            await broker.prepare()
            result.brokers.append(broker.told())
        self._workers = [self._worker() for _ in range(WORKERS)]
        self._services = [self._service() for _ in range(SERVICES)]
        await self._until_there_are(1)

    async def _until_there_are(self, sagas: float) -> None:
        """Wait until so many have been started, and twice as many other things: on a busy machine, strikes shall not
        come faster than work."""
        end = time.monotonic() + 120
        while True:
            with suppress(psycopg.OperationalError):
                if await self._ask(PROMISED) >= sagas:
                    return
            assert time.monotonic() < end, "the services do not publish"
            await asyncio.sleep(0.1)
            await self._look()

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._cluster.dsn, autocommit=True, application_name="chaos")

    def _url(self) -> str:
        """Either driver; two of three through the proxy."""
        driver = self._chance.choice(["psycopg", "asyncpg"])
        port = self._chance.choice([self._proxy.port, self._proxy.port, self._cluster.port])
        return f"postgresql+{driver}://postgres@127.0.0.1:{port}/postgres"

    def _worker(self) -> Any:
        brokers = {
            broker.kind: (
                broker.address(self._chance.choice([None, self._broker_proxies[broker.kind].port])),
                broker.topic,
            )
            for broker in self._brokers
        }
        return self._start(chaos_programs.work, self._url(), self._provider.port, LEASE, brokers)

    def _service(self) -> Any:
        self._started += 1
        seed = self.result.seed * 100_000 + self._started
        ways = chaos_events.ways([broker.kind for broker in self._brokers])
        return self._start(chaos_programs.serve, self._url(), seed, self._pause, ways)

    def _start(self, program: Any, *arguments: Any) -> Any:
        process = self._context.Process(target=program, args=arguments, daemon=True)
        process.start()
        return process

    # ------------------------------------------------------------------------------------- striking

    async def _strike(self, what: str) -> None:
        chosen = self._chance.randrange(10**6)
        seconds = self._chance.uniform(0, 3)
        own = [broker for broker in self._brokers if broker.own]
        done = 1
        match what:
            case "worker killed":
                self._replace(self._workers, chosen, self._worker)
            case "service killed":
                self._replace(self._services, chosen, self._service)
            case "backend terminated":
                done = await asyncio.to_thread(self._terminate, chosen)
            case "one connection cut":
                done = min(1, self._proxy.cut(self._chance))
            case "all connections of the proxy cut":
                done = min(1, self._proxy.cut(self._chance, everything=True))
            case "worker stopped past its lease":
                process = self._workers[chosen % len(self._workers)]
                if _signal(process.pid, signal.SIGSTOP):
                    go_on = partial(_signal, process.pid, signal.SIGCONT)
                    self._later.append((time.monotonic() + 2 * LEASE, process, go_on))
                else:
                    done = 0
            case "server stopped at once and started":
                await asyncio.to_thread(self._cluster.stop, "immediate")
                await asyncio.to_thread(self._cluster.start)
            case "clock stepped":
                await self._step()
            case "one connection of a broker's proxy cut":
                proxies = list(self._broker_proxies.values())
                done = proxies[chosen % len(proxies)].cut(self._chance) if proxies else 0
            case _ if not own:
                done = 0
            case "broker killed, and started in a while":
                broker = own[chosen % len(own)]
                broker.kill()
                self._later.append((time.monotonic() + seconds, broker, broker.start))
            case "broker stopped past its time-out":
                broker = own[chosen % len(own)]
                broker.pause(True)
                go_on = partial(broker.pause, False)
                self._later.append((time.monotonic() + chaos_events.TIMEOUT + seconds, broker, go_on))
        self.result.kills[what] += done

    def _replace(self, processes: list[Any], chosen: int, start: Any) -> None:
        place = chosen % len(processes)
        processes[place].kill()
        processes[place].join()
        self._later = [one for one in self._later if one[1] is not processes[place]]
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

    async def _step(self) -> None:
        """Back or forth by seconds as time daemons do it, or by an hour forth as people do it."""
        by = self._chance.choice([-20, -3, -0.5, 0.5, 3, 20, 3600])
        await self._shift(by)

    async def _shift(self, by: float) -> None:
        self._offset += by
        self._furthest = max(self._furthest, self._offset)
        if self._cluster.clock:
            self._cluster.set_clock(self._offset)
            return
        # In a thread: it waits for rows that somebody holds whose connection goes through the proxies here.
        await asyncio.to_thread(self._move_time, by)

    def _move_time(self, by: float) -> None:
        with suppress(psycopg.OperationalError), self._connect() as connection:
            connection.execute("SET lock_timeout = '5s'")
            connection.execute(MOVE_TIME.replace(":by", f"interval '{by} seconds'"))

    async def _look(self) -> None:
        """Let go on what was stopped long enough; see that processes run that have not been killed."""
        now = time.monotonic()
        due = [one for one in self._later if one[0] <= now]
        self._later = [one for one in self._later if one[0] > now]
        for _, _, action in due:
            await asyncio.to_thread(action)
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
        self._later = [(0.0, whom, action) for _, whom, action in self._later]
        if self._offset < self._furthest:  # what a clock set back made wait, need not wait any longer
            await self._shift(self._furthest - self._offset + 5)
        begun = time.monotonic()
        while time.monotonic() - begun < 180:
            await self._look()
            if await self._at_rest():
                break
            await asyncio.sleep(0.2)
        self.result.notes["seconds until all had ended"] = round(time.monotonic() - begun, 1)
        for broker in self._brokers:
            kept, left = await broker.count()
            told = await self._ask("SELECT count(*) FROM ledger WHERE kind = 'told'")
            audit_broker(self.result, broker.kind, await broker.read(kept), told, left)
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            await asyncio.to_thread(process.join, 30)
            if process.exitcode != 0:
                self.result.faults.append(
                    f"a worker did not end in good order on SIGTERM: {process.exitcode}"
                )

    async def _at_rest(self) -> bool:
        """Whether nothing is left to do, in the database and at the brokers, and as many workers live as should."""
        try:
            # By their numbers: what a killed one left may count as alive for as long as its lease.
            alive = await self._ask(ALIVE.format(" ".join(str(process.pid) for process in self._workers)))
            if alive < len(self._workers) or await self._ask(LEFT):
                return False
            for broker in self._brokers:
                if (await broker.count())[1]:
                    return False
        except Exception:  # one of them has just been started and does not answer yet
            return False
        return True

    async def _ask(self, sql: str) -> int:
        def ask() -> int:
            with self._connect() as connection:
                return int(connection.execute(sql).fetchall()[0][0])

        return await asyncio.to_thread(ask)


def _signal(pid: int, number: signal.Signals) -> bool:
    """Send it; false where the process has ended by itself, as one may that found no database as it started."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


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
    report = describe(result, list(CHANCES), workers=WORKERS, services=SERVICES, lease=LEASE)
    if options.report.exists():  # what tests/chaos/bloat.py measured stands below, and stays
        report += "".join(options.report.read_text(encoding="utf-8").partition(SIZE)[1:])
    options.report.write_text(report, encoding="utf-8")
    print(report)
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
