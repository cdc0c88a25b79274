"""What every broker keeps, against the real servers: one suite for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from broker_places import Place, bound, event, taken
from broker_proxy import Proxy

from mainstay.patterns import Database, OutsideCallInTransaction
from mainstay.patterns.brokers import BrokerUnavailable, CloudEvent, Delivery, Refused


async def test_an_event_arrives_as_it_was_sent(place: Place) -> None:
    """All attributes, also those with spaces, quotes, percent signs and letters beyond ASCII; and the data."""
    await bound(place)
    sent = CloudEvent(
        id='1 "quoted" 100% é😀',
        source="/mainstay/tests?a=b%20c",
        type="test.happened",
        time=datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC),
        subject="Euro € \\ back",
        datacontenttype="application/json; charset=utf-8",
        dataschema="https://example.com/schema#1",
        data=b'{"price": "1\xe2\x82\xac"}\x00\xff',
        extensions={"partitionkey": "a key", "sequence": "0001", "traceparent": "00-ab-cd-01"},
    )
    bare = CloudEvent(id="2", source="/s", type="t")
    async with place.open() as opened, opened.consume("first") as deliveries:
        await opened.publish([sent, bare])
        found = await taken(deliveries, 2)
    assert sorted(found, key=lambda each: each.source, reverse=True) == [bare, sent]


async def test_events_of_a_key_keep_their_order(place: Place) -> None:
    """Many events of many keys in one call arrive, per key, in the order in which they were given."""
    await bound(place)
    events = [event(f"{n}", key=f"k{n % 7}") for n in range(140)]
    async with place.open() as opened, opened.consume("first", prefetch=20) as deliveries:
        await opened.publish(events)
        found = await taken(deliveries, 140)
    for key in {each.key for each in events}:
        assert [each.id for each in found if each.key == key] == [
            each.id for each in events if each.key == key
        ]


async def test_a_consumer_goes_on_where_it_was(place: Place) -> None:
    """What was acknowledged is not delivered again; what was not, or was given back, is, in order."""
    await bound(place)
    async with place.open() as opened:
        await opened.publish([event(f"{n}", key="k") for n in range(6)])
        async with opened.consume("first") as deliveries:
            assert [each.id for each in await taken(deliveries, 2)] == ["0", "1"]
            await anext(deliveries)  # type: ignore[arg-type]
        async with opened.consume("first") as deliveries:
            assert [each.id for each in await taken(deliveries, 4)] == ["2", "3", "4", "5"]


async def test_what_is_not_acknowledged_comes_back(place: Place) -> None:
    """nack brings the same event again."""
    await bound(place)
    async with place.open() as opened, opened.consume("first") as deliveries, asyncio.timeout(30):
        await opened.publish([event("1")])
        await (await anext(deliveries)).nack()  # type: ignore[arg-type]
        assert [each.id for each in await taken(deliveries, 1)] == ["1"]


async def test_no_more_is_taken_than_prefetch(place: Place) -> None:
    """The third event comes only once one of the two before it is acknowledged."""
    await bound(place)
    async with place.open() as opened, opened.consume("first", prefetch=2) as deliveries, asyncio.timeout(30):
        await opened.publish([event(f"{n}", key="k") for n in range(3)])
        one, two = await anext(deliveries), await anext(deliveries)  # type: ignore[arg-type]
        third = asyncio.ensure_future(anext(deliveries))  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(third), 0.5)
        await one.ack()
        await two.ack()
        assert (await third).event().id == "2"


async def test_what_is_at_work_long_is_not_handed_out_again(place: Place) -> None:
    """A delivery that is held for longer than it takes to notice a dead process stays with the one who holds it."""
    if place.kind not in ("nats", "redis"):
        pytest.skip("RabbitMQ and Kafka see by the connection who is alive")
    async with place.open(redeliver_after=1.5) as opened, opened.consume("first") as deliveries:
        await opened.publish([event("1")])
        held = await asyncio.wait_for(anext(deliveries), 20)  # type: ignore[arg-type]
        async with opened.consume("first") as others:
            again = asyncio.ensure_future(anext(others))  # type: ignore[arg-type]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(again), 3.5)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
        await held.ack()


async def test_what_a_dead_process_held_comes_before_what_is_newer(place: Place) -> None:
    """Two of four events were handed to a process that says nothing any more: all four arrive in order."""
    if place.kind not in ("nats", "redis"):
        pytest.skip("RabbitMQ and Kafka see by the connection who is dead")
    async with place.open() as opened:
        await opened.publish([event("0", key="k")])
        async with opened.consume("first") as deliveries:  # so that the durable place is there
            await taken(deliveries, 1)
        await opened.publish([event(f"{n}", key="k") for n in range(1, 5)])
        await take_and_say_nothing(place, 2)
        async with opened.consume("first") as deliveries:
            assert [each.id for each in await taken(deliveries, 4)] == ["1", "2", "3", "4"]


async def take_and_say_nothing(place: Place, number: int) -> None:
    """Take so many events in the consumer's name, by the broker's own client, and neither settle nor keep them."""
    if place.kind == "nats":
        import nats

        client = await nats.connect(place.address())
        subscription = await client.jetstream().pull_subscribe_bind(
            durable=f"{place.topic}-first", stream=place.topic
        )
        assert len(await subscription.fetch(number)) == number
        await client.close()
    else:
        from redis.asyncio import Redis

        async with Redis(port=place.port) as client:
            reply = await client.xreadgroup("first", "dead", {place.topic: ">"}, count=number)
            assert len(next(iter(dict(reply).values()))) == number


async def test_another_process_takes_over_in_order(place: Place) -> None:
    """Two consume under one name, one of them leaves in the middle: nothing is missing, each key is in order."""
    await bound(place)
    events = [event(f"{n:02}", key=f"k{n % 3}") for n in range(30)]
    async with place.open() as opened, place.open() as other, asyncio.timeout(60):
        first = opened.consume("first")
        deliveries = await first.__aenter__()
        await opened.publish(events)
        found = await taken(deliveries, 10)
        async with other.consume("first") as others:
            second = asyncio.create_task(taken_all(others, {each.id for each in events}, found))
            await asyncio.sleep(0)
            await first.__aexit__(None, None, None)
            await second
    for n in range(3):
        assert without_repeats([each for each in found if each.key == f"k{n}"]) == [
            each.id for each in events if each.key == f"k{n}"
        ]


async def taken_all(deliveries: AsyncIterator[Delivery], ids: set[str], found: list[CloudEvent]) -> None:
    """Add to what was found until all of these are."""
    while ids - {each.id for each in found}:
        found += await taken(deliveries, 1)


async def test_two_consumers_each_get_all(place: Place) -> None:
    """Consumers of different names have different places in the same topic."""
    await bound(place, "first", "second")
    async with place.open() as opened:
        await opened.publish([event("1"), event("2")])
        for consumer in ("first", "second"):
            async with opened.consume(consumer) as deliveries:
                assert {each.id for each in await taken(deliveries, 2)} == {"1", "2"}


async def test_too_large_is_refused_and_the_rest_confirmed(place: Place) -> None:
    """A retry does not help; later events of its key wait for someone to decide, others are confirmed."""
    await bound(place)
    big = event("big", key="k", data=b"x" * 2000)
    after, other = event("after", key="k"), event("other", key="o")
    async with place.open(largest=1000) as opened, opened.consume("first") as deliveries:
        with pytest.raises(Refused, match="2000 bytes") as caught:
            await opened.publish([big, after, other])
        assert list(caught.value.refused) == [big]
        assert caught.value.confirmed == (other,)
        assert [each.id for each in await taken(deliveries, 1)] == ["other"]


async def test_no_such_topic_is_refused(place: Place) -> None:
    """No stream, no exchange: said at once, with what to make."""
    if place.kind in ("redis", "kafka"):
        pytest.skip("a stream of Redis is made by its first event, a topic of the mock cluster too")
    async with place.open(topic=f"{place.topic}-missing") as opened:
        with pytest.raises(Refused, match=r"no stream|no exchange"):
            await opened.publish([event("1")])


async def test_no_queue_for_a_type_is_refused(place: Place) -> None:
    """RabbitMQ would drop an event that no queue is bound for; it is refused instead."""
    if place.kind != "amqp":
        pytest.skip("RabbitMQ alone routes")
    async with place.open() as opened:
        with pytest.raises(Refused, match="no queue is bound") as caught:
            await opened.publish([event("1"), event("2", key="k"), event("3", key="k")])
    assert {each.id for each in caught.value.refused} == {"1", "2"}


async def test_published_twice_is_kept_once(place: Place) -> None:
    """JetStream knows duplicates by Nats-Msg-Id."""
    if place.kind != "nats":
        pytest.skip("the others keep both, and the inbox drops the second")
    async with place.open() as opened, opened.consume("first") as deliveries:
        await opened.publish([event("1")])
        await opened.publish([event("1"), event("2")])
        assert [each.id for each in await taken(deliveries, 2)] == ["1", "2"]


async def test_nothing_is_published_in_a_transaction(place: Place, db: Database) -> None:
    """Nor is a delivery acknowledged before the commit."""
    await bound(place)
    async with place.open() as opened, opened.consume("first") as deliveries, asyncio.timeout(30):
        await opened.publish([event("1")])
        delivery = await anext(deliveries)  # type: ignore[arg-type]
        async with db.transaction():
            with pytest.raises(OutsideCallInTransaction):
                await opened.publish([event("2")])
            with pytest.raises(OutsideCallInTransaction):
                await delivery.ack()
        await delivery.ack()


async def test_a_broker_that_is_away_is_said_in_time(place: Place, proxy: Proxy) -> None:
    """From the start: BrokerUnavailable within the time-out; and it works as soon as the broker is back."""
    await bound(place)
    await proxy.away()
    loop = asyncio.get_running_loop()
    async with place.open(port=proxy.port, timeout=2.0) as opened:
        begun = loop.time()
        with pytest.raises(BrokerUnavailable) as caught:
            await opened.publish([event("1", key="k"), event("2", key="k")])
        assert loop.time() - begun < 15
        assert not caught.value.confirmed
        await proxy.open()
        await until_published(opened, [event("1", key="k"), event("2", key="k")])
    async with place.open() as opened, opened.consume("first") as deliveries:
        assert without_repeats(await taken(deliveries, 2)) == ["1", "2"]


async def test_a_broker_that_does_not_answer_is_said_in_time(place: Place, proxy: Proxy) -> None:
    """Its answers are lost: what it has is not known, and publishing again does no harm to the order."""
    if place.kind == "kafka":
        pytest.skip("librdkafka asks the address in the cluster's metadata, past any proxy")
    await bound(place)
    loop = asyncio.get_running_loop()
    async with place.open(port=proxy.port, timeout=2.0) as opened:
        await opened.publish([event("0", key="k")])
        proxy.silent = True
        begun = loop.time()
        with pytest.raises(BrokerUnavailable) as caught:
            await opened.publish([event("1", key="k"), event("2", key="k")])
        assert loop.time() - begun < 15
        assert not caught.value.confirmed
        proxy.silent = False
        proxy.cut()
        await until_published(opened, [event("1", key="k"), event("2", key="k")])
    async with place.open() as opened, opened.consume("first") as deliveries:
        found = await taken_until(deliveries, "2")
    assert without_repeats(found) == ["0", "1", "2"]


async def test_connections_cut_while_publishing(place: Place, proxy: Proxy) -> None:
    """A relay that publishes again what was not confirmed loses nothing and keeps the order of each key."""
    if place.kind == "kafka":
        pytest.skip("librdkafka asks the address in the cluster's metadata, past any proxy")
    await bound(place)
    waiting = [event(f"{n:03}", key=f"k{n % 5}") for n in range(200)]

    async def cutting() -> None:
        while True:
            await asyncio.sleep(0.05)
            proxy.cut()

    async with place.open(port=proxy.port) as opened:
        cutter = asyncio.create_task(cutting())
        rounds = 0
        async with asyncio.timeout(60):
            while waiting:
                try:
                    await opened.publish(waiting[:50])
                    waiting = waiting[50:]
                except BrokerUnavailable as error:
                    done = set(error.confirmed)
                    waiting = [each for each in waiting if each not in done]
                    rounds += 1
                    if rounds == 5:
                        cutter.cancel()
        cutter.cancel()
    async with place.open() as opened, opened.consume("first") as deliveries:
        found: list[CloudEvent] = []
        while len({each.id for each in found}) < 200:
            found += await taken(deliveries, 1)
    for n in range(5):
        of_key = [each for each in found if each.key == f"k{n}"]
        assert without_repeats(of_key) == [f"{m:03}" for m in range(n, 200, 5)]


async def test_a_consumer_outlives_an_outage(place: Place, proxy: Proxy) -> None:
    """The connection is cut and the broker away for a while: the same iterator goes on, nothing is missing."""
    if place.kind == "kafka":
        pytest.skip("librdkafka asks the address in the cluster's metadata, past any proxy")
    await bound(place)
    async with (
        place.open() as straight,
        place.open(port=proxy.port) as opened,
        opened.consume("first") as deliveries,
    ):
        await straight.publish([event("1", key="k")])
        assert [each.id for each in await taken(deliveries, 1)] == ["1"]
        await proxy.away()
        await straight.publish([event("2", key="k"), event("3", key="k")])
        coming = asyncio.create_task(taken_until(deliveries, "3"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(coming), 1.0)
        await proxy.open()
        # The acknowledgement of the first may have been lost with the connection.
        assert without_repeats(await coming)[-2:] == ["2", "3"]


async def test_what_was_closed_can_be_opened_again(place: Place) -> None:
    """A worker that ends closes its broker; the next one in the same process opens the same object."""
    await bound(place)
    opened = place.open()
    for id in ("1", "2"):
        async with opened, opened.consume("first") as deliveries:
            await opened.publish([event(id)])
            assert [each.id for each in await taken(deliveries, 1)] == [id]


async def test_nothing_to_publish_is_nothing(place: Place) -> None:
    """Not even a connection is made for it."""
    async with place.open(port=1) as opened:
        await opened.publish([])


async def test_names_and_numbers_that_cannot_be_used_are_refused(place: Place) -> None:
    """Before anything is sent."""
    async with place.open() as opened:
        for consumer, prefetch in (("a b", 1), ("a.b", 1), ("", 1), ("first", 0)):
            with pytest.raises(ValueError, match=r"consumer|prefetch"):
                async with opened.consume(consumer, prefetch=prefetch):
                    pass


async def until_published(opened: object, events: list[CloudEvent]) -> None:
    """Publish again what was not confirmed, as a relay does."""
    async with asyncio.timeout(30):
        while events:
            try:
                await opened.publish(events)  # type: ignore[attr-defined]
                return
            except BrokerUnavailable as error:
                events = [each for each in events if each not in error.confirmed]


async def taken_until(deliveries: AsyncIterator[Delivery], id: str) -> list[CloudEvent]:
    """The next events up to the one with that id."""
    found = await taken(deliveries, 1)
    while found[-1].id != id:
        found += await taken(deliveries, 1)
    return found


def without_repeats(events: list[CloudEvent]) -> list[str]:
    """What an inbox lets through: each event's first delivery."""
    return list(dict.fromkeys(each.id for each in events))
