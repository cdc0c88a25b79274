"""Who is cancelled ends, also where a client library swallows the cancellation, as `asyncio.wait_for` may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from broker_places import Place, event

from mainstay.patterns import Database
from mainstay.patterns.brokers.broker import Delivery
from mainstay.patterns.brokers.holding import repeating
from mainstay.patterns.brokers.receive import receive


async def nothing(*_: object) -> None:
    """Neither a handler nor an acknowledgement."""


def swallowing(begun: asyncio.Event, error: Exception | None = None) -> Callable[..., Awaitable[Any]]:
    """A call that lasts until it is cancelled, and then comes back, or fails in another way."""

    async def call(*_: object, **__: object) -> Any:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
        return []

    return call


async def ends(task: asyncio.Task[Any]) -> None:
    """Cancelled once, the task ends in time."""
    task.cancel()
    _, still = await asyncio.wait((task,), timeout=20)
    while not task.done():  # so that a failure is no hang
        task.cancel()
        await asyncio.wait((task,), timeout=0.1)
    assert not still
    assert task.cancelled()


@pytest.mark.parametrize("error", [None, ConnectionError("away")])
async def test_what_is_repeated_ends(error: Exception | None) -> None:
    """The block is left although the action did not notice."""
    begun = asyncio.Event()

    async def block() -> None:
        async with repeating(swallowing(begun, error), 0.0):
            await begun.wait()

    await asyncio.wait_for(block(), 20)


class Swallows:
    """A broker whose iterator hands out an event instead of heeding a cancellation."""

    place = "nowhere"
    keeps_order = True

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    @asynccontextmanager
    async def consume(self, consumer: str, *, prefetch: int = 1) -> AsyncIterator[AsyncIterator[Delivery]]:
        """See `Broker.consume`."""
        waiting = swallowing(self.begun)

        async def deliveries() -> AsyncIterator[Delivery]:
            while True:
                await waiting()
                yield Delivery({}, None, lambda: event("1"), nothing, nothing)

        yield deliveries()


async def test_who_receives_ends(db: Database) -> None:
    """A delivery that came with the cancellation is not begun."""
    broker = Swallows()
    task = asyncio.create_task(receive(broker, db, "first", nothing, dead_letter=nothing))  # type: ignore[arg-type]
    await asyncio.wait_for(broker.begun.wait(), 20)
    await ends(task)


@pytest.mark.parametrize("place", ["nats", "redis"], indirect=True)
@pytest.mark.parametrize("error", [None, ConnectionError("away"), TimeoutError()])
async def test_who_waits_for_an_event_ends(
    place: Place, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the client library makes of it."""
    begun = asyncio.Event()
    if place.kind == "nats":
        monkeypatch.setattr("nats.js.JetStreamContext.PullSubscription.fetch", swallowing(begun, error))
    else:
        monkeypatch.setattr("redis.asyncio.Redis.xreadgroup", swallowing(begun, error))
    async with place.open() as opened, opened.consume("first") as deliveries:
        task = asyncio.ensure_future(anext(deliveries))  # type: ignore[arg-type]
        await asyncio.wait_for(begun.wait(), 20)
        await ends(task)
