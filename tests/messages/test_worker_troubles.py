"""What a worker must bear: handlers that do odd things, queues that give nothing, locks, and being late itself."""

from __future__ import annotations

import asyncio
import time
from functools import wraps
from typing import Any

import psycopg
import pytest
from engine_statements import Hand
from engine_waiting import dsn, until
from sqlalchemy import URL, text

from mainstay.patterns import Database, Misuse, Transaction
from mainstay.patterns.messages import (
    Handler,
    Message,
    Messages,
    NewMessage,
    NotNow,
    Retry,
    TryAgain,
    Unserializable,
)
from mainstay.patterns.messages.control import Control
from mainstay.patterns.messages.driver import Link

ONE = NewMessage(kind="work", payload="{}")
ONCE = Retry(attempts=1)


async def publish(db: Database, *new: NewMessage) -> list[int]:
    """Publish in a transaction of its own."""
    async with db.transaction() as tx:
        return [id for id in await tx.publish(*new) if id is not None]


def errors(sql: Any) -> list[str]:
    """The error history of the one message that is there."""
    [(history,)] = sql("SELECT errors FROM mainstay.message")
    return [entry["error"] for entry in history]


# ---------------------------------------------------------------------------------------------- leasing


@pytest.mark.parametrize("why", ["paused", "unknown kind", "full", "slow"])
async def test_a_queue_that_gives_nothing_is_not_asked_again_and_again(
    db: Database, messages: Messages, control: Control, sql: Any, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Messages wait and may not be taken: the worker rests as if there were none, and takes them as soon as it may."""
    seen: list[str] = []
    asked = 0
    fetch = Link.fetch

    async def counted(link: Link, statement: Any, /, **values: Any) -> Any:
        nonlocal asked
        asked += statement.name in ("lease", "lease_plain", "queues_with_work", "lock_limited_queue")
        return await fetch(link, statement, **values)

    async def work(message: Message) -> None:
        seen.append(message.kind)

    monkeypatch.setattr(Link, "fetch", counted)
    messages.handle(Handler(kind="work", call=work))
    match why:
        case "paused":
            await control.pause("default")
        case "full":
            await control.limit("default", concurrency=1)
            other = sql(
                "INSERT INTO mainstay.worker (name, alive_until) VALUES ('x', now() + '1 h') RETURNING id"
            )
            sql(
                "INSERT INTO mainstay.message (kind, queue, payload, state, ready_at, rank, leased_by)"
                " VALUES ('y', 'default', '{}', 'running', now(), now(), %s)",
                other[0][0],
            )
        case "slow":
            await control.limit("default", rate=0.1)
            sql("UPDATE mainstay.queue SET next_start = now() + interval '1 h'")
    await publish(db, ONE if why != "unknown kind" else ONE.but(kind="newer"))
    async with messages.worker(poll=5.0):
        begun = asked
        await asyncio.sleep(1.0)
        assert asked - begun < 60
        assert seen == []
        if why == "paused":
            await control.resume("default")
        elif why == "full":
            sql("DELETE FROM mainstay.message WHERE kind = 'y'")
        elif why == "slow":
            await control.limit("default")
        else:
            sql("UPDATE mainstay.message SET kind = 'work'")
        await until(lambda: seen == ["work"])


async def test_a_pause_that_ends_in_the_middle_of_a_round_of_duties_is_noticed(
    db: Database, messages: Messages, control: Control
) -> None:
    """What people ask for while the worker is at its duties is done in the next round, and not when it polls."""
    seen = asyncio.Event()
    rounds = 0

    async def work(message: Message) -> None:
        seen.set()

    async def duty(worker: Any) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            await control.resume("default")
            await asyncio.sleep(0.1)  # the notification arrives before the round ends

    messages.handle(Handler(kind="work", call=work))
    messages.duties.append(duty)
    await control.pause("default")
    await publish(db, ONE)
    async with messages.worker(poll=60):
        await asyncio.wait_for(seen.wait(), 30)


def test_every_queue_that_comes_due_is_told_of(empty: URL) -> None:
    """Whoever brings messages due wakes the workers of all of their queues, also of those that it does not serve."""
    with Hand(dsn(empty)) as hand, psycopg.connect(dsn(empty), autocommit=True) as listens:
        listens.execute("LISTEN mainstay_messages")
        hand.publish(*(ONE.but(queue=queue, delay=60) for queue in ("a", "b", "b", "c")))
        hand.rows("UPDATE mainstay.message SET ready_at = now() - interval '1 s' RETURNING id")
        [(queues, _, _)] = hand.run("stage_due", most=100)
        assert sorted(queues) == ["a", "b", "c"]
        told = [note.payload for note in listens.notifies(timeout=30, stop_after=3)]
    assert sorted(told) == ["a", "b", "c"]


# --------------------------------------------------------------------------------------------- handlers


class Odd(Exception):
    after = None


class Untellable(NotNow):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [Odd("x"), Untellable("x", after=1)])
async def test_an_odd_error_fails_its_attempt(
    db: Database, messages: Messages, sql: Any, error: Exception
) -> None:
    """Whatever a handler raises is written down: no message stays at work for as long as its worker lives."""

    async def work(message: Message) -> None:
        raise error

    messages.handle(Handler(kind="work", call=work, retry=Retry(attempts=2, first=0.0, most=0.0)))
    await publish(db, ONE)
    async with messages.worker():
        await until(
            lambda: (
                sql("SELECT state::text, attempts FROM mainstay.message")
                in ([("dead", 2)], [("scheduled", 0)])
            )
        )


@pytest.mark.parametrize("after", [None, "5", float("nan"), float("inf")])
@pytest.mark.parametrize("error", [NotNow, TryAgain])
def test_after_is_a_number_of_seconds(error: type[NotNow | TryAgain], after: Any) -> None:
    """Anything else is told where it is written."""
    with pytest.raises(ValueError, match="after is a number of seconds"):
        error("later", after=after)


async def test_a_wrapper_that_hides_async_loses_nothing(db: Database, messages: Messages, sql: Any) -> None:
    """A plain wrapper of an async function returns a coroutine in its thread: the attempt fails and says so."""
    ran: list[int] = []

    def logged(function: Any) -> Any:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @messages.job(name="work", retry=ONCE)
    @logged
    async def work(number: int) -> None:
        ran.append(number)

    async with db.transaction() as tx:
        await tx.enqueue(work, 1)
    async with messages.worker():
        await until(lambda: sql("SELECT state::text FROM mainstay.message") == [("dead",)])
    assert ran == []
    assert "returned a coroutine that nobody awaits" in errors(sql)[0]


async def test_a_result_beyond_the_databases_limits_fails_alone(
    db: Database, messages: Messages, sql: Any
) -> None:
    """SQLSTATE class 54, as of a result too large for jsonb: what else was done is written down all the same."""
    sql(
        "CREATE FUNCTION limit_of_results() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.result = '1' THEN RAISE"
        " 'string too long to represent as jsonb string' USING ERRCODE = '54000'; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER small BEFORE UPDATE ON mainstay.message FOR EACH ROW EXECUTE FUNCTION limit_of_results()"
    )

    async def work(message: Message) -> int:
        return int(message.payload)

    messages.handle(Handler(kind="work", call=work, keep=60))
    try:
        await publish(db, *(ONE.but(payload=str(n)) for n in range(3)))
        async with messages.worker():
            await until(
                lambda: (
                    sql("SELECT state::text FROM mainstay.message ORDER BY id")
                    == [("succeeded",), ("dead",), ("succeeded",)]
                )
            )
    finally:
        sql("DROP TRIGGER small ON mainstay.message; DROP FUNCTION limit_of_results")


async def test_a_plain_function_may_run_on_the_event_loop(db: Database, messages: Messages, sql: Any) -> None:
    """Called once, and done: without `blocking` it runs where async functions do."""
    ran: list[int] = []

    def work(message: Message) -> None:
        ran.append(message.id)

    messages.handle(Handler(kind="work", call=work))
    [id] = await publish(db, ONE)
    async with messages.worker():
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)])
    assert ran == [id]


def test_a_blocking_handler_is_neither_async_nor_transactional(messages: Messages) -> None:
    """Told where it is registered."""

    async def work(message: Message) -> None: ...

    def plain(message: Message, tx: Transaction) -> None: ...

    with pytest.raises(Misuse, match="async and blocking"):
        messages.handle(Handler(kind="work", call=work, blocking=True))
    with pytest.raises(Misuse, match="belongs to the event loop"):
        messages.handle(Handler(kind="work", call=plain, blocking=True, transactional=True))


async def test_waiting_for_a_connection_is_not_the_handlers_time(
    db: Database, messages: Messages, sql: Any
) -> None:
    """More transactional handlers than connections: those that wait do not run out of time before they begin."""

    async def work(message: Message, tx: Transaction) -> None:
        await tx.execute(text("INSERT INTO effect (message) VALUES (:id)"), {"id": message.id})

    free = asyncio.Event()

    async def hold(message: Message) -> None:
        async with message.in_turn():
            await free.wait()

    messages.handle(Handler(kind="work", call=work, transactional=True, timeout=1.5, retry=ONCE))
    messages.handle(Handler(kind="hold", call=hold, timeout=60, retry=ONCE))
    await publish(db, *[ONE.but(kind="hold")] * 6)
    async with messages.worker() as worker:
        await until(lambda: len(worker.running) == 6)
        await publish(db, *[ONE] * 30)
        await until(lambda: len(worker.running) == 36)
        await asyncio.sleep(1.7)  # longer than a handler may take
        free.set()
        await until(lambda: sql("SELECT count(*) FROM mainstay.message WHERE ended_at IS NULL") == [(0,)])
    assert sql("SELECT count(*), count(DISTINCT message) FROM effect") == [(30, 30)]


@pytest.mark.parametrize("progress", [float("nan"), "\x00", object()])
async def test_progress_that_is_no_json_is_refused_in_one_sentence(
    db: Database, messages: Messages, sql: Any, progress: Any
) -> None:
    """As a result is."""

    async def work(message: Message) -> None:
        await message.report_progress(progress)

    messages.handle(Handler(kind="work", call=work, retry=ONCE))
    await publish(db, ONE)
    async with messages.worker():
        await until(lambda: sql("SELECT state::text FROM mainstay.message") == [("dead",)])
    assert errors(sql)[0].startswith(f"{Unserializable.__name__}: the progress of a handler")


@pytest.mark.parametrize("name", ["kind", "queue", "key", "unique"])
def test_names_that_no_index_can_hold_are_refused(name: str) -> None:
    """With the size and what to do, instead of the database's error as it is published."""
    ONE.but(**{name: "é" * 500})
    with pytest.raises(ValueError, match=f"the {name} of a .* has 1002 bytes and may have 1000"):
        ONE.but(**{name: "é" * 501})


# ------------------------------------------------------------------------------------------- being late


def hold_while_others_take_over(empty: URL, seconds: float) -> None:
    """Hold the event loop for so long; meanwhile others find the worker late and take over what it had."""
    time.sleep(seconds)
    with Hand(dsn(empty)) as hand:
        hand.rows("UPDATE mainstay.worker SET alive_until = now() - interval '1 s' RETURNING id")
        assert hand.run("rescue", worker=None)


@pytest.mark.parametrize("transactional", [False, True])
async def test_who_holds_the_event_loop_is_told_so(
    db: Database, empty: URL, messages: Messages, sql: Any, transactional: bool
) -> None:
    """The history says for how long, and what to do; that of the message beside it names who it was."""
    begun = asyncio.Event()

    async def hold(message: Message, tx: Transaction | None = None) -> None:
        if message.attempt == 1:
            await begun.wait()
            hold_while_others_take_over(empty, 0.6)

    async def beside(message: Message) -> None:
        begun.set()
        if message.attempt == 1:
            await asyncio.Event().wait()

    messages.handle(Handler(kind="hold", call=hold, transactional=transactional, keep=60))
    messages.handle(Handler(kind="beside", call=beside, keep=60))
    ids = await publish(db, ONE.but(kind="hold"), ONE.but(kind="beside"))
    async with messages.worker(lease=0.5, name="w"):
        await until(
            lambda: (
                sql("SELECT state::text, attempts FROM mainstay.message") == [("succeeded", 2)] * 2
                and sql("SELECT count(*) FROM mainstay.message WHERE errors::text LIKE '%%held the event%%'")
                == [(2,)]
            )
        )
    told = {
        id: [one["error"] for one in history]
        for id, history in sql("SELECT id, errors FROM mainstay.message")
    }
    assert [len(history) for history in told.values()] == [1, 1]
    for history in told.values():
        assert history[0].startswith("its worker w seemed to have gone away: ")
        assert "s, and the lease is 0.5 s: make it a plain function" in history[0]
    assert f"<Message {ids[0]} hold" in told[ids[1]][0]


def test_a_worker_takes_nothing_over_from_itself(empty: URL) -> None:
    """However late it is, who asks is alive. Anyone else takes over."""
    with Hand(dsn(empty)) as hand:
        me = hand.register(lease=0.0)
        hand.publish(ONE.but(kind="k"))
        hand.rows("UPDATE mainstay.worker SET alive_until = now() - interval '1 s' RETURNING id")
        assert len(hand.lease(me, ["default"], 1)) == 1
        assert hand.run("rescue", worker=me) == []
        assert len(hand.run("rescue", worker=me + 1)) == 1


async def test_a_worker_that_is_late_and_alone_goes_on(db: Database, messages: Messages, sql: Any) -> None:
    """Nobody has taken over: what it had is still its own, and a handler that held the event loop is done once."""
    ran: list[int] = []

    async def hold(message: Message, tx: Transaction) -> None:
        ran.append(message.attempt)
        time.sleep(0.7)  # noqa: ASYNC251 (what is tested)

    messages.handle(Handler(kind="work", call=hold, transactional=True))
    await publish(db, ONE, ONE)
    async with messages.worker(lease=0.2) as worker:
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)])
    assert worker.finished == 2
    assert ran == [1, 1]


