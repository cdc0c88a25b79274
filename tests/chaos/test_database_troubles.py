"""The database is away, full, read-only, or of another version: a clear error in the right place, and nothing lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cluster import Cluster, binaries
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import Handler, Message, Messages, NewMessage, ReadOnlyDatabase, Retry
from mainstay.patterns.schema import SchemaBehind, upgrade
from mainstay.patterns.schema.upgrade import migrations
from mainstay.patterns.serialization_retry import sqlstate

pytestmark = pytest.mark.skipif(binaries() is None, reason="initdb is not installed")
ONE = NewMessage(kind="effect", payload="{}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server that may be stopped."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(params=["psycopg", "asyncpg"])
async def db(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Its database with fresh tables."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS mainstay CASCADE; DROP TABLE IF EXISTS effect")
        connection.execute("CREATE TABLE effect (message bigint)")
    async with Database(cluster.dsn.replace("postgresql:", f"postgresql+{request.param}:")) as db:
        await upgrade(db)
        yield db


@pytest.fixture
def messages(db: Database) -> Messages:
    """One handler, which writes through its transaction."""

    async def effect(message: Message, tx: Transaction) -> None:
        await tx.execute(text("INSERT INTO effect VALUES (:id)"), {"id": message.id})

    messages = Messages(db)
    retry = Retry(attempts=1000, first=0.05, most=0.2)
    messages.handle(Handler(kind="effect", call=effect, transactional=True, retry=retry))
    return messages


async def publish(db: Database, count: int, payload: str = "{}") -> None:
    """So many, in one transaction."""
    async with db.transaction() as tx:
        await tx.publish(*[ONE.but(payload=payload)] * count)


async def done(cluster: Cluster, count: int, seconds: float = 120) -> None:
    """Wait until all are done; each once."""
    end = time.monotonic() + seconds
    while True:
        rows = query(
            cluster,
            "SELECT (SELECT count(*) FROM mainstay.message), count(*), count(DISTINCT message) FROM effect",
        )
        if rows == [(0, count, count)]:
            return
        assert rows[0][1] == rows[0][2], "an effect was doubled"
        assert time.monotonic() < end, f"not within {seconds} s: {rows}"
        await asyncio.sleep(0.05)


def query(cluster: Cluster, sql: str) -> list[Any]:
    """Rows, on a connection of its own."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_the_database_goes_away_and_comes_back(
    cluster: Cluster, db: Database, messages: Messages, mode: str
) -> None:
    """It crashes, or is stopped, for longer than two leases: publishers are told, workers wait and go on."""
    await publish(db, 300)
    async with messages.worker(lease=1.0, concurrency=5):
        await asyncio.to_thread(cluster.stop, mode)
        try:
            with pytest.raises((OSError, DBAPIError)):
                await publish(db, 1)
            # The wait is the outage itself: two leases run out in it.
            await asyncio.sleep(2.5)
        finally:
            await asyncio.to_thread(cluster.start)
        await done(cluster, 300)


async def test_a_database_that_is_read_only_for_a_while(
    cluster: Cluster, db: Database, messages: Messages
) -> None:
    """As on a standby: publishing is refused in PostgreSQL's words; workers wait, and go on when it is over."""
    async with messages.worker(lease=1.0) as worker:
        read_only(cluster, True)
        try:
            with pytest.raises(DBAPIError) as error:
                # The setting reaches a session soon after, not at once.
                async with asyncio.timeout(60):
                    while True:
                        await publish(db, 1)
            assert sqlstate(error.value) == "25006"
            assert "read-only transaction" in str(error.value)
            [(refused,)] = query(cluster, "SELECT clock_timestamp()")
            while query(cluster, f"SELECT 1 FROM pg_stat_activity WHERE xact_start < '{refused}'"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # what had begun before may still write and commit
            with psycopg.connect(cluster.dsn, autocommit=True) as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute("DELETE FROM effect")
                connection.execute("DELETE FROM mainstay.message")
                connection.execute(
                    "INSERT INTO mainstay.message (kind, queue, payload, ready_at, rank)"
                    " SELECT 'effect', 'default', '{}', now(), now() FROM generate_series(1, 20)"
                )
            with pytest.raises(ReadOnlyDatabase, match="URL of the primary"):
                await messages.worker().run()
            assert query(cluster, "SELECT count(*) FROM effect") == [(0,)]
        finally:
            read_only(cluster, False)
        await done(cluster, 20)
        assert worker.id


def read_only(cluster: Cluster, on: bool) -> None:
    """Let every transaction be read-only that does not say otherwise."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def small_disk(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """A tablespace on a disk of two megabytes, with the messages on it; call it with another size to change that."""
    place = cluster.folder / "small"
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    inner = place / "space"
    inner.mkdir()
    owner = Path(cluster.data).stat()
    subprocess.run(["chown", f"{owner.st_uid}:{owner.st_gid}", str(inner)], check=True)
    try:
        query(cluster, f"CREATE TABLESPACE small LOCATION '{inner}'")

        def resize(size: str) -> None:
            subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)

        yield resize
        query(cluster, "DROP SCHEMA IF EXISTS mainstay CASCADE")
        query(cluster, "DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


async def test_a_full_disk(
    cluster: Cluster, db: Database, messages: Messages, small_disk: Callable[[str], None]
) -> None:
    """Publishing is refused and undone as a whole; workers wait for room; then all that was accepted is done, once."""
    query(cluster, "ALTER TABLE mainstay.message SET TABLESPACE small")
    accepted, payload = 0, json.dumps("x" * 1500)
    with pytest.raises(DBAPIError) as error:
        while accepted < 20_000:
            await publish(db, 20, payload)
            accepted += 20
    assert sqlstate(error.value) == "53100"
    assert "No space left" in str(error.value)
    assert query(cluster, "SELECT count(*) FROM mainstay.message") == [(accepted,)]
    async with messages.worker(lease=1.0) as worker:
        small_disk("64m")
        await done(cluster, accepted)
        assert worker.id


async def test_a_schema_one_version_ahead(cluster: Cluster, db: Database, messages: Messages) -> None:
    """An old worker beside a new one: a later migration has come, and what it added does not disturb."""
    query(cluster, "INSERT INTO mainstay.migration (number, name) VALUES (9999, 'of_tomorrow')")
    query(cluster, "ALTER TABLE mainstay.message ADD COLUMN tomorrow text DEFAULT 'x'")
    query(cluster, "ALTER TABLE mainstay.worker ADD COLUMN tomorrow text DEFAULT 'x'")
    await publish(db, 20)
    async with messages.worker(), messages.worker():
        await done(cluster, 20)


async def test_a_schema_one_version_behind(cluster: Cluster, db: Database, messages: Messages) -> None:
    """A worker that is newer than the tables does not begin, and says what to run."""
    last = migrations()[-1]
    query(cluster, f"DELETE FROM mainstay.migration WHERE number = {last.number}")
    with pytest.raises(SchemaBehind, match=rf"{last.number} \({last.name}\): run `mainstay db upgrade`"):
        await messages.worker().run()


async def test_no_schema_at_all(cluster: Cluster, db: Database, messages: Messages) -> None:
    """A database that was never upgraded: the same sentence, from the worker."""
    query(cluster, "DROP SCHEMA mainstay CASCADE")
    with pytest.raises(SchemaBehind, match="run `mainstay db upgrade`"):
        await messages.worker().run()
