"""From the broker to a committed effect, once: whatever is delivered twice, fails, or is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from broker_places import Place, bound, event
from broker_proxy import Proxy
from sqlalchemy import URL, text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.brokers import Broker, CloudEvent
from mainstay.patterns.brokers.receive import DeadLetter, receive

PROCESS = Path(__file__).with_name("receiving_process.py")

redis_only = pytest.mark.parametrize("place", ["redis"], indirect=True)
"""For what lies between the broker and the database, and so is the same for each broker."""


async def handle(tx: Transaction, event: CloudEvent) -> None:
    """The effect: one row."""
    await tx.execute(text("INSERT INTO effect (name) VALUES (:id)"), {"id": event.id})


async def bury(tx: Transaction, letter: DeadLetter) -> None:
    """Keep what is dead."""
    await tx.execute(
        text("INSERT INTO dead (name, error) VALUES (:name, :error)"),
        {"name": letter.event.id if letter.event else "?", "error": letter.error},
    )


@asynccontextmanager
async def receiving(
    opened: Broker, db: Database, handler: Any = handle, dead_letter: Any = bury, **options: Any
) -> AsyncIterator[asyncio.Task[None]]:
    """`receive` at work, without waits between attempts."""
    task = asyncio.create_task(
        receive(opened, db, "first", handler, dead_letter=dead_letter, random=lambda: 0.0, **options)
    )
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def rows(db: Database, table: str = "effect") -> list[str]:
    """Names of the rows in the order in which they were written."""
    async with db.transaction() as tx:
        return list((await tx.execute(text(f"SELECT name FROM {table} ORDER BY n"))).scalars())


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 40.0) -> None:
    """Returns as soon as the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 (the condition lies in a database)
            await asyncio.sleep(0.02)


def these(db: Database, names: set[str], table: str = "effect") -> Callable[[], Awaitable[bool]]:
    """Whether the table has these names."""

    async def there() -> bool:
        return names <= set(await rows(db, table))

    return there


async def test_published_twice_has_one_effect(place: Place, db: Database) -> None:
    """The inbox drops the second, whether the broker keeps it or not."""
    await bound(place)
    async with place.open() as opened, receiving(opened, db):
        await opened.publish([event("1"), event("2")])
        await opened.publish([event("1"), event("2")])
        await opened.publish([event("last")])
        await until(these(db, {"1", "2", "last"}))
    assert sorted(await rows(db)) == ["1", "2", "last"]


@pytest.mark.parametrize("point", ["before the commit", "between commit and ack"])
async def test_a_killed_consumer_loses_and_doubles_nothing(
    place: Place, db: Database, database_url: URL, point: str
) -> None:
    """SIGKILL at each point; a second process gets what was not acknowledged, in order, and each has one effect."""
    await bound(place)
    async with place.open() as opened:
        await opened.publish([event(f"{n}", key="k") for n in range(6)])
    arguments = [place.address(), place.topic, json.dumps(place.options), url_text(database_url)]
    killed = await asyncio.create_subprocess_exec(sys.executable, str(PROCESS), *arguments, point)
    async with asyncio.timeout(40):
        assert await killed.wait() == -signal.SIGKILL
    assert await rows(db) == ["0", "1", "2"] + (["3"] if point == "between commit and ack" else [])
    second = await asyncio.create_subprocess_exec(sys.executable, str(PROCESS), *arguments, "never")
    try:
        await until(these(db, {f"{n}" for n in range(6)}))
    finally:
        second.kill()
        await second.wait()
    assert await rows(db) == [f"{n}" for n in range(6)]


@redis_only
@pytest.mark.parametrize("point", ["before the commit of the dead", "between commit and ack of the dead"])
async def test_killed_while_an_event_is_stored_as_dead(
    place: Place, db: Database, database_url: URL, point: str
) -> None:
    """It is stored once, and what comes after it is handled, in order."""
    async with place.open() as opened:
        await opened.publish([event(f"{n}", key="k") for n in range(6)])
    arguments = [place.address(), place.topic, json.dumps(place.options), url_text(database_url)]
    killed = await asyncio.create_subprocess_exec(sys.executable, str(PROCESS), *arguments, point)
    async with asyncio.timeout(40):
        assert await killed.wait() == -signal.SIGKILL
    assert await rows(db, "dead") == (["3"] if point.startswith("between") else [])
    second = await asyncio.create_subprocess_exec(sys.executable, str(PROCESS), *arguments, "the dead: never")
    try:
        await until(these(db, {"5"}))
    finally:
        second.kill()
        await second.wait()
    assert await rows(db) == ["0", "1", "2", "4", "5"]
    assert await rows(db, "dead") == ["3"]