async def test_a_locked_table_costs_no_lease(db: Database, messages: Messages, sql: Any, empty: URL) -> None:
    """While somebody has the table of messages to himself, the heartbeats go on."""
    done = asyncio.Event()

    async def work(message: Message) -> None:
        await done.wait()

    messages.handle(Handler(kind="work", call=work))
    await publish(db, ONE)

    def alive_until() -> Any:
        return sql("SELECT alive_until FROM mainstay.worker")[0][0]

    async with messages.worker(lease=0.6) as worker:
        await until(lambda: len(worker.running) == 1)
        with psycopg.connect(dsn(empty)) as holder:
            await asyncio.to_thread(holder.execute, "LOCK TABLE mainstay.message IN ACCESS EXCLUSIVE MODE")
            for _ in range(5):
                before = alive_until()
                await until(lambda: alive_until() > before)  # noqa: B023
            holder.rollback()
        done.set()
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)])


async def test_a_worker_that_is_cancelled_leaves_no_handler_at_work(
    db: Database, messages: Messages, sql: Any
) -> None:
    """Whose task is cancelled, instead of being told to stop, has no more heartbeats: nothing of it goes on."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(message: Message) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    messages.handle(Handler(kind="work", call=work))
    await publish(db, ONE)
    running = asyncio.create_task(messages.worker(lease=0.5).run())
    await asyncio.wait_for(begun.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
    assert sql("SELECT state::text, attempts FROM mainstay.message") == [
        ("running", 1)
    ]  # until the lease has run out
