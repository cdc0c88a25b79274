"""A broker that is down for an hour: no event is dead, none overtakes another of its key, all arrive afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from broker_places import Place, event, taken
from own_brokers import Removable, removable
from sqlalchemy import URL

from mainstay.patterns import Database
from mainstay.patterns.brokers import BrokerUnavailable, CloudEvent
from mainstay.patterns.events import Event, relay
from mainstay.patterns.messages import Message, Messages, NotNow, Retry, upkeep

HOUR = 3600.0
MOST_TRIES = int(HOUR / (relay.LONGEST_PAUSE / 2))
"""In an hour, by one worker: a pause is at least half of the longest one, the few first ones apart."""
KEYS = [f"sku {n}" for n in range(6)]


class Stepped(Event, name="outage.stepped", key="sku"):
    sku: str | None
    number: int


@pytest.fixture(params=["nats", "redis", "amqp"])
async def gone(
    request: pytest.FixtureRequest, needs_server: Callable[[int, str], None]
) -> AsyncIterator[tuple[Place, Removable]]:
    """A broker that can be taken away, each in turn."""
    if request.param == "amqp":
        needs_server(5672, "RabbitMQ")
    try:
        async with removable(request.param) as found:
            yield found
    except FileNotFoundError as missing:
        pytest.skip(f"{missing} is not installed")


@pytest.fixture
def sql(database_url: URL, db: Database) -> AsyncIterator[Callable[[str], list[Any]]]:
    """Rows of the test's database, without messages of others before and after."""
    with psycopg.connect(database_url.render_as_string(hide_password=False), autocommit=True) as connection:

        def run(query: str) -> list[Any]:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

        empty = "DELETE FROM mainstay.message; DELETE FROM mainstay.subscription; DELETE FROM mainstay.worker"
        run(empty)
        yield run  # type: ignore[misc]
        run(empty)


async def test_an_hour_of_refused_tries(
    gone: tuple[Place, Removable],
    db: Database,
    sql: Callable[[str], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many tries as an hour holds, and the hour itself by the messages' clock; had they counted, all were dead."""
    place, server = gone
    assert Retry().attempts < MOST_TRIES
    # The waits between the tries are what is left out.
    for module, name, seconds in (
        (relay, "FIRST_PAUSE", 0.005),
        (relay, "LONGEST_PAUSE", 0.02),
        (upkeep, "TICK", 0.01),
    ):
        monkeypatch.setattr(module, name, seconds)
    tries = 0
    opened = place.open()
    publish = opened.publish

    async def counted(events: Sequence[CloudEvent]) -> None:
        nonlocal tries
        try:
            await publish(events)
        except BrokerUnavailable:
            tries += 1
            raise

    opened.publish = counted  # type: ignore[method-assign]
    messages = Messages(db)
    messages.relay(to=opened, events=[Stepped], source="/outage")

    async def publish_all(numbers: range) -> None:
        async with db.transaction() as tx:
            await tx.publish(*(Stepped(sku=key, number=n) for n in numbers for key in (*KEYS, None)))

    async with messages.worker(lease=5.0, concurrency=20):
        await publish_all(range(5))
        await until(lambda: left(sql) == 0)
        await server.away()
        opened._timeout = 0.3 if place.kind != "nats" else 0.1  # type: ignore[attr-defined]
        await publish_all(range(5, 10))
        tries, told = 0, 0
        while tries < MOST_TRIES:
            await asyncio.sleep(0.02)
            assert sql("SELECT count(*) FROM mainstay.message WHERE ended_at IS NOT NULL") == [(0,)], (
                "some are dead"
            )
            if tries > told:
                sql(move_back((tries - told) * HOUR / MOST_TRIES))
                told = tries
            if tries > MOST_TRIES / 2 and left(sql) == 5 * 7:
                await publish_all(range(10, 15))
        assert sql("SELECT count(*) FROM mainstay.message WHERE state = 'dead' OR errors <> '[]'") == [(0,)]
        assert sql(
            "SELECT max(attempts) <= 1, min(published_at) < now() - interval '59 min' FROM mainstay.message"
        ) == [(True, True)]
        assert left(sql) == 10 * 7
        # Its own time-out is back to what a broker needs that has just started.
        opened._timeout = 5.0  # type: ignore[attr-defined]
        await server.open()
        await until(lambda: left(sql) == 0, 60)
    async with place.open() as reading, reading.consume("first") as deliveries:
        found: list[CloudEvent] = []
        while len({one.id for one in found}) < 15 * 7:
            found += await taken(deliveries, 1)
    for key in KEYS:
        of_key = [json.loads(one.data or b"")["number"] for one in found if one.key == key]
        assert list(dict.fromkeys(of_key)) == list(range(15))
    assert len({(one.key, one.data) for one in found}) == 15 * 7


def move_back(seconds: float) -> str:
    """Let every stored time lie that much further back, as if the time had passed; locked first, against deadlocks."""
    by = f"interval '{seconds} seconds'"
    return (
        "LOCK TABLE mainstay.message IN SHARE ROW EXCLUSIVE MODE;"
        f" UPDATE mainstay.message SET published_at = published_at - {by}, ready_at = ready_at - {by},"
        f" rank = rank - {by}, expires_at = expires_at - {by}"
    )


def left(sql: Callable[[str], list[Any]]) -> int:
    """Messages that have not ended."""
    count: int = sql("SELECT count(*) FROM mainstay.message WHERE ended_at IS NULL")[0][0]
    return count


async def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait for a condition, with a bound."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition lies in a database)
            await asyncio.sleep(0.02)


class Away:
    """A broker that never answers."""

    def __init__(self) -> None:
        self.tries = 0

    async def publish(self, events: Sequence[CloudEvent]) -> None:
        """Refuse."""
        self.tries += 1
        raise BrokerUnavailable("nobody there")


async def test_the_pauses_of_an_hour_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """From half a second by doubling up to thirty, then for ever: some 125 tries in an hour, none more often."""
    loop = asyncio.get_running_loop()
    begun, passed = loop.time(), 0.0
    monkeypatch.setattr(loop, "time", lambda: begun + passed)  # nothing here waits for it
    broker = Away()
    sender = relay.Relay(cast(Any, broker), "relay", "/outage", random=lambda: 0.0)
    message = SimpleNamespace(
        headers={"event": "outage.stepped", "version": "1", "id": event("1").id},
        key=None,
        kind="relay",
        payload="{}",
        published_at=datetime.now(UTC),
    )
    waits = []
    while passed < HOUR:
        with pytest.raises(NotNow) as error:
            await sender.send(cast(Message, message))
        assert error.value.whole_queue
        waits.append(error.value.after)
        passed += error.value.after + 0.001
    assert waits[:7] == pytest.approx([0.5, 1, 2, 4, 8, 16, 30], abs=0.05)
    assert waits[7:] == pytest.approx([30] * (len(waits) - 7), abs=0.05)
    assert broker.tries == len(waits) <= 130
