"""A worker: order, keys, limits, retries, results, cancelling, timeouts, and its own end."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from engine_waiting import until
from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import GiveUp, Handler, Message, Messages, NewMessage, NotNow, Retry, TryAgain
from mainstay.patterns.messages.control import Control

ONE = NewMessage(kind="work", payload="{}")
SOON = Retry(attempts=3, first=0.01, most=0.01)


async def publish(db: Database, *new: NewMessage) -> list[int]:
    """Publish in a transaction of its own."""
    async with db.transaction() as tx:
        return [id for id in await tx.publish(*new) if id is not None]


def numbered(count: int, **options: Any) -> list[NewMessage]:
    """Messages whose payload is their number."""
    return [ONE.but(payload=str(n), **options) for n in range(count)]


async def test_messages_are_handled_and_gone(db: Database, messages: Messages, sql: Any) -> None:
    """Each message is handled once and deleted, those published before the start and those after."""
    seen: list[int] = []

    async def work(message: Message) -> None:
        seen.append(json.loads(message.payload))

    messages.handle(Handler(kind="work", call=work))
    await publish(db, *numbered(250))
    async with messages.worker(concurrency=20, poll=60) as worker:
        await until(lambda: len(seen) == 250)
        await publish(db, ONE.but(payload="250"))
        await until(lambda: len(seen) == 251)
    assert sorted(seen) == list(range(251))
    assert worker.finished == 251
    assert sql("SELECT (SELECT count(*) FROM mainstay.message), (SELECT count(*) FROM mainstay.worker)") == [
        (0, 0)
    ]


async def test_effects_and_completion_commit_together(db: Database, messages: Messages, sql: Any) -> None:
    """A transactional handler that fails after its write leaves no write; the next attempt leaves one."""

    async def work(message: Message, tx: Transaction) -> None:
        await tx.execute(text("INSERT INTO effect (message, what) VALUES (:id, 'done')"), {"id": message.id})
        if message.attempt == 1:
            raise RuntimeError("after the write")

    messages.handle(Handler(kind="work", call=work, transactional=True, retry=SOON))
    [id] = await publish(db, ONE)
    async with messages.worker():
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)])
    assert sql("SELECT message, what FROM effect") == [(id, "done")]


async def test_a_handler_may_open_its_transaction_itself(db: Database, messages: Messages, sql: Any) -> None:
    """After calls outside, `message.complete(tx)` completes in the handler's own transaction."""

    async def work(message: Message) -> None:
        assert message.idempotency_key.endswith(f"-{message.id}")
        async with db.transaction() as tx:
            await tx.execute(text("INSERT INTO effect (message) VALUES (:id)"), {"id": message.id})
            await message.complete(tx)
        if message.attempt == 1:
            await asyncio.sleep(0)

    messages.handle(Handler(kind="work", call=work))
    await publish(db, ONE, ONE)
    async with messages.worker():
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)])
    assert sql("SELECT count(*) FROM effect") == [(2,)]


async def test_first_due_first_served_with_priorities(db: Database, messages: Messages, sql: Any) -> None:
    """A higher priority goes first; a message that has waited an hour a step longer goes before it all the same."""
    order: list[int] = []

    async def work(message: Message) -> None:
        order.append(json.loads(message.payload))

    messages.handle(Handler(kind="work", call=work))
    await publish(db, *numbered(3), ONE.but(payload="10", priority=2), ONE.but(payload="11", priority=1))
    [old] = await publish(db, ONE.but(payload="99"))
    sql(
        "UPDATE mainstay.message SET ready_at = ready_at - interval '3 hours', rank = rank - interval '3 hours'"
        " WHERE id = %s",
        old,
    )
    async with messages.worker(concurrency=1):
        await until(lambda: len(order) == 6)
    assert order == [99, 10, 11, 0, 1, 2]


async def test_a_delay_is_kept(db: Database, messages: Messages, sql: Any) -> None:
    """A delayed message is not taken before it is due, and is when it is."""
    seen: list[str] = []

    async def work(message: Message) -> None:
        seen.append(message.payload)

    messages.handle(Handler(kind="work", call=work))
    [late, _] = await publish(db, ONE.but(payload="1", delay=3600), ONE.but(payload="2"))
    async with messages.worker():
        await until(lambda: sql("SELECT id, state::text FROM mainstay.message") == [(late, "scheduled")])
        assert seen == ["2"]
        sql("UPDATE mainstay.message SET ready_at = now()")
        await until(lambda: seen == ["2", "1"])


