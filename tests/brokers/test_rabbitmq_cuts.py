"""RabbitMQ's connection breaks while much is in hand: nobody ends of it, and nothing piles up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from broker_places import Place, bound, event
from broker_proxy import Proxy
from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.brokers import CloudEvent
from mainstay.patterns.brokers.clients.amqp import Implementation
from mainstay.patterns.brokers.receive import receive


class _Ended:
    """A message whose acknowledgement fails as aiormq fails where a connection has ended and it knows no reason."""

    headers: dict[str, Any] = {}  # noqa: RUF012
    body = b""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def ack(self) -> None:
        raise self._error


@pytest.mark.parametrize("error", [Exception(), asyncio.CancelledError(), ConnectionResetError()])
async def test_an_acknowledgement_on_a_connection_that_has_ended(error: BaseException) -> None:
    """It says that the event will come again, whatever the client library has raised."""
    from mainstay.patterns.brokers import BrokerUnavailable

    opened = Implementation("amqp://nowhere", "t", timeout=1.0, largest=1)
    with pytest.raises(BrokerUnavailable, match="RabbitMQ at nowhere"):
        await opened._delivery(_Ended(error)).ack()  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        await opened._delivery(_Ended(ZeroDivisionError())).ack()  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["amqp"], indirect=True)
async def test_what_is_delivered_again_and_again_is_not_taken_without_end(
    place: Place, proxy: Proxy, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With each new connection RabbitMQ hands out anew what is still at work here; no more is at work for that."""
    monkeypatch.setattr("mainstay.patterns.brokers.clients.amqp._BACK_OFF", 0.05)
    await bound(place)
    done = asyncio.Event()

    async def handle(tx: Transaction, event: CloudEvent) -> None:
        await done.wait()
        await tx.execute(text("INSERT INTO effect (name) VALUES (:id)"), {"id": event.id})

    async def bury(tx: Transaction, letter: object) -> None:
        raise AssertionError(letter)

    def at_work() -> int:
        coroutines = [task.get_coro() for task in asyncio.all_tasks()]
        return sum(getattr(one, "__qualname__", "") == "_Work.settle" for one in coroutines)

    async with place.open() as straight, place.open(port=proxy.port) as opened:
        task = asyncio.create_task(receive(opened, db, "first", handle, dead_letter=bury, prefetch=2))
        await straight.publish([event(f"{n}") for n in range(6)])
        async with asyncio.timeout(20):
            while at_work() < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for _ in range(3):
            proxy.cut()
            await asyncio.sleep(0.5)  # what would come over a new connection, has come
            assert at_work() == 2
        done.set()
        async with asyncio.timeout(40):
            while True:
                async with db.transaction() as tx:
                    found = list((await tx.execute(text("SELECT name FROM effect ORDER BY name"))).scalars())
                if len(found) >= 6:
                    break
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert found == [f"{n}" for n in range(6)]
