"""The processes of a full-length outage: workers with one handler each kind, a relay, and a service that publishes.

What was promised stands in the table ``ledger``; written in the publishing transaction; what came of it, in ``effect``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.brokers import broker
from mainstay.patterns.events import Event
from mainstay.patterns.messages import Handler, Message, Messages, NewMessage

KEYS = 20
_PROMISE = text("INSERT INTO ledger (number) VALUES (:number)")
_EFFECT = text("INSERT INTO effect (number, at) VALUES (:number, clock_timestamp())")


class Stepped(Event, name="outage.stepped", key="sku"):
    """What is relayed."""

    sku: str
    number: int


async def work(url: str) -> None:
    """A worker with the retries that are shipped; leases of two seconds."""

    async def effect(message: Message, tx: Transaction) -> None:
        await tx.execute(_EFFECT, {"number": json.loads(message.payload)})

    async with Database(url, pool_size=5) as db:
        messages = Messages(db)
        messages.handle(Handler(kind="effect", call=effect, transactional=True))
        await _until_asked(messages.worker(lease=2.0, poll=1.0, concurrency=10))


async def send_on(url: str, *places: str) -> None:
    """A worker with a relay to each broker (``address topic``), and the handler beside them."""

    async def effect(message: Message, tx: Transaction) -> None:
        await tx.execute(_EFFECT, {"number": json.loads(message.payload)})

    async with Database(url, pool_size=5) as db:
        messages = Messages(db)
        messages.handle(Handler(kind="effect", call=effect, transactional=True))
        for place in places:
            address, topic = place.split()
            name = address.partition(":")[0]
            messages.relay(
                to=broker(address, topic), events=[Stepped], name=f"relay_{name}", source="/outage"
            )
        await _until_asked(messages.worker(lease=2.0, poll=1.0))


async def _until_asked(worker: Any) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()


async def serve(url: str, pause: str, with_events: str) -> None:
    """Publish until SIGTERM; then tell as JSON what was accepted, what was refused and how, and when."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    accepted, errors, slowest, number = 0, Counter[str](), 0.0, 0
    last_refused = next_accepted = 0.0
    async with Database(url, pool_size=2) as db:
        Messages(db)
        while not stopping.is_set():
            number += 1
            begun = time.time()
            try:
                async with db.transaction() as tx:
                    await tx.execute(_PROMISE, {"number": number})
                    await tx.publish(NewMessage(kind="effect", payload=json.dumps(number)))
                    if with_events == "events":
                        await tx.publish(Stepped(sku=f"sku {number % KEYS}", number=number))
            except Exception as error:
                errors[_brief(error)] += 1
                last_refused, next_accepted = time.time(), 0.0
                await asyncio.sleep(0.2)
            else:
                accepted += 1
                next_accepted = next_accepted or time.time()
            slowest = max(slowest, time.time() - begun)
            await asyncio.sleep(float(pause))
    told = {
        "accepted": accepted,
        "refused": errors,
        "slowest": slowest,
        "again": next_accepted,
        "last": last_refused,
    }
    print(json.dumps(told), flush=True)


def _brief(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:140]}"


def main(arguments: Sequence[str]) -> None:
    """``outage_programs.py work|send_on|serve ARGUMENT…``."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    asyncio.run({"work": work, "send_on": send_on, "serve": serve}[arguments[0]](*arguments[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
