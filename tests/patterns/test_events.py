"""Events: published with the transaction or not at all, one message for each subscriber, in the order of their key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from events_lab import AT_ONCE, DRIVERS, Lab, copy, template
from sqlalchemy import text

from mainstay.patterns import Transaction
from mainstay.patterns.events import Event, carry
from mainstay.patterns.messages import Handler, Message, NewMessage, PayloadTooLarge, Retry, Unserializable


class OrderPlaced(Event, key="order_id"):
    order_id: int
    note: str = ""


class OrderPaid(Event, key="order_id"):
    order_id: int


class Ticked(Event):
    at: int


@pytest.fixture(scope="module")
def blank(postgresql_url: str) -> Iterator[str]:
    """The database that tests copy."""
    with template(postgresql_url) as name:
        yield name


@pytest.fixture(params=DRIVERS)
async def lab(postgresql_url: str, blank: str, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """A database of the test's own, once with each driver."""
    with copy(postgresql_url, blank) as address:
        lab = Lab(address, request.param)
        yield lab
        await lab.close()


async def test_a_rollback_publishes_nothing_and_a_commit_everything(lab: Lab) -> None:
    """The event exists if and when the publisher's transaction commits."""
    seen: list[int] = []

    @lab.messages.subscribe(OrderPlaced, name="see")
    async def see(event: OrderPlaced) -> None:
        seen.append(event.order_id)

    async with lab.messages.worker():
        with pytest.raises(ZeroDivisionError):
            async with lab.db.transaction() as tx:
                await tx.publish(OrderPlaced(order_id=1))
                raise ZeroDivisionError
        await lab.publish(OrderPlaced(order_id=2))
        await lab.until(lambda: lab.left() == 0)
    assert seen == [2]


async def test_each_subscriber_has_its_own_copy_and_its_own_retries(lab: Lab) -> None:
    """One that fails twice does not hold up the others, nor are they called again."""
    calls: dict[str, list[int]] = {"good": [], "bad": [], "plain": []}

    @lab.messages.subscribe(OrderPlaced, name="good")
    async def good(event: OrderPlaced, tx: Transaction) -> None:
        calls["good"].append(event.order_id)

    @lab.messages.subscribe(OrderPlaced, OrderPaid, name="bad", retry=Retry(attempts=3, first=0.0, most=0.0))
    async def bad(event: OrderPlaced | OrderPaid, *, about: Message) -> None:
        calls["bad"].append(about.attempt)
        raise ValueError("out of stock")

    @lab.messages.subscribe(OrderPlaced, name="plain")
    def plain(event: OrderPlaced) -> None:
        calls["plain"].append(event.order_id)

    async with lab.messages.worker():
        assert len(await lab.publish(OrderPlaced(order_id=7))) == 3
        await lab.until(lambda: lab.left() == 0)
    assert calls == {"good": [7], "bad": [1, 2, 3], "plain": [7]}
    assert lab.look("SELECT kind, state::text, errors -> 2 ->> 'error' FROM mainstay.message") == [
        ("bad", "dead", "ValueError: out of stock")
    ]


async def test_a_subscriber_that_waits_for_its_retry_holds_up_no_other_in_its_queue(lab: Lab) -> None:
    """A key is one subscriber's own, even where several share a queue."""
    seen: list[int] = []

    @lab.messages.subscribe(OrderPlaced, name="bad", queue="shared", retry=Retry(first=3600.0))
    async def bad(event: OrderPlaced) -> None:
        raise ConnectionError

    @lab.messages.subscribe(OrderPlaced, name="good", queue="shared")
    async def good(event: OrderPlaced) -> None:
        seen.append(event.order_id)

    async with lab.messages.worker():
        await lab.publish(OrderPlaced(order_id=1), OrderPlaced(order_id=1), OrderPlaced(order_id=2))
        await lab.until(lambda: sorted(seen) == [1, 1, 2])
        await lab.until(
            lambda: lab.look("SELECT count(*) FROM mainstay.message WHERE state = 'scheduled'") == [2]
        )
    assert lab.left() == 3


async def test_the_database_knows_the_subscribers_not_the_publishing_process(lab: Lab) -> None:
    """A process without any handler publishes to the subscribers of another one, by one statement."""
    seen: list[str] = []
    elsewhere = lab.another()

    @elsewhere.subscribe(OrderPlaced, name="one")
    async def one(event: OrderPlaced) -> None:
        seen.append("one")

    @elsewhere.subscribe(OrderPlaced, name="two")
    async def two(event: OrderPlaced) -> None:
        seen.append("two")

    async with elsewhere.worker():
        await lab.publish(OrderPlaced(order_id=1))
        await lab.until(lambda: len(seen) == 2)
    await elsewhere.database.close()
    assert sorted(seen) == ["one", "two"]


