"""A topic at a real broker, and what the tests do with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from mainstay.patterns.brokers import Broker, CloudEvent, broker

KINDS = ["nats", "amqp", "redis", "kafka"]
TIMEOUT = 5.0
CONSUMERS = ["first", "second"]


@dataclass
class Place:
    """A topic at a broker, and how to open it straight or through a proxy."""

    kind: str
    host: str
    port: int
    topic: str
    options: dict[str, Any]

    def address(self, port: int | None = None) -> str:
        """The address of the broker, or of a proxy at that port."""
        user = "guest:guest@" if self.kind == "amqp" else ""
        return f"{self.kind}://{user}{self.host}:{port or self.port}" + ("/" if self.kind == "amqp" else "")

    def open(self, *, port: int | None = None, topic: str | None = None, **options: Any) -> Broker:
        """The topic, or another one, opened."""
        return broker(
            self.address(port), topic or self.topic, **{"timeout": TIMEOUT, **self.options, **options}
        )


def event(id: str, *, key: str | None = None, type: str = "test.happened", **attributes: Any) -> CloudEvent:
    """An event of these tests."""
    return CloudEvent(
        id=id,
        source="/mainstay/tests",
        type=type,
        extensions={} if key is None else {"partitionkey": key},
        data=attributes.pop("data", b'{"a": 1}'),
        datacontenttype="application/json",
        **attributes,
    )


async def bound(place: Place, *consumers: str) -> None:
    """Make the durable places of the consumers, so that they get what is published from now on."""
    if place.kind == "amqp":
        for consumer in consumers or CONSUMERS[:1]:
            async with place.open() as opened, opened.consume(consumer) as deliveries:
                taking = asyncio.ensure_future(anext(deliveries))  # type: ignore[arg-type]
                await until_there(place, consumer)
                taking.cancel()
                await asyncio.gather(taking, return_exceptions=True)


async def until_there(place: Place, consumer: str) -> None:
    """Wait until RabbitMQ has the consumer's queue and its binding."""
    import aio_pika
    from aio_pika.exceptions import ChannelClosed

    connection = await aio_pika.connect(place.address())
    async with connection, asyncio.timeout(30):
        while True:
            channel = await connection.channel(on_return_raises=True)
            try:
                queue = await channel.declare_queue(f"{place.topic}.{consumer}", passive=True)
                if queue.declaration_result.consumer_count:
                    return
            except ChannelClosed:
                await asyncio.sleep(0.02)


async def taken(deliveries: AsyncIterator[Any], number: int, seconds: float = 30.0) -> list[CloudEvent]:
    """The next events, each acknowledged."""
    found = []
    async with asyncio.timeout(seconds):
        while len(found) < number:
            delivery = await anext(deliveries)  # type: ignore[arg-type]
            found.append(delivery.event())
            await delivery.ack()
    return found
