"""A held statement has touched nothing: it sees, when let go, what others have committed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import psycopg
import pytest
from gates import Hold

from mainstay.architect.diagnose.postgres import Database, Postgres
from mainstay.architect.diagnose.proxy import Proxy, Statement

Open = Callable[..., Awaitable[Proxy]]


async def _fill(postgres: Postgres, database: Database) -> None:
    async with await postgres.connect(database) as admin:
        await admin.execute("CREATE TABLE account (id int PRIMARY KEY, balance int)")
        await admin.execute("INSERT INTO account VALUES (1, 100)")


async def _psycopg(url: str, sql: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as client:
        row = await (await client.execute(sql.replace("$1", "%s"), (1,))).fetchone()
        assert row is not None
        return int(row[0])


async def _asyncpg(url: str, sql: str) -> int:
    client = await asyncpg.connect(url)
    try:
        async with client.transaction():
            return int(await client.fetchval(sql, 1))
    finally:
        await client.close()


@pytest.mark.parametrize("read", [_psycopg, _asyncpg])
async def test_a_held_read_takes_its_snapshot_when_it_is_let_go(
    read: Callable[[str, str], Awaitable[int]], postgres: Postgres, database: Database, open_proxy: Open
) -> None:
    """A's SELECT is held, B commits a change, A is let go: A reads B's change (READ COMMITTED)."""
    await _fill(postgres, database)
    alice, bob = await open_proxy("alice"), await open_proxy("bob")
    alice.gate = gate = Hold("SELECT balance")
    reading = asyncio.create_task(read(alice.url(), "SELECT balance FROM account WHERE id = $1"))
    await asyncio.wait_for(gate.held.wait(), 30)
    async with await psycopg.AsyncConnection.connect(bob.url()) as other:
        await other.execute("UPDATE account SET balance = 20 WHERE id = 1")
    gate.release.set()
    assert await reading == 20


@pytest.mark.parametrize("prepare_threshold", [0, None])
async def test_a_held_update_has_no_lock(
    prepare_threshold: int | None, postgres: Postgres, database: Database, open_proxy: Open
) -> None:
    """While A's UPDATE is held, B can lock the row; and a session that has only been held waits for nobody."""
    await _fill(postgres, database)
    alice, bob = await open_proxy("alice"), await open_proxy("bob")
    alice.gate = gate = Hold("UPDATE")
    async with await psycopg.AsyncConnection.connect(
        alice.url(), prepare_threshold=prepare_threshold
    ) as client:
        updating = asyncio.create_task(
            client.execute("UPDATE account SET balance = balance - 80 WHERE id = 1")
        )
        await asyncio.wait_for(gate.held.wait(), 30)
        [connection] = alice.connections
        assert connection.held is not None and connection.running is None
        async with await psycopg.AsyncConnection.connect(bob.url()) as other:
            await other.execute("SELECT FROM account WHERE id = 1 FOR UPDATE NOWAIT")
            assert await postgres.blocking([connection.backend_pid]) == {}
        gate.release.set()
        assert (await updating).rowcount == 1


async def test_postgresql_says_who_waits_for_whom(
    postgres: Postgres, database: Database, open_proxy: Open
) -> None:
    """`blocking` names the backend that a running statement waits for, and nothing once it goes on."""
    await _fill(postgres, database)
    alice, bob = await open_proxy("alice"), await open_proxy("bob")
    async with (
        await psycopg.AsyncConnection.connect(alice.url()) as first,
        await psycopg.AsyncConnection.connect(bob.url()) as second,
    ):
        await first.execute("UPDATE account SET balance = 0 WHERE id = 1")
        updating = asyncio.create_task(second.execute("UPDATE account SET balance = 1 WHERE id = 1"))
        [holder], waiting = alice.connections, {}
        while not waiting:  # until the statement has arrived at the lock
            waiting = await postgres.blocking([c.backend_pid for c in bob.connections])
        [waiter] = bob.connections
        assert waiting == {waiter.backend_pid: {holder.backend_pid}}
        assert waiter.running is not None and waiter.running.sql.startswith("UPDATE")
        await first.commit()
        await updating
        assert await postgres.blocking([waiter.backend_pid]) == {}


async def test_each_statement_of_a_pipeline_is_held_by_itself(proxy: Proxy) -> None:
    """In a pipeline, the second statement comes to the gate only after the first one has finished."""
    order: list[str] = []

    class Order:
        async def before(self, s: Statement) -> None:
            order.append(f"before {s.sql}")

        def after(self, s: Statement) -> None:
            order.append(f"after {s.sql}")

    async with await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as client:
        proxy.gate = Order()
        async with client.pipeline():
            for number in range(3):
                await client.execute(f"SELECT {number}")
    assert order == [f"{what} SELECT {number}" for number in range(3) for what in ("before", "after")]


async def test_a_client_that_leaves_while_held_frees_its_backend(proxy: Proxy, postgres: Postgres) -> None:
    """When the client hangs up, the held statement never runs and the transaction's locks go."""
    proxy.gate = gate = Hold("SELECT 2")
    client = await asyncpg.connect(proxy.url())
    await client.execute("BEGIN; SELECT pg_advisory_xact_lock(1)")
    held = asyncio.create_task(client.execute("SELECT 2"))
    await asyncio.wait_for(gate.held.wait(), 30)
    client.terminate()
    await asyncio.gather(held, return_exceptions=True)
    gate.release.set()
    async with await psycopg.AsyncConnection.connect(proxy.url()) as second:
        await second.execute("SELECT pg_advisory_xact_lock(1)")
    assert len(proxy.connections) <= 1
