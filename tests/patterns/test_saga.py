"""A saga: steps in order, back in reverse, the pivot, timeouts, cancellation, locks and deploys in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from saga_shop import ALL, SOON, Shop, blocked, declare, dsn, prepare, start, until, until_ended, until_stuck
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from mainstay.patterns import Database, Transaction
from mainstay.patterns.errors import Misuse
from mainstay.patterns.messages import Messages, NewMessage, Retry, Unserializable
from mainstay.patterns.saga import Call, Saga, TooLate, cancel, retry, show, step


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


async def test_all_steps_are_done_in_order_and_know_of_each_other(
    db: Database, messages: Messages, shop: Shop
) -> None:
    """What a step finds out is stored before the next begins; nothing is left to do afterwards."""
    saga = declare(messages, shop)()
    id = await start(db, saga)
    async with messages.worker():
        assert await until_ended(db, id) == ["completed"]
    found = await show(db, id or 0)
    assert shop.log == ["reserve", "authorize", "capture", "ship"]
    assert shop.there(id) == ALL
    assert found["data"] == {"order": 1, "payment": f"authorize of {id}"}
    assert [one["state"] for one in found["steps"]] == ["done"] * 4
    assert shop.sql("SELECT count(*) FROM mainstay.message") == [(0,)]


async def test_a_start_that_is_rolled_back_has_not_been(db: Database, messages: Messages, shop: Shop) -> None:
    """The saga belongs to the caller's transaction, also as its first statement."""
    place_order = declare(messages, shop)
    with pytest.raises(KeyError):
        async with db.transaction() as tx:
            assert await place_order().start(tx) == 1
            raise KeyError
    assert shop.sql(
        "SELECT (SELECT count(*) FROM mainstay.saga), (SELECT count(*) FROM mainstay.message)"
    ) == [(0, 0)]


async def test_started_from_sync_code(db: Database, messages: Messages, shop: Shop) -> None:
    """From a sync Session and a psycopg connection, one rolled back and one committed each; in pipeline mode too.

    There a start does not know at once that it has inserted a row, and must not take that for a lock in use.
    """
    place_order = declare(messages, shop, lock="order:{order}")
    url = db.engine.url.set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    with Session(engine) as session:
        place_order().start_sync(session)
        session.rollback()
        first = place_order().start_sync(session)
        session.commit()
    engine.dispose()
    with psycopg.connect(dsn(url)) as connection:
        second = place_order().start_sync(connection)
        with connection.pipeline():
            third = place_order().start_sync(connection)
    async with await psycopg.AsyncConnection.connect(dsn(url)) as other, other.pipeline():
        fourth = await place_order().start(other)
    assert shop.sql("SELECT id FROM mainstay.saga ORDER BY id") == [(first,), (second,), (third,), (fourth,)]


@pytest.mark.parametrize(
    ("script", "log", "error"),
    [
        ({"reserve": ["error"] * 3}, ["reserve"] * 3, "step reserve failed 3 times: RuntimeError: reserve went wrong"),
        (
            {"authorize": ["refused"]},
            ["reserve", "authorize", "un-reserve"],
            "step authorize was refused: authorize declined",
        ),
        (
            {"authorize": ["error"] * 3},
            ["reserve", *["authorize"] * 3, "un-authorize", "un-reserve"],
            "step authorize failed 3 times: RuntimeError",
        ),
        (
            {"authorize": ["hang", "lost", "hang"]},
            ["reserve", *["authorize"] * 3, "un-authorize", "un-reserve"],
            "step authorize failed 3 times: TimeoutError: not done within 0.15 s",
        ),
        (
            {"capture": ["refused"], "un-authorize": ["error", "lost"], "un-reserve": ["lost", "error"]},
            ["reserve", "authorize", "capture", *["un-authorize"] * 3, *["un-reserve"] * 3],
            "step capture was refused",
        ),
        ({"reserve": ["give up"]}, ["reserve"], "step reserve failed 1 times: GiveUp: reserve is hopeless"),
        (
            {"authorize": ["lost", "give up"]},
            ["reserve", "authorize", "authorize", "un-authorize", "un-reserve"],
            "step authorize failed 2 times: GiveUp",
        ),
    ],
)  # fmt: skip
async def test_goes_back_in_reverse(
    db: Database, messages: Messages, shop: Shop, script: dict[str, list[str]], log: list[str], error: str
) -> None:
    """What is done, and what nobody knows of, is undone, last step first; a refused step is not."""
    shop.script = {what: list(does) for what, does in script.items()}
    id = await start(db, declare(messages, shop)())
    async with messages.worker():
        assert await until_ended(db, id) == ["compensated"]
    assert shop.log == log
    assert shop.there(id) == set()
    assert error in (await show(db, id or 0))["error"]


