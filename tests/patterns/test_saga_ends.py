"""How a saga ends: what is called once all is done, and what undoes the start, whatever step the saga got to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from saga_shop import SOON, Shop, prepare, start, until, until_ended, until_stuck
from sqlalchemy import text

from mainstay.patterns import Database, Misuse, Transaction
from mainstay.patterns.messages import Messages
from mainstay.patterns.saga import Call, Saga, TooLate, cancel, on_compensated, on_completed, show, skip, step


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


def declare(messages: Messages, shop: Shop, *, pivot: bool = True, **options: Any) -> type[Any]:
    """A saga with both ends, declared in the middle of its steps: that is not where they are called."""

    @messages.saga(**options)
    class PlaceOrder(Saga):
        order: int = 1

        @on_completed(retry=SOON)
        async def tell(self, tx: Transaction) -> None:
            await shop.inside("tell", self, tx)

        @step(retry=SOON)
        async def reserve(self, tx: Transaction) -> None:
            await shop.inside("reserve", self, tx)

        @reserve.undo(retry=SOON)
        async def release(self, tx: Transaction) -> None:
            await shop.inside("un-reserve", self, tx)

        @on_compensated(retry=SOON)
        async def drop_order(self, tx: Transaction) -> None:
            await shop.inside("un-order", self, tx)

        @step(retry=SOON, pivot=pivot)
        async def pay(self, call: Call) -> None:
            await shop.outside("pay", call)

        if not pivot:

            @pay.undo(retry=SOON)
            async def pay_back(self, call: Call) -> None:
                await shop.outside("un-pay", call)

    return PlaceOrder


async def place(db: Database, saga: Any) -> int:
    """Start a saga, and have the effect beside it that its compensation undoes."""
    async with db.transaction() as tx:
        id: int = await saga.start(tx)
        await tx.execute(text("INSERT INTO inside VALUES (:saga, 'order')"), {"saga": id})
        return id


@pytest.mark.parametrize("pivot", [True, False])
async def test_completed_is_told_once_and_last(
    db: Database, messages: Messages, shop: Shop, pivot: bool
) -> None:
    """Through failures on the way; what would undo the start is not called."""
    shop.script = {"tell": ["lost", "error"], "pay": ["lost"]}
    id = await place(db, declare(messages, shop, pivot=pivot)())
    async with messages.worker():
        assert await until_ended(db, id) == ["completed"]
    assert shop.log == ["reserve", "pay", "pay", "tell", "tell", "tell"]
    assert shop.there(id) == {"order", "reserve", "pay", "tell"}
    assert [(one["name"], one["state"]) for one in (await show(db, id))["steps"]] == [
        (name, "done") for name in ("start", "reserve", "pay", "tell")
    ]


async def test_cancelled_before_any_step_the_start_is_undone(
    db: Database, messages: Messages, shop: Shop
) -> None:
    """No step has run, and no worker: the saga goes back all the same, and has not ended before it is done."""
    id = await place(db, declare(messages, shop)())
    assert await cancel(db, id, because="changed their mind") == {
        "id": id, "state": "compensating", "step": "start", "requested": False,
    }  # fmt: skip
    assert shop.there(id) == {"order"}
    async with messages.worker():
        assert await until_ended(db, id) == ["compensated"]
    assert shop.log == ["un-order"]
    assert shop.there(id) == set()
    with pytest.raises(TooLate):
        await cancel(db, id, because="again")


@pytest.mark.parametrize(
    ("script", "log"),
    [
        ({"reserve": ["refused"]}, ["reserve", "un-order"]),
        ({"reserve": ["error"] * 3, "un-order": ["lost", "error"]}, ["reserve"] * 3 + ["un-order"] * 3),
        ({"pay": ["refused"]}, ["reserve", "pay", "un-reserve", "un-order"]),
        (
            {"pay": ["error", "refused"], "un-reserve": ["lost"]},
            ["reserve", "pay", "pay", *["un-reserve"] * 2, "un-order"],
        ),
    ],
)  # fmt: skip
async def test_the_start_is_undone_last(
    db: Database, messages: Messages, shop: Shop, script: dict[str, list[str]], log: list[str]
) -> None:
    """Once, after all that was done since."""
    shop.script = {what: list(does) for what, does in script.items()}
    id = await place(db, declare(messages, shop)())
    async with messages.worker():
        assert await until_ended(db, id) == ["compensated"]
    assert shop.log == log
    assert shop.there(id) == set()


async def test_a_saga_that_waits_for_its_lock_undoes_its_start_when_its_turn_has_come(
    db: Database, messages: Messages, shop: Shop
) -> None:
    """Under the lock, like all that it does: the wish is kept until then. No step of it is begun."""
    place_order = declare(messages, shop, lock="order")
    shop.gates["pay"] = asyncio.Event()
    first, second, third = [await place(db, place_order()) for _ in range(3)]
    async with messages.worker():
        await until(lambda: _is("pay at its gate", shop))
        answer = await cancel(db, second, because="too slow")
        assert (answer["state"], answer["requested"]) == ("waiting", True)
        assert shop.there(second) == {"order"}
        shop.gates["pay"].set()
        assert await until_ended(db, first, second, third) == ["completed", "compensated", "completed"]
    assert shop.there(second) == set()
    assert shop.log.count("un-order") == 1
    assert shop.log.count("reserve") == 2
    assert (await show(db, second))["error"] == "cancelled: too slow"


async def _is(what: str, shop: Shop) -> bool:
    return what in shop.log


async def test_what_undoes_the_start_is_stuck_in_sight_and_may_be_skipped(
    db: Database, messages: Messages, shop: Shop
) -> None:
    """It goes on trying; a person who has done it says so."""
    shop.script = {"reserve": ["refused"], "un-order": ["error"] * 1000}
    id = await place(db, declare(messages, shop)())
    async with messages.worker():
        assert "the undo of step start has failed" in await until_stuck(db, id)
        await skip(db, id, because="dropped by hand")
        assert await until_ended(db, id) == ["compensated"]
    assert (await show(db, id))["steps"][0]["state"] == "left"


async def test_an_older_worker_may_begin_with_the_start(db: Database, messages: Messages, shop: Shop) -> None:
    """One that does not know of it takes the first step of the plan as it is: nothing is done, and it goes on."""
    id = await place(db, declare(messages, shop)())
    shop.sql("UPDATE mainstay.saga SET step = 'start'")
    shop.sql("UPDATE mainstay.message SET kind = 'saga/PlaceOrder/start'")
    async with messages.worker():
        assert await until_ended(db, id) == ["completed"]
    assert shop.log == ["reserve", "pay", "tell"]


def test_what_makes_no_ends_is_told(messages: Messages) -> None:
    """As the class is registered."""

    class Two(Saga):
        @step(pivot=True)
        async def go(self, tx: Transaction) -> None: ...

        @on_compensated
        async def one(self, tx: Transaction) -> None: ...

        @on_compensated
        async def other(self, tx: Transaction) -> None: ...

    class WithUndo(Saga):
        @step(no_undo=True)
        async def go(self, tx: Transaction) -> None: ...

        @on_completed
        async def told(self, tx: Transaction) -> None: ...

        @told.undo
        async def untold(self, tx: Transaction) -> None: ...

    class Alone(Saga):
        @on_compensated
        async def gone(self, tx: Transaction) -> None: ...

    class Shadowed(Saga):
        @step
        async def start(self, tx: Transaction) -> None: ...

    for cls, sentence in (
        (Two, "two methods with @on_compensated, one and other"),
        (WithUndo, "drop its undo"),
        (Alone, "has no steps"),
        (Shadowed, "a step cannot be called start"),
    ):
        with pytest.raises(Misuse, match=sentence):
            messages.saga(cls)


async def test_ends_are_inherited(db: Database, messages: Messages, shop: Shop) -> None:
    """A base class may have them for all of its sagas; a test calls them as plain methods."""

    class Told(Saga):
        @on_completed
        async def tell(self, tx: Transaction) -> None:
            await shop.inside("tell", self, tx)

    @messages.saga
    class PlaceOrder(Told):
        @step
        async def reserve(self, tx: Transaction) -> None:
            await shop.inside("reserve", self, tx)

    id = await start(db, PlaceOrder())
    async with messages.worker():
        assert await until_ended(db, id) == ["completed"]
    assert shop.log == ["reserve", "tell"]
    async with db.transaction() as tx:
        await PlaceOrder().tell(tx)
