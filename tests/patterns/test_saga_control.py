"""People and sagas: find the stuck ones, retry, skip and compensate them; a wish waits for the step at work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from saga_shop import ALL, Shop, blocked, declare, prepare, start, until, until_ended, until_stuck
from sqlalchemy import text

from mainstay.patterns import Database, LockNotAvailable
from mainstay.patterns.messages import Messages, Retry
from mainstay.patterns.messages.control import Control
from mainstay.patterns.saga import NoSuchSaga, TooLate, cancel, compensate, list_sagas, retry, show, skip

RARE = Retry(attempts=2, first=60.0, most=60.0)


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


async def failed_at(db: Database, id: int | None, step: str, state: str, times: int = 1) -> None:
    """Wait until a step (or its undo) has failed so often and waits for its next attempt."""

    async def failed() -> bool:
        found = await show(db, id or 0)
        return (found["step"], found["state"], len(found["errors"])) == (step, state, times) and (
            found["message_state"] == "scheduled"
        )

    await until(failed)


async def test_listed_by_filter_as_json(db: Database, messages: Messages, shop: Shop) -> None:
    """By state, kind, key and lock, newest first, in pages; all of it can be written as JSON."""
    place_order = declare(messages, shop, key="{order}", lock="order:{order}")
    ids = [await start(db, place_order(order=order)) for order in (1, 2, 3)]
    found = await list_sagas(db)
    assert [one["id"] for one in found] == ids[::-1]
    json.dumps([found, await show(db, ids[0] or 0)])
    assert [one["id"] for one in await list_sagas(db, key="2", kind="PlaceOrder")] == [ids[1]]
    assert [one["id"] for one in await list_sagas(db, lock="order:3", states=["running"])] == [ids[2]]
    assert await list_sagas(db, states=["completed"]) == await list_sagas(db, stuck=True) == []
    assert [one["id"] for one in await list_sagas(db, before=ids[2], most=1)] == [ids[1]]
    with pytest.raises(ValueError, match="no state 'over'"):
        await list_sagas(db, states=["over"])  # type: ignore[list-item]


async def test_retried_by_hand(db: Database, messages: Messages, shop: Shop) -> None:
    """A step that waits a minute for its next attempt is tried at once."""
    shop.script = {"ship": ["error"] * 2}
    id = await start(db, declare(messages, shop, retry=RARE)())
    async with messages.worker():
        for times in (1, 2):
            await failed_at(db, id, "ship", "finishing", times)
            if times == 2:
                assert "step ship has failed 2 times" in await until_stuck(db, id)
            await retry(db, id or 0)
        assert await until_ended(db, id) == ["completed"]
    assert shop.there(id) == ALL


@pytest.mark.parametrize("wish", [retry, cancel])
async def test_a_message_that_was_called_off(
    db: Database, messages: Messages, shop: Shop, wish: object
) -> None:
    """Someone cancelled the message of a step: the saga is stuck, says so, and goes on when a person says how."""
    shop.script = {"authorize": ["error"]}
    id = await start(db, declare(messages, shop, retry=RARE)())
    async with messages.worker():
        await failed_at(db, id, "authorize", "running")
        await Control(db).cancel((await show(db, id or 0))["message"])
        assert "was called off" in await until_stuck(db, id)
        if wish is retry:
            await retry(db, id or 0)
            assert await until_ended(db, id) == ["completed"]
        else:
            await cancel(db, id or 0, because="enough")
            assert await until_ended(db, id) == ["compensated"]
            assert shop.there(id) == set()


async def test_skipped_by_hand(db: Database, messages: Messages, shop: Shop) -> None:
    """Forward: the step counts as done, with what a person found out. It may have begun, so going back undoes it."""
    shop.script = {"authorize": ["error"], "ship": ["error"]}
    id = await start(db, declare(messages, shop, retry=RARE)())
    async with messages.worker():
        await failed_at(db, id, "authorize", "running")
        answer = await skip(db, id or 0, because="by telephone", data={"payment": f"authorize of {id}"})
        assert (answer["state"], answer["step"]) == ("running", "capture")
        await failed_at(db, id, "ship", "finishing")
        await skip(db, id or 0, because="carried there")
        assert await until_ended(db, id) == ["completed"]
        assert shop.there(id) == {"reserve", "capture"}
        assert [one["state"] for one in (await show(db, id or 0))["steps"]] == [
            "done",
            "skipped",
            "done",
            "skipped",
        ]
        shop.script = {"authorize": ["lost"], "capture": ["refused"]}
        other = await start(db, declare(Messages(db), shop, retry=RARE)())
        await failed_at(db, other, "authorize", "running")
        await skip(db, other or 0, because="by telephone", data={"payment": f"authorize of {other}"})
        assert await until_ended(db, other) == ["compensated"]
    assert shop.there(other) == set()


async def test_an_undo_skipped_by_hand(db: Database, messages: Messages, shop: Shop) -> None:
    """The step says `left`, and the saga goes on undoing the steps before it."""
    shop.script = {"capture": ["refused"], "un-authorize": ["error"]}
    id = await start(db, declare(messages, shop, retry=RARE)())
    async with messages.worker():
        await failed_at(db, id, "authorize", "compensating")
        await skip(db, id or 0, because="written off")
        assert await until_ended(db, id) == ["compensated"]
    states = {one["name"]: one["state"] for one in (await show(db, id or 0))["steps"]}
    assert states == {"reserve": "undone", "authorize": "left", "capture": "failed", "ship": "pending"}
    assert shop.there(id) == {"authorize"}


async def test_compensated_by_hand(db: Database, messages: Messages, shop: Shop) -> None:
    """A pivot of unknown outcome: a service's cancel waits, a person who has looked decides."""
    shop.script = {"capture": ["error"]}
    id = await start(db, declare(messages, shop, retry=RARE)())
    async with messages.worker():
        await failed_at(db, id, "capture", "running")
        assert (await cancel(db, id or 0, because="please"))["requested"]
        answer = await compensate(db, id or 0, because="the provider says that it never came")
        assert (answer["state"], answer["requested"]) == ("compensating", False)
        assert await until_ended(db, id) == ["compensated"]
        assert shop.there(id) == set()
        with pytest.raises(TooLate, match="it is compensated"):
            await compensate(db, id or 0, because="again")
    with pytest.raises(NoSuchSaga):
        await retry(db, 404)
    with pytest.raises(ValueError, match="say why"):
        await cancel(db, id or 0, because=" ")