async def test_failures_on_the_way_do_not_matter(db: Database, messages: Messages, shop: Shop) -> None:
    """Fewer failures than attempts, of every sort: all is done, inside once."""
    shop.script = {
        "reserve": ["lost", "error"],
        "authorize": ["hang", "lost"],
        "capture": ["lost", "hang", "error"] * 2,
        "ship": ["lost", "refused", "give up", "error", "error"],
    }
    id = await start(db, declare(messages, shop)())
    async with messages.worker():
        assert await until_ended(db, id) == ["completed"]
    assert shop.there(id) == ALL


async def test_after_the_pivot_it_goes_forward_only(db: Database, messages: Messages, shop: Shop) -> None:
    """A step after the pivot is retried beyond its attempts; the saga is stuck by then, and not for good."""
    shop.script = {"ship": ["error"] * 6}
    id = await start(db, declare(messages, shop, retry=Retry(3, 0.05, 0.05))())
    async with messages.worker():
        assert "step ship has failed" in await until_stuck(db, id)
        assert await until_ended(db, id) == ["completed"]
    assert shop.there(id) == ALL


async def test_a_pivot_of_unknown_outcome_is_not_undone(db: Database, messages: Messages, shop: Shop) -> None:
    """It may have happened, so it is retried beyond its attempts, whoever cancels, until the answer is known."""
    shop.script = {"capture": ["hang"] * 4}
    id = await start(db, declare(messages, shop)())
    async with messages.worker():
        assert "step capture has failed" in await until_stuck(db, id)
        assert (await cancel(db, id or 0, because="not wanted"))["requested"]
        assert await until_ended(db, id) == ["completed"]
    shop.script = {"capture": ["error", "refused"]}
    other = await start(db, declare(Messages(db), shop)())
    async with db.messages.worker():  # type: ignore[union-attr]
        assert await until_ended(db, other) == ["compensated"]
    assert shop.there(other) == set()


async def test_the_time_of_a_saga(db: Database, messages: Messages, shop: Shop) -> None:
    """When it is up, the saga goes back at once: out of a wait for the next attempt, and out of a call."""
    slow = Retry(attempts=10, first=60.0, most=60.0)
    retried = declare(messages, shop, retry=slow, timeout=60.0, name="Retried", saga_timeout=2.0)
    async with messages.worker():  # at work before the time of the saga begins
        shop.script = {"authorize": ["error"]}
        id = await start(db, retried())
        assert await until_ended(db, id) == ["compensated"]
        assert "time was up at step authorize" in (await show(db, id or 0))["error"]
        shop.script = {"authorize": ["hang"]}
        id = await start(db, retried())
        assert await until_ended(db, id) == ["compensated"]
    assert shop.there(id) == set()


