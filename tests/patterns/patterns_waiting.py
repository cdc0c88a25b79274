"""Wait for what another connection does, by asking PostgreSQL instead of sleeping."""

from __future__ import annotations

from sqlalchemy import text

from mainstay.patterns import Database

BLOCKED = text(
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
    " AND cardinality(pg_blocking_pids(pid)) > 0)"
)


async def until_someone_waits(db: Database) -> None:
    """Returns as soon as a connection to this database waits for a lock."""
    async with db.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not await connection.scalar(BLOCKED):
            pass
