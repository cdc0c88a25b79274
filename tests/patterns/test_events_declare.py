"""Subscribers that are made known before any worker runs, and kept known whatever clocks say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import pytest
from events_lab import DRIVERS, Lab, copy, template

from mainstay.patterns.brokers import broker
from mainstay.patterns.events import Event, MissingUpcaster
from mainstay.patterns.events import subscriptions as subscriptions_module
from mainstay.patterns.events.control import list_subscriptions
from mainstay.patterns.messages import Messages
from mainstay.patterns.schema import SchemaBehind


class Placed(Event, key="order_id"):
    order_id: int


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


def subscriber(messages: Messages, name: str, seen: list[str]) -> None:
    """Subscribe to `Placed`."""

    @messages.subscribe(Placed, name=name)
    async def see(event: Placed) -> None:
        seen.append(f"{name} {event.order_id}")


async def test_what_is_published_before_any_worker_goes_to_all_that_were_declared(lab: Lab) -> None:
    """Two services declare in their deploys; each gets each event in order, also those published between the two."""
    seen: list[str] = []
    other = lab.another()
    subscriber(lab.messages, "stock", seen)
    subscriber(other, "mail", seen)
    await lab.publish(Placed(order_id=1))
    assert [(one["subscriber"], one["state"]) for one in await lab.messages.declare()] == [("stock", "open")]
    assert [(one["subscriber"], one["state"]) for one in await other.declare()] == [("mail", "open")]
    await lab.publish(Placed(order_id=2), Placed(order_id=3))
    await lab.messages.declare()
    async with lab.messages.worker(), other.worker():
        await lab.until(lambda: lab.left() == 0)
    await other.database.close()
    assert [one for one in seen if one.startswith("stock")] == ["stock 1", "stock 2", "stock 3"]
    assert [one for one in seen if one.startswith("mail")] == ["mail 2", "mail 3"]


async def test_declared_at_once_by_many(lab: Lab) -> None:
    """Processes that start together do not stand in each other's way, nor in that of publishers under way."""
    seen: list[str] = []
    others = [lab.another() for _ in range(4)]
    for messages in others:
        for name in ("a", "b", "c"):
            subscriber(messages, name, seen)
    async with lab.db.transaction() as tx:
        await tx.publish(Placed(order_id=1))
        declaring = [asyncio.create_task(messages.declare()) for messages in others]
        await asyncio.sleep(0.5)
    for found in await asyncio.gather(*declaring):
        assert {one["subscriber"]: one["state"] for one in found} == dict.fromkeys("abc", "open")
    async with others[0].worker():
        await lab.until(lambda: lab.left() == 0)
    for messages in others:
        await messages.database.close()
    assert sorted(seen) == ["a 1", "b 1", "c 1"]


