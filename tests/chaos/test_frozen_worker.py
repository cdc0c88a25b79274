"""A worker that is frozen in the middle of leasing from a limited queue, its connection open: the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from cluster import Cluster, binaries

from mainstay.patterns import Database
from mainstay.patterns.messages import Handler, Message, Messages, NewMessage, driver
from mainstay.patterns.messages.control import Control
from mainstay.patterns.messages.statements import load
from mainstay.patterns.schema import upgrade

pytestmark = pytest.mark.skipif(binaries() is None, reason="initdb is not installed")
SQL = load("mainstay.patterns.messages")


@pytest.fixture(params=["psycopg", "asyncpg"])
async def db(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """A server with Mainstay's tables."""
    with Cluster() as cluster:
        async with Database(cluster.dsn.replace("postgresql:", f"postgresql+{request.param}:")) as db:
            await upgrade(db)
            yield db


async def test_a_limited_queue_is_free_again_when_who_leased_from_it_is_frozen(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can lease while its transaction is open; PostgreSQL ends that after a while without a statement."""
    monkeypatch.setattr(driver, "IDLE_IN_TRANSACTION", 1.0)
    done = asyncio.Event()

    async def call(message: Message) -> None:
        done.set()

    messages = Messages(db)
    messages.handle(Handler(kind="k", call=call, queue="limited"))
    await Control(db).limit("limited", concurrency=5)
    frozen = await driver.connect(db, "leases")
    try:
        await frozen.run("BEGIN")
        assert await frozen.fetch(SQL["lock_limited_queue"], queue="limited")
        async with db.transaction() as tx:
            await tx.publish(NewMessage(kind="k", payload="{}", queue="limited"))
        async with messages.worker(poll=0.2), asyncio.timeout(15):
            await done.wait()
    finally:
        await frozen.close()