async def test_what_expired_is_not_begun(db: Database, messages: Messages, sql: Any) -> None:
    """An expired message is never handled and ends as expired: met by a lease, or in a queue nobody may serve."""
    seen: list[str] = []

    async def work(message: Message) -> None:
        seen.append(message.payload)

    messages.handle(Handler(kind="work", call=work))
    await publish(db, ONE.but(expires=3600), ONE.but(kind="unknown", expires=3600), ONE.but(payload="1"))
    sql("UPDATE mainstay.message SET expires_at = now() WHERE expires_at IS NOT NULL")
    async with messages.worker():
        await until(lambda: sql("SELECT state::text FROM mainstay.message") == [("expired",), ("expired",)])
    assert seen == ["1"]


async def test_retries_then_dead_with_history(db: Database, messages: Messages, control: Control) -> None:
    """A handler that always fails is tried as often as its policy says; the dead message tells every failure."""

    async def work(message: Message) -> None:
        raise ValueError(f"number {message.attempt} \x00 \ud800 C:\\udata")

    messages.handle(Handler(kind="work", call=work, retry=SOON))
    [id] = await publish(db, ONE)
    async with messages.worker(name="here") as worker:

        async def dead() -> bool:
            shown = await control.show(id)
            return shown is not None and shown["state"] == "dead"

        await until(dead)
        shown = await control.show(id)
        assert shown is not None
        assert [entry["error"] for entry in shown["errors"]] == [
            f"ValueError: number {n} \ufffd \ufffd C:\\udata" for n in (1, 2, 3)
        ]
        told = shown["errors"][0]["traceback"].splitlines()
        assert "test_worker.py" in told[1], "the frames of the engine are left out"
        assert shown["errors"][0]["worker"] == "here"
        assert worker.failed == 3
        assert await control.redrive(kind="other") == []
        assert await control.redrive(error="number 2") == [id]
        await until(dead)
        shown = await control.show(id)
        assert shown is not None and len(shown["errors"]) == 6


async def test_give_up_and_try_again(db: Database, messages: Messages, sql: Any) -> None:
    """GiveUp ends at once whatever attempts are left; TryAgain sets the wait."""

    async def work(message: Message) -> None:
        if message.payload == "1":
            raise GiveUp("no such customer")
        raise TryAgain("closed until morning", after=1000)

    messages.handle(Handler(kind="work", call=work))
    await publish(db, ONE.but(payload="1"), ONE.but(payload="2"))
    async with messages.worker():
        await until(lambda: sql("SELECT count(*) FROM mainstay.message WHERE errors <> '[]'") == [(2,)])
    rows = sql(
        "SELECT state::text, extract(epoch FROM ready_at - now())::int FROM mainstay.message ORDER BY payload::int"
    )
    assert rows[0][0] == "dead"
    assert rows[1][0] == "scheduled" and 990 <= rows[1][1] <= 1000


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
async def test_handlers_that_raise_what_ends_processes(
    db: Database, messages: Messages, sql: Any, error: BaseException
) -> None:
    """A handler that calls sys.exit, or lets a cancellation escape, fails its attempt and nothing else."""
    seen: list[str] = []

    async def work(message: Message) -> None:
        if message.payload == "1":
            raise error
        seen.append(message.payload)

    messages.handle(Handler(kind="work", call=work, retry=Retry(attempts=1)))
    await publish(db, ONE.but(payload="1"), ONE.but(payload="2"))
    async with messages.worker():
        await until(lambda: sql("SELECT state::text FROM mainstay.message") == [("dead",)])
        await publish(db, ONE.but(payload="3"))
        await until(lambda: seen == ["2", "3"])


async def test_a_handler_that_hangs_is_ended(db: Database, messages: Messages, sql: Any) -> None:
    """After its timeout an attempt is cancelled and counts as failed; the worker goes on."""

    async def work(message: Message) -> None:
        await asyncio.Event().wait()

    messages.handle(Handler(kind="work", call=work, retry=Retry(attempts=1), timeout=0.05))
    await publish(db, ONE)
    async with messages.worker():
        await until(lambda: sql("SELECT state::text FROM mainstay.message") == [("dead",)])
    assert "not done within 0.05 s" in sql("SELECT errors ->> 0 FROM mainstay.message")[0][0]


