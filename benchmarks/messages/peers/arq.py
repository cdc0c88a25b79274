"""arq on Redis; its default of ten jobs at a time, and a hundred."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from arq import Worker, create_pool, func
from arq.connections import ArqRedis, RedisSettings
from arq.constants import default_queue_name
from handler import SLEEP, began, ended, handled

DISTRIBUTION = "arq"
SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_URL"])
MAX_JOBS = int(os.environ.get("BENCH_MAX_JOBS", "100"))
KIND = os.environ.get("BENCH_KIND", "noop")

_pool: ArqRedis | None = None


async def pool() -> ArqRedis:
    global _pool
    _pool = _pool or await create_pool(SETTINGS)
    return _pool


async def prepare() -> None:
    await pool()


async def clear() -> None:
    await (await pool()).flushdb()


async def remaining() -> int:
    return int(await (await pool()).zcard(default_queue_name))


async def enqueue_one_by_one(payloads: list[dict[str, Any]]) -> None:
    client = await pool()
    for payload in payloads:
        await client.enqueue_job("job", payload)


async def enqueue_batch(payloads: list[dict[str, Any]]) -> None:
    """It has no call for many; a hundred at once over its pool."""
    client = await pool()
    for start in range(0, len(payloads), 100):
        await asyncio.gather(*(client.enqueue_job("job", one) for one in payloads[start : start + 100]))


async def noop(context: dict[str, Any], payload: dict[str, Any]) -> None:
    handled(payload)


async def sleep(context: dict[str, Any], payload: dict[str, Any]) -> None:
    began(payload["n"])
    await asyncio.sleep(SLEEP)
    ended(payload["n"])


def worker(kind: str) -> None:
    job = func(sleep if kind == "sleep" else noop, name="job", keep_result=0)
    Worker([job], redis_settings=SETTINGS, max_jobs=4 if kind == "sleep" else MAX_JOBS).run()