@redis_only
async def test_a_failing_handler_is_run_again_in_its_place(place: Place, db: Database) -> None:
    """Other keys go on meanwhile; its own key waits, so that the order holds; what it wrote is undone."""
    failures = {"a1": 2}

    async def unsteady(tx: Transaction, event: CloudEvent) -> None:
        await handle(tx, event)
        if failures.get(event.id, 0):
            failures[event.id] -= 1
            raise RuntimeError("not now")

    async with place.open() as opened, receiving(opened, db, unsteady):
        await opened.publish([event(id, key=id[0]) for id in ("a1", "b1", "a2", "b2", "a3")])
        await until(these(db, {"a1", "a2", "a3", "b1", "b2"}))
    found = await rows(db)
    assert [id for id in found if id[0] == "a"] == ["a1", "a2", "a3"]
    assert sorted(found) == ["a1", "a2", "a3", "b1", "b2"]
    assert not await rows(db, "dead")


async def test_poison_is_stored_and_blocks_nobody(place: Place, db: Database) -> None:
    """After its attempts it is dead, once, with its error; later events of its key and all others are handled."""
    await bound(place)
    tried: list[str] = []

    async def refuses_poison(tx: Transaction, event: CloudEvent) -> None:
        tried.append(event.id)
        await handle(tx, event)
        if event.id == "poison":
            raise ValueError("cannot be handled")

    async with place.open() as opened, receiving(opened, db, refuses_poison, attempts=3):
        await opened.publish([event("poison", key="k"), event("after", key="k"), event("other")])
        await until(these(db, {"after", "other"}))
    assert await rows(db, "dead") == ["poison"]
    assert sorted(await rows(db)) == ["after", "other"]
    assert tried.count("poison") == 3
    async with db.transaction() as tx:
        assert "cannot be handled" in await tx.scalar(text("SELECT error FROM dead"))


async def test_what_is_no_event_is_stored(place: Place, db: Database) -> None:
    """A message of somebody else in the topic is dead at once, and the next event is handled."""
    await bound(place)
    await publish_something_else(place)
    async with place.open() as opened, receiving(opened, db):
        await opened.publish([event("1")])
        await until(these(db, {"1"}))
        await until(these(db, {"?"}, "dead"))
    async with db.transaction() as tx:
        assert "no CloudEvent" in await tx.scalar(text("SELECT error FROM dead"))


@redis_only
async def test_what_cannot_be_stored_is_not_dropped(place: Place, db: Database) -> None:
    """The store of dead events fails a few times: it is asked again until it works."""
    asked = 0

    async def fails(tx: Transaction, event: CloudEvent) -> None:
        raise RuntimeError("no")

    async def unsteady(tx: Transaction, letter: DeadLetter) -> None:
        nonlocal asked
        asked += 1
        await bury(tx, letter)
        if asked < 4:
            raise RuntimeError("no room")

    async with place.open() as opened, receiving(opened, db, fails, unsteady, attempts=1):
        await opened.publish([event("1"), event("x" * 3000)])
        await until(these(db, {"1", "x" * 3000}, "dead"))
    assert len(await rows(db, "dead")) == 2


@redis_only
async def test_a_handler_that_hangs_is_ended(place: Place, db: Database) -> None:
    """Each attempt has its time; then the next one, and in the end it is dead."""

    async def hangs(tx: Transaction, event: CloudEvent) -> None:
        await handle(tx, event)
        await asyncio.Event().wait()

    async with place.open() as opened, receiving(opened, db, hangs, attempts=2, timeout=0.2):
        await opened.publish([event("1")])
        await until(these(db, {"1"}, "dead"))
    assert not await rows(db)