async def test_an_event_without_subscriber_waits_for_its_first_ones(lab: Lab) -> None:
    """Nothing published before is lost; order of keys holds; a later subscriber begins with what comes then."""
    await lab.publish(*(OrderPlaced(order_id=n % 3, note=str(n)) for n in range(30)))
    assert lab.look("SELECT DISTINCT queue FROM mainstay.message") == ["mainstay.unclaimed:OrderPlaced"]
    seen: dict[str, list[OrderPlaced]] = {"first": [], "second": [], "late": []}
    for name in ("first", "second"):

        @lab.messages.subscribe(OrderPlaced, name=name)
        async def see(event: OrderPlaced, message: Message) -> None:
            seen[message.kind].append(event)

    async with lab.messages.worker():
        await lab.publish(*(OrderPlaced(order_id=n % 3, note=str(n)) for n in range(30, 40)))
        await lab.until(lambda: lab.left() == 0)
    for name in ("first", "second"):
        for key in range(3):
            assert [e.note for e in seen[name] if e.order_id == key] == [
                str(n) for n in range(40) if n % 3 == key
            ]
    lab.messages.subscribe(OrderPlaced, name="late")(see)
    async with lab.messages.worker():
        await lab.publish(OrderPlaced(order_id=1, note="new"))
        await lab.until(lambda: lab.left() == 0)
    assert [event.note for event in seen["late"]] == ["new"]


async def test_publishers_under_way_while_the_first_subscriber_comes_lose_no_event_and_no_order(
    lab: Lab,
) -> None:
    """An open transaction that has published keeps the subscription from opening, and its events still come first."""
    seen: list[str] = []

    @lab.messages.subscribe(OrderPlaced, name="see")
    async def see(event: OrderPlaced) -> None:
        seen.append(event.note)

    with psycopg.connect(lab.plain) as publisher:
        lab.messages.publish_sync(publisher, OrderPlaced(order_id=1, note="a"))
        async with lab.messages.worker():
            await lab.publish(OrderPlaced(order_id=2, note="b"))
            await lab.until(lambda: seen == ["b"])
            assert lab.look("SELECT state::text FROM mainstay.subscription") == ["opening"]
            publisher.commit()
            await lab.publish(OrderPlaced(order_id=1, note="c"))
            await lab.until(lambda: lab.look("SELECT state::text FROM mainstay.subscription") == ["open"])
            await lab.publish(OrderPlaced(order_id=1, note="d"))
            await lab.until(lambda: len(seen) == 4)
    assert seen == ["b", "a", "c", "d"]


async def test_one_subscriber_sees_the_events_of_a_key_in_order_and_one_at_a_time(lab: Lab) -> None:
    """Also over several classes of events and failures, on two workers, while other keys go on."""
    at_work: set[int] = set()
    seen: dict[int, list[str]] = {}
    failed: set[str] = set()

    async def see(event: OrderPlaced | OrderPaid) -> None:
        assert event.order_id not in at_work
        at_work.add(event.order_id)
        await asyncio.sleep(0)
        at_work.discard(event.order_id)
        what = f"{type(event).__name__} {event.note if isinstance(event, OrderPlaced) else 'paid'}"
        if event.order_id % 2 and what not in failed:
            failed.add(what)
            raise ConnectionError("once")
        seen.setdefault(event.order_id, []).append(what)

    other = lab.another()
    for messages in (lab.messages, other):
        messages.subscribe(OrderPlaced, OrderPaid, name="see", retry=AT_ONCE)(see)
    async with lab.messages.worker(), other.worker():
        for step in range(5):
            await lab.publish(*(OrderPlaced(order_id=n, note=str(step)) for n in range(10)))
        await lab.publish(*(OrderPaid(order_id=n) for n in range(10)))
        await lab.until(lambda: lab.left() == 0)
    await other.database.close()
    assert seen == {n: [*(f"OrderPlaced {step}" for step in range(5)), "OrderPaid paid"] for n in range(10)}


async def test_a_dead_event_lets_its_key_go_on(lab: Lab) -> None:
    """The default: what is given up stands aside, visible, and later events of the key come."""
    seen: list[str] = []

    @lab.messages.subscribe(OrderPlaced, name="see", retry=Retry(attempts=2, first=0.0, most=0.0))
    async def see(event: OrderPlaced) -> None:
        if event.note == "poison":
            raise ValueError
        seen.append(event.note)

    async with lab.messages.worker():
        await lab.publish(*(OrderPlaced(order_id=1, note=note) for note in ("a", "poison", "b")))
        await lab.until(lambda: lab.left() == 0)
    assert seen == ["a", "b"]
    assert lab.look("SELECT state::text FROM mainstay.message") == ["dead"]


