"""Outages in their full length: ``python tests/chaos/outage.py``, some ten minutes, into docs/outages.md.

The database stopped for a minute, the network to it silent for a minute, all brokers away for minutes. Too slow for the
suite, which has the same in short; and never run by it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "brokers"))
from broker_places import Place
from cluster import Cluster
from held_proxy import HeldProxy
from own_brokers import removable

from mainstay.patterns import Database
from mainstay.patterns.schema import upgrade

HERE = Path(__file__).parent
REPORT = HERE.parents[1] / "docs" / "outages.md"
HEADING = "## Outages in full length\n"
TABLES = """
CREATE TABLE ledger (number bigint PRIMARY KEY);
CREATE TABLE effect (number bigint NOT NULL, at timestamptz NOT NULL);
"""
LONGEST_REST = 300.0
"""Seconds that all may take to come to rest after an outage."""
AUDIT = """
SELECT (SELECT count(*) FROM ledger WHERE NOT EXISTS (SELECT FROM effect WHERE effect.number = ledger.number)),
       (SELECT count(*) - count(DISTINCT number) FROM effect),
       (SELECT count(*) FROM effect WHERE NOT EXISTS (SELECT FROM ledger WHERE ledger.number = effect.number)),
       (SELECT count(*) FROM mainstay.message WHERE state = 'dead'),
       (SELECT count(*) FROM mainstay.message WHERE ended_at IS NULL)
"""
NAMES = ("lost", "doubled", "from nowhere", "dead", "left")


class Lab:
    """A server of its own and the processes on it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.folder = Path(tempfile.mkdtemp(prefix="mainstay_outage_"))
        self.processes: dict[str, subprocess.Popen[str]] = {}

    async def prepare(self) -> None:
        """Tables."""
        async with Database(self.cluster.dsn) as db:
            await upgrade(db)
        with psycopg.connect(self.cluster.dsn, autocommit=True) as connection:
            connection.execute(TABLES)

    def url(self, driver: str, port: int | None = None) -> str:
        """Of the server, or of a proxy at that port."""
        return f"postgresql+{driver}://postgres@127.0.0.1:{port or self.cluster.port}/postgres"

    def start(self, name: str, *arguments: str) -> None:
        """A program as a process; its log goes to a file."""
        with (self.folder / name).open("w") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, str(HERE / "outage_programs.py"), *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self.folder / name).read_text()

    def look(self, sql: str) -> list[Any]:
        """Rows."""
        with psycopg.connect(self.cluster.dsn, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(sql).fetchall()

    async def until(self, condition: Callable[[], bool], seconds: float = LONGEST_REST) -> float:
        """Wait for it; how long it took."""
        begun = time.monotonic()
        while True:
            with suppress(psycopg.OperationalError):
                if condition():
                    return time.monotonic() - begun
            assert time.monotonic() - begun < seconds, f"not within {seconds:g} s"
            await asyncio.sleep(0.1)

    async def first_effect_after(self, when: float) -> float:
        """Seconds after that time at which a worker completed something."""
        sql = f"SELECT extract(epoch FROM min(at)) - {when} FROM effect WHERE at > to_timestamp({when})"
        await self.until(lambda: self.look(sql)[0][0] is not None)
        return float(self.look(sql)[0][0])

    async def told(self, name: str = "service") -> dict[str, Any]:
        """What the publishing service says as it ends."""
        process = self.processes.pop(name)
        process.terminate()
        said, _ = await asyncio.to_thread(process.communicate, timeout=60)
        found: dict[str, Any] = json.loads(said)
        return found

    async def rest(self) -> float:
        """Until nothing is left; how long that took."""
        return await self.until(
            lambda: self.look("SELECT count(*) FROM mainstay.message WHERE ended_at IS NULL") == [(0,)]
        )

    def faults(self) -> str:
        """The audit: what is not zero."""
        counts = dict(zip(NAMES, self.look(AUDIT)[0], strict=True))
        return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "none"

    def close(self) -> None:
        """End what still runs, and forget what it said."""
        for process in self.processes.values():
            process.kill()
            process.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)