@pytest.mark.parametrize(
    ("doing", "states"), [("ok", "done"), ("lost", "skipped"), ("late refusal", "skipped")]
)
async def test_a_skip_during_a_call_counts_for_that_step_only(
    db: Database, messages: Messages, shop: Shop, doing: str, states: str
) -> None:
    """Where the call succeeds it is pointless; where it fails or is refused, the step is skipped; not the next one."""
    shop.script = {"authorize": [doing]}
    shop.gates["authorize"] = gate = asyncio.Event()
    id = await start(db, declare(messages, shop, retry=RARE, timeout=30)())
    async with messages.worker():

        async def at_gate() -> bool:
            return "authorize at its gate" in shop.log

        await until(at_gate)
        data = {"payment": f"authorize of {id}"}
        assert (await skip(db, id or 0, because="by telephone", data=data))["requested"]
        gate.set()
        assert await until_ended(db, id) == ["completed"]
    assert [one["state"] for one in (await show(db, id or 0))["steps"]] == ["done", states, "done", "done"]


async def test_a_skip_does_not_displace_a_cancel_that_is_about_to_be_done(
    db: Database, messages: Messages, shop: Shop
) -> None:
    """The user was told that the cancel is kept. Where it waits for a pivot of unknown outcome, a person may decide."""
    shop.script = {"capture": ["lost"]}
    shop.gates = {"authorize": asyncio.Event(), "capture": asyncio.Event()}
    ids = [await start(db, declare(Messages(db), shop, retry=RARE, timeout=30)()) or 0 for _ in range(2)]
    declare(messages, shop, retry=RARE, timeout=30)
    async with messages.worker():

        async def at_gate(step: str, times: int) -> bool:
            return shop.log.count(f"{step} at its gate") == times

        await until(lambda: at_gate("authorize", 2))
        assert (await cancel(db, ids[0], because="changed their mind"))["requested"]
        with pytest.raises(TooLate, match="goes back as soon as the attempt at its step authorize has ended"):
            await skip(db, ids[0], because="by telephone")
        shop.gates["authorize"].set()
        assert await until_ended(db, ids[0]) == ["compensated"]
        await until(lambda: at_gate("capture", 1))
        assert (await cancel(db, ids[1], because="changed their mind"))["requested"]
        assert (await skip(db, ids[1], because="captured by hand"))["requested"]
        shop.gates["capture"].set()
        assert await until_ended(db, ids[1]) == ["completed"]


async def test_a_saga_in_the_middle_of_a_transaction(
    db: Database, messages: Messages, other: Database, shop: Shop
) -> None:
    """Whoever waits longer than the lock timeout is told so."""
    id = await start(db, declare(messages, shop)())
    async with db.transaction() as tx:
        await tx.execute(text("SELECT FROM mainstay.saga FOR UPDATE"))
        with pytest.raises(LockNotAvailable, match="in the middle of a step's transaction"):
            async with other.transaction(lock_timeout=0.05) as second:
                await cancel(second, id or 0, because="now")


async def test_a_wish_that_waited_for_a_step_sees_what_it_did(
    db: Database, messages: Messages, other: Database, shop: Shop
) -> None:
    """A cancel that comes while a step's transaction is open undoes that step too."""
    id = await start(db, declare(messages, shop)()) or 0
    async with db.transaction() as tx:
        await tx.execute(text("UPDATE mainstay.saga SET step = 'authorize', version = version + 1"))
        await tx.execute(text("UPDATE mainstay.saga_step SET state = 'done' WHERE name = 'reserve'"))
        wish = asyncio.create_task(cancel(other, id, because="meanwhile"))
        await until(lambda: blocked(other))
    assert (await wish)["state"] == "compensating"


async def test_the_wishes_of_two_people(db: Database, messages: Messages, shop: Shop) -> None:
    """Twenty cancels and retries at once, while it runs: it ends, and every effect is undone or all are there."""
    place_order = declare(messages, shop, timeout=30)
    async with messages.worker():
        for _ in range(5):
            id = await start(db, place_order())

            async def wish(number: int, id: int | None = id) -> None:
                try:
                    if number % 2:
                        await cancel(db, id or 0, because="one of many")
                    else:
                        await retry(db, id or 0)
                except TooLate:
                    pass

            await asyncio.gather(*(wish(number) for number in range(20)))
            [state] = await until_ended(db, id)
            assert shop.there(id) == (ALL if state == "completed" else set())