async def test_plain_functions_run_in_threads(db: Database, messages: Messages, sql: Any) -> None:
    """A blocking handler runs beside the event loop; its result is kept where asked."""
    threads: set[str] = set()

    def work(message: Message) -> dict[str, int]:
        threads.add(threading.current_thread().name)
        return {"n": json.loads(message.payload)}

    messages.handle(Handler(kind="work", call=work, blocking=True, keep=3600))
    await publish(db, ONE.but(payload="7"))
    async with messages.worker():
        await until(
            lambda: sql("SELECT state::text, result FROM mainstay.message") == [("succeeded", {"n": 7})]
        )
        assert all(name.startswith("mainstay") for name in threads)
        sql("UPDATE mainstay.message SET keep_until = now()")
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)])


async def test_a_result_that_is_no_json_fails_the_attempt(db: Database, messages: Messages, sql: Any) -> None:
    """A kept result must be JSON; the error says so."""

    async def work(message: Message) -> Any:
        return object()

    messages.handle(Handler(kind="work", call=work, keep=3600, retry=Retry(attempts=1)))
    await publish(db, ONE)
    async with messages.worker():
        await until(lambda: sql("SELECT state::text FROM mainstay.message") == [("dead",)])
    assert "must be JSON" in sql("SELECT errors ->> 0 FROM mainstay.message")[0][0]


async def test_order_per_key(db: Database, messages: Messages, sql: Any) -> None:
    """With a key and a limit of one: in order, one at a time, over two workers; failures hold their successors up."""
    order: dict[str | None, list[int]] = {"a": [], "b": []}
    at_work: dict[str | None, int] = {"a": 0, "b": 0}

    async def work(message: Message) -> None:
        at_work[message.key] += 1
        assert at_work[message.key] == 1
        await asyncio.sleep(0)
        at_work[message.key] -= 1
        number = json.loads(message.payload)
        if number == 3 and message.attempt < 3:
            raise RuntimeError("not yet")
        order[message.key].append(number)

    messages.handle(Handler(kind="work", call=work, retry=SOON))
    for n in range(0, 30, 10):
        await publish(db, *[ONE.but(payload=str(n + i), key=key) for i in range(10) for key in ("a", "b")])
    async with messages.worker(concurrency=7), messages.worker(concurrency=3):
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)], seconds=30)
    assert order == {"a": list(range(30)), "b": list(range(30))}


async def test_a_key_with_a_long_backlog_lets_others_go(db: Database, messages: Messages, sql: Any) -> None:
    """Five hundred messages of one busy key do not hold up what comes after them."""
    seen: list[str] = []
    hold = asyncio.Event()

    async def work(message: Message) -> None:
        if message.key:
            await hold.wait()
        seen.append(message.payload)

    messages.handle(Handler(kind="work", call=work))
    await publish(db, *numbered(500, key="hot"), ONE.but(payload='"other"'))
    async with messages.worker(concurrency=10, poll=60):
        await until(lambda: seen == ['"other"'])
        await publish(db, ONE.but(payload='"another"'))
        await until(lambda: seen == ['"other"', '"another"'])
        await until(lambda: sql("SELECT count(*) FROM mainstay.message WHERE state = 'running'") == [(1,)])
        hold.set()
        await until(lambda: len(seen) == 502, seconds=60)
    assert seen[2:] == [str(n) for n in range(500)]


async def test_limit_per_key(db: Database, messages: Messages, sql: Any) -> None:
    """With a key limit of three, three are at work at once over two workers, and never more."""
    at_work = most = 0
    three = asyncio.Event()

    async def work(message: Message) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        if at_work == 3:
            three.set()
        await three.wait()
        await asyncio.sleep(0.005)
        at_work -= 1

    messages.handle(Handler(kind="work", call=work))
    await publish(db, *numbered(60, key="k", key_limit=3))
    async with messages.worker(concurrency=10), messages.worker(concurrency=10):
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)], seconds=30)
    assert most == 3


async def test_limit_per_queue(db: Database, messages: Messages, control: Control, sql: Any) -> None:
    """A queue's concurrency holds over all workers."""
    at_work = most = 0
    four = asyncio.Event()

    async def work(message: Message) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        if at_work == 4:
            four.set()
        await four.wait()
        await asyncio.sleep(0.005)
        at_work -= 1

    messages.handle(Handler(kind="work", call=work))
    await control.limit("default", concurrency=4)
    await publish(db, *numbered(60))
    async with messages.worker(concurrency=10), messages.worker(concurrency=10):
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)], seconds=30)
    assert most == 4


