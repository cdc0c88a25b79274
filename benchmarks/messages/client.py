"""Runs inside a peer's own environment: its worker, or a client that does what it reads from its input, line by line.

python client.py PEER worker
python client.py PEER client
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from handler import FOLDER, Progress

BATCH = 1000  # messages handed over in one call


def payloads(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Messages of 100 bytes as JSON."""
    made = []
    for number in range(first, first + count):
        bare = len(json.dumps({"n": number, "pad": ""}))
        made.append({"n": number, "pad": "x" * (100 - bare)})
    return made


async def timed(work: Any) -> dict[str, Any]:
    began, cpu = time.perf_counter(), time.process_time()
    await work
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


async def batches(peer: Any, messages: list[dict[str, Any]], enqueue: Any = None) -> None:
    for start in range(0, len(messages), BATCH):
        await (enqueue or peer.enqueue_batch)(messages[start : start + BATCH])


async def latency(peer: Any, count: int, limit: float, gap: float) -> dict[str, Any]:
    """Milliseconds from just before the enqueue call to the start of the handler, one at a time on an idle worker.

    Between two, up to `gap` seconds pass: at least the pause of a peer that polls, so that no question falls into
    step with its polls. After `limit` seconds no more are asked.
    """
    progress, seen = Progress(FOLDER), []
    messages, random_gap = payloads(count), random.Random(7)
    stop = time.monotonic() + limit
    for message in messages:
        before = progress.count()
        sent = time.monotonic_ns()
        await peer.enqueue_one_by_one([message])
        # Another process counts: there is nothing to wait for but time.
        while progress.count() == before and time.monotonic() < stop:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        if time.monotonic() >= stop:
            break
        seen.append((progress.latest() - sent) / 1e6)
        await asyncio.sleep(random_gap.uniform(0.02, gap))
    if len(seen) < 2:
        return {"p50": None, "p99": None, "samples": len(seen)}
    p99 = statistics.quantiles(seen, n=100, method="inclusive")[98]
    return {"p50": statistics.median(seen), "p99": p99, "samples": len(seen)}


async def transactions(peer: Any, driver: str, count: int) -> dict[str, Any]:
    """Microseconds a transaction of one INSERT through an `AsyncSession`, without and with a message published in it.

    The two alternate in blocks of fifty, so that whatever else the machine does falls on both.
    """
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    url = os.environ["BENCH_URL"].replace("postgresql://", f"postgresql+{driver}://")
    engine = create_async_engine(url)
    insert = text("INSERT INTO effect (number) VALUES (:number)")
    messages, seen, block = payloads(count), {"bare": [], "publish": []}, 50

    async def one(message: dict[str, Any], publish: bool) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(insert, {"number": message["n"]})
            if publish:
                await peer.publish(session, message)

    for warm in (False, True):
        for message in messages[:block]:
            await one(message, warm)
    for start in range(0, count, block):
        for name in seen:
            began, cpu = time.perf_counter(), time.process_time()
            for message in messages[start : start + block]:
                await one(message, name == "publish")
            spent = time.perf_counter() - began, time.process_time() - cpu
            seen[name].append([part / block * 1e6 for part in spent])
    await engine.dispose()
    return {
        name: [statistics.median(part) for part in zip(*spent, strict=True)] for name, spent in seen.items()
    }


async def client(peer: Any) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, *numbers = json.loads(line)
        answer: Any = None
        if name == "one by one":
            answer = await timed(peer.enqueue_one_by_one(payloads(*numbers)))
        elif name == "batch":
            answer = await timed(batches(peer, payloads(*numbers)))
        elif name == "over queues":
            answer = await timed(batches(peer, payloads(*numbers), peer.enqueue_over_queues))
        elif name == "transactions":
            answer = await transactions(peer, *numbers)
        elif name == "latency":
            answer = await latency(peer, *numbers)
        elif name == "version":
            answer = [peer.DISTRIBUTION, importlib.metadata.version(peer.DISTRIBUTION)]
        else:  # prepare, clear, remaining, and what a single peer has besides
            answer = await getattr(peer, name)(*numbers)
        print(json.dumps(answer), flush=True)


def main() -> None:
    peer = importlib.import_module(f"peers.{sys.argv[1]}")
    if sys.argv[2] == "worker":
        peer.worker(os.environ["BENCH_KIND"])
    else:
        asyncio.run(client(peer))


if __name__ == "__main__":
    main()
