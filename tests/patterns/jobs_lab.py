"""What the tests of jobs and schedules share: Mainstay's tables, empty; waiting for conditions; SQL beside the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from mainstay.patterns import Database
from mainstay.patterns.schema import upgrade

TABLES = "message, worker, queue, schedule, schedule_definition, schedule_declaration"
AWAY = (datetime.now(UTC) + timedelta(minutes=30)).minute
"""A minute of the hour that does not come while the tests run: an hourly schedule has no tick of its own then."""
HOURLY = f"{AWAY} * * * *"
LAST_TICK = f"date_trunc('hour', now() - interval '{AWAY} min') + interval '{AWAY} min'"
"""SQL for the newest tick of `HOURLY` that has passed."""


async def empty_tables(db: Database) -> None:
    """Mainstay's tables as after an installation, and a table of effects."""
    await upgrade(db)
    await sql(
        db,
        f"TRUNCATE {', '.join('mainstay.' + name for name in TABLES.split(', '))} RESTART IDENTITY CASCADE",
    )
    await sql(
        db,
        "CREATE TABLE IF NOT EXISTS effect (id bigserial PRIMARY KEY, what text, at timestamptz DEFAULT now())",
    )
    await sql(db, "TRUNCATE effect")


async def sql(db: Database, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Run a statement in a transaction of its own; its rows."""
    async with db.engine.begin() as connection:
        result = await connection.execute(text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 40.0) -> None:
    """Wait for a condition, at most so long; fail then."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if not isinstance(result, bool):
            result = await result
        if result:
            return
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.01)


async def until_done(db: Database) -> None:
    """Wait until no message is left."""

    async def none() -> bool:
        return await sql(db, "SELECT count(*) FROM mainstay.message") == [(0,)]

    await until(none)
