"""A database with the test models, reached through either driver."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from pattern_models import Base
from sqlalchemy import URL, create_engine, make_url

from mainstay.patterns import Database

NAME = f"mainstay_patterns_{os.getpid()}"


@pytest.fixture(scope="session")
def address(postgresql_url: str) -> Iterator[URL]:
    """A database of our own, with empty tables; dropped at the end."""
    with psycopg.connect(postgresql_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")  # of a process that was killed
        server.execute(f"CREATE DATABASE {NAME} TEMPLATE template0")
        url = make_url(postgresql_url).set(drivername="postgresql+psycopg", database=NAME)
        try:
            engine = create_engine(url)
            Base.metadata.create_all(engine)
            engine.dispose()
            yield url
        finally:
            server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def empty(address: URL) -> URL:
    """The same database with all tables empty."""
    with psycopg.connect(
        address.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
    ) as connection:
        tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
        connection.execute(f"TRUNCATE {tables} RESTART IDENTITY")
    return address


@pytest.fixture(params=["psycopg", "asyncpg"])
async def db(empty: URL, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """The database under test, once with each driver."""
    async with Database(empty.set(drivername=f"postgresql+{request.param}"), pool_size=4) as database:
        yield database


@pytest.fixture
async def other(db: Database) -> AsyncIterator[Database]:
    """The same database as another process has it: with a pool and transactions of its own."""
    async with Database(db.engine.url, pool_size=4) as database:
        yield database
