"""One pass of one peer: enqueueing one by one and in batches, start latency, drain by one worker or several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from processes import Failed, Peer, Row, Worker, cpu_seconds, peak_mb
from servers import PostgreSQL, Redis

LATENCY_LIMIT = 20.0  # seconds for the 200 single jobs; a peer that polls gets fewer of them
WARM_UP = 200


@dataclass
class Measured:
    """Figures of one pass; None is what was not asked for."""

    one_by_one: float | None = None
    """Messages a second, likewise `batch` and `drain`."""
    batch: float | None = None
    enqueue_cpu: float | None = None
    """Microseconds of the client's CPU a message, enqueued one by one; likewise the others, of what they name."""
    enqueue_server_cpu: float | None = None
    drain: float | None = None
    """From waking until the last completion is stored."""
    drain_cpu: float | None = None
    drain_server_cpu: float | None = None
    p50: float | None = None
    """Milliseconds."""
    p99: float | None = None
    memory: float | None = None
    """MB, the workers' peak."""


def settle(server: PostgreSQL | Redis, url: str) -> None:
    if isinstance(server, PostgreSQL):
        server.settle(url.rsplit("/", 1)[1])


def enqueueing(peer: Peer, server: PostgreSQL | Redis, url: str, count: int, seen: Measured) -> None:
    peer.ask("one by one", min(count, 200))
    peer.ask("clear")
    settle(server, url)
    before = server.cpu()
    answer = peer.ask("one by one", count)
    seen.enqueue_server_cpu = (server.cpu() - before) / count * 1e6
    seen.one_by_one, seen.enqueue_cpu = count / answer["seconds"], answer["cpu"] / count * 1e6
    peer.ask("clear")
    settle(server, url)
    seen.batch = count / peer.ask("batch", count)["seconds"]
    peer.ask("clear")


def ready(peer: Peer, workers: int, limit: float = 60, warm_up: str = "one by one") -> list[Worker]:
    """Workers that have warmed up and found nothing more to do."""
    started = []
    for _ in range(workers):
        # One after the other, the ones before it stopped, so that each has certainly run something.
        for earlier in started:
            earlier.stop()
        before = peer.progress.count()
        started.append(peer.worker())
        peer.ask(warm_up, 1)
        peer.wait(before + 1, limit)
        peer.ask(warm_up, WARM_UP)
        peer.wait(before + 1 + WARM_UP, limit)
        peer.wait_empty(limit)
    for worker in started:
        worker.go_on()
    return started


def drain(
    peer: Peer,
    server: PostgreSQL | Redis,
    url: str,
    count: int,
    workers: Sequence[Worker],
    seen: Measured,
    fill: str = "batch",
) -> None:
    """Stop the workers, let `count` jobs gather, wake them, and measure until all are done and recorded."""
    for worker in workers:
        worker.stop()
    peer.ask("clear")
    before = peer.progress.count()
    peer.ask(fill, count, limit=300)
    settle(server, url)
    time.sleep(0.2)
    pids = [pid for worker in workers for pid in worker.pids()]
    cpu, server_cpu, began = cpu_seconds(pids), server.cpu(), time.perf_counter()
    for worker in workers:
        worker.go_on()
    peer.wait(before + count, 120)
    peer.wait_empty(30)
    seconds = time.perf_counter() - began
    seen.drain = count / seconds
    seen.drain_cpu = (cpu_seconds(pids) - cpu) / count * 1e6
    seen.drain_server_cpu = (server.cpu() - server_cpu) / count * 1e6
    seen.memory = peak_mb(pids)
    if (ran := peer.progress.count() - before) != count:
        raise Failed(f"{peer.row.name}: {ran} jobs ran where {count} were enqueued")


def one_pass(
    row: Row, server: PostgreSQL | Redis, count: int, *, quick: bool, latency: bool = True
) -> Measured:
    """Everything the main table says of a peer, measured once."""
    seen = Measured()
    name = f"bench_{row.module}"
    url = server.create(name) if isinstance(server, PostgreSQL) else server.create()
    count = min(count, row.count)
    with Peer(row, url) as peer:
        peer.ask("prepare")
        if row.enqueues:
            enqueueing(peer, server, url, count, seen)
        workers = ready(peer, 1)
        if latency and row.enqueues:
            asked = peer.ask("latency", 50 if quick else 200, 5.0 if quick else LATENCY_LIMIT, row.gap)
            seen.p50, seen.p99 = asked["p50"], asked["p99"]
        peer.wait_empty(30)
        drain(peer, server, url, count, workers, seen)
    if isinstance(server, PostgreSQL):
        server.drop(name)
    return seen