async def test_a_publisher_that_takes_long_leaves_it_to_the_first_worker(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subscriptions stay opening, and still get all that is published."""
    monkeypatch.setattr(subscriptions_module, "TRIES", 2)
    seen: list[str] = []
    for name in ("a", "b"):
        subscriber(lab.messages, name, seen)
    other = lab.another()
    async with other.database.transaction() as tx:
        await tx.publish(Placed(order_id=1))
        assert {one["state"] for one in await lab.messages.declare()} == {"opening"}
    await lab.publish(Placed(order_id=2))
    async with lab.messages.worker():
        await lab.until(lambda: lab.left() == 0)
    await other.database.close()
    assert sorted(seen) == ["a 1", "a 2", "b 1", "b 2"]


async def test_what_is_opening_beside_a_relay_gets_all_that_is_published(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay takes each event, so that none waits unclaimed for the first subscriber: it gets a copy from now on."""
    monkeypatch.setattr(subscriptions_module, "TRIES", 2)
    seen: list[str] = []
    relaying, other = lab.another(), lab.another()
    relaying.relay(to=broker("redis://127.0.0.1", "nowhere"))
    assert [one["state"] for one in await relaying.declare()] == ["open"]
    subscriber(lab.messages, "a", seen)
    async with other.database.transaction() as tx:
        await tx.publish(Placed(order_id=1))
        assert [one["state"] for one in await lab.messages.declare()] == ["opening"]
        await lab.publish(Placed(order_id=2))
    async with lab.messages.worker(queues=["a"]):
        await lab.until(lambda: lab.look("SELECT state::text FROM mainstay.subscription") == ["open"] * 2)
        await lab.publish(Placed(order_id=3))
        await lab.until(lambda: lab.look("SELECT count(*) FROM mainstay.message WHERE queue = 'a'") == [0])
    for one in (relaying, other):
        await one.database.close()
    assert seen == ["a 2", "a 3"]
    assert lab.look("SELECT count(*) FROM mainstay.message WHERE queue = 'relay'") == [3]


async def test_a_relay_that_is_opening_beside_a_subscriber_gets_all_that_is_published(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round: the subscriber takes its copy, and the relay its own."""
    monkeypatch.setattr(subscriptions_module, "TRIES", 1)
    seen: list[str] = []
    subscriber(lab.messages, "a", seen)
    assert [one["state"] for one in await lab.messages.declare()] == ["open"]
    relaying = lab.another()
    relaying.relay(to=broker("redis://127.0.0.1", "nowhere"))
    async with lab.db.transaction() as tx:
        await tx.publish(Placed(order_id=1))
        assert [one["state"] for one in await relaying.declare()] == ["opening"]
        async with relaying.database.transaction() as second:
            await second.publish(Placed(order_id=2))
    await relaying.database.close()
    assert lab.look("SELECT queue, count(*) FROM mainstay.message GROUP BY 1 ORDER BY 1") == [
        ("a", 2),
        ("relay", 1),
    ]


async def test_nothing_to_declare_is_fine(lab: Lab) -> None:
    """A service that subscribes to nothing declares nothing, and its worker starts."""
    messages = lab.messages
    messages.subscriptions().retire_after = 3600

    @messages.job(name="job")
    async def job() -> None: ...

    assert await messages.declare() == []
    async with lab.db.transaction() as tx:
        await tx.enqueue(job)
    async with messages.worker() as worker:
        await lab.until(lambda: lab.left() == 0)
        await messages.subscriptions()._tidy(worker)


async def test_what_cannot_be_declared_says_why(lab: Lab) -> None:
    """A gap in the upcasters, or tables that are not there."""

    class Gap(Event, version=2): ...

    @lab.messages.subscribe(Gap, name="see")
    async def see(event: Gap) -> None: ...

    with pytest.raises(MissingUpcaster):
        await lab.messages.declare()
    assert await list_subscriptions(lab.db) == []
    lab.change("DELETE FROM mainstay.migration WHERE number >= 5")
    with pytest.raises(SchemaBehind, match="mainstay db upgrade"):
        await lab.messages.declare()


async def test_a_clock_that_jumps_retires_nobody(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a week in which all was down: who is still there says so before anyone has seen it gone for long."""
    seen: list[str] = []
    other = lab.another()
    subscriber(lab.messages, "stock", seen)
    subscriber(other, "mail", seen)
    now = 0.0
    monkeypatch.setattr(subscriptions_module, "time", SimpleNamespace(monotonic=lambda: now))
    async with lab.messages.worker() as mine, other.worker() as others:
        await lab.publish(Placed(order_id=1))
        await lab.until(lambda: lab.left() == 0)
        lab.change("UPDATE mainstay.subscription SET declared_at = declared_at - interval '30 days'")
        await lab.messages.subscriptions()._tidy(mine)
        now += subscriptions_module.OBSERVED - 1
        await lab.messages.subscriptions()._tidy(mine)
        await other.subscriptions()._tidy(others)
        now += 2
        await lab.messages.subscriptions()._tidy(mine)
        assert {one["state"] for one in await list_subscriptions(lab.db)} == {"open"}
    # Whoever is really gone is retired, as soon as that has been seen for long enough.
    async with lab.messages.worker() as mine:
        lab.change(
            "UPDATE mainstay.subscription SET declared_at = now() - interval '30 days' WHERE subscriber = 'mail'"
        )
        await lab.messages.subscriptions()._tidy(mine)
        now += subscriptions_module.OBSERVED
        await lab.messages.subscriptions()._tidy(mine)
        states = {one["subscriber"]: one["state"] for one in await list_subscriptions(lab.db)}
        assert states == {"stock": "open", "mail": "retired"}
    await other.database.close()
