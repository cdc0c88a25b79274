"""Events to real brokers and back: nothing lost, order per key, and what comes twice has the same id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from events_lab import AT_ONCE, Lab, Process, Proxy, copy, template

from mainstay.patterns import Misuse, Transaction
from mainstay.patterns.brokers import Broker, CloudEvent, broker
from mainstay.patterns.events import Event, carry, upcast
from mainstay.patterns.messages import Message, Retry

PORTS = {"nats": 4222, "amqp": 5672, "redis": 6379}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Moved(Event, name="stock.moved", version=2, key="sku"):
    sku: str | None
    number: int


@upcast(Moved, from_version=1)
def unchanged(data: dict[str, Any]) -> dict[str, Any]:
    return data


class Ignored(Event):
    pass


class Charged(Event, name="com.pay.charged", key="order_id"):
    order_id: int


@pytest.fixture(scope="module")
def blank(postgresql_url: str) -> Iterator[str]:
    """The database that tests copy."""
    with template(postgresql_url) as name:
        yield name


@pytest.fixture
async def lab(postgresql_url: str, blank: str) -> AsyncIterator[Lab]:
    """A database of the test's own. Drivers are the engine's business and are tested there."""
    with copy(postgresql_url, blank) as address:
        lab = Lab(address, "psycopg")
        yield lab
        await lab.close()


class Place:
    """A topic of the test's own at a real broker, and all that arrives there."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.topic = f"mainstay-relay-{uuid4().hex[:12]}"
        self.arrived: list[CloudEvent] = []

    def address(self, port: int | None = None) -> str:
        """Of the broker, or of a proxy at that port."""
        user, path = ("guest:guest@", "/") if self.kind == "amqp" else ("", "")
        return f"{self.kind}://{user}127.0.0.1:{port or PORTS[self.kind]}{path}"

    def open(self, port: int | None = None, **options: Any) -> Broker:
        """The topic, opened."""
        return broker(self.address(port), self.topic, **{"timeout": 5.0, **options})

    async def read(self) -> None:
        """Take all that arrives, for ever."""
        async with self.open() as opened, opened.consume("reader") as deliveries:
            async for delivery in deliveries:
                self.arrived.append(delivery.event())
                await delivery.ack()

    def numbers(self, key: str | None) -> list[int]:
        """What arrived of a key, each where it was first seen."""
        found = [one for one in self.arrived if one.key == key]
        return list(dict.fromkeys(json.loads(one.data or b"")["number"] for one in found))


@pytest.fixture(params=list(PORTS))
async def place(
    request: pytest.FixtureRequest, needs_server: Callable[[int, str], None]
) -> AsyncIterator[Place]:
    """A topic at each broker in turn, deleted afterwards, with a reader."""
    kind = request.param
    needs_server(PORTS[kind], kind)
    place = Place(kind)
    async with _made(place):
        reader = asyncio.create_task(place.read())
        if kind == "amqp":  # a queue must be bound before anything is published
            await _bound(place.topic, "reader")
        yield place
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


@asynccontextmanager
async def _made(place: Place) -> AsyncIterator[None]:
    topic = place.topic
    if place.kind == "nats":
        import nats

        client = await nats.connect(place.address())
        await client.jetstream().add_stream(name=topic, subjects=[f"{topic}.>"])
        try:
            yield
        finally:
            await client.jetstream().delete_stream(topic)
            await client.close()
    elif place.kind == "amqp":
        import aio_pika

        connection = await aio_pika.connect(place.address())
        channel = await connection.channel()
        exchange = await channel.declare_exchange(topic, "topic", durable=True)
        try:
            yield
        finally:
            for consumer in ("reader", "shop"):
                await channel.queue_delete(f"{topic}.{consumer}")
            await exchange.delete(if_unused=False)
            await connection.close()
    else:
        from redis.asyncio import Redis

        try:
            yield
        finally:
            async with Redis(port=PORTS["redis"]) as redis:
                await redis.delete(topic)


async def _bound(topic: str, consumer: str) -> None:
    """Wait until RabbitMQ has the consumer's queue with a binding."""
    import aio_pika

    connection = await aio_pika.connect("amqp://guest:guest@127.0.0.1/")
    async with asyncio.timeout(60):
        while True:
            channel = await connection.channel()
            try:
                queue = await channel.declare_queue(f"{topic}.{consumer}", passive=True)
                if queue.declaration_result.consumer_count:
                    break
            except aio_pika.exceptions.ChannelNotFoundEntity:
                pass
            await asyncio.sleep(0.05)
    await connection.close()