async def database_away(lab: Lab, seconds: float) -> list[tuple[str, str]]:
    """The server stopped at once, as by a power cut, and started again that much later."""
    for number, driver in enumerate(("psycopg", "asyncpg", "psycopg")):
        lab.start(f"worker {number}", "work", lab.url(driver))
    lab.start("service", "serve", lab.url("psycopg"), "0.005", "plain")
    await lab.until(lambda: lab.look("SELECT count(*) >= 500 FROM effect") == [(True,)], 60)
    await asyncio.to_thread(lab.cluster.stop, "immediate")
    await asyncio.sleep(seconds)
    await asyncio.to_thread(lab.cluster.start)
    back = time.time()
    worked = await lab.first_effect_after(back)
    await asyncio.sleep(10)
    told = await lab.told()
    rest = await lab.rest()
    ended = [name for name, process in lab.processes.items() if process.poll() is not None]
    tries = sum(len(re.findall("trying again", lab.log(name))) for name in lab.processes)
    return [
        ("workers that ended by themselves", str(len(ended))),
        ("tries of the three workers that failed", str(tries)),
        *_of_service(told, back),
        ("seconds from its return to the first message done", f"{worked:.1f}"),
        ("seconds until nothing was left", f"{rest:.1f}"),
        ("published and accepted", str(told["accepted"])),
        ("faults", lab.faults()),
    ]


def _of_service(told: dict[str, Any], back: float) -> list[tuple[str, str]]:
    errors = "; ".join(f"{number} × `{text}`" for text, number in told["refused"].items()) or "none"
    return [
        ("what the publisher was told", errors),
        ("seconds from its return to the first publishing", f"{max(0.0, told['again'] - back):.1f}"),
        ("longest call of the publisher, seconds", f"{told['slowest']:.1f}"),
    ]


async def network_silent(lab: Lab, seconds: float) -> list[tuple[str, str]]:
    """Two of three workers hear nothing for that long, and neither does the database hear them; then all arrives."""
    async with HeldProxy(lab.cluster.port) as proxy:
        lab.start("near", "work", lab.url("psycopg"))
        for driver in ("psycopg", "asyncpg"):
            lab.start(f"far {driver}", "work", lab.url(driver, proxy.port))
        lab.start("service", "serve", lab.url("psycopg"), "0.005", "plain")
        await lab.until(lambda: lab.look("SELECT count(*) = 3 FROM mainstay.worker") == [(True,)], 60)
        await lab.until(lambda: lab.look("SELECT count(*) >= 500 FROM effect") == [(True,)], 60)
        proxy.hold()
        held = time.time()
        await asyncio.sleep(seconds)
        during = lab.look(f"SELECT count(*) FROM effect WHERE at > to_timestamp({held})")[0][0]
        proxy.let_go()
        back = await lab.until(
            lambda: (
                lab.look("SELECT count(*) = 3 FROM mainstay.worker WHERE alive_until > now()") == [(True,)]
            )
        )
        await asyncio.sleep(5)
        told = await lab.told()
        rest = await lab.rest()
    far = lab.log("far psycopg") + lab.log("far asyncpg")
    return [
        ("messages done by the third worker meanwhile", str(during)),
        ("taken over from the two", "yes" if "went away" in lab.log("near") else "nothing to take over"),
        ("the two were told that they had been declared gone", "yes" if "declared gone" in far else "no"),
        ("seconds until both were back", f"{back:.1f}"),
        ("seconds until nothing was left", f"{rest:.1f}"),
        ("published and accepted", str(told["accepted"])),
        ("faults", lab.faults()),
    ]


