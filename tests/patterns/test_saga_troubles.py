"""What sagas must bear: messages that people call off and start over, a pool that is full, a table that grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from saga_shop import ALL, Shop, declare, prepare, start, until, until_ended
from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import Handler, Message, Messages, NewMessage, Retry, Unserializable
from mainstay.patterns.messages.control import Control
from mainstay.patterns.saga import Saga, cancel, retry, show, step, wait


@pytest.fixture
async def messages(db: Database) -> Messages:
    """An engine without handlers on empty tables."""
    await prepare(db)
    return Messages(db)


@pytest.fixture
async def shop(messages: Messages) -> AsyncIterator[Shop]:
    """The places where effects are."""
    shop = Shop(messages.database.engine.url)
    yield shop
    shop.close()


async def test_a_redriven_message_is_not_overtaken_by_the_undo(
    db: Database, messages: Messages, shop: Shop
) -> None:
    """A saga's message is called off and started over; while its call is at work, cancelling the saga waits for it."""
    shop.gates["authorize"] = asyncio.Event()
    shop.script = {"authorize": ["error"]}
    slow = Retry(attempts=3, first=3600.0, most=3600.0)
    id = await start(db, declare(messages, shop, timeout=30.0, retry=slow)())
    control = Control(db)
    async with messages.worker():
        await until(lambda: _scheduled(shop))
        [(message,)] = shop.sql("SELECT id FROM mainstay.message")
        await control.cancel(message)
        await control.redrive(message, states=["cancelled"])
        await until(lambda: _said(shop, "authorize at its gate"))
        answer = await cancel(db, id or 0, because="no longer wanted")
        assert answer["requested"], "the call is at work"
        assert "un-authorize" not in shop.log
        shop.gates["authorize"].set()
        assert await until_ended(db, id) == ["compensated"]
    assert shop.there(id) == set()


async def test_a_message_that_is_redriven_and_put_anew_is_done_once(
    db: Database, messages: Messages, shop: Shop
) -> None:
    """`messages redrive` and `sagas retry` at once: the second message of the step finds that it is not the saga's."""
    place_order = declare(messages, shop, timeout=30.0)
    id = await start(db, place_order())
    [(message,)] = shop.sql("SELECT id FROM mainstay.message")
    control = Control(db)
    await control.cancel(message)
    await retry(db, id or 0)
    await control.redrive(message, states=["cancelled"])
    async with messages.worker():
        assert await until_ended(db, id) == ["completed"]
    assert shop.log == ["reserve", "authorize", "capture", "ship"]
    assert shop.there(id) == ALL


async def _said(shop: Shop, what: str) -> bool:
    return what in shop.log


async def _scheduled(shop: Shop) -> bool:
    return shop.sql("SELECT state::text FROM mainstay.message") == [("scheduled",)]


async def test_steps_and_handlers_share_the_pool_without_starving_each_other(
    empty: Any, db: Database, shop: Shop
) -> None:
    """More of both than connections: they take turns, and none fails because it found no connection in time."""
    async with Database(db.engine.url, pool_size=3, pool_timeout=0.2) as small:
        messages = Messages(small)

        @messages.saga
        class Steps(Saga):
            @step(no_undo=True, retry=Retry(attempts=1))
            async def one(self, tx: Transaction) -> None:
                await asyncio.sleep(0.2)

            @step(no_undo=True, retry=Retry(attempts=1))
            async def two(self, tx: Transaction) -> None:
                await asyncio.sleep(0.2)

        async def work(message: Message, tx: Transaction) -> None:
            await tx.execute(text("SELECT pg_sleep(0.3)"))

        messages.handle(Handler(kind="work", call=work, transactional=True, retry=Retry(attempts=1)))
        async with small.transaction() as tx:
            await tx.publish(*[NewMessage(kind="work", payload="{}")] * 10)
        ids = [await start(small, Steps()) for _ in range(6)]
        async with messages.worker():
            assert await until_ended(db, *ids) == ["completed"] * 6
            await until(lambda: _none_left(shop))
    assert shop.sql("SELECT count(*) FROM mainstay.message WHERE state = 'dead'") == [(0,)]


async def _none_left(shop: Shop) -> bool:
    return shop.sql("SELECT count(*) FROM mainstay.message WHERE ended_at IS NULL") == [(0,)]


async def test_all_that_is_old_is_forgotten(db: Database, messages: Messages, shop: Shop) -> None:
    """However many there are: not a thousand a minute."""
    declare(messages, shop)
    shop.sql(
        "INSERT INTO mainstay.saga (kind, queue, state, data, keep, ended_at, keep_until)"
        " SELECT 'Old', 'default', 'completed', '{}', interval '1 s', now(), now() - interval '1 s'"
        " FROM generate_series(1, 3500)"
    )
    async with messages.worker():
        await until(lambda: _no_sagas(shop), seconds=50)


async def _no_sagas(shop: Shop) -> bool:
    return shop.sql("SELECT count(*) FROM mainstay.saga") == [(0,)]


async def test_waiting_in_vain_says_for_what(db: Database, messages: Messages, shop: Shop) -> None:
    """Which saga, and for how long."""
    id = await start(db, declare(messages, shop)())
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=rf"saga {id} has not ended within 0\.1 s"):
        await wait(db, id or 0, timeout=0.1)
    assert time.monotonic() - begun < 10
    assert (await show(db, id or 0))["state"] == "running"


@pytest.mark.parametrize("option", ["key", "lock"])
async def test_keys_and_locks_that_cannot_be_stored_are_refused(
    db: Database, messages: Messages, shop: Shop, option: str
) -> None:
    """Before the database would."""

    @messages.saga(**{option: "{name}"})
    class Named(Saga):
        name: str

        @step
        async def go(self, tx: Transaction) -> None: ...

    async with db.transaction() as tx:
        with pytest.raises(Unserializable, match=f"the {option} of saga Named, .* holds a character"):
            await Named(name="a\x00").start(tx)
        with pytest.raises(ValueError, match=f"the {option} of saga Named has 1001 bytes"):
            await Named(name="a" * 1001).start(tx)
        assert await Named(name="a" * 1000).start(tx)