async def test_the_broker_is_cut_off_in_the_middle_and_everything_arrives_in_order(
    lab: Lab, place: Place
) -> None:
    """The outage costs no attempt, others go on meanwhile, and what comes twice has the same id."""
    elsewhere: list[int] = []
    keys = [f"sku {n}" for n in range(8)]

    @lab.messages.subscribe(Ignored, name="elsewhere")
    async def count(event: Ignored) -> None:
        elsewhere.append(1)

    async with Proxy(PORTS[place.kind]) as proxy:
        lab.messages.relay(to=place.open(proxy.port, timeout=2.0), events=[Moved], source="/shop")
        async with lab.messages.worker():
            await lab.publish(*(Moved(sku=key, number=n) for n in range(10) for key in keys))
            await lab.until(lambda: len(place.arrived) >= 20)
            await proxy.cut()
            await lab.publish(*(Moved(sku=key, number=n) for n in range(10, 20) for key in keys))
            await lab.publish(*(Moved(sku=None, number=n) for n in range(50)))
            await lab.until(
                lambda: (
                    lab.look("SELECT EXISTS (SELECT FROM mainstay.message WHERE progress ? 'postponed')")
                    == [True]
                )
            )
            await lab.publish(*(Ignored() for _ in range(300)))
            await lab.until(lambda: len(elsewhere) == 300)
            assert lab.look("SELECT count(*) FROM mainstay.message WHERE errors <> '[]' OR attempts > 1") == [
                0
            ]
            await proxy.mend()
            await lab.until(lambda: lab.left() == 0, 60)
            await lab.until(lambda: {one.key for one in place.arrived} == {*keys, None})
            await lab.until(
                lambda: all(len(place.numbers(key)) == 20 for key in keys) and len(place.numbers(None)) == 50
            )
    for key in keys:
        assert place.numbers(key) == list(range(20))
    assert sorted(place.numbers(None)) == list(range(50))
    told = {(one.key, json.loads(one.data or b"")["number"]): one.id for one in place.arrived}
    assert len(told) == len(set(told.values())) == len({one.id for one in place.arrived}) == 210
    assert lab.look("SELECT count(*) FROM mainstay.message") == [0]


async def test_an_event_outside_says_what_it_is(lab: Lab, place: Place) -> None:
    """The CloudEvents attributes: id, source, type with version, time, key, and what was carried."""
    lab.messages.relay(to=place.open())
    async with lab.messages.worker() as worker:
        with carry(traceparent=TRACE, tenant="acme"):
            await lab.publish(Moved(sku="a", number=1))
        await lab.until(lambda: len(place.arrived) == 1)
        await lab.until(lambda: lab.left() == 0)
    event = place.arrived[0]
    assert event.source == f"urn:uuid:{worker.installation}" and event.type == "stock.moved.v2"
    assert event.datacontenttype == "application/json" and json.loads(event.data or b"") == {
        "sku": "a",
        "number": 1,
    }
    assert event.time is not None and event.key == "a"
    assert event.extensions["traceparent"] == TRACE and event.extensions["tenant"] == "acme"
    assert event.extensions["correlationid"] == event.id


async def test_events_from_a_broker_reach_typed_subscribers_once(lab: Lab, place: Place) -> None:
    """Through the inbox; a duplicate and another type have no effect, and what cannot be read is kept in sight."""
    seen: list[tuple[int, str]] = []

    @lab.messages.subscribe(Charged, name="charge", retry=AT_ONCE)
    async def charge(event: Charged, tx: Transaction, message: Message) -> None:
        if message.attempt == 1:
            raise ConnectionError
        seen.append((event.order_id, message.headers["source"]))

    lab.messages.receive(place.open(), consumer="shop", events=[Charged])
    lab.messages.relay(to=place.open())  # all events, and yet none that came from a broker

    def charged(id: str, order: int, data: bytes | None = None, type: str = "com.pay.charged") -> CloudEvent:
        return CloudEvent(
            id=id, source="/pay", type=type, data=data or b'{"order_id": %d}' % order,
            extensions={"partitionkey": str(order), "traceparent": TRACE},
        )  # fmt: skip

    async with lab.messages.worker():
        if place.kind == "amqp":
            await _bound(place.topic, "shop")
        async with place.open() as pay:
            for event in (
                charged("1", 1), charged("2", 2, type="com.pay.refused"), charged("1", 1), charged("3", 1),
                charged("4", 9, b"no JSON"), charged("5", 2, type="com.pay.charged.v1"),
            ):  # fmt: skip
                await pay.publish([event])
        await lab.until(lambda: len(seen) == 3)
        await lab.until(lambda: lab.look("SELECT count(*) FROM mainstay.message WHERE state = 'dead'") == [1])
        await lab.until(lambda: lab.left() == 0)
    assert sorted(seen) == [(1, "/pay"), (1, "/pay"), (2, "/pay")]
    kind, payload, error = lab.look(
        "SELECT kind, payload ->> 'data_base64', errors -> 0 ->> 'error' FROM mainstay.message WHERE state = 'dead'"
    )[0]
    assert (kind, payload) == ("shop", "bm8gSlNPTg==") and "the data of com.pay.charged 4 is no JSON" in error
    assert {one.source for one in place.arrived} == {"/pay"}


