"""Publish many events at once and still keep the order of those with the same key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mainstay.patterns.brokers.broker import BrokerUnavailable, Refused
from mainstay.patterns.brokers.cloudevent import CloudEvent
from mainstay.patterns.guards import refuse_in_transaction

IN_FLIGHT = 256
"""Events sent and not yet confirmed at most."""


class Unavailable(Exception):
    """A client could not send one event now."""


class Refusal(Exception):
    """A client was told that this event will not be taken."""


async def publish_in_order(
    events: Sequence[CloudEvent],
    send: Callable[[CloudEvent], Awaitable[None]],
    connect: Callable[[], Awaitable[object]],
    *,
    timeout: float,  # noqa: ASYNC109 (one deadline for all of them, after which some are confirmed and some not)
    largest: int,
) -> None:
    """Await `connect`, then `send` for each event; of those with one key, each only after the one before is confirmed.

    That costs one round trip for each further event of a key, and is what keeps the order whatever happens: where
    several of a key are on their way and the first is lost, no protocol here takes the second one back.

    Raises:
        Refused, BrokerUnavailable: as `Broker.publish`.
    """
    refuse_in_transaction("events were published to a broker")
    confirmed: list[CloudEvent] = []
    refused: dict[CloudEvent, str] = {}
    reasons: list[str] = []
    room = asyncio.Semaphore(IN_FLIGHT)

    async def one_after_another(chain: Sequence[CloudEvent]) -> None:
        for event in chain:
            if event.data is not None and len(event.data) > largest:
                refused[event] = f"its data has {len(event.data)} bytes, and at most {largest} are sent"
                return
            try:
                async with room:
                    await send(event)
            except Refusal as refusal:
                refused[event] = str(refusal)
                return
            except Unavailable as error:
                reasons.append(str(error))
                return
            confirmed.append(event)

    if not events:
        return
    chains: dict[object, list[CloudEvent]] = {}
    for place, event in enumerate(events):
        chains.setdefault(place if event.key is None else event.key, []).append(event)
    loop = asyncio.get_running_loop()
    latest = loop.time() + timeout
    try:
        async with asyncio.timeout_at(latest):
            await connect()
    except Refusal as refusal:
        refused.update(dict.fromkeys(events, str(refusal)))
        chains = {}
    except (Unavailable, TimeoutError) as error:
        reasons.append(str(error) or f"no connection within {timeout:g} s")
        chains = {}
    tasks = [asyncio.create_task(one_after_another(chain)) for chain in chains.values()]
    if tasks:
        try:
            _, late = await asyncio.wait(tasks, timeout=latest - loop.time())
            if late:
                reasons.append(f"not confirmed within {timeout:g} s")
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for fault in ended:
            if isinstance(fault, Exception):  # a fault of ours or of the client library, so not to be hidden
                raise fault
    raise_for(events, confirmed, refused, reasons)


def raise_for(
    events: Sequence[CloudEvent],
    confirmed: Sequence[CloudEvent],
    refused: Mapping[CloudEvent, str],
    reasons: Sequence[str],
) -> None:
    """Raise what `Broker.publish` raises for this outcome; nothing where all events are confirmed."""
    if refused:
        event, reason = next(iter(refused.items()))
        raise Refused(
            f"the broker refused {len(refused)} of {len(events)} events; the first one, {event.id} of"
            f" {event.source}: {reason}",
            confirmed,
            refused,
        )
    if len(confirmed) < len(events):
        raise BrokerUnavailable(
            f"the broker confirmed {len(confirmed)} of {len(events)} events:"
            f" {reasons[0] if reasons else 'the others were not sent'}",
            confirmed,
        )
