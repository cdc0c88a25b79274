"""A worker or a publisher of whichever build PYTHONPATH names, for the tests of deploys.

``deploy_program.py URL NAME upgrade``, ``… publish KIND NUMBER`` or ``… work KIND KIND``; it uses only what both builds
have. Each effect tells which build it was done by.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import Handler, Message, Messages, NewMessage, Retry
from mainstay.patterns.schema import migrations, upgrade

_EFFECT = text("INSERT INTO effect (message, kind, build) VALUES (:message, :kind, :build)")


async def main(url: str, build: str, deed: str, arguments: Sequence[str]) -> None:
    """Do the one thing that was asked for."""
    async with Database(url, pool_size=5) as db:
        messages = Messages(db)
        if deed == "upgrade":
            await upgrade(db)
            print(len(migrations()), flush=True)
        elif deed == "publish":
            kind, number = arguments
            async with db.transaction() as tx:
                await tx.publish(*[NewMessage(kind=kind, payload="{}")] * int(number))
        else:

            async def effect(message: Message, tx: Transaction) -> None:
                values = {"message": message.id, "kind": message.kind, "build": build}
                await tx.execute(_EFFECT, values)

            retry = Retry(attempts=1000, first=0.05, most=0.2)
            for kind in arguments:
                messages.handle(Handler(kind=kind, call=effect, transactional=True, retry=retry))
            worker = messages.worker(lease=1.0, poll=0.5, concurrency=4)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
            await worker.run()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
