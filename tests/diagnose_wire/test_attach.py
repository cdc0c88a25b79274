"""Moving warm connections to another database without their client noticing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import psycopg
import pytest
import pytest_asyncio
import sqlalchemy as sa
from gates import Hold, Record, until
from sqlalchemy.ext.asyncio import create_async_engine

from mainstay.architect.diagnose.postgres import Database, Postgres
from mainstay.architect.diagnose.proxy import Proxy


@pytest_asyncio.fixture(loop_scope="session")
async def clone(postgres: Postgres, database: Database) -> AsyncIterator[Database]:
    """A clone of the test's database, which has a table and an enum in it."""
    async with await postgres.connect(database) as admin:
        await admin.execute("CREATE TYPE mood AS ENUM ('happy', 'sad')")
        await admin.execute("CREATE TABLE item (id int PRIMARY KEY, mood mood)")
        await admin.execute("INSERT INTO item VALUES (1, 'happy')")
    made = await postgres.create(database)
    yield made
    await postgres.drop(made)


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg"])
async def test_a_warm_pool_moves(driver: str, proxy: Proxy, database: Database, clone: Database) -> None:
    """Pooled connections with their prepared statements work on in the clone, and see its rows."""
    engine = create_async_engine(proxy.url(driver), pool_size=2)

    async def work() -> tuple[str, int]:
        async with engine.begin() as connection:
            name = (await connection.execute(sa.text("SELECT current_database()"))).scalar_one()
            count = (
                await connection.execute(sa.text("SELECT count(*) FROM item WHERE id > :n"), {"n": 0})
            ).scalar_one()
            await connection.execute(sa.text("INSERT INTO item VALUES (:id, 'sad')"), {"id": count + 1})
            return name, count

    for expected in range(1, 9):  # more than psycopg's prepare_threshold
        assert await work() == (database.name, expected)
    sockets = [connection._client for connection in proxy.connections]
    await proxy.attach(clone)
    assert await work() == (clone.name, 1)
    assert [connection._client for connection in proxy.connections] == sockets
    await proxy.attach(database)
    assert await work() == (database.name, 9)
    await engine.dispose()


async def test_session_settings_listens_and_prepared_statements_come_along(
    proxy: Proxy, postgres: Postgres, clone: Database
) -> None:
    """SET, set_config, LISTEN, PREPARE and the driver's own prepared statements hold in the new database."""
    client = await asyncpg.connect(proxy.url(), server_settings={"application_name": "shop"})
    heard: asyncio.Queue[str] = asyncio.Queue()
    await client.add_listener("orders", lambda connection, pid, channel, payload: heard.put_nowait(payload))
    prepared = await client.prepare("SELECT mood FROM item WHERE id = $1")
    assert await prepared.fetchval(1) == "happy"
    await client.execute("SET statement_timeout = '7s'")
    await client.fetchval("SELECT set_config($1, $2, false)", "TimeZone", "Europe/Vienna")
    await client.execute("PREPARE double (int) AS SELECT $1 * 2")
    async with client.transaction():
        await client.execute("SET LOCAL lock_timeout = '3s'")
        await client.execute("SET idle_session_timeout = '9s'")
    with pytest.raises(ZeroDivisionError):
        async with client.transaction():
            await client.execute("SET lock_timeout = '4s'")
            raise ZeroDivisionError

    await proxy.attach(clone)
    assert await client.fetchval("SHOW statement_timeout") == "7s"
    assert await client.fetchval("SHOW timezone") == "Europe/Vienna"
    assert await client.fetchval("SHOW idle_session_timeout") == "9s"
    assert await client.fetchval("SHOW lock_timeout") == "0"
    assert await client.fetchval("SHOW application_name") == "shop"
    assert await client.fetchval("EXECUTE double(21)") == 42
    assert await prepared.fetchval(1) == "happy"
    async with await postgres.connect(clone) as admin:
        await admin.execute("NOTIFY orders, 'placed'")
    assert await asyncio.wait_for(heard.get(), 30) == "placed"

    await client.execute("RESET ALL")
    await proxy.attach(clone)
    await proxy.attach(proxy.database or clone)
    assert await client.fetchval("SHOW statement_timeout") == "0"
    await client.close()


async def test_numbers_begin_anew_with_each_run(proxy: Proxy, record: Record, clone: Database) -> None:
    """Statements and connections are counted from 1 after a move, in the order of their use."""
    async with (
        await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as first,
        await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as second,
    ):
        await first.execute("SELECT 'a'")
        await second.execute("SELECT 'b'")
        await proxy.attach(clone)
        await second.execute("SELECT 'c'")
        await first.execute("SELECT 'd'")
    assert [(s.number, s.connection) for s in record.seen] == [(1, 1), (2, 2), (1, 1), (2, 2)]


async def test_a_transaction_in_progress_is_ended(proxy: Proxy, database: Database, clone: Database) -> None:
    """A connection with an open transaction is closed with an error its driver understands; its work is undone."""
    client = await psycopg.AsyncConnection.connect(proxy.url())
    await client.execute("INSERT INTO item VALUES (2, 'sad')")
    await proxy.attach(clone)
    with pytest.raises(psycopg.OperationalError):
        await client.execute("SELECT 1")
    assert proxy.connections == []
    await proxy.attach(database)
    async with await psycopg.AsyncConnection.connect(proxy.url()) as second:
        assert await (await second.execute("SELECT count(*) FROM item")).fetchone() == (1,)


async def test_a_held_statement_never_runs_in_another_run(proxy: Proxy, clone: Database) -> None:
    """What a run has left at the gate is closed with the run."""
    proxy.gate = gate = Hold("DELETE")
    client = await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True)
    deleting = asyncio.create_task(client.execute("DELETE FROM item"))
    await asyncio.wait_for(gate.held.wait(), 30)
    await proxy.attach(clone)
    with pytest.raises(psycopg.OperationalError):
        await deleting
    gate.release.set()
    async with await psycopg.AsyncConnection.connect(proxy.url()) as second:
        assert await (await second.execute("SELECT count(*) FROM item")).fetchone() == (1,)


async def test_a_statement_outside_a_transaction_may_finish(proxy: Proxy, clone: Database) -> None:
    """A background poll that happens to run when the laboratory moves on is not cut off."""
    async with await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as client:
        polling = asyncio.create_task(client.execute("SELECT current_database() FROM pg_sleep(0.2)"))
        await until(lambda: proxy.connections[0].running)
        await proxy.attach(clone)
        await polling
        row = await (await client.execute("SELECT current_database()")).fetchone()
    assert row == (clone.name,)


async def test_a_new_client_lands_in_the_present_database(proxy: Proxy, clone: Database) -> None:
    """The database in the client's URL plays no part."""
    await proxy.attach(clone)
    async with await psycopg.AsyncConnection.connect(proxy.url(database="whatever")) as client:
        assert await (await client.execute("SELECT current_database()")).fetchone() == (clone.name,)


async def test_the_database_left_behind_can_be_dropped(
    proxy: Proxy, postgres: Postgres, clone: Database
) -> None:
    """After the move nothing is connected to the old database, so it can be a template or be dropped."""
    again = await postgres.create(clone)
    async with await psycopg.AsyncConnection.connect(proxy.url()) as client:
        await client.execute("SELECT 1")
        await client.commit()
        await proxy.attach(again)
        await client.execute("SELECT 1")
        await client.commit()
        await proxy.attach(clone)
        await postgres.drop(again)
        assert await (await client.execute("SELECT current_database()")).fetchone() == (clone.name,)