async def test_limit_counts_live_leases_only(
    db: Database, messages: Messages, control: Control, sql: Any
) -> None:
    """What a dead worker still holds takes no room in a limited queue."""
    done: list[int] = []

    async def work(message: Message) -> None:
        done.append(message.id)

    messages.handle(Handler(kind="work", call=work))
    await control.limit("default", concurrency=1)
    [stuck, free] = await publish(db, ONE, ONE)
    [(ghost,)] = sql(
        "INSERT INTO mainstay.worker (name, alive_until) VALUES ('ghost', now() + interval '1 hour') RETURNING id"
    )
    sql(
        "UPDATE mainstay.message SET state = 'running', leased_by = %s, lease = 1, attempts = 1 WHERE id = %s",
        ghost,
        stuck,
    )
    async with messages.worker():
        await asyncio.sleep(0)
        sql("UPDATE mainstay.worker SET alive_until = now() - interval '1 second' WHERE id = %s", ghost)
        await until(lambda: sorted(done) == [stuck, free])


async def test_rate_per_queue(db: Database, messages: Messages, control: Control, sql: Any) -> None:
    """A queue's rate and burst hold over all workers, by the database's clock."""

    async def work(message: Message, tx: Transaction) -> None:
        await tx.execute(text("INSERT INTO effect (what) VALUES (clock_timestamp()::text)"))

    messages.handle(Handler(kind="work", call=work, transactional=True))
    await control.limit("default", rate=20, burst=3)
    await publish(db, *numbered(13))
    [(begun,)] = sql("SELECT clock_timestamp()")
    async with messages.worker(), messages.worker():
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)], seconds=30)
    # 13 starts: 3 at once and 10 at 20 a second, so the last one begins no sooner than 0.5 s after the first, which may
    # take its time until it writes.
    [(span,)] = sql("SELECT extract(epoch FROM max(what::timestamptz) - %s)::float8 FROM effect", begun)
    assert span >= 0.5


async def test_pause_and_resume(db: Database, messages: Messages, control: Control, sql: Any) -> None:
    """Nothing of a paused queue is begun; other queues go on; resume lets it go on at once."""
    seen: list[str] = []

    async def work(message: Message) -> None:
        seen.append(message.queue)

    messages.handle(Handler(kind="work", call=work, queue="slow"))
    messages.handle(Handler(kind="other", call=work))
    await control.pause("slow")
    await publish(db, ONE.but(queue="slow"), ONE.but(kind="other"))
    async with messages.worker(poll=60):
        await until(lambda: seen == ["default"])
        await publish(db, ONE.but(queue="slow"), ONE.but(kind="other"))
        await until(lambda: seen == ["default", "default"])
        await control.resume("slow")
        await until(lambda: len(seen) == 4)


async def test_cancel(db: Database, messages: Messages, control: Control, sql: Any) -> None:
    """A waiting message is called off at once; a running one has its handler cancelled; a done one is not there."""
    begun = asyncio.Event()
    ended: list[str] = []

    async def work(message: Message) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    messages.handle(Handler(kind="work", call=work))
    [running, waiting] = await publish(db, ONE, ONE.but(delay=1000))
    async with messages.worker(poll=60):
        await begun.wait()
        assert await control.cancel(running, waiting, 12345) == {running: "running", waiting: "cancelled"}
        await until(lambda: sql("SELECT DISTINCT state::text FROM mainstay.message") == [("cancelled",)])
        assert ended == ["cancelled"]


@pytest.mark.parametrize("error", [ValueError("no"), NotNow("away", after=0.0)], ids=["failed", "not now"])
async def test_what_is_called_off_while_it_fails_is_not_tried_again(
    db: Database, messages: Messages, control: Control, sql: Any, error: Exception
) -> None:
    """A handler fails just as someone calls its message off: that was its last attempt."""
    attempts: list[int] = []

    async def work(message: Message) -> None:
        attempts.append(message.attempt)
        # Before its worker has heard of it, which the control channel tells it.
        sql("UPDATE mainstay.message SET cancel_requested = true")
        raise error

    messages.handle(Handler(kind="work", call=work, retry=Retry(attempts=3, first=0.0, most=0.0)))
    [id] = await publish(db, ONE)
    async with messages.worker():
        await until(lambda: sql("SELECT state::text FROM mainstay.message") == [("cancelled",)])
    assert attempts == [1]
    # It can be started over, and is kept only for a time.
    assert sql("SELECT keep_until > now() + interval '6 days' FROM mainstay.message") == [(True,)]
    assert await control.redrive(id, states=None) == [id]


