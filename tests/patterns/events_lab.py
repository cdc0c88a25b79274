"""What the tests of events share: a database of their own for each test, workers as real processes, a proxy to cut."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
from cluster import free_port
from sqlalchemy import URL, create_engine, make_url

from mainstay.patterns import Database
from mainstay.patterns.messages import Messages, Retry
from mainstay.patterns.schema import upgrade_sync

HERE = Path(__file__).parent
TEMPLATE = f"mainstay_events_{os.getpid()}"
DRIVERS = ("psycopg", "asyncpg")
AT_ONCE = Retry(attempts=1000, first=0.0, most=0.0)
"""Failures are tried again without a wait, so that tests need none."""


@contextmanager
def template(server: str) -> Iterator[str]:
    """A database with the tables of this version, to be copied for each test."""
    url = make_url(server).set(drivername="postgresql+psycopg", database=TEMPLATE)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        try:
            engine = create_engine(url)
            with engine.begin() as schema:
                upgrade_sync(schema)
                schema.exec_driver_sql(
                    "CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, who text, what text, at float8)"
                )
            engine.dispose()
            yield TEMPLATE
        finally:
            connection.execute(f"DROP DATABASE {TEMPLATE} WITH (FORCE)")


@contextmanager
def copy(server: str, source: str) -> Iterator[URL]:
    """A fresh copy; its address without a driver."""
    name = f"{source}_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
        try:
            yield make_url(server).set(drivername="postgresql", database=name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Lab:
    """One database and what is needed to look at it."""

    def __init__(self, address: URL, driver: str) -> None:
        self.address = address
        self.plain = address.render_as_string(hide_password=False)
        self.url = address.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)
        self.db = Database(self.url, pool_size=8)
        self._outside = psycopg.connect(self.plain, autocommit=True)
        self.messages = Messages(self.db)

    def another(self) -> Messages:
        """What another process has: the same database, other code."""
        return Messages(Database(self.url, pool_size=8))

    async def close(self) -> None:
        """Close what looks and what publishes."""
        self._outside.close()
        await self.db.close()

    def look(self, sql: str, *values: Any) -> list[Any]:
        """Rows from outside; of one column, its values."""
        rows = self._outside.execute(sql, values or None).fetchall()
        return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows

    def change(self, sql: str, *values: Any) -> None:
        """Change something from outside."""
        self._outside.execute(sql, values or None)

    def left(self) -> int:
        """Messages that have not ended."""
        return self.look("SELECT count(*) FROM mainstay.message WHERE ended_at IS NULL")[0]

    async def publish(self, *items: Any) -> list[int | None]:
        """Publish in a transaction."""
        async with self.db.transaction() as tx:
            return await tx.publish(*items)

    async def until(self, condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0) -> None:
        """Wait for a condition, with a bound."""
        end = time.monotonic() + seconds
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return
            if time.monotonic() > end:
                states = self.look(
                    "SELECT kind, queue, state::text, count(*) FROM mainstay.message GROUP BY 1, 2, 3"
                )
                errors = self.look("SELECT errors::text FROM mainstay.message WHERE errors <> '[]' LIMIT 3")
                raise AssertionError(f"not within {seconds} s; messages: {states}; {errors}")
            await asyncio.sleep(0.03)


class Process:
    """A worker as a real process: a program beside this file, with these arguments."""

    def __init__(self, *arguments: str, program: str = "events_worker.py") -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / program), *arguments],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()

    async def says(self, word: str, seconds: float = 90.0) -> None:
        """Wait until the process prints a line that begins with `word`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            while True:
                line = await asyncio.to_thread(self.process.stdout.readline)
                if line.startswith(word):
                    return
                assert line, f"the process ended ({self.process.wait()}) before it said {word}"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Proxy:
    """A TCP proxy on loopback that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = free_port()
        self.tried = 0

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        """Let connections through; on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Break all connections and refuse new ones."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            self._server = None
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tried += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                sink.transport.abort()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        self._writers -= {writer, far_writer}
