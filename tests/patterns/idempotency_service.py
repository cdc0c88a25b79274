"""A service that kills itself at the point named in the environment. Its argument is a listening socket.

MAINSTAY_TEST_URL   the database
MAINSTAY_TEST_DIE   where the process dies, by SIGKILL; nowhere if empty
MAINSTAY_TEST_HOLD  path of a file: the handler waits until it is there, after its effect
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from pattern_models import Entry
from sqlalchemy import event
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mainstay.patterns import Database
from mainstay.patterns.idempotency import IdempotencyKeys, IdempotencyMiddleware

DIE = os.environ.get("MAINSTAY_TEST_DIE", "")
HOLD = Path(os.environ.get("MAINSTAY_TEST_HOLD") or "/")


def reached(point: str) -> None:
    """Die here if this is the point."""
    if point == DIE:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingKeys(IdempotencyKeys):
    """Keys that are stored with a point of death before and after."""

    async def store(self, *args: Any) -> None:
        """As it is."""
        reached("before the record")
        await IdempotencyKeys.store(self, *args)
        reached("after the record")


db = Database(os.environ["MAINSTAY_TEST_URL"], pool_size=4)
# Called right before COMMIT is sent.
event.listen(db.engine.sync_engine, "commit", lambda connection: reached("before COMMIT"))


async def handler(scope: Any, receive: Any, send: Any) -> None:
    """Write an entry and answer with its number."""
    request = Request(scope, receive)
    amount = (await request.json())["amount"]
    reached("before the effect")
    async with db.transaction() as tx:
        entry = Entry(account_id=1, amount=amount)
        tx.add(entry)
    reached("after the effect")
    while not HOLD.exists():  # noqa: ASYNC110, ASYNC240 (another process makes it)
        await asyncio.sleep(0.01)
    reply: Response = JSONResponse({"entry": entry.id, "amount": amount}, 201)
    await reply(scope, receive, send)


keyed = IdempotencyMiddleware(handler, DyingKeys(db, wait=20), tenant=lambda scope: "ann")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The service, with points of death between the commit and the reply."""

    async def dying(message: Any) -> None:
        if message["type"] == "http.response.start":
            reached("after COMMIT")
        await send(message)
        if message["type"] == "http.response.start":
            reached("after the first byte")

    await keyed(scope, receive, dying)


if __name__ == "__main__":
    listener = socket.socket(fileno=int(sys.argv[1]))
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run([listener])
