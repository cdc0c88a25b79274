"""What a handler publishes names the message that it works on, whatever either of them is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from events_lab import DRIVERS, Lab, copy, template

from mainstay.patterns import Transaction
from mainstay.patterns.brokers.cloudevent import CloudEvent
from mainstay.patterns.events import Event
from mainstay.patterns.events.relay import cloud_event
from mainstay.patterns.messages import Handler, Message, NewMessage


class Placed(Event):
    order_id: int


class Paid(Event):
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


async def test_a_chain_through_events_jobs_and_plain_messages(lab: Lab) -> None:
    """Each link names the one before it; two at a time, so that none is taken for another's cause."""
    causes: dict[str, str | None] = {}
    sent: list[CloudEvent] = []
    messages = lab.messages
    both = asyncio.Barrier(2)

    def note(what: str, message: Message) -> str:
        causes[what] = message.headers.get("caused_by")
        return f"{message.id} {message.kind}"

    @messages.subscribe(Placed, name="on placed")
    async def on_placed(event: Placed, message: Message, tx: Transaction) -> None:
        me = note(f"placed {event.order_id}", message)
        await both.wait()
        await tx.enqueue(book, order_id=event.order_id, by=me)

    @messages.job(name="book")
    async def book(message: Message, order_id: int, by: str) -> None:
        me = note(f"book {order_id}", message)
        assert causes[f"book {order_id}"] == by
        async with lab.db.transaction() as tx:
            await tx.publish(Paid(order_id=order_id), NewMessage(kind="plain", payload=f'"{me}"'))

    @messages.subscribe(Paid, name="on paid")
    async def on_paid(event: Paid, message: Message) -> None:
        note(f"paid {event.order_id}", message)
        sent.append(cloud_event(message, "/shop"))

    async def plain(message: Message) -> None:
        assert f'"{message.headers["caused_by"]}"' == message.payload

    messages.handle(Handler(kind="plain", call=plain))
    await lab.publish(Placed(order_id=1), Placed(order_id=2))
    async with messages.worker():
        await lab.until(lambda: lab.left() == 0)
    assert lab.look("SELECT count(*) FROM mainstay.message") == [0]
    assert causes.keys() == {f"{what} {n}" for what in ("placed", "book", "paid") for n in (1, 2)}
    assert causes["placed 1"] is None and causes["placed 2"] is None
    assert {cause.split(" ", 1)[1] for what, cause in causes.items() if cause and "paid" in what} == {"book"}
    # The number means nothing outside of this database.
    assert all("caused_by" not in one.extensions for one in sent)


async def test_a_plain_function_in_a_thread_names_it_too(lab: Lab) -> None:
    """The thread runs in the context of its message."""
    found: list[Any] = []
    messages = lab.messages

    @messages.job(name="later")
    async def later(message: Message) -> None:
        found.append(message.headers["caused_by"])

    @messages.job(name="plain")
    def plain(message: Message) -> None:
        import psycopg

        with psycopg.connect(lab.plain) as connection:
            messages.enqueue_sync(connection, later)
        found.append(f"{message.id} {message.kind}")

    async with lab.db.transaction() as tx:
        await tx.enqueue(plain)
    async with messages.worker():
        await lab.until(lambda: lab.left() == 0)
    assert found[0] == found[1]
