"""What a lost connection swallowed comes before what is newer, and who leaves in order makes nobody wait."""

from __future__ import annotations

import asyncio

import pytest
from broker_places import Place, event, taken
from broker_proxy import Proxy

in_groups = pytest.mark.parametrize("place", ["nats", "redis"], indirect=True)
"""The brokers that go on handing out while nobody knows what became of what they handed out before."""


async def handed_out(place: Place) -> int:
    """How many events the broker waits for to be acknowledged by the consumer ``first``."""
    if place.kind == "nats":
        import nats

        client = await nats.connect(place.address())
        found = await client.jetstream().consumer_info(place.topic, f"{place.topic}-first")
        await client.close()
        return found.num_ack_pending or 0
    from redis.asyncio import Redis

    async with Redis(port=place.port) as redis:
        return int((await redis.xpending(place.topic, "first"))["pending"])


async def until_handed_out(place: Place, number: int) -> None:
    async with asyncio.timeout(20):
        while await handed_out(place) != number:  # noqa: ASYNC110 (the broker knows)
            await asyncio.sleep(0.02)


@in_groups
async def test_what_a_lost_connection_swallowed_comes_first(place: Place, proxy: Proxy) -> None:
    """The broker has handed out an event, the line breaks before it arrives: the next one of its key waits for it."""
    async with (
        place.open() as straight,
        place.open(port=proxy.port) as opened,
        opened.consume("first") as deliveries,
    ):
        await straight.publish([event("0", key="k")])
        assert [each.id for each in await taken(deliveries, 1)] == ["0"]
        await until_handed_out(place, 0)
        for n in (1, 3):
            coming = asyncio.ensure_future(taken(deliveries, 2))
            await asyncio.sleep(0.3)  # it asks, and nothing is there
            proxy.silent = True
            await straight.publish([event(f"{n}", key="k")])
            await until_handed_out(place, 1)
            proxy.silent = False
            proxy.cut()
            await straight.publish([event(f"{n + 1}", key="k")])
            assert [each.id for each in await coming] == [f"{n}", f"{n + 1}"]


@in_groups
async def test_who_leaves_in_order_makes_nobody_wait(place: Place) -> None:
    """What was in hand is given back, so the next process gets it at once, and what is newer after it."""
    async with place.open(redeliver_after=3600.0) as opened:
        await opened.publish([event(f"{n}", key="k") for n in range(3)])
        async with opened.consume("first") as deliveries, asyncio.timeout(20):
            await taken(deliveries, 1)
            await anext(deliveries)  # type: ignore[arg-type]
        await opened.publish([event("3", key="k")])
        async with opened.consume("first") as deliveries:
            assert [each.id for each in await taken(deliveries, 3)] == ["1", "2", "3"]


@in_groups
async def test_who_leaves_while_an_event_is_on_its_way(place: Place, proxy: Proxy) -> None:
    """It is given back, or comes again by itself; in any case before what is newer."""
    async with place.open() as straight, place.open(port=proxy.port) as opened:
        await straight.publish([event("0", key="k")])
        async with opened.consume("first") as deliveries:
            await taken(deliveries, 1)
            await until_handed_out(place, 0)
            coming = asyncio.ensure_future(anext(deliveries))  # type: ignore[arg-type]
            await asyncio.sleep(0.3)
            proxy.silent = True
            await straight.publish([event("1", key="k")])
            await until_handed_out(place, 1)
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        proxy.silent = False
        proxy.cut()
        await straight.publish([event("2", key="k")])
        async with straight.consume("first") as deliveries:
            assert [each.id for each in await taken(deliveries, 2)] == ["1", "2"]


@pytest.mark.parametrize("place", ["redis"], indirect=True)
async def test_a_stream_that_is_deleted_is_begun_again(place: Place) -> None:
    """Also while a read waits for it: what is published later arrives."""
    from redis.asyncio import Redis

    async with place.open() as opened, opened.consume("first") as deliveries:
        await opened.publish([event("0")])
        await taken(deliveries, 1)
        coming = asyncio.ensure_future(taken(deliveries, 1))
        async with Redis(port=place.port) as redis:
            async with asyncio.timeout(20):
                while not any(one["cmd"] == "xreadgroup" for one in await redis.client_list()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await redis.delete(place.topic)
        await opened.publish([event("1")])
        assert [each.id for each in await coming] == ["1"]


async def test_of_two_that_died_the_older_event_comes_first(place: Place) -> None:
    """The one that died later holds what is older: its events have not lain for as long, and are waited for."""
    if place.kind != "redis":
        pytest.skip("JetStream hands out again by the time of each event, not by who held it")
    from redis.asyncio import Redis

    async with place.open(redeliver_after=2.0) as opened, Redis(port=place.port) as redis:
        await opened.publish([event(f"{n}", key="k") for n in range(6)])
        await redis.xgroup_create(place.topic, "first", id="0")
        for name in ("later", "earlier"):
            await redis.xreadgroup("first", name, {place.topic: ">"}, count=3)
        held = [
            entry["message_id"] for entry in await redis.xpending_range(place.topic, "first", "-", "+", 6)
        ]
        await redis.xclaim(place.topic, "first", "earlier", 0, held[3:], idle=2001, justid=True)
        async with opened.consume("first") as deliveries:
            assert [each.id for each in await taken(deliveries, 6)] == [f"{n}" for n in range(6)]