async def test_a_subscriber_that_writes_does_so_once(lab: Lab) -> None:
    """Its writes and the end of the message commit together; a failure takes the writes back."""

    @lab.messages.subscribe(OrderPlaced, name="write", retry=AT_ONCE)
    async def write(event: OrderPlaced, tx: Transaction, message: Message) -> None:
        await tx.execute(text("INSERT INTO effect (what) VALUES (:what)"), {"what": str(event.order_id)})
        if message.attempt == 1:
            raise ConnectionError

    async with lab.messages.worker():
        await lab.publish(*(OrderPlaced(order_id=n) for n in range(5)))
        await lab.until(lambda: lab.left() == 0)
    assert sorted(lab.look("SELECT what FROM effect")) == ["0", "1", "2", "3", "4"]


async def test_what_an_event_causes_names_its_cause_and_carries_the_trace(lab: Lab) -> None:
    """Correlation and trace go through the whole chain, causation names the event before."""
    headers: dict[str, Any] = {}

    @lab.messages.subscribe(OrderPlaced, name="first")
    async def first(event: OrderPlaced, tx: Transaction, message: Message) -> None:
        headers["first"] = message.headers
        await tx.publish(OrderPaid(order_id=event.order_id))

    @lab.messages.subscribe(OrderPaid, name="second")
    def second(event: OrderPaid, message: Message) -> None:
        headers["second"] = message.headers

    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with lab.messages.worker():
        with carry(traceparent=trace, tenant="acme"):
            await lab.publish(OrderPlaced(order_id=1))
        await lab.until(lambda: lab.left() == 0)
    one, two = headers["first"], headers["second"]
    assert UUID(one["id"]) and one["correlation"] == one["id"] and "causation" not in one
    assert two["causation"] == one["id"] and two["correlation"] == one["id"] and two["id"] != one["id"]
    assert {h["traceparent"] for h in (one, two)} == {trace} and two["tenant"] == "acme"


async def test_an_unclaimed_event_ends_with_its_time(lab: Lab) -> None:
    """It is visible while it waits and as expired afterwards; a claimed one has no such end."""

    class Rare(Event, keep=3600):
        pass

    await lab.publish(Rare(), Ticked(at=1))
    lab.change("UPDATE mainstay.message SET expires_at = now() - interval '1 s' WHERE kind = 'Rare'")

    @lab.messages.subscribe(Ticked, name="see", retry=AT_ONCE)
    async def see(event: Ticked) -> None:
        assert lab.look("SELECT expires_at FROM mainstay.message WHERE kind = 'see'") == [None]

    async with lab.messages.worker():
        await lab.until(lambda: lab.left() == 0)
    assert lab.look("SELECT kind, state::text FROM mainstay.message") == [("Rare", "expired")]


async def test_events_and_messages_are_published_together(lab: Lab) -> None:
    """Their ids come back in order."""
    lab.messages.handle(Handler(kind="job", call=lambda message: None))
    job = NewMessage(kind="job", payload="{}")
    ids = await lab.publish(job, Ticked(at=1), Ticked(at=2), job)
    assert ids == sorted(ids, key=lambda id: id or 0) and len(ids) == 4
    assert lab.look("SELECT kind FROM mainstay.message ORDER BY id") == ["job", "Ticked", "Ticked", "job"]


async def test_what_cannot_be_published_says_so_before_anything_is_sent(lab: Lab) -> None:
    """The transaction goes on after the error."""

    class Any_(Event, name="Any"):
        what: Any

    async with lab.db.transaction() as tx:
        with pytest.raises(Unserializable, match="the event Any cannot be written as JSON"):
            await tx.publish(Any_(what=object()))
        with pytest.raises(PayloadTooLarge, match="Any has 2"):
            await tx.publish(Any_(what="x" * 2_000_000))
        with pytest.raises(Unserializable, match="NUL"):
            await tx.publish(Any_(what="\x00"))
        with pytest.raises(ValueError, match="key"):
            await tx.publish(Keyed(key=""))
        await tx.publish(Any_(what={"at": float("inf"), "raw": b"\xff"}))
    assert lab.left() == 1


class Keyed(Event, key="key"):
    key: str


async def test_a_publisher_gone_before_commit_has_published_nothing(lab: Lab) -> None:
    """Its backend is terminated between the INSERT and COMMIT."""
    with psycopg.connect(lab.plain) as publisher:
        lab.messages.publish_sync(publisher, Ticked(at=1))
        lab.change("SELECT pg_terminate_backend(%s)", publisher.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            publisher.commit()
    assert lab.left() == 0