@redis_only
async def test_a_handler_out_of_which_a_foreign_cancellation_comes_has_failed(
    place: Place, db: Database
) -> None:
    """It awaited a task that somebody else cancelled: the attempt has failed, and there is another.

    Otherwise the event would be held for ever, neither tried again nor given back, and others of its key go before it.
    """
    tried: list[str] = []

    async def awaits_what_is_cancelled(tx: Transaction, event: CloudEvent) -> None:
        tried.append(event.id)
        await handle(tx, event)
        if event.id in ("poison", "later") and not (event.id == "later" and tried.count("later") > 1):
            other = asyncio.ensure_future(asyncio.sleep(60))
            other.cancel()
            await other

    letters: list[str] = []

    async def cancelled_once(tx: Transaction, letter: DeadLetter) -> None:
        letters.append("?")
        await bury(tx, letter)
        if len(letters) == 1:
            raise asyncio.CancelledError

    async with (
        place.open() as opened,
        receiving(opened, db, awaits_what_is_cancelled, cancelled_once, attempts=2),
    ):
        await opened.publish([event("poison"), event("later", key="k"), event("after", key="k")])
        await until(these(db, {"poison"}, "dead"), 10)
        await until(these(db, {"later", "after"}), 10)
    assert await rows(db) == ["later", "after"]
    assert await rows(db, "dead") == ["poison"]
    assert tried.count("poison") == tried.count("later") == len(letters) == 2


@redis_only
async def test_a_database_that_is_away_kills_no_event(place: Place, db: Database, database_url: URL) -> None:
    """Far more attempts fail than an event has, and none is counted; it is handled when the database is back."""
    assert database_url.host
    async with Proxy(database_url.host, database_url.port or 5432) as proxy:
        url = database_url.set(host="127.0.0.1", port=proxy.port)
        waits = 0
        back = asyncio.Event()

        async def wait(seconds: float) -> None:
            nonlocal waits
            waits += 1
            if waits == 8:
                await proxy.open()
                back.set()

        async def breaks_once(tx: Transaction, event: CloudEvent) -> None:
            await handle(tx, event)
            if not back.is_set():
                await proxy.away()
                await handle(tx, event)

        async with (
            place.open() as opened,
            Database(url) as through,
            receiving(opened, through, breaks_once, attempts=2, sleep=wait),
        ):
            await opened.publish([event("1")])
            await until(these(db, {"1"}))
    assert waits >= 8
    assert await rows(db) == ["1"]
    assert not await rows(db, "dead")


@redis_only
async def test_when_it_is_cancelled_what_is_in_hand_is_given_back(place: Place, db: Database) -> None:
    """The handler is rolled back, and another process gets the event without waiting for a time-out."""
    begun = asyncio.Event()

    async def hangs(tx: Transaction, event: CloudEvent) -> None:
        await handle(tx, event)
        begun.set()
        await asyncio.Event().wait()

    async with place.open(redeliver_after=3600.0) as opened:
        async with receiving(opened, db, hangs):
            await opened.publish([event("1")])
            await asyncio.wait_for(begun.wait(), 20)
        assert not await rows(db)
        async with receiving(opened, db):
            await until(these(db, {"1"}))


async def test_numbers_that_make_no_sense_are_refused(db: Database) -> None:
    """Before anything is consumed."""
    for wrong in (
        {"attempts": 0},
        {"concurrency": 0},
        {"timeout": 0.0},
        {"first_wait": 2.0, "longest_wait": 1.0},
    ):
        with pytest.raises(ValueError, match="must be"):
            await receive(None, db, "first", handle, dead_letter=bury, **wrong)  # type: ignore[arg-type]


def url_text(url: URL) -> str:
    """The URL with its password, for another process."""
    return url.render_as_string(hide_password=False)


async def publish_something_else(place: Place) -> None:
    """A message without any attribute of an event, by the broker's own client."""
    if place.kind == "nats":
        import nats

        client = await nats.connect(place.address())
        await client.jetstream().publish(f"{place.topic}.else", b"hello")
        await client.close()
    elif place.kind == "amqp":
        import aio_pika

        async with await aio_pika.connect(place.address()) as connection:
            exchange = await (await connection.channel()).get_exchange(place.topic)
            await exchange.publish(aio_pika.Message(b"hello"), "else")
    elif place.kind == "redis":
        from redis.asyncio import Redis

        async with Redis(port=place.port) as client:
            await client.xadd(place.topic, {"hello": "world"})
    else:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": f"127.0.0.1:{place.port}"})
        producer.produce(place.topic, b"hello")
        assert producer.flush(10) == 0