async def test_cancelled_by_a_user(db: Database, messages: Messages, shop: Shop) -> None:
    """Between steps at once, in the user's transaction; during a call when that has ended; after the pivot not."""
    place_order = declare(messages, shop, retry=Retry(9, 60.0, 60.0), timeout=60.0)
    shop.script = {"authorize": ["error"]}
    waiting = await start(db, place_order())
    async with messages.worker():

        async def failed() -> bool:
            return bool((await show(db, waiting or 0))["errors"])

        await until(failed)
        async with db.transaction() as tx:
            answer = await cancel(tx, waiting or 0, because="changed my mind")
        assert answer == {"id": waiting, "state": "compensating", "step": "authorize", "requested": False}
        assert await until_ended(db, waiting) == ["compensated"]
        assert (await show(db, waiting or 0))["error"] == "cancelled: changed my mind"

        shop.gates["authorize"] = gate = asyncio.Event()
        shop.log.clear()
        calling = await start(db, place_order())

        async def at_gate() -> bool:
            return "authorize at its gate" in shop.log

        await until(at_gate)
        assert (await cancel(db, calling or 0, because="too late?"))["requested"]
        assert "un-authorize" not in shop.log
        gate.set()
        assert await until_ended(db, calling) == ["compensated"]
        assert shop.there(calling) == set() and "capture" not in shop.log

        shop.gates = {"ship": (gate := asyncio.Event())}
        shop.script = {"ship": ["lost"]}
        gate.set()
        shipping = await start(db, place_order())

        async def finishing() -> bool:
            return (await show(db, shipping or 0))["errors"] != []

        await until(finishing)
        with pytest.raises(TooLate, match="passed its pivot"):
            await cancel(db, shipping or 0, because="no")


async def test_one_saga_a_key(db: Database, messages: Messages, shop: Shop) -> None:
    """A second one of the same key is not started, also by a transaction at the same time; after compensation it is."""
    place_order = declare(messages, shop, key="{order}")
    first = await start(db, place_order(order=7))
    assert first is not None and await start(db, place_order(order=8)) is not None
    assert await start(db, place_order(order=7)) is None
    await cancel(db, first, because="again, please")
    async with messages.worker():
        await until_ended(db, first)
        again = await start(db, place_order(order=7))
        assert again is not None and await until_ended(db, again) == ["completed"]
    assert await start(db, place_order(order=7)) is None


async def test_one_saga_at_a_time_for_a_lock(db: Database, messages: Messages, shop: Shop) -> None:
    """Sagas of one lock go one after the other, whole, in the order of their starts; others do not wait."""
    place_order = declare(messages, shop, lock="order:{order}", timeout=60.0)
    shop.gates["authorize"] = gate = asyncio.Event()
    shop.script = {"capture": ["refused"]}
    ids = [await start(db, place_order(order=1)) for _ in range(3)]
    assert [(await show(db, id or 0))["state"] for id in ids] == ["running", "waiting", "waiting"]
    assert (await show(db, ids[2] or 0))["waits_for"] == ids[:2]
    async with messages.worker():
        other = await start(db, place_order(order=2))

        async def both_at_gate() -> bool:
            return shop.log.count("authorize at its gate") == 2

        await until(both_at_gate)
        assert shop.there(other) == {"reserve", "authorize"} and shop.there(ids[1]) == set()
        gate.set()
        states = await until_ended(db, *ids, other)
    assert sorted(states) == ["compensated", "completed", "completed", "completed"]
    ends = shop.sql("SELECT id FROM mainstay.saga WHERE lock = 'order:1' ORDER BY ended_at")
    assert ends == [(id,) for id in ids]


async def test_a_lock_is_taken_once_by_transactions_at_the_same_time(
    db: Database, other: Database, messages: Messages, shop: Shop
) -> None:
    """Two starts that do not see each other: the second waits for the first, and queues up behind it."""
    place_order = declare(messages, shop, lock="order:{order}")
    async with db.transaction() as tx:
        first = await place_order().start(tx)
        second_start = asyncio.create_task(start(other, place_order()))
        await until(lambda: blocked(other))
    second = await second_start
    assert [(await show(db, id or 0))["state"] for id in (first, second)] == ["running", "waiting"]
    async with messages.worker():
        assert await until_ended(db, first, second) == ["completed"] * 2


