"""A worker as a process of its own, which the tests kill: ``crash_worker.py URL KILL_AT LEASE``.

Kinds: ``effect`` writes through its transaction; ``slow`` says that it has begun and waits for as many seconds as its
payload says; ``block`` blocks the event loop for 3 seconds after its write, the first time; ``tell`` tells its
idempotency key to a table, as to another system.
With KILL_AT = n > 0 the process kills itself at its n-th point: before a statement is sent, or after its answer has
come. With -1 it does so where it would write down what its first handlers have done.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

from sqlalchemy import event, text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import Handler, Message, Messages, Retry, driver
from mainstay.patterns.messages.completion import Completion

url, kill_at, lease = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
statements = 0


def count() -> None:
    """One more place at which this process may die."""
    global statements
    statements += 1
    if statements == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


def dying(cls: Any) -> None:
    """Let the engine's own statements be such places."""
    fetch = cls.fetch

    async def counted(self: Any, statement: Any, /, **values: Any) -> Any:
        count()
        rows = await fetch(self, statement, **values)
        count()
        return rows

    cls.fetch = counted


for one in (driver._Psycopg, driver._Asyncpg):
    dying(one)
if kill_at == -1:
    Completion._write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
db = Database(url, pool_size=8)
messages = Messages(db)
for name in ("before_cursor_execute", "after_cursor_execute"):
    event.listen(db.engine.sync_engine, name, lambda *_: count())
event.listen(db.engine.sync_engine, "commit", lambda *_: count())
event.listen(db.engine.sync_engine, "begin", lambda *_: count())


async def write(message: Message, tx: Transaction) -> None:
    """Two writes, so that there is a point between them."""
    for what in ("first", "second"):
        await tx.execute(
            text("INSERT INTO effect (message, what) VALUES (:id, :what)"), {"id": message.id, "what": what}
        )


async def slow(message: Message) -> None:
    """Say that it has begun, and wait."""
    print("begun", message.id, flush=True)
    await asyncio.sleep(json.loads(message.payload))


async def block(message: Message, tx: Transaction) -> None:
    """Write, and hold up the whole event loop."""
    await write(message, tx)
    print("begun", message.id, flush=True)
    if message.attempt == 1:
        time.sleep(3)  # noqa: ASYNC251


async def tell(message: Message) -> None:
    """An effect outside: nothing that the message's completion could undo."""
    async with db.transaction() as tx:
        await tx.execute(
            text("INSERT INTO effect (message, what) VALUES (:id, :key)"),
            {"id": message.id, "key": message.idempotency_key},
        )


retry = Retry(attempts=100, first=0.05, most=0.1)
messages.handle(Handler(kind="effect", call=write, transactional=True, retry=retry))
messages.handle(Handler(kind="slow", call=slow, retry=retry))
messages.handle(Handler(kind="tell", call=tell, retry=retry))
messages.handle(Handler(kind="block", call=block, transactional=True, retry=retry))


async def main() -> None:
    """Run until SIGTERM."""
    worker = messages.worker(concurrency=4, lease=lease, grace=10)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    await db.close()


asyncio.run(main())
