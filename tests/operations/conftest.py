"""A database with Mainstay's tables, an app in a folder of its own, and the command line on both."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from operations_help import APP, Ended, Program
from sqlalchemy import make_url

from mainstay import cli
from mainstay.patterns import Database
from mainstay.patterns.schema import upgrade

NAME = f"mainstay_operations_{os.getpid()}"


@pytest.fixture(scope="session")
def url(postgresql_url: str) -> Iterator[str]:
    """A database of our own with all migrations; dropped at the end."""
    with psycopg.connect(postgresql_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")  # of a process that was killed
        server.execute(f"CREATE DATABASE {NAME} TEMPLATE template0")
        try:
            url = make_url(postgresql_url).set(drivername="postgresql", database=NAME)
            text = url.render_as_string(hide_password=False)

            async def prepare() -> None:
                async with Database(text) as database:
                    await upgrade(database)

            asyncio.run(prepare())
            yield text
        finally:
            server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def bare(postgresql_url: str) -> Iterator[str]:
    """A database without Mainstay's tables."""
    name = f"{NAME}_bare"
    with psycopg.connect(postgresql_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # of a process that was killed
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            url = make_url(postgresql_url).set(drivername="postgresql", database=name)
            yield url.render_as_string(hide_password=False)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sql(url: str) -> Iterator[Callable[..., list[Any]]]:
    """Run SQL in autocommit, with all tables empty at first; the rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE mainstay.message, mainstay.worker, mainstay.queue, mainstay.saga, mainstay.schedule,"
            " mainstay.subscription RESTART IDENTITY CASCADE"
        )

        def run(statement: str, *values: Any) -> list[Any]:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def mainstay(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run a command in this process as the console script does; what it printed and its exit code."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: object, database: str | None = url, columns: int | None = None) -> Ended:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["mainstay", *map(str, arguments)])
            if database is None:
                patch.delenv("DATABASE_URL", raising=False)
            else:
                patch.setenv("DATABASE_URL", database)
            if columns is not None:
                patch.setenv("COLUMNS", str(columns))
            with pytest.raises(SystemExit) as ended:
                cli.run()
        printed = capsys.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module ``app``."""
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def start(folder: Path, url: str, sql: object) -> Iterator[Callable[..., Program]]:
    """Start the console script as a process of its own in the folder; what is left of it is ended."""
    started: list[Program] = []

    def run(*arguments: str, database: str = url) -> Program:
        started.append(Program(folder, database, *arguments))
        return started[-1]

    yield run
    for one in started:
        one.clear_away()
