"""Several processes receive under one name: the order of a key holds, and whoever is at work can be lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from broker_places import Place, bound, event
from sqlalchemy import URL, text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.brokers import CloudEvent
from mainstay.patterns.brokers.receive import receive
from mainstay.patterns.brokers.standby import while_alone

NAME = "mainstay tests: one at a time"
HOLDER = (
    " FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted"
    " AND datname = current_database() AND application_name = 'mainstay stands by'"
)


@pytest.fixture(params=["psycopg", "asyncpg"])
async def two(
    db: Database, database_url: URL, request: pytest.FixtureRequest
) -> AsyncIterator[list[Database]]:
    """The same database as two processes have it."""
    url = database_url.set(drivername=f"postgresql+{request.param}")
    async with Database(url, pool_size=6) as one, Database(url, pool_size=6) as other:
        yield [one, other]


class Turns:
    """Who is at work, and who has been."""

    def __init__(self) -> None:
        self.now: set[int] = set()
        self.taken: list[int] = []
        self.changed = asyncio.Event()

    def work(self, who: int) -> Callable[[], Any]:
        """The work of one of them, which lasts until it is cancelled."""

        async def work() -> None:
            assert not self.now, "two at once"
            self.now.add(who)
            self.taken.append(who)
            self.changed.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.now.remove(who)

        return work

    async def until(self, number: int) -> None:
        """Until so many turns have been taken."""
        async with asyncio.timeout(20):
            while len(self.taken) < number:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def taking_turns(
    two: list[Database], **options: float
) -> AsyncIterator[tuple[Turns, list[asyncio.Task[None]]]]:
    """Both want to work; the first has begun."""
    turns = Turns()
    tasks: list[asyncio.Task[None]] = []
    options = {"look": 0.05, "beat": 0.3, **options}  # an answer has five beats of time
    try:
        for who, database in enumerate(two):
            tasks.append(asyncio.create_task(while_alone(database, NAME, turns.work(who), **options)))
            await turns.until(1)
        yield turns, tasks
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []


async def test_the_next_takes_over_when_one_leaves(two: list[Database]) -> None:
    """And not before its work has come to its end."""
    async with taking_turns(two) as (turns, tasks):
        await asyncio.sleep(0.3)
        assert turns.taken == [0]
        tasks[0].cancel()
        await turns.until(2)
        assert turns.taken == [0, 1] and turns.now == {1}


async def test_whose_connection_is_ended_gives_up_its_work(
    two: list[Database], db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Its work is cancelled, and one of them begins anew; never two at once."""
    caplog.set_level("INFO", "mainstay.patterns.brokers")
    async with taking_turns(two, beat=1.0) as (turns, _):
        async with asyncio.timeout(20):
            while "stands by" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        async with db.transaction() as tx:
            assert await tx.scalar(text("SELECT pg_terminate_backend(pid)" + HOLDER))
        await turns.until(2)


async def test_a_holder_that_shows_no_life_loses_the_lock(two: list[Database], db: Database) -> None:
    """PostgreSQL ends its connection; here its heart beats only once in 5 s, as that of a process that is stopped."""
    turns = Turns()
    slow = asyncio.create_task(while_alone(two[0], NAME, turns.work(0), look=10.0, beat=5.0, silent=1.0))
    await turns.until(1)
    async with asyncio.timeout(20):
        while True:
            async with db.transaction() as tx:
                if not await tx.scalar(text("SELECT count(*)" + HOLDER)):
                    break
            await asyncio.sleep(0.05)
    assert turns.now == {0}  # it does not know yet
    async with asyncio.timeout(20):
        while turns.now:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


async def test_the_lock_holds_up_no_vacuum(two: list[Database], db: Database) -> None:
    """Its transaction is idle, and has neither a snapshot nor a number."""
    resting = text(
        "SELECT state, backend_xmin IS NULL AND backend_xid IS NULL" + HOLDER + " AND state LIKE 'idle%'"
    )
    async with taking_turns(two), asyncio.timeout(20):
        rows: Sequence[Any] = []
        while not rows:  # at a beat of its heart it is not idle
            async with db.transaction() as tx:
                rows = (await tx.execute(resting)).all()
    assert [tuple(row) for row in rows] == [("idle in transaction", True)]


async def test_what_the_work_raises_is_raised(two: list[Database]) -> None:
    """And the lock is free then."""

    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await while_alone(two[0], NAME, fails)
    done = asyncio.Event()

    async def ends() -> None:
        done.set()

    await asyncio.wait_for(while_alone(two[1], NAME, ends), 30)
    assert done.is_set()


async def test_a_database_that_is_away_is_waited_for(
    two: list[Database], db: Database, database_url: URL
) -> None:
    """The work begins once it can be asked."""
    from broker_proxy import Proxy

    assert database_url.host
    async with Proxy(database_url.host, database_url.port or 5432) as proxy:
        url = database_url.set(host="127.0.0.1", port=proxy.port)
        await proxy.away()
        async with Database(url) as through:
            turns = Turns()
            task = asyncio.create_task(while_alone(through, NAME, turns.work(0), look=0.05, beat=0.1))
            await asyncio.sleep(0.3)
            assert turns.taken == []
            await proxy.open()
            await turns.until(1)
            await proxy.away()
            async with asyncio.timeout(20):
                while turns.now:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await proxy.open()
            await turns.until(2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("place", ["nats", "redis", "amqp"], indirect=True)
async def test_two_that_receive_keep_the_order_of_a_key(
    place: Place, db: Database, database_url: URL
) -> None:
    """Whichever is at work; one of them is lost in the middle, and the other goes on where it was."""
    await bound(place)
    handled: list[str] = []

    async def handle(tx: Transaction, event: CloudEvent) -> None:
        await asyncio.sleep(random.random() * 0.01)
        await tx.execute(text("INSERT INTO effect (name) VALUES (:id)"), {"id": event.id})
        handled.append(event.id)

    async def bury(tx: Transaction, letter: object) -> None:
        raise AssertionError(letter)

    async def until(number: int) -> None:
        async with asyncio.timeout(40):
            while len(handled) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    events = [event(f"{n % 3}-{n:03}", key=f"k{n % 3}") for n in range(90)]
    async with place.open() as one, place.open() as other, Database(database_url) as another:
        tasks = [
            asyncio.create_task(receive(opened, database, "first", handle, dead_letter=bury))
            for opened, database in ((one, db), (other, another))
        ]
        try:
            await one.publish(events[:60])
            await until(30)
            tasks[0].cancel()
            await asyncio.gather(tasks[0], return_exceptions=True)
            await one.publish(events[60:])
            await until(90)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    async with db.transaction() as tx:
        found = list((await tx.execute(text("SELECT name FROM effect ORDER BY n"))).scalars())
    assert sorted(found) == sorted(each.id for each in events)
    for key in "012":
        of_key = [name for name in found if name[0] == key]
        assert of_key == sorted(of_key)


async def test_places_differ_by_host_topic_and_name() -> None:
    """A lock of one topic keeps nobody from another, and tells no password."""
    from mainstay.patterns.brokers import broker

    addresses = [
        "redis://u:secret@one:6379/0",
        "redis://one:6379/1",
        "redis://two",
        "nats://u:secret@one,two",
    ]
    places = [broker(address, topic).place for address in addresses for topic in ("a", "b")]
    assert len(set(places)) == 8 and "secret" not in "".join(places)
