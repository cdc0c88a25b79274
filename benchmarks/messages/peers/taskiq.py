"""TaskIQ on Redis streams (taskiq-redis) and uvloop, one worker process under its supervisor, results off."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from handler import SLEEP, began, ended, handled
from redis.asyncio import Redis
from taskiq_redis import RedisStreamBroker

DISTRIBUTION = "taskiq"
URL = os.environ["BENCH_URL"]
KIND = os.environ.get("BENCH_KIND", "noop")

# No time-out on the socket: redis-py's default of 5 s would go off in a worker that is stopped for the measurement.
broker = RedisStreamBroker(URL, consumer_id="0", socket_timeout=None)


@broker.task(task_name="noop")
async def noop(payload: dict[str, Any]) -> None:
    handled(payload)


@broker.task(task_name="sleep")
async def sleep(payload: dict[str, Any]) -> None:
    began(payload["n"])
    await asyncio.sleep(SLEEP)
    ended(payload["n"])


TASK = sleep if KIND == "sleep" else noop


async def prepare() -> None:
    await broker.startup()


async def clear() -> None:
    async with Redis(connection_pool=broker.connection_pool) as server:
        await server.xtrim("taskiq", maxlen=0, approximate=False)


async def remaining() -> int:
    async with Redis(connection_pool=broker.connection_pool) as server:
        (group,) = await server.xinfo_groups("taskiq")
        return int(group["pending"]) + int(group["lag"] or 0)


async def enqueue_one_by_one(payloads: list[dict[str, Any]]) -> None:
    for payload in payloads:
        await TASK.kiq(payload)


async def enqueue_batch(payloads: list[dict[str, Any]]) -> None:
    """It has no call for many; a hundred at once over its pool."""
    for start in range(0, len(payloads), 100):
        await asyncio.gather(*(TASK.kiq(one) for one in payloads[start : start + 100]))


def worker(kind: str) -> None:
    os.chdir(Path(__file__).parents[1])
    most = "4" if kind == "sleep" else "100"
    command = [sys.executable, "-m", "taskiq", "worker", "peers.taskiq:broker"]
    command += ["--workers", "1", "--log-level", "ERROR", "--max-async-tasks", most]
    os.execv(command[0], command)
