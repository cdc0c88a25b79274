"""Procrastinate on psycopg 3 and its pool; a worker takes several jobs at once, as its guide to production says."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from handler import SLEEP, began, ended, handled
from procrastinate import App, PsycopgConnector
from psycopg_pool import AsyncConnectionPool

DISTRIBUTION = "procrastinate"
URL = os.environ["BENCH_URL"]
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "10"))
QUEUES = 1000

app = App(connector=PsycopgConnector(conninfo=URL, min_size=4, max_size=10))
_pool: AsyncConnectionPool | None = None
_opened = False


@app.task(name="noop")
async def noop(payload: dict[str, Any]) -> None:
    handled(payload)


@app.task(name="sleep")
async def sleep(payload: dict[str, Any]) -> None:
    began(payload["n"])
    await asyncio.sleep(SLEEP)
    ended(payload["n"])


@app.task(name="effect")
async def effect(payload: dict[str, Any]) -> None:
    handled(payload)
    assert _pool is not None
    async with _pool.connection() as connection:
        await connection.execute("INSERT INTO effect (number) VALUES (%s)", (payload["n"],))


TASK = {"sleep": sleep, "transactional": effect}.get(os.environ.get("BENCH_KIND", ""), noop)


async def opened() -> App:
    global _opened
    if not _opened:
        await app.open_async()
        _opened = True
    return app


async def prepare() -> None:
    await opened()
    if not await app.check_connection_async():
        await app.schema_manager.apply_schema_async()


async def clear() -> None:
    await opened()
    await app.connector.execute_query_async("TRUNCATE procrastinate_jobs CASCADE")


async def remaining() -> int:
    await opened()
    query = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
    return int((await app.connector.execute_query_one_async(query))["count"])


async def enqueue_one_by_one(payloads: list[dict[str, Any]]) -> None:
    await opened()
    for payload in payloads:
        await TASK.defer_async(payload=payload)


async def enqueue_batch(payloads: list[dict[str, Any]]) -> None:
    await opened()
    await TASK.batch_defer_async(*({"payload": payload} for payload in payloads))


async def enqueue_over_queues(payloads: list[dict[str, Any]]) -> None:
    await opened()
    # Its batch is of one queue; a thousand queues are a thousand calls, several jobs in each.
    by_queue: dict[str, list[dict[str, Any]]] = {}
    for payload in payloads:
        by_queue.setdefault(f"queue-{payload['n'] % QUEUES}", []).append(payload)
    for queue, some in by_queue.items():
        await TASK.configure(queue=queue).batch_defer_async(*({"payload": payload} for payload in some))


async def publish(session: Any, payload: dict[str, Any]) -> None:
    """On the session's own connection; it takes psycopg connections only."""
    await opened()
    raw = await (await session.connection()).get_raw_connection()
    await TASK.configure(connection=raw.driver_connection).defer_async(payload=payload)


async def run(kind: str) -> None:
    global _pool
    if kind == "transactional":
        _pool = AsyncConnectionPool(URL, min_size=CONCURRENCY, max_size=CONCURRENCY, open=False)
        await _pool.open()
    async with app.open_async():
        await app.run_worker_async(concurrency=4 if kind == "sleep" else CONCURRENCY)


def worker(kind: str) -> None:
    asyncio.run(run(kind))