async def test_progress_is_visible(db: Database, messages: Messages, control: Control) -> None:
    """What a handler reports while it works can be seen from outside."""
    go = asyncio.Event()

    async def work(message: Message) -> None:
        await message.report_progress({"done": 3, "of": 10})
        await go.wait()

    messages.handle(Handler(kind="work", call=work))
    [id] = await publish(db, ONE)
    async with messages.worker(name="me"):

        async def shown() -> bool:
            found = await control.show(id)
            return (
                found is not None and found["progress"] == {"done": 3, "of": 10} and found["worker"] == "me"
            )

        await until(shown)
        [worker] = await control.workers()
        assert worker["name"] == "me" and worker["queues"] == ["default"]
        go.set()


async def test_stop_hands_back(db: Database, messages: Messages, sql: Any) -> None:
    """At its end a worker lets handlers finish for a time, then hands them back, and the attempt does not count."""
    begun = asyncio.Semaphore(0)
    finish = asyncio.Event()

    async def work(message: Message) -> None:
        begun.release()
        await (finish if message.payload == "1" else asyncio.Event()).wait()

    messages.handle(Handler(kind="work", call=work))
    await publish(db, ONE.but(payload="1"), ONE.but(payload="2"), ONE.but(payload="3"))
    async with messages.worker(concurrency=2, grace=0.5) as worker:
        await begun.acquire()
        await begun.acquire()
        worker.stop()
        finish.set()
    assert sql("SELECT payload, state::text, attempts FROM mainstay.message ORDER BY id") == [
        (2, "waiting", 0),
        (3, "waiting", 0),
    ]
    assert sql("SELECT count(*) FROM mainstay.worker") == [(0,)]


async def test_unknown_kinds_wait_for_who_knows_them(db: Database, messages: Messages, sql: Any) -> None:
    """A message whose kind this worker does not know stays, and is handled by the first worker that does."""
    seen: list[str] = []

    async def work(message: Message) -> None:
        seen.append(message.kind)

    messages.handle(Handler(kind="work", call=work))
    await publish(db, ONE.but(kind="newer"), ONE)
    async with messages.worker():
        await until(lambda: sql("SELECT kind, state::text FROM mainstay.message") == [("newer", "waiting")])
        assert seen == ["work"]
        newer = Messages(db)
        newer.handle(Handler(kind="newer", call=work))
        async with newer.worker():
            await until(lambda: seen == ["work", "newer"])


async def test_many_queues_are_served_in_turn(db: Database, messages: Messages, sql: Any) -> None:
    """A queue with a long backlog does not keep another one waiting."""
    order: list[str] = []

    async def work(message: Message) -> None:
        order.append(message.queue)

    messages.handle(Handler(kind="work", call=work, queue="long"))
    messages.handle(Handler(kind="other", call=work, queue="short"))
    await publish(db, *numbered(300, queue="long"), ONE.but(kind="other", queue="short"))
    async with messages.worker(concurrency=10):
        await until(lambda: len(order) == 301)
    assert order.index("short") <= 40


def test_nothing_to_do_is_said(messages: Messages) -> None:
    """A worker without handlers, or with senseless numbers, says what is wrong."""
    with pytest.raises(RuntimeError, match="register a handler"):
        messages.worker()
    messages.handle(Handler(kind="work", call=print))
    with pytest.raises(RuntimeError, match="have a handler already"):
        messages.handle(Handler(kind="work", call=print))
    with pytest.raises(ValueError, match="lease must be between"):
        messages.worker(lease=0)
    with pytest.raises(ValueError, match="attempts must be"):
        Retry(attempts=0)


async def test_complete_in_a_savepoint_that_is_undone(db: Database, messages: Messages, sql: Any) -> None:
    """`message.complete` in a part that is rolled back neither loses the message nor leaves it running."""

    async def work(message: Message) -> None:
        try:
            async with db.transaction() as tx:
                await message.complete(tx)
                raise RuntimeError("undone")
        except RuntimeError:
            pass

    messages.handle(Handler(kind="work", call=work))
    await publish(db, ONE)
    async with messages.worker():
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)])


async def test_stopping_at_once_loses_nothing_that_had_not_begun(
    db: Database, messages: Messages, sql: Any
) -> None:
    """Handlers whose tasks had no step yet when the worker was told to stop at once are handed back."""

    async def work(message: Message) -> None:
        one.stop()
        one.stop()
        await asyncio.Event().wait()

    messages.handle(Handler(kind="work", call=work))
    await publish(db, *numbered(20))
    async with messages.worker(concurrency=20) as one:
        pass
    assert sql("SELECT state::text, attempts, count(*) FROM mainstay.message GROUP BY 1, 2") == [
        ("waiting", 0, 20)
    ]
