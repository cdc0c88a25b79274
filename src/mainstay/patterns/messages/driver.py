"""The worker's own connections: the driver beneath, without SQLAlchemy, because every statement counts here.

Both drivers prepare what they run again and again. A connection is used by one statement at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from mainstay.patterns.database import Database
from mainstay.patterns.errors import Misuse
from mainstay.patterns.messages.statements import Statement

Row = Sequence[Any]
Notified = Callable[[str, str], None]


# The table of messages is empty at one moment and has a million rows at the next, so its statistics are always
# wrong. Every statement of the engine is written to go by index, row by row: leave the planner no other way.
_PLANS = (
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off;"
    " SET jit = off; SET plan_cache_mode = force_generic_plan;"
)


# What a database or role may have set otherwise for its users, and the statements here and psycopg do not bear:
# texts in UTF-8, dates that can be read again, no error where another was faster, no end to a connection that listens
# (a setting since version 14).
_NOT_THE_DATABASES = (
    "SET client_encoding = 'UTF8'; SET datestyle = 'ISO';"
    " SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;"
    " SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout';"
)


class PooledByTransaction(Misuse):
    """A worker was given a pooler that hands its connections to others between two transactions."""


class Driver(Protocol):
    """One connection. Statements run in autocommit, or in the block of `transaction`."""

    async def fetch(self, statement: Statement, /, **values: Any) -> Sequence[Row]:
        """Run one statement; its rows."""

    async def run(self, sql: str) -> None:
        """Run SQL without parameters, for settings."""

    async def listen(
        self, channels: Sequence[str], notified: Notified, listening: Callable[[], None]
    ) -> None:
        """Call `listening()` once it does, and `notified(channel, payload)` for each notification, until the end."""

    async def close(self) -> None:
        """Close the connection, broken or not."""


async def connect(database: Database, name: str, *, settings: str = "") -> Driver:
    """A connection beside the pool of `database`, as `name` in ``pg_stat_activity``.

    Raises:
        PooledByTransaction: somebody between gives it to others, too.
        Exception: what the driver raises when it cannot connect; see `is_lost`.
    """
    pooled = await database.engine.raw_connection()
    raw: Any = pooled.driver_connection
    pooled.detach()  # it is ours now and does not count in the pool
    driver = _driver(raw)
    try:
        async with asyncio.timeout(PATIENCE):
            if await driver.server() != driver.told:
                await _refuse_pooling_by_transaction(database, driver)
            if isinstance(driver, _Psycopg):
                await raw.rollback()
                await raw.set_autocommit(True)
            await driver.run(
                f"SELECT set_config('application_name', 'mainstay {name}', false);"
                f" SET statement_timeout = '30s'; SET lock_timeout = '10s';"
                f" SET idle_in_transaction_session_timeout = '{round(IDLE_IN_TRANSACTION * 1000)}ms';"
                f" {_NOT_THE_DATABASES} {_PLANS} {settings}"
            )
    except BaseException:
        await driver.close()  # nobody else knows of it
        raise
    return driver


def _driver(raw: Any) -> _Psycopg | _Asyncpg:
    return (_Asyncpg if type(raw).__module__.startswith("asyncpg") else _Psycopg)(raw)


async def _refuse_pooling_by_transaction(database: Database, driver: _Psycopg | _Asyncpg) -> None:
    """Somebody stands between: does he give this connection's server to others between two transactions?"""
    for _ in range(3):
        before = await driver.server()
        pooled = await database.engine.raw_connection()
        second = _driver(pooled.driver_connection)
        pooled.detach()
        try:
            beside = await second.server(keep=True)
            after = await driver.server()
        finally:
            await second.close()
        if beside == before or after != before:
            raise PooledByTransaction(
                "the database URL leads to a pooler that gives connections out by transaction (as PgBouncer does with"
                " pool_mode = transaction), and a worker has settings, prepared statements and LISTEN on its own,"
                " which others would find on theirs; give it a URL that leads to PostgreSQL itself, or to a pool with"
                " pool_mode = session"
            )


IDLE_IN_TRANSACTION = 10.0
"""Seconds between two statements of a transaction after which PostgreSQL ends it: its worker may be frozen or cut off,
and would keep a limited queue from all others for as long as its connection stands."""
PATIENCE = 40.0
"""Seconds after which a statement is given up with its connection; longer than statement_timeout, so a dead network."""


