"""PgQueuer on asyncpg and uvloop, as `pgq run` starts it; one connection a worker, as its examples do."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from typing import Any

import asyncpg
import uvloop
from handler import SLEEP, began, ended, handled
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job

DISTRIBUTION = "pgqueuer"
URL = os.environ["BENCH_URL"]
BATCH = int(os.environ.get("BENCH_BATCH", "100"))
LIMIT = int(os.environ.get("BENCH_LIMIT", "0"))
QUEUES = 1000

_queries: Queries | None = None


async def queries() -> Queries:
    global _queries
    if _queries is None:
        _queries = Queries(AsyncpgDriver(await asyncpg.connect(URL)))
    return _queries


async def prepare() -> None:
    if not await (await queries()).schema_is_installed():
        await (await queries()).install()


async def clear() -> None:
    await (await queries()).driver.execute("TRUNCATE pgqueuer, pgqueuer_log")


async def remaining() -> int:
    return int((await (await queries()).driver.fetch("SELECT count(*) FROM pgqueuer"))[0]["count"])


async def enqueue_one_by_one(payloads: list[dict[str, Any]]) -> None:
    client = await queries()
    for payload in payloads:
        await client.enqueue("job", json.dumps(payload).encode())


async def enqueue_batch(payloads: list[dict[str, Any]]) -> None:
    encoded = [json.dumps(payload).encode() for payload in payloads]
    await (await queries()).enqueue(["job"] * len(encoded), encoded, [0] * len(encoded))


async def enqueue_over_queues(payloads: list[dict[str, Any]]) -> None:
    encoded = [json.dumps(payload).encode() for payload in payloads]
    names = [f"job-{payload['n'] % QUEUES}" for payload in payloads]
    await (await queries()).enqueue(names, encoded, [0] * len(encoded))


async def publish(session: Any, payload: dict[str, Any]) -> None:
    """On the session's own connection; its psycopg driver refuses a connection that is in a transaction."""
    raw = await (await session.connection()).get_raw_connection()
    await Queries(AsyncpgDriver(raw.driver_connection)).enqueue("job", json.dumps(payload).encode())


async def run(kind: str) -> None:
    app = PgQueuer(AsyncpgDriver(await asyncpg.connect(URL)))
    options: dict[str, Any] = {"batch_size": BATCH}
    if kind == "sleep":
        # Four at a time, by a limit of the worker (which must be at least twice the batch) or of the entrypoint.
        options = {} if LIMIT else {"batch_size": 2, "max_concurrent_tasks": 4}

        @app.entrypoint("job", concurrency_limit=LIMIT)
        async def sleep(job: Job) -> None:
            number = json.loads(job.payload or b"")["n"]
            began(number)
            await asyncio.sleep(SLEEP)
            ended(number)

    elif kind == "transactional":
        pool = await asyncpg.create_pool(URL, min_size=10, max_size=10)

        @app.entrypoint("job")
        async def effect(job: Job) -> None:
            payload = json.loads(job.payload or b"")
            handled(payload)
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("INSERT INTO effect (number) VALUES ($1)", payload["n"])

    elif kind == "queues":
        for number in range(QUEUES):

            @app.entrypoint(f"job-{number}")
            async def one_of_many(job: Job) -> None:
                handled(json.loads(job.payload or b""))

    else:

        @app.entrypoint("job")
        async def noop(job: Job) -> None:
            handled(json.loads(job.payload or b""))

    await app.run(dequeue_timeout=timedelta(seconds=30), **options)


def worker(kind: str) -> None:
    uvloop.run(run(kind))
