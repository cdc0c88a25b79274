"""Events through brokers, as the workers have it: relayed, repeated by a careless broker, and received in two ways.

A thing told is known by its token, and its effects by their kind: ``told`` by a subscriber beside the publisher,
``told over nats`` by a subscriber behind `Messages.receive`, ``taken from nats`` by `receive`, the inbox alone.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Self

from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.brokers import Broker, CloudEvent, Delivery, PublishError, Refused, broker
from mainstay.patterns.brokers.receive import DeadLetter, receive
from mainstay.patterns.events import Event
from mainstay.patterns.messages import Message, Messages, Retry

TIMEOUT = 2.0
"""Seconds for one call of a broker."""
REDELIVER_AFTER = 2.0
"""Seconds until a broker hands out again what has not been acknowledged: less than a worker is stopped for."""
REMEMBERED = 100
TYPED, PLAIN = "typed", "plain"
"""The consumers at each broker."""

EFFECT = text("INSERT INTO effect (token, kind, source, number) VALUES (:token, :kind, :source, :number)")


class Told(Event, name="chaos.told", key="source"):
    """Something that all shall hear of."""

    token: str
    source: str
    number: int


def ways(brokers: Iterable[str]) -> list[str]:
    """The kinds of effects that one thing told has."""
    return ["told", *(f"{way} {kind}" for kind in brokers for way in ("told over", "taken from"))]


class Careless:
    """A broker that repeats itself: now and then some of what it has published before, shuffled."""

    def __init__(self, inner: Broker) -> None:
        self._inner = inner
        self.place, self.keeps_order = inner.place, inner.keeps_order
        self._recent: list[CloudEvent] = []

    async def publish(self, events: Sequence[CloudEvent]) -> None:
        """As ever, and perhaps more of it."""
        await self._inner.publish(events)
        self._recent = [*self._recent, *events][-REMEMBERED:]
        if random.random() < 0.3:
            with suppress(PublishError):
                await self._inner.publish(random.sample(self._recent, min(len(self._recent), 5)))

    def consume(
        self, consumer: str, *, prefetch: int = 100
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """As ever."""
        return self._inner.consume(consumer, prefetch=prefetch)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)


def _open(address: str, topic: str) -> Broker:
    return broker(address, topic, timeout=TIMEOUT, redeliver_after=REDELIVER_AFTER)


def declare(messages: Messages, brokers: Mapping[str, tuple[str, str]], retry: Retry) -> None:
    """Relay to each broker, take from it, and write down what comes.

    Args:
        brokers: by kind, the address and the topic.
    """

    @messages.subscribe(Told, name="told", retry=retry)
    async def told(event: Told, tx: Transaction, message: Message) -> None:
        came_over = message.headers.get("source")  # where there is none, it did not come over a broker
        kind = "told" if came_over is None else f"told over {came_over.removeprefix('/')}"
        await tx.execute(EFFECT, {**event.model_dump(), "kind": kind})

    for kind, (address, topic) in brokers.items():
        messages.relay(
            to=Careless(_open(address, topic)),
            events=[Told],
            name=f"to {kind}",
            source=f"/{kind}",
            retry=retry,
        )
        messages.receive(_open(address, topic), consumer=TYPED, events=[Told])


@asynccontextmanager
async def taking(db: Database, brokers: Mapping[str, tuple[str, str]]) -> AsyncIterator[None]:
    """Take from each broker by `receive` too, while the block runs."""
    tasks = [asyncio.create_task(_take(db, kind, *place)) for kind, place in brokers.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _take(db: Database, kind: str, address: str, topic: str) -> None:
    async def take(tx: Transaction, event: CloudEvent) -> None:
        await tx.execute(EFFECT, {**json.loads(event.data or b""), "kind": f"taken from {kind}"})

    async def bury(tx: Transaction, letter: DeadLetter) -> None:
        lost = {"token": letter.error[-300:], "kind": "dead letter", "source": None, "number": None}
        await tx.execute(EFFECT, lost)

    async with _open(address, topic) as opened:
        while True:
            with suppress(Refused):  # a broker that has just started need not know its streams yet
                # One attempt: nothing that happens here is an event's fault, so none may be counted.
                await receive(opened, db, PLAIN, take, dead_letter=bury, attempts=1, longest_wait=0.5)
            await asyncio.sleep(0.5)