async def brokers_away(lab: Lab, seconds: float) -> list[tuple[str, str]]:
    """All brokers at once, under two workers with a relay to each and a service that goes on publishing."""
    async with AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(removable(kind)) for kind in ("nats", "redis", "amqp")]
        places = [f"{place.address()} {place.topic}" for place, _ in brokers]
        for number, driver in enumerate(("psycopg", "asyncpg")):
            lab.start(f"relay {number}", "send_on", lab.url(driver), *places)
        await lab.until(
            lambda: (
                lab.look("SELECT count(*) = 3 FROM mainstay.subscription WHERE state = 'open'") == [(True,)]
            ),
            60,
        )
        lab.start("service", "serve", lab.url("psycopg"), "0.03", "events")
        await lab.until(lambda: lab.look("SELECT count(*) >= 200 FROM effect") == [(True,)], 60)
        for _, server in brokers:
            await server.away()
        gone = time.time()
        await asyncio.sleep(seconds)
        meanwhile = lab.look(f"SELECT count(*) FROM effect WHERE at > to_timestamp({gone})")[0][0]
        waiting = lab.look(
            "SELECT count(*), max(attempts), sum(jsonb_array_length(errors)) FROM mainstay.message"
        )
        for _, server in brokers:
            await server.open()
        told = await lab.told()
        rest = await lab.rest()
        tries = sum(len(re.findall("trying again in up to", lab.log(f"relay {n}"))) for n in (0, 1))
        outcome = [await _read(place, told["accepted"]) for place, _ in brokers]
    return [
        ("tries that failed, of two workers and three relays", str(tries)),
        ("other messages done meanwhile", str(meanwhile)),
        ("events waiting at the end of it; their attempts counted; errors", " / ".join(map(str, waiting[0]))),
        ("what the publisher was told", "; ".join(told["refused"]) or "nothing: it does not notice"),
        ("seconds from their return until nothing was left", f"{rest:.1f}"),
        *(
            (f"{place.kind}: events of {told['accepted']} that arrived, repeats, keys out of order", told_of)
            for (place, _), told_of in zip(brokers, outcome, strict=True)
        ),
        ("faults", lab.faults()),
    ]


async def _read(place: Place, expected: int) -> str:
    """What arrived at a broker."""
    numbers: dict[str | None, list[int]] = {}
    seen: set[str] = set()
    repeats = 0
    async with place.open() as opened, opened.consume("first") as deliveries:
        with suppress(TimeoutError):
            while True:
                # A bit longer than is needed, so that what nobody expected is seen too.
                delivery = await asyncio.wait_for(
                    anext(deliveries),
                    20 if len(seen) < expected else 2,  # type: ignore[arg-type]
                )
                event = delivery.event()
                await delivery.ack()
                if event.id in seen:
                    repeats += 1
                else:
                    seen.add(event.id)
                    numbers.setdefault(event.key, []).append(json.loads(event.data or b"")["number"])
    mixed = sum(1 for found in numbers.values() if found != sorted(found))
    return f"{len(seen)}, {repeats}, {mixed}"


PARTS = {
    "The database is stopped": database_away,
    "The network to it is silent": network_silent,
    "All brokers are away": brokers_away,
}


async def run(parts: Sequence[str], seconds: dict[str, float]) -> tuple[str, bool]:
    """The section of the report, and whether there was no fault."""
    written, good = [], True
    for name in parts:
        with Cluster() as cluster:
            lab = Lab(cluster)
            await lab.prepare()
            try:
                rows = await PARTS[name](lab, seconds[name])
            finally:
                lab.close()
        good = good and dict(rows)["faults"] == "none"
        table = "\n".join(f"| {what} | {value} |" for what, value in rows)
        written.append(f"### {name} for {seconds[name]:g} seconds\n\n| | |\n|---|---|\n{table}\n")
        print(written[-1], flush=True)
    head = (
        f"\nWritten by `python tests/chaos/outage.py` on {datetime.now(UTC):%Y-%m-%d}; Python"
        f" {platform.python_version()}, leases of 2 s, processes of their own on both drivers.\n"
    )
    return "\n".join([HEADING + head, *written]), good


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--database", type=float, default=60.0, help="seconds without the database, and silent"
    )
    parser.add_argument("--brokers", type=float, default=240.0, help="seconds without brokers")
    parser.add_argument("--part", choices=list(PARTS), action="append", help="default: all")
    parser.add_argument(
        "--report", type=Path, default=None, help=f"where the section goes; {REPORT} if all are run"
    )
    options = parser.parse_args()
    seconds = dict(zip(PARTS, (options.database, options.database, options.brokers), strict=True))
    section, good = asyncio.run(run(options.part or list(PARTS), seconds))
    report: Path | None = options.report or (None if options.part else REPORT)
    if report is not None:
        before = report.read_text().partition(HEADING)[0] if report.exists() else ""
        report.write_text(before + section)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
