"""DBOS on PostgreSQL: a queued workflow a job, polled once a second (its default), enqueued by its client.

Handlers are plain functions in its thread pool, which drains faster here than `async def`."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions, SQLAlchemyDatasource
from handler import SLEEP, began, ended, handled

DISTRIBUTION = "dbos"
URL = os.environ["BENCH_URL"]
EXECUTOR = os.environ.get("BENCH_EXECUTOR", "local")
KIND = os.environ.get("BENCH_KIND", "noop")
OPTIONS: EnqueueOptions = {"queue_name": "jobs", "workflow_name": KIND}

config: DBOSConfig = {
    "name": "bench",
    "system_database_url": URL,
    "application_version": "1",
    "executor_id": EXECUTOR,
    "log_level": "ERROR",
    "max_executor_threads": 8,  # its default makes the transactional step slower still
}

_client: DBOSClient | None = None


def client() -> DBOSClient:
    global _client
    _client = _client or DBOSClient(system_database_url=URL)
    return _client


async def prepare() -> None:
    def migrate() -> None:
        DBOS(config=config)
        DBOS.launch()
        limit = {"worker_concurrency": 4} if KIND == "sleep" else {}
        DBOS.register_queue("jobs", **limit)
        DBOS.destroy()

    await asyncio.to_thread(migrate)


def _do(statement: str) -> Any:
    with client()._sys_db.engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return result.scalar() if result.returns_rows else None


async def clear() -> None:
    _do("TRUNCATE dbos.workflow_status CASCADE")


async def remaining() -> int:
    return int(_do("SELECT count(*) FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING')"))


async def enqueue_one_by_one(payloads: list[dict[str, Any]]) -> None:
    for payload in payloads:
        client().enqueue(OPTIONS, payload)


async def enqueue_batch(payloads: list[dict[str, Any]]) -> None:
    """It has no call for many; many in one transaction saves the commits."""
    with client()._sys_db.engine.begin() as connection:
        for payload in payloads:
            client().enqueue_in_transaction(connection, OPTIONS, payload)


async def publish(session: Any, payload: dict[str, Any]) -> None:
    await session.run_sync(lambda sync: client().enqueue_in_transaction(sync, OPTIONS, payload))


def worker(kind: str) -> None:
    DBOS(config=config)

    if kind == "sleep":

        @DBOS.workflow(name="sleep")
        def sleep(payload: dict[str, Any]) -> None:
            began(payload["n"])
            time.sleep(SLEEP)
            ended(payload["n"])

    elif kind == "transactional":
        # A step whose record commits with what it writes; DBOS notes the end of the workflow after it.
        # Without overflow, whose connections would be opened and closed for every step.
        effects = SQLAlchemyDatasource.create(URL, {"pool_size": 20, "max_overflow": 0, "pool_timeout": 300})

        @effects.transaction(isolation_level="READ COMMITTED")
        def write(number: int) -> None:
            effects.sql_session().execute(sa.text("INSERT INTO effect (number) VALUES (:n)"), {"n": number})

        @DBOS.workflow(name="transactional")
        def effect(payload: dict[str, Any]) -> None:
            handled(payload)
            write(payload["n"])

    else:

        @DBOS.workflow(name="noop")
        def noop(payload: dict[str, Any]) -> None:
            handled(payload)

    DBOS.launch()
    threading.Event().wait()
