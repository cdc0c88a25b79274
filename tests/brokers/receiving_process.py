"""A consumer as a process of its own: handles events by one INSERT each, and is killed where the test wants it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.brokers import CloudEvent, broker
from mainstay.patterns.brokers.receive import receive


def die() -> None:
    """As if the power were cut."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main(address: str, topic: str, options: str, database_url: str, point: str) -> None:
    """Handle events; at event "3" die at `point`."""

    async def handle(tx: Transaction, event: CloudEvent) -> None:
        await tx.execute(text("INSERT INTO effect (name) VALUES (:id)"), {"id": event.id})
        if point == "before the commit" and event.id == "3":
            die()
        if point == "between commit and ack" and event.id == "3":
            tx.after_commit(die)

    async def bury(tx: Transaction, letter: object) -> None:
        raise AssertionError(letter)

    # So that there is something newer than what the killed process held.
    async with Database(database_url) as database, broker(address, topic, **json.loads(options)) as opened:
        await receive(opened, database, "first", handle, dead_letter=bury, prefetch=2)


asyncio.run(main(*sys.argv[1:]))
