"""The tables, one function each: measure in rounds in which the peers take turns, print medians."""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import further
import rows
from crash import JOBS, KILL_AFTER, LIMIT, Crashed, crash
from measure import table
from processes import Failed, Row
from servers import PostgreSQL, Redis
from throughput import Measured, one_pass

Figures = TypeVar("Figures")


class Run:
    """What this run may measure, and everything it has measured."""

    def __init__(self, options: argparse.Namespace, redis: Redis | None) -> None:
        self.quick: bool = options.quick
        self.rounds = 1 if options.quick else 3
        self.only = options.only.split(",") if options.only else []
        self.redis = redis
        self.kept: list[dict[str, Any]] = []
        self.failures: list[str] = []

    def wants(self, row: Row) -> bool:
        if row.server == "redis" and self.redis is None:
            return False
        return not self.only or any(name in row.name for name in self.only)

    def count(self, full: int) -> int:
        return max(500, full // 20) if self.quick else full

    def try_(self, what: str, row: Row, measure: Callable[[], Figures]) -> Figures | None:
        """Measure once; a peer that fails is told of and does not end the run."""
        began = time.monotonic()
        try:
            seen = measure()
        except Failed as failure:
            self.failures.append(f"{what}: {str(failure).splitlines()[0]}")
            print(f"   {what}, {row.name}: {failure}", file=sys.stderr, flush=True)
            return None
        figures = dataclasses.asdict(seen) if dataclasses.is_dataclass(seen) else seen
        self.kept.append({"what": what, "row": row.name, "figures": figures})
        print(f"   {what}, {row.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return seen

    def server(self, row: Row, cluster: PostgreSQL) -> PostgreSQL | Redis:
        if row.server == "redis":
            assert self.redis is not None
            return self.redis
        return cluster


def grouped(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def number(value: float | None) -> str:
    if value is None:
        return ""
    return grouped(value) if value >= 20 else f"{value:.1f}"


def both(one: float | None, two: float | None) -> str:
    return "" if one is None or two is None else f"{number(one)} + {number(two)}"


def medians(seen: Sequence[Measured]) -> Measured:
    """Of each figure by itself."""
    found = {}
    for field in dataclasses.fields(Measured):
        values = [value for one in seen if (value := getattr(one, field.name)) is not None]
        found[field.name] = statistics.median(values) if values else None
    return Measured(**found)


def throughput(run: Run, cluster: PostgreSQL, place: str) -> dict[str, Measured]:
    wanted = [row for row in rows.THROUGHPUT if run.wants(row)]
    if place == "disk":  # Redis keeps nothing here, wherever its folder is
        wanted = [row for row in wanted if row.server == "postgresql"]
    seen: dict[str, list[Measured]] = {row.name: [] for row in wanted}
    for turn in range(run.rounds):
        for row in wanted:
            one = run.try_(
                f"{place}, round {turn + 1}",
                row,
                lambda row=row: one_pass(  # type: ignore[misc]
                    row,
                    run.server(row, cluster),
                    run.count(10_000),
                    quick=run.quick,
                    latency=place == "tmpfs",
                ),
            )
            if one is not None:
                seen[row.name].append(one)
    found = {name: medians(some) for name, some in seen.items() if some}
    heading = ["peer", "enqueue/s one by one", "enqueue/s batch", "drain/s"]
    heading += ["CPU µs/job enqueue, client + server", "CPU µs/job drain, worker + server"]
    heading += ["start p50 / p99 ms idle", "peak RSS MB"]
    lines = []
    for name, one in found.items():
        start = f"{one.p50:.1f} / {one.p99:.1f}" if one.p50 is not None and one.p99 is not None else ""
        lines.append(
            [
                name,
                number(one.one_by_one),
                number(one.batch),
                number(one.drain),
                both(one.enqueue_cpu, one.enqueue_server_cpu),
                both(one.drain_cpu, one.drain_server_cpu),
                start,
                number(one.memory),
            ]
        )
    where = "on tmpfs" if place == "tmpfs" else "on a disk with fsync (PostgreSQL peers)"
    print(f"### {grouped(run.count(10_000))} no-op jobs of 100 bytes, one worker, data {where}\n")
    print(table(heading, lines))
    targets(found, place)
    return found


def targets(found: dict[str, Measured], place: str) -> None:
    """The ratios asked of Mainstay, out of these very figures."""
    ours, floor = found.get("mainstay"), found.get("floor")
    best, one = found.get("pgqueuer, batch 100"), found.get("pgqueuer, batch 25")
    if ours is None or floor is None or best is None or one is None:
        return

    def cpu(of: Measured) -> float:
        return (of.drain_cpu or 0) + (of.drain_server_cpu or 0)

    def ratio(a: float | None, b: float | None) -> float:
        return (a or 0) / b if b else float("nan")

    fastest = max(best.drain or 0, one.drain or 0)
    asked = [
        ("drain CPU (worker + server) beside pgqueuer at batch 100", ratio(cpu(ours), cpu(best)), "≤", 0.75),
        ("drain CPU (worker + server) beside the floor", ratio(cpu(ours), cpu(floor)), "≤", 3.5),
        ("drain/s beside pgqueuer's best", ratio(ours.drain, fastest), "≥", 1.3),
        ("batch enqueue/s beside pgqueuer", ratio(ours.batch, one.batch), "≥", 1.5),
        ("one by one enqueue/s beside pgqueuer", ratio(ours.one_by_one, one.one_by_one), "≥", 1.2),
    ]
    if place == "tmpfs" and (taskiq := found.get("taskiq")):
        asked.append(("idle start p50 beside taskiq", ratio(ours.p50, taskiq.p50), "≤", 1.0))
    lines = []
    for what, value, sense, goal in asked:
        met = value <= goal if sense == "≤" else value >= goal
        lines.append([what, f"{value:.2f}×", f"{sense} {goal}×", "met" if met else "missed"])
    if ours.memory is not None:
        lines.append(
            ["peak RSS", f"{ours.memory:.0f} MB", "≤ 60 MB", "met" if ours.memory <= 60 else "missed"]
        )
    print(table(["Mainstay", "measured", "asked", ""], lines))


def repeated(
    run: Run,
    what: str,
    wanted: Sequence[Row],
    measure: Callable[[Row], Measured],
) -> dict[str, Measured]:
    """Rounds over the rows, interleaved; medians."""
    seen: dict[str, list[Measured]] = {row.name: [] for row in wanted if run.wants(row)}
    for turn in range(run.rounds):
        for row in wanted:
            if row.name in seen:
                one = run.try_(f"{what}, round {turn + 1}", row, lambda row=row: measure(row))  # type: ignore[misc]
                if one is not None:
                    seen[row.name].append(one)
    return {name: medians(some) for name, some in seen.items() if some}


DRAIN = ["peer", "drain/s", "CPU µs/job, worker + server"]


def drained(found: dict[str, Measured]) -> list[list[str]]:
    return [
        [name, number(one.drain), both(one.drain_cpu, one.drain_server_cpu)] for name, one in found.items()
    ]


def transactional(run: Run, cluster: PostgreSQL) -> None:
    wanted = [
        rows.FLOOR,
        rows.MAINSTAY,
        rows.PGQUEUER,
        rows.PROCRASTINATE,
        dataclasses.replace(rows.DBOS, count=1_000),
    ]
    found = repeated(
        run,
        "transactional",
        wanted,
        lambda row: further.transactional(row, cluster, run.count(10_000)),
    )
    print("### A handler that writes one row\n")
    print(table(DRAIN, drained(found)))
    ours, theirs = found.get("mainstay"), found.get("dbos")
    if ours and theirs and ours.drain and theirs.drain:
        print(f"Mainstay beside dbos: {ours.drain / theirs.drain:.1f}× (asked: at least 2×).\n")
    print(
        "Committed together: floor and Mainstay commit the row with the job's completion; dbos commits it with the "
        "record of the step, and the end of the workflow after that. pgqueuer and procrastinate have no such "
        "means: their handlers write in a transaction of their own, and a worker that dies between its commit and the "
        "acknowledgement writes the row twice.\n"
    )


def publish(run: Run, cluster: PostgreSQL) -> None:
    asked = [
        (row, driver)
        for driver in ("asyncpg", "psycopg")
        for row in (rows.FLOOR, rows.MAINSTAY, rows.PGQUEUER, rows.PROCRASTINATE, rows.DBOS)
        if run.wants(row)
    ]
    refused = {("pgqueuer", "psycopg"), ("procrastinate", "asyncpg")}
    seen: dict[tuple[str, str], list[further.Published]] = {}
    for turn in range(run.rounds):
        for row, driver in asked:
            if (row.module, driver) in refused:
                continue
            one = run.try_(
                f"publish on {driver}, round {turn + 1}",
                row,
                lambda row=row, driver=driver: further.publish(row, cluster, driver, run.count(2_000)),  # type: ignore[misc]
            )
            if one is not None:
                seen.setdefault((row.module, driver), []).append(one)
    lines = []
    for row, driver in asked:
        if (row.module, driver) in refused:
            lines.append([row.module, driver, "", "", "refuses such a connection", ""])
        elif some := seen.get((row.module, driver)):
            # The ratio is taken within each round, where both were measured side by side.
            ratio = statistics.median(one.published / one.bare for one in some)
            bare, published, bare_cpu, published_cpu = (
                statistics.median(getattr(one, field.name) for one in some)
                for field in dataclasses.fields(further.Published)
            )
            lines.append(
                [
                    row.module,
                    driver,
                    number(bare),
                    number(published),
                    f"{ratio:.2f}×",
                    both(bare_cpu, published_cpu - bare_cpu),
                ]
            )
    print("### Publishing inside the user's transaction (SQLAlchemy `AsyncSession`, one INSERT)\n")
    heading = ["peer", "driver", "bare µs", "with a message µs", "ratio", "client CPU µs, bare + message"]
    print(table(heading, lines))
    print("Asked of Mainstay: below 1.15×.\n")


def backlog(run: Run, cluster: PostgreSQL) -> None:
    waiting, count = run.count(1_000_000), run.count(10_000)
    found = {}
    for row in (rows.FLOOR, rows.MAINSTAY, rows.PGQUEUER, rows.PROCRASTINATE):
        if run.wants(row):
            one = run.try_(
                "backlog",
                row,
                lambda row=row: further.backlog(row, cluster, waiting, count),  # type: ignore[misc]
            )
            if one is not None:
                found[row.name] = one
    print(f"### With {grouped(waiting)} waiting: the first {grouped(count)} taken\n")
    print(table(DRAIN, drained(found)))


def queues(run: Run, cluster: PostgreSQL) -> None:
    wanted = [rows.MAINSTAY, rows.PGQUEUER, rows.PROCRASTINATE]
    found = repeated(
        run, "queues", wanted, lambda row: further.queues(row, cluster, min(row.count, run.count(10_000)))
    )
    print("### A thousand queues, one worker for all of them\n")
    print(table(DRAIN, drained(found)))
    print("pgqueuer: a thousand entrypoints, which are what it has for queues.\n")


def workers(run: Run, cluster: PostgreSQL) -> None:
    wanted = [
        row
        for row in (rows.FLOOR, rows.MAINSTAY, rows.PGQUEUER, rows.PROCRASTINATE, rows.DBOS)
        if run.wants(row)
    ]
    seen: dict[tuple[str, int], list[float]] = {}
    for turn in range(run.rounds):
        for many in (1, 2, 4):
            for row in wanted:
                count = run.count(40_000 if row.count == 10_000 else row.count)
                one = run.try_(
                    f"{many} workers, round {turn + 1}",
                    row,
                    lambda row=row, many=many, count=count: further.workers(row, cluster, count, many),  # type: ignore[misc]
                )
                if one is not None and one.drain:
                    seen.setdefault((row.name, many), []).append(one.drain)
    lines = []
    for row in wanted:
        rates = [seen.get((row.name, many)) for many in (1, 2, 4)]
        lines.append([row.name, *(number(statistics.median(some)) if some else "failed" for some in rates)])
    print(f"### More workers: drain/s ({os.cpu_count()} cores for workers and server together)\n")
    print(table(["peer", "1", "2", "4"], lines))


def bloat(run: Run, cluster: PostgreSQL) -> None:
    count = run.count(1_000_000)
    heading = [
        "peer",
        "messages",
        "through /s",
        "size before MB",
        "half way MB",
        "largest MB",
        "after MB",
        "dead rows after",
    ]
    heading += ["first tenth /s", "last tenth /s"]
    lines = []
    for row in (rows.FLOOR, rows.MAINSTAY):
        if not run.wants(row):
            continue
        one = run.try_("bloat", row, lambda row=row: further.bloat(row, cluster, count))  # type: ignore[misc]
        if one is not None:
            lines.append(
                [
                    row.name,
                    grouped(one.messages),
                    number(one.messages / one.seconds),
                    f"{one.before_mb:.1f}",
                    f"{one.half_mb:.1f}",
                    f"{one.peak_mb:.1f}",
                    f"{one.after_mb:.1f}",
                    grouped(one.dead_rows),
                    number(one.first_drain),
                    number(one.last_drain),
                ]
            )
    print(f"### Bloat: {grouped(count)} messages through one worker, at most some 20 000 waiting\n")
    print(table(heading, lines))
    print(
        "Tables, indexes and TOAST of the whole database. The server's autovacuum is as it is by default and looks "
        "round once a minute: a table that it keeps up with levels off at about a minute's traffic.\n"
    )


def crashes(run: Run, cluster: PostgreSQL) -> None:
    """All peers at once, a few at a time: they wait far more than they work."""
    kills = KILL_AFTER[:1] if run.quick else KILL_AFTER
    wanted = [(row, second, after) for row, second in rows.CRASH if run.wants(row) for after in kills]
    seen: dict[str, list[Crashed]] = {}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [
            (
                row,
                pool.submit(
                    run.try_,
                    f"crash after {after}",
                    row,
                    lambda row=row, second=second, after=after: crash(  # type: ignore[misc]
                        row, run.server(row, cluster), after, second
                    ),
                ),
            )
            for row, second, after in wanted
        ]
        for row, future in asked:
            if (one := future.result()) is not None:
                seen.setdefault(row.name, []).append(one)
    lines = []
    for name, some in seen.items():
        last = ", ".join(f"> {LIMIT:.0f}" if one.seconds is None else f"{one.seconds:.1f}" for one in some)
        done = ", ".join(str(one.done) for one in some)
        missing = ", ".join(str(JOBS - one.done) for one in some)
        held = ", ".join(str(one.left) for one in some)
        lines.append([name, done, missing, held, ", ".join(str(one.repeated) for one in some), last])
    print(f"### Crash: {JOBS} jobs of 0.2 s, 4 at a time, SIGKILL in the middle, a second worker at once\n")
    heading = ["peer", f"done of {JOBS}", f"not done {LIMIT:.0f} s after", "of these still held by the peer"]
    heading += ["done twice", "last one done, s after the kill"]
    print(table(heading, lines))
    print(
        f"{len(kills)} kills a peer, after {', '.join(map(str, kills))} starts; so none seen is not never. "
        "A job that is not done and not held either is lost. A job that was running at the kill has to run again; "
        "one whose handler came to its end twice is counted as done twice.\n"
    )


TABLES: dict[str, Callable[[Run, PostgreSQL], object]] = {
    "tmpfs": lambda run, cluster: throughput(run, cluster, "tmpfs"),
    "disk": lambda run, cluster: throughput(run, cluster, "disk"),
    "transactional": transactional,
    "publish": publish,
    "backlog": backlog,
    "queues": queues,
    "workers": workers,
    "bloat": bloat,
    "crash": crashes,
}