async def test_a_saga_overlooked_as_its_lock_came_free(db: Database, messages: Messages, shop: Shop) -> None:
    """It began to wait, unseen, while the one before it ended: the workers' upkeep finds it."""
    place_order = declare(messages, shop, lock="order:{order}")
    first = await start(db, place_order())
    async with messages.worker():
        async with db.transaction() as tx:
            await tx.execute(text("SELECT 1"))
            second = await place_order().start(tx)
            assert await until_ended(db, first) == ["completed"]
        assert await until_ended(db, second) == ["completed"]


async def test_a_lock_that_somebody_is_just_taking_holds_up_no_worker(
    db: Database, other: Database, messages: Messages, shop: Shop
) -> None:
    """One saga waits; another one, whose start is not yet committed, has seen the lock free: upkeep passes both over.

    Else the duties of all workers (due messages, rescue) would wait for that transaction, however long it takes.
    """
    place_order = declare(messages, shop, lock="order:{order}")
    first = await start(db, place_order())
    async with other.engine.connect() as unseen:
        async with db.transaction() as tx:
            second = await place_order().start(tx)
            await cancel(other, first or 0, because="to make room")
            third = await place_order().start(unseen)
        async with messages.worker() as worker:
            assert messages.sagas is not None
            async with asyncio.timeout(5):
                await messages.sagas.duty(worker)
            await unseen.commit()
            assert await until_ended(db, second, third) == ["completed"] * 2


async def test_a_lock_is_shared_by_classes_and_a_waiting_saga_can_be_cancelled(
    db: Database, messages: Messages, shop: Shop
) -> None:
    """Another class with the same lock waits; cancelled, it ends without having begun; the next goes on."""
    a = declare(messages, shop, name="A", lock="order:{order}")
    b = declare(messages, shop, name="B", lock="order:{order}")
    ids = [await start(db, one()) for one in (a, b, a)]
    await cancel(db, ids[1] or 0, because="never mind")
    async with messages.worker():
        assert await until_ended(db, *ids) == ["completed", "compensated", "completed"]
    assert shop.there(ids[1]) == set()


async def test_a_deploy_in_the_middle(db: Database, messages: Messages, shop: Shop) -> None:
    """A saga keeps the steps that it began with; one that no worker knows waits, visible, for the code that does."""
    id = await start(db, declare(messages, shop)())
    newer = Messages(db)

    @newer.saga(name="PlaceOrder")
    class NewOrder(Saga):
        order: int
        gift: bool = False

        @step(no_undo=True)
        async def check(self, tx: Transaction) -> None:
            raise AssertionError("not in the plan of a saga that began before")

        @step(retry=SOON)
        async def reserve(self, tx: Transaction) -> None:
            await shop.inside("reserve", self, tx)
            self.gift = True

        @reserve.undo
        async def release(self, tx: Transaction) -> None: ...

        @step(no_undo=True, aliases=("authorize",))
        async def pay(self, call: Call) -> None:
            await shop.outside("authorize", call)

    async with newer.worker():

        async def at_capture() -> bool:
            return (await show(db, id or 0))["step"] == "capture"

        await until(at_capture)
        shop.sql("UPDATE mainstay.message SET ready_at = now() - interval '2 minutes'")
        assert "no worker has taken step capture" in await until_stuck(db, id)
    # The field that this version does not know is kept by it all the same.
    shop.sql(
        'UPDATE mainstay.saga SET data = data || \'{"payment": "authorize of %s"}\'' % id  # noqa: UP031
    )
    async with messages.worker():
        assert await until_ended(db, id) == ["completed"]
    assert (await show(db, id or 0))["data"]["gift"] is True
    assert shop.there(id) == ALL


