"""A database with Mainstay's tables, empty for each test, reached through either driver; and what waits for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest
from engine_waiting import dsn
from sqlalchemy import URL, make_url

from mainstay.patterns import Database
from mainstay.patterns.messages import Messages
from mainstay.patterns.messages.control import Control
from mainstay.patterns.schema import upgrade

NAME = f"mainstay_messages_{os.getpid()}"


@pytest.fixture(scope="session")
def address(postgresql_url: str) -> Iterator[URL]:
    """A database of our own with the migrations applied and a table of effects; dropped at the end."""
    with psycopg.connect(postgresql_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")  # of a process that was killed
        server.execute(f"CREATE DATABASE {NAME} TEMPLATE template0")
        url = make_url(postgresql_url).set(drivername="postgresql+psycopg", database=NAME)
        try:

            async def prepare() -> None:
                async with Database(url) as database:
                    await upgrade(database)

            asyncio.run(prepare())
            with psycopg.connect(dsn(url), autocommit=True) as connection:
                connection.execute(
                    "CREATE TABLE effect (id bigserial PRIMARY KEY, message bigint, what text)"
                )
            yield url
        finally:
            server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def empty(address: URL) -> URL:
    """The same database with all tables empty."""
    with psycopg.connect(dsn(address), autocommit=True) as connection:
        connection.execute(
            "TRUNCATE mainstay.message, mainstay.worker, mainstay.queue, effect RESTART IDENTITY CASCADE"
        )
    return address


@pytest.fixture
def sql(empty: URL) -> Iterator[Callable[..., list[Any]]]:
    """Run SQL in autocommit; the rows."""
    with psycopg.connect(dsn(empty), autocommit=True) as connection:

        def run(statement: str, *values: Any) -> list[Any]:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture(params=["psycopg", "asyncpg"])
async def db(empty: URL, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """The database under test, once with each driver."""
    async with Database(empty.set(drivername=f"postgresql+{request.param}"), pool_size=6) as database:
        yield database


@pytest.fixture
def messages(db: Database) -> Messages:
    """An engine without handlers."""
    return Messages(db)


@pytest.fixture
def control(db: Database) -> Control:
    """The messages from outside."""
    return Control(db)
