"""Bring the schema ``mainstay`` of a database up to date, and tell when it is not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from sqlalchemy import Connection

from mainstay.patterns.database import Database
from mainstay.patterns.errors import Misuse

_NAME = re.compile(r"(?P<number>\d{4})_(?P<name>\w+)\.sql")

# One script, and so one round trip and one transaction. The lock lets many processes upgrade at once as they
# start: the first one works, the others wait and then find nothing to do.
_APPLY = """
DO $mainstay$ BEGIN PERFORM pg_advisory_xact_lock(7823746518034481); END $mainstay$;
CREATE SCHEMA IF NOT EXISTS mainstay;
CREATE TABLE IF NOT EXISTS mainstay.migration (
    number smallint PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
"""


class SchemaBehind(Misuse):
    """The schema ``mainstay`` of the database is older than this code."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered SQL file."""

    number: int
    name: str
    sql: str


@cache
def migrations() -> Sequence[Migration]:
    """All migrations that this version of Mainstay ships, in order."""
    found = [
        Migration(int(match["number"]), match["name"], file.read_text(encoding="utf-8"))
        for file in resources.files(__package__).iterdir()
        if (match := _NAME.fullmatch(file.name))
    ]
    return tuple(sorted(found, key=lambda migration: migration.number))


async def applied(database: Database) -> frozenset[int]:
    """The numbers of the migrations that this database has; none where there is no schema ``mainstay``."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(_applied)


async def check(database: Database) -> None:
    """Call this at start. A schema newer than the code is fine: migrations keep the version before working.

    Raises:
        SchemaBehind: migrations are missing, with the command that applies them.
    """
    missing = [m for m in migrations() if m.number not in await applied(database)]
    if missing:
        raise SchemaBehind(
            f"this version of Mainstay needs migration {missing[-1].number} of its tables, and the database lacks"
            f" {', '.join(f'{m.number} ({m.name})' for m in missing)}: run `mainstay db upgrade`"
        )


async def upgrade(database: Database, *, to: int | None = None) -> list[Migration]:
    """Apply what is missing, up to and with number `to` (default: all), in one transaction; what was applied.

    Any number of processes may call this at once. Without effect where nothing is missing.
    """
    async with database.engine.connect() as connection:
        done = await connection.run_sync(upgrade_sync, to=to)
        await connection.commit()
        return done


def upgrade_sync(connection: Connection, *, to: int | None = None) -> list[Migration]:
    """As `upgrade`, in the transaction that `connection` is in: the caller commits."""
    _script(connection, _APPLY)
    present = _applied(connection)
    missing = [m for m in migrations() if m.number not in present and (to is None or m.number <= to)]
    for migration in missing:
        _script(
            connection,
            f"{migration.sql}\nINSERT INTO mainstay.migration (number, name)"
            f" VALUES ({migration.number}, '{migration.name}');",
        )
    return missing


def _applied(connection: Connection) -> frozenset[int]:
    if connection.exec_driver_sql("SELECT to_regclass('mainstay.migration')").scalar() is None:
        return frozenset()
    return frozenset(connection.exec_driver_sql("SELECT number FROM mainstay.migration").scalars())


def _script(connection: Connection, sql: str) -> None:
    """Run several statements. Only the simple protocol takes them, and asyncpg's adapter never speaks it."""
    if connection.dialect.driver == "asyncpg":
        connection.exec_driver_sql("SELECT 1")  # so that the adapter has begun its transaction
        adapter: Any = connection.connection.dbapi_connection
        adapter.run_async(lambda driver: driver.execute(sql))
    else:
        connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
