"""A worker process that dies at its firing of a tick: ``schedules_program.py URL before|after CRON``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from mainstay.patterns import Database
from mainstay.patterns.messages import Message, Messages
from mainstay.patterns.messages.driver import Link
from mainstay.patterns.messages.statements import Statement


def declared(database: Database, cron: str) -> Messages:
    """The schedule ``hourly``, over a job that writes its tick into the table of effects."""
    messages = Messages(database)

    @messages.schedule(cron, name="hourly")
    @messages.job(name="write")
    async def write(message: Message) -> None:
        async with database.transaction() as tx:
            connection = await tx.session.connection()
            await connection.exec_driver_sql(
                f"INSERT INTO effect (what) VALUES ('{message.headers['scheduled_for']}')"
            )
            await message.complete(tx)

    return messages


async def main(url: str, moment: str, cron: str) -> None:
    """Work until the statement that fires."""
    fetch = Link.fetch

    async def deadly(link: Link, statement: Statement, /, **values: Any) -> Sequence[Sequence[Any]]:
        if statement.name == "fire" and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        rows = await fetch(link, statement, **values)
        if statement.name == "fire" and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

    Link.fetch = deadly  # type: ignore[method-assign]
    async with Database(url) as database:
        await declared(database, cron).worker(lease=1).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