async def test_a_call_that_a_deploy_made_a_step_of_the_database(
    db: Database, messages: Messages, shop: Shop
) -> None:
    """The older code's call may have happened, so it is undone, although a failure of the newer step leaves nothing."""
    shop.script = {"authorize": ["lost", "error"]}
    place_order = declare(messages, shop, retry=Retry(attempts=2, first=60.0, most=60.0))
    id = await start(db, place_order()) or 0
    async with messages.worker():

        async def failed() -> bool:
            return (await show(db, id))["message_state"] == "scheduled"

        await until(failed)
    newer = Messages(db)

    @newer.saga(name="PlaceOrder")
    class NewOrder(Saga):
        @step
        async def reserve(self, tx: Transaction) -> None: ...

        @reserve.undo
        async def release(self, tx: Transaction) -> None:
            await shop.inside("un-reserve", self, tx)

        @step(retry=SOON)
        async def authorize(self, tx: Transaction) -> None:
            await shop.inside("authorize", self, tx)

        @authorize.undo
        async def void(self, call: Call) -> None:
            await shop.outside("un-authorize", call)

    shop.script = {"authorize": ["error"] * 3}
    await retry(db, id)
    async with newer.worker():
        assert await until_ended(db, id) == ["compensated"]
    assert shop.there(id) == set()


async def test_data_that_the_code_cannot_read(db: Database, messages: Messages, shop: Shop) -> None:
    """A new field without a default: nothing is compensated for that; the saga waits, and says for what."""
    place_order = declare(messages, shop)
    id = await start(db, place_order())
    shop.sql('UPDATE mainstay.saga SET data = \'{"order": "many"}\'')
    async with messages.worker():
        assert "cannot read the saga's data (order: " in await until_stuck(db, id)
        shop.sql("UPDATE mainstay.saga SET data = '{\"order\": 1}'")
        shop.sql("UPDATE mainstay.message SET ready_at = now()")
        assert await until_ended(db, id) == ["completed"]


async def test_what_the_tables_refuse(db: Database, messages: Messages, shop: Shop) -> None:
    """Whatever the code does: no way back after the pivot, no end while something is left to do or to undo."""
    shop.script = {"ship": ["error"] * 99}
    id = await start(db, declare(messages, shop, retry=Retry(9, 60.0, 60.0))())
    for state in ("completed", "compensated"):
        with pytest.raises(psycopg.errors.CheckViolation, match=f"cannot be {state}"):
            shop.sql("BEGIN")
            shop.sql("UPDATE mainstay.saga_step SET state = 'done' WHERE name = 'reserve'")
            shop.sql(
                f"UPDATE mainstay.saga SET state = '{state}', step = NULL, error = 'x', ended_at = now()"
            )
        shop.sql("ROLLBACK")
    async with messages.worker():

        async def shipping() -> bool:
            return (await show(db, id or 0))["state"] == "finishing"

        await until(shipping)
    with pytest.raises(psycopg.errors.CheckViolation, match="cannot go from finishing to compensating"):
        shop.sql("UPDATE mainstay.saga SET state = 'compensating', error = 'x'")
    with pytest.raises(psycopg.errors.CheckViolation, match="cannot go from done to pending"):
        shop.sql("UPDATE mainstay.saga_step SET state = 'pending' WHERE name = 'reserve'")


async def test_a_message_of_a_past_version_does_nothing(db: Database, messages: Messages, shop: Shop) -> None:
    """A copy of a step's message, from whomever, is done without the step: while the saga runs, and after its end."""
    place_order = declare(messages, shop, timeout=30)
    shop.gates["authorize"] = gate = asyncio.Event()
    id = await start(db, place_order())
    copy = NewMessage(kind="saga/PlaceOrder/reserve", payload=json.dumps({"saga": id, "version": 1}))
    async with messages.worker():

        async def at_gate() -> bool:
            return "authorize at its gate" in shop.log

        async def copy_is_gone() -> bool:
            return shop.sql("SELECT count(*) FROM mainstay.message WHERE kind = %s", copy.kind) == [(0,)]

        await until(at_gate)
        async with db.transaction() as tx:
            await messages.publish(tx, copy)
        await until(copy_is_gone)
        gate.set()
        assert await until_ended(db, id) == ["completed"]
        async with db.transaction() as tx:
            await messages.publish(tx, copy)
        await until(copy_is_gone)
    assert shop.log.count("reserve") == 1 and shop.there(id) == ALL


