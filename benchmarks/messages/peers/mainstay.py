"""Mainstay's engine: published on an asyncpg connection as pgqueuer's client has it; the worker at its defaults."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import asyncpg
from handler import SLEEP, began, ended, handled
from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import Handler, Message, Messages, NewMessage
from mainstay.patterns.schema import upgrade

DISTRIBUTION = "mainstay"
URL = os.environ["BENCH_URL"]
DRIVER = os.environ.get("BENCH_DRIVER", "asyncpg")
LEASE = float(os.environ.get("BENCH_LEASE", "30"))
QUEUES = 1000

database = Database(URL.replace("postgresql://", f"postgresql+{DRIVER}://"))
messages = Messages(database)

_connection: asyncpg.Connection | None = None


async def connection() -> asyncpg.Connection:
    global _connection
    _connection = _connection or await asyncpg.connect(URL)
    return _connection


def message(payload: dict[str, Any], queue: str = "default") -> NewMessage:
    return NewMessage(kind="job", payload=json.dumps(payload), queue=queue)


async def prepare() -> None:
    await upgrade(database)


async def clear() -> None:
    await (await connection()).execute("TRUNCATE mainstay.message CASCADE")


async def remaining() -> int:
    return await (await connection()).fetchval("SELECT count(*) FROM mainstay.message WHERE ended_at IS NULL")


async def enqueue_one_by_one(payloads: list[dict[str, Any]]) -> None:
    client = await connection()
    for payload in payloads:
        await messages.publish(client, message(payload))


async def enqueue_batch(payloads: list[dict[str, Any]]) -> None:
    await messages.publish(await connection(), *(message(payload) for payload in payloads))


async def enqueue_over_queues(payloads: list[dict[str, Any]]) -> None:
    many = (message(payload, f"queue-{payload['n'] % QUEUES}") for payload in payloads)
    await messages.publish(await connection(), *many)


async def publish(session: Any, payload: dict[str, Any]) -> None:
    await messages.publish(session, message(payload))


async def noop(one: Message) -> None:
    handled(json.loads(one.payload))


async def sleep(one: Message) -> None:
    number = json.loads(one.payload)["n"]
    began(number)
    await asyncio.sleep(SLEEP)
    ended(number)


async def effect(one: Message, tx: Transaction) -> None:
    payload = json.loads(one.payload)
    handled(payload)
    await tx.execute(text("INSERT INTO effect (number) VALUES (:number)"), {"number": payload["n"]})


async def run(kind: str) -> None:
    options: dict[str, Any] = {}
    if kind == "sleep":
        messages.handle(Handler(kind="job", call=sleep))
        options = {"concurrency": 4, "lease": LEASE}
    elif kind == "transactional":
        messages.handle(Handler(kind="job", call=effect, transactional=True))
    else:
        messages.handle(Handler(kind="job", call=noop))
        if kind == "queues":
            options = {"queues": [f"queue-{number}" for number in range(QUEUES)]}
    await messages.worker(**options).run()


def worker(kind: str) -> None:
    asyncio.run(run(kind))