@pytest.mark.parametrize("place", ["redis"], indirect=True)
async def test_a_cancellation_that_a_client_library_lets_out_does_not_end_receiving(
    lab: Lab, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has cancelled the receiver, so it begins again; a worker that only seems to receive would be silent."""
    seen: list[int] = []

    @lab.messages.subscribe(Charged, name="charge")
    async def charge(event: Charged) -> None:
        seen.append(event.order_id)

    opened = place.open()
    consume, broken = opened.consume, [True]

    def breaking(*arguments: Any, **options: Any) -> Any:
        if broken:
            raise asyncio.CancelledError(broken.pop())
        return consume(*arguments, **options)

    monkeypatch.setattr(opened, "consume", breaking)
    lab.messages.receive(opened, consumer="shop", events=[Charged])
    async with lab.messages.worker(), place.open() as pay:
        await pay.publish(
            [CloudEvent(id="1", source="/pay", type="com.pay.charged", data=b'{"order_id": 1}')]
        )
        await lab.until(lambda: seen == [1])
    assert not broken


@pytest.mark.parametrize("place", ["redis"], indirect=True)
async def test_a_relay_killed_after_the_broker_confirmed_sends_again_with_the_same_id(
    lab: Lab, place: Place
) -> None:
    """SIGKILL of a real process at the one point where a duplicate cannot be avoided."""
    lab.change(
        "INSERT INTO mainstay.subscription (subscriber, event, queue, relay, state)"
        " VALUES ('relay', '*', 'relay', true, 'open')"
    )
    await lab.publish(Moved(sku="a", number=1), Moved(sku="b", number=2))
    with Process(lab.url, place.address(), place.topic, "confirmed", program="relay_worker.py") as victim:
        await victim.says("confirmed")
        victim.kill()
    with Process(lab.url, place.address(), place.topic, "none", program="relay_worker.py"):
        await lab.until(lambda: lab.left() == 0)
    await lab.until(lambda: len(place.arrived) == 4)
    ids = [one.id for one in place.arrived]
    assert len(set(ids)) == 2 and all(ids.count(id) == 2 for id in ids)


@pytest.mark.parametrize("place", ["redis"], indirect=True)
async def test_what_the_broker_refuses_is_dead_in_the_end_and_holds_up_no_other_key(
    lab: Lab, place: Place
) -> None:
    """A refusal counts as an attempt, unlike an outage."""
    lab.messages.relay(to=place.open(largest=200), retry=Retry(attempts=3, first=0.0, most=0.0))
    async with lab.messages.worker():
        await lab.publish(Moved(sku="x" * 300, number=1), Moved(sku="b", number=2))
        await lab.until(lambda: lab.left() == 0)
        await lab.until(lambda: len(place.arrived) == 1)
    (reason,) = lab.look("SELECT errors -> 2 ->> 'error' FROM mainstay.message WHERE state = 'dead'")
    assert "at most 200 are sent" in reason
    assert place.numbers("b") == [2]


@pytest.mark.parametrize("place", ["redis"], indirect=True)
async def test_a_relay_of_all_sends_what_waited_for_a_subscriber(lab: Lab, place: Place) -> None:
    """Events of any class published before the relay was there, in order."""
    await lab.publish(*(Moved(sku="a", number=n) for n in range(5)), Ignored())
    lab.messages.relay(to=place.open(), source="/shop")
    async with lab.messages.worker():
        await lab.publish(Moved(sku="a", number=5))
        await lab.until(lambda: lab.left() == 0)
        await lab.until(lambda: len(place.arrived) == 7)
    assert place.numbers("a") == list(range(6))
    assert {one.type for one in place.arrived} == {"stock.moved.v2", "Ignored.v1"}


async def test_relaying_or_receiving_nothing_is_refused(lab: Lab) -> None:
    """With the way to say what was meant."""
    with pytest.raises(Misuse, match="leave events out to relay all"):
        lab.messages.relay(to=broker("redis://127.0.0.1", "x"), events=[])
    with pytest.raises(Misuse, match="shop receives which events"):
        lab.messages.receive(broker("redis://127.0.0.1", "x"), consumer="shop", events=[])