async def test_old_sagas_are_forgotten(db: Database, messages: Messages, shop: Shop) -> None:
    """`keep` seconds after its end a saga is deleted, with its steps."""
    id = await start(db, declare(messages, shop, keep=0.0)())
    async with messages.worker():

        async def gone() -> bool:
            return shop.sql("SELECT count(*) FROM mainstay.saga") == [(0,)]

        assert messages.sagas is not None

        async def ended() -> bool:
            messages.sagas._pruned = 0.0  # type: ignore[union-attr]
            return await gone()

        await until(ended)
    assert id is not None and shop.sql("SELECT count(*) FROM mainstay.saga_step") == [(0,)]


def test_a_step_can_be_called_by_a_test() -> None:
    """On an instance a step is the plain method."""

    class Small(Saga):
        seen: int = 0

        @step
        async def count(self, tx: Transaction) -> None:
            self.seen += 1

    small = Small()
    asyncio.run(small.count(None))  # type: ignore[arg-type]
    assert small.seen == 1


async def test_mistakes_are_told_as_the_code_is_loaded(db: Database) -> None:
    """Each mistake in a class is one sentence, at the class."""
    messages = Messages(db)

    async def fine(self: Any, tx: Transaction) -> None: ...

    async def returns(self: Any, tx: Transaction) -> int:
        return 1

    async def unannotated(self: Any, tx) -> None: ...  # type: ignore[no-untyped-def]

    async def three(self: Any, tx: Transaction, more: int) -> None: ...

    def plain(self: Any, tx: Transaction) -> None: ...

    for function, said in (
        (returns, "returns something"),
        (unannotated, "annotate its parameter"),
        (three, "and no other"),
        (plain, "must be an async function"),
    ):
        with pytest.raises(Misuse, match=said):
            step(function)  # type: ignore[arg-type]

    def make(**steps: Any) -> type[Saga]:
        for name, one in steps.items():
            one.name = name
        return type("Made", (Saga,), {"__annotations__": {"order": int}, **steps})

    def with_undo(**options: Any) -> Any:
        made = step(**options)(fine)
        made.undo(fine)
        return made

    for cls, options, said in (
        (make(), {}, "has no steps"),
        (make(a=step(fine), b=step(fine)), {}, "step a has no undo"),
        (make(a=step(pivot=True)(fine), b=step(pivot=True)(fine)), {}, "two pivots, a and b"),
        (make(a=step(pivot=True)(fine), b=with_undo()), {}, "would never be called"),
        (make(a=with_undo(no_undo=True)), {}, "says no_undo and has one"),
        (make(a=step(fine)), {"key": "{nothing}"}, "'nothing', which is no field"),
        (make(a=step(fine)), {"timeout": -1}, "positive number"),
        (make(a=step(fine)), {"name": "a/b"}, "no slash"),
    ):
        with pytest.raises(Misuse, match=said):
            messages.saga(**options)(cls)  # type: ignore[call-overload]
    with pytest.raises(Misuse, match="is not registered"):
        await make(a=step(fine))(order=1).start(None)  # type: ignore[call-arg]


async def test_data_that_cannot_be_stored(db: Database, messages: Messages, shop: Shop) -> None:
    """NUL is refused where the saga is started, before PostgreSQL sees it."""
    place_order = declare(messages, shop)
    with pytest.raises(Unserializable, match="NUL"):
        await start(db, place_order(payment="a\x00b"))
