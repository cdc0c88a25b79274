"""Questions beside the main table: transactions, backlogs, queues, workers, bloat."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from processes import Failed, Peer, Row, cpu_seconds
from servers import PostgreSQL
from throughput import Measured, drain, ready

EFFECT = (
    "CREATE TABLE IF NOT EXISTS effect (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number bigint)"
)


def database(row: Row, server: PostgreSQL) -> str:
    url = server.create(f"further_{row.module}")
    with server.connect(url.rsplit("/", 1)[1]) as connection:
        connection.execute(EFFECT)
    return url


def transactional(row: Row, server: PostgreSQL, count: int) -> Measured:
    """Drain by a handler that writes a row."""
    url, seen = database(row, server), Measured()
    with Peer(row, url, "transactional") as peer:
        peer.ask("prepare")
        drain(peer, server, url, min(count, row.count), ready(peer, 1), seen)
    return seen


def workers(row: Row, server: PostgreSQL, count: int, many: int) -> Measured:
    url, seen = database(row, server), Measured()
    with Peer(row, url) as peer:
        peer.ask("prepare")
        drain(peer, server, url, count, ready(peer, many), seen)
    return seen


def queues(row: Row, server: PostgreSQL, count: int) -> Measured:
    """Drain of jobs that lie in a thousand queues, by one worker of all of them."""
    url, seen = database(row, server), Measured()
    with Peer(row, url, "queues") as peer:
        peer.ask("prepare")
        drain(peer, server, url, count, ready(peer, 1, warm_up="over queues"), seen, fill="over queues")
    return seen


def backlog(row: Row, server: PostgreSQL, waiting: int, count: int) -> Measured:
    """Jobs a second over the first `count` taken while `waiting` wait; bounded at 120 s."""
    url, seen = database(row, server), Measured()
    with Peer(row, url) as peer:
        peer.ask("prepare")
        (worker,) = ready(peer, 1)
        worker.stop()
        peer.ask("clear")
        for first in range(0, waiting, 50_000):
            peer.ask("batch", min(50_000, waiting - first), first, limit=300)
        server.settle(url.rsplit("/", 1)[1])
        before, pids = peer.progress.count(), worker.pids()
        cpu, server_cpu, began = cpu_seconds(pids), server.cpu(), time.perf_counter()
        worker.go_on()
        limit = time.monotonic() + 120
        while (taken := peer.progress.count() - before) < count and time.monotonic() < limit:
            time.sleep(0.001)
        if not taken:
            raise Failed(f"{row.name}: nothing taken in 120 s with {waiting} waiting")
        seen.drain = taken / (time.perf_counter() - began)
        seen.drain_cpu = (cpu_seconds(pids) - cpu) / taken * 1e6
        seen.drain_server_cpu = (server.cpu() - server_cpu) / taken * 1e6
    server.drop(f"further_{row.module}")
    return seen


@dataclass
class Published:
    bare: float
    """Microseconds a transaction of one INSERT."""
    published: float
    bare_cpu: float
    published_cpu: float


def publish(row: Row, server: PostgreSQL, driver: str, count: int) -> Published:
    url = database(row, server)
    with Peer(row, url) as peer:
        peer.ask("prepare")
        seen = peer.ask("transactions", driver, count, limit=300)
    return Published(seen["bare"][0], seen["publish"][0], seen["bare"][1], seen["publish"][1])


@dataclass
class Bloat:
    messages: int
    seconds: float
    before_mb: float
    half_mb: float
    """When half of the messages were through: no larger at the end means that it has levelled off."""
    peak_mb: float
    after_mb: float
    dead_rows: int
    first_drain: float
    """Jobs a second over the first tenth, and over the last."""
    last_drain: float


SIZES = """
SELECT coalesce(sum(pg_total_relation_size(relid)), 0), coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables
"""


def bloat(row: Row, server: PostgreSQL, count: int) -> Bloat:
    """So many messages through one worker that keeps up: at most some twenty thousand wait at any time."""
    url = database(row, server)
    with Peer(row, url) as peer, server.connect(url.rsplit("/", 1)[1]) as connection:

        def sizes() -> tuple[float, int]:
            found = connection.execute(SIZES).fetchone()
            assert found is not None
            return float(found[0]) / 1e6, int(found[1])

        peer.ask("prepare")
        ready(peer, 1)
        before, _ = sizes()
        start, done, largest, half, chunk = peer.progress.count(), 0, before, before, 5_000
        began, pace, sent = time.perf_counter(), [], 0
        while done < count:
            if sent < count and sent - done < 15_000:
                peer.ask("batch", chunk, sent, limit=60)
                sent += chunk
            else:
                time.sleep(0.01)
            done = peer.progress.count() - start
            if len(pace) < done * 10 // count:
                pace.append(time.perf_counter() - began)
                now, _ = sizes()
                largest = max(largest, now)
                if len(pace) == 5:
                    half = now
            if time.perf_counter() - began > 600:
                raise Failed(f"{row.name}: {done} of {count} messages in 600 s")
        seconds = time.perf_counter() - began
        peer.wait_empty(30)
        time.sleep(1)  # statistics of the backends reach the view
        after, dead = sizes()
    steps = [b - a for a, b in zip([0.0, *pace], pace, strict=False)]
    tenth = count / 10
    return Bloat(count, seconds, before, half, largest, after, dead, tenth / steps[0], tenth / steps[-1])


def median(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None
