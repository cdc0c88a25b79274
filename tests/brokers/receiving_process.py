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
from mainstay.patterns.brokers.receive import DeadLetter, receive


def die() -> None:
    """As if the power were cut."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main(address: str, topic: str, options: str, database_url: str, point: str) -> None:
    """Handle events; at event "3" die at `point`. Where that is about the dead, "3" cannot be handled."""
    dead = "dead" in point

    async def handle(tx: Transaction, event: CloudEvent) -> None:
        await tx.execute(text("INSERT INTO effect (name) VALUES (:id)"), {"id": event.id})
        if dead and event.id == "3":
            raise ValueError("cannot be handled")
        if point == "before the commit" and event.id == "3":
            die()
        if point == "between commit and ack" and event.id == "3":
            tx.after_commit(die)

    async def bury(tx: Transaction, letter: DeadLetter) -> None:
        assert dead and letter.event, letter
        await tx.execute(text("INSERT INTO dead (name) VALUES (:id)"), {"id": letter.event.id})
        if point == "before the commit of the dead":
            die()
        if point == "between commit and ack of the dead":
            tx.after_commit(die)

    # So that there is something newer than what the killed process held.
    async with Database(database_url) as database, broker(address, topic, **json.loads(options)) as opened:
        await receive(opened, database, "first", handle, dead_letter=bury, prefetch=2, attempts=1)


asyncio.run(main(*sys.argv[1:]))