class Link:
    """A connection that is made when it is needed, and made anew after any error on it."""

    def __init__(self, database: Database, name: str, *, settings: str = "") -> None:
        self._database = database
        self._name = name
        self._settings = settings
        self._driver: Driver | None = None
        self._connecting = asyncio.Lock()

    async def driver(self) -> Driver:
        """The connection, made if there is none."""
        async with self._connecting:
            if self._driver is None:
                self._driver = await connect(self._database, self._name, settings=self._settings)
            return self._driver

    async def fetch(self, statement: Statement, /, **values: Any) -> Sequence[Row]:
        """Run one statement; its rows."""
        driver = self._driver or await self.driver()
        try:
            async with asyncio.timeout(PATIENCE):
                return await driver.fetch(statement, **values)
        except BaseException:
            # Also when cancelled: nobody knows what the server is still doing on it.
            await self.drop(driver)
            raise

    async def run(self, sql: str) -> None:
        """Run SQL without parameters."""
        driver = self._driver or await self.driver()
        try:
            async with asyncio.timeout(PATIENCE):
                await driver.run(sql)
        except BaseException:
            await self.drop(driver)
            raise

    async def drop(self, driver: Driver | None = None) -> None:
        """Close the connection, if it is this one (default: whichever it is)."""
        current = self._driver
        if current is not None and (driver is None or driver is current):
            self._driver = None
            await current.close()


@asynccontextmanager
async def transaction(link: Link) -> AsyncIterator[None]:
    """Run the statements of the block in one transaction."""
    await link.run("BEGIN")
    try:
        yield
        await link.run("COMMIT")
    except BaseException:
        await link.drop()  # which rolls back
        raise


def is_lost(error: BaseException) -> bool:
    """Whether an error means that the connection, not the statement, is at fault: another one may do."""
    if isinstance(error, OSError | asyncio.TimeoutError):
        return True
    for kind in type(error).__mro__:
        if kind.__name__ in ("InterfaceError", "ConnectionDoesNotExistError", "PostgresConnectionError"):
            return True
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    if isinstance(state, str):
        return state.startswith("08") or state in ("57P01", "57P02", "57P03", "53300", "25006")
    return any(kind.__name__ == "OperationalError" for kind in type(error).__mro__)


class _Psycopg:
    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._lock = asyncio.Lock()
        self.told: int = raw.info.backend_pid
        """The process of the server, by what it said as the connection was made."""

    async def server(self, *, keep: bool = False) -> int:
        """The process that is at the other end in this moment; `keep` a transaction open on it."""
        cursor = await self._raw.execute("SELECT pg_backend_pid()")
        (process,) = await cursor.fetchone()
        if not keep:
            await self._raw.rollback()
        return int(process)

    async def fetch(self, statement: Statement, /, **values: Any) -> Sequence[Row]:
        async with self._lock:
            cursor = await self._raw.execute(statement.named, values, prepare=True)
            rows: Sequence[Row] = (await cursor.fetchall()) if cursor.description else ()
            return rows

    async def run(self, sql: str) -> None:
        async with self._lock:
            await self._raw.execute(sql)

    async def listen(
        self, channels: Sequence[str], notified: Notified, listening: Callable[[], None]
    ) -> None:
        for channel in channels:
            await self.run(f"LISTEN {channel}")
        listening()
        async for notification in self._raw.notifies():
            notified(notification.channel, notification.payload)

    async def close(self) -> None:
        with suppress(Exception):
            await self._raw.close()


class _Asyncpg:
    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._lock = asyncio.Lock()
        self.told: int = raw.get_server_pid()

    async def server(self, *, keep: bool = False) -> int:
        await self._raw.execute("BEGIN")  # a prepared statement would not outlive it, where servers change
        process: int = await self._raw.fetchval("SELECT pg_backend_pid()")
        if not keep:
            await self._raw.execute("ROLLBACK")
        return process

    async def fetch(self, statement: Statement, /, **values: Any) -> Sequence[Row]:
        async with self._lock:
            rows: Sequence[Row] = await self._raw.fetch(statement.numbered, *statement.ordered(values))
            return rows

    async def run(self, sql: str) -> None:
        async with self._lock:
            await self._raw.execute(sql)

    async def listen(
        self, channels: Sequence[str], notified: Notified, listening: Callable[[], None]
    ) -> None:
        ended = asyncio.Event()
        self._raw.add_termination_listener(lambda _: ended.set())
        for channel in channels:
            await self._raw.add_listener(channel, lambda _, __, name, payload: notified(name, payload))
        listening()
        await ended.wait()

    async def close(self) -> None:
        with suppress(Exception):
            await self._raw.close(timeout=2)
        self._raw.terminate()
