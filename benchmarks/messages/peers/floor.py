"""The floor: one table, claim 100, run, acknowledge 100, by hand on asyncpg. No features: a bound, not a peer."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import asyncpg
from handler import handled

DISTRIBUTION = "asyncpg"
URL = os.environ["BENCH_URL"]
CLAIM = 100

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payload jsonb NOT NULL,
    taken timestamptz
);
CREATE INDEX IF NOT EXISTS job_waiting ON job (id) WHERE taken IS NULL
"""
ONE = "WITH one AS (INSERT INTO job (payload) VALUES ($1)) SELECT pg_notify('job', '')"
MANY = """
WITH many AS (INSERT INTO job (payload) SELECT unnest($1::jsonb[])) SELECT pg_notify('job', '')
"""
TAKE = f"""
UPDATE job SET taken = now() WHERE id = ANY (ARRAY(
    SELECT id FROM job WHERE taken IS NULL ORDER BY id LIMIT {CLAIM} FOR UPDATE SKIP LOCKED
)) RETURNING id, payload
"""
DONE = "DELETE FROM job WHERE id = ANY ($1::bigint[])"

_connection: asyncpg.Connection | None = None


async def connection() -> asyncpg.Connection:
    global _connection
    _connection = _connection or await asyncpg.connect(URL)
    return _connection


async def prepare() -> None:
    await (await connection()).execute(SCHEMA)


async def clear() -> None:
    await (await connection()).execute("TRUNCATE job")


async def remaining() -> int:
    return await (await connection()).fetchval("SELECT count(*) FROM job")


async def enqueue_one_by_one(payloads: list[dict[str, Any]]) -> None:
    client = await connection()
    for payload in payloads:
        await client.execute(ONE, json.dumps(payload))


async def enqueue_batch(payloads: list[dict[str, Any]]) -> None:
    await (await connection()).execute(MANY, [json.dumps(payload) for payload in payloads])


async def publish(session: Any, payload: dict[str, Any]) -> None:
    from sqlalchemy import text  # here, or the worker's memory would count it

    insert = (
        "WITH one AS (INSERT INTO job (payload) VALUES (CAST(:payload AS jsonb))) SELECT pg_notify('job', '')"
    )
    await session.execute(text(insert), {"payload": json.dumps(payload)})


async def run(kind: str) -> None:
    """`transactional`: the hundred jobs' effects and their deletion in one transaction."""
    client, wake = await connection(), asyncio.Event()
    await client.add_listener("job", lambda *_: wake.set())
    while True:
        wake.clear()
        while taken := await client.fetch(TAKE):
            if kind == "transactional":
                async with client.transaction():
                    for row in taken:
                        payload = json.loads(row["payload"])
                        handled(payload)
                        await client.execute("INSERT INTO effect (number) VALUES ($1)", payload["n"])
                    await client.execute(DONE, [row["id"] for row in taken])
            else:
                for row in taken:
                    handled(json.loads(row["payload"]))
                await client.execute(DONE, [row["id"] for row in taken])
        await wake.wait()


def worker(kind: str) -> None:
    asyncio.run(run(kind))
