"""The processes that are killed: workers with handlers of every manner, and a service that publishes.

What must come true is written down by the service in the table ``ledger``, in the transaction that publishes; what
has come true, by the handlers in ``effect``. No constraint keeps an effect from being written twice: the audit sees it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.inbox import Inbox
from mainstay.patterns.messages import GiveUp, Handler, Message, Messages, NewMessage, Retry

LIMIT = 2
ACCOUNTS = 20
KINDS = ("transfer", "outside", "keyed", "failing", "doomed", "limited", "slotted", "delivered", "blocking")
_EFFECT = text("INSERT INTO effect (token, kind, source, number) VALUES (:token, :kind, :source, :number)")


async def _effect(message: Message, tx: Transaction) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(message.payload)
    values = {"kind": message.kind, "source": None, "number": None, **payload}
    await tx.execute(_EFFECT, {name: values[name] for name in ("token", "kind", "source", "number")})
    return payload


async def _transfer(message: Message, tx: Transaction) -> None:
    """Money from one account to another, in two statements."""
    payload = await _effect(message, tx)
    for account, amount in ((payload["from"], -1), (payload["to"], 1)):
        await tx.execute(
            text("UPDATE account SET balance = balance + :amount WHERE id = :id"),
            {"id": account, "amount": amount},
        )


async def _keep(message: Message, tx: Transaction) -> None:
    await _effect(message, tx)


async def _failing(message: Message, tx: Transaction) -> None:
    """Write first and fail then: what an attempt that failed wrote must not stay."""
    await _effect(message, tx)
    if message.attempt % 3:
        raise RuntimeError("not this time")


async def _doomed(message: Message, tx: Transaction) -> None:
    await _effect(message, tx)
    raise GiveUp("never")


async def _delivered(message: Message, tx: Transaction) -> None:
    """What a broker delivers several times, in any order: once into the inbox."""
    payload = json.loads(message.payload)
    if await Inbox("chaos").accept(tx, "broker", payload["token"]):
        await _effect(message, tx)


def _blocking(message: Message) -> None:
    """A plain function in a thread; it has no effect of its own."""
    sum(range(2000))


class _Outside:
    """Calls the stub provider: one line there, one line back, with the idempotency key."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def call(self, message: Message) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            token = json.loads(message.payload)["token"]
            writer.write(f"{message.idempotency_key} {token}\n".encode())
            await writer.drain()
            if await reader.readline() != b"ok\n":
                raise ConnectionError("the provider did not answer")
        finally:
            writer.close()


def _quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process


def work(url: str, provider: int, lease: float) -> None:
    """A worker process, until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until there is something that can be stopped
    _quiet()

    async def main() -> None:
        async with Database(url, pool_size=6) as db:
            messages = Messages(db)
            # An attempt whose worker is killed counts; nothing here may die of being killed often.
            often = Retry(attempts=1000, first=0.05, most=0.5)
            outside = _Outside(provider)
            messages.handle(Handler(kind="transfer", call=_transfer, transactional=True, retry=often))
            messages.handle(Handler(kind="keyed", call=_keep, transactional=True, retry=often))
            messages.handle(Handler(kind="slotted", call=_keep, transactional=True, retry=often))
            messages.handle(Handler(kind="failing", call=_failing, transactional=True, retry=often))
            messages.handle(Handler(kind="doomed", call=_doomed, transactional=True, retry=often))
            messages.handle(
                Handler(kind="limited", call=_keep, transactional=True, queue="limited", retry=often)
            )
            messages.handle(Handler(kind="delivered", call=_delivered, transactional=True, retry=often))
            messages.handle(Handler(kind="outside", call=outside.call, retry=often))
            messages.handle(Handler(kind="blocking", call=_blocking, blocking=True, retry=often))
            worker = messages.worker(concurrency=10, lease=lease, poll=1.0, grace=3.0)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            await worker.run()

    asyncio.run(main())


def _draw(chance: random.Random, source: str, number: int) -> list[NewMessage]:
    """One thing that shall come true, as the messages that it takes."""
    kind = chance.choice(KINDS)
    payload: dict[str, Any] = {
        "token": str(uuid.UUID(int=chance.getrandbits(128))),
        "source": source,
        "number": number,
    }
    more: dict[str, Any] = {}
    match kind:
        case "transfer":
            payload["from"], payload["to"] = sorted(chance.sample(range(1, ACCOUNTS + 1), 2))
            more["priority"] = chance.choice([0, 0, 5])
        case "keyed":
            more["key"] = source
        case "slotted":
            more |= {"key": "slots", "key_limit": 3}
        case "limited":
            more["queue"] = "limited"
        case "failing":
            more["delay"] = chance.choice([0.0, 0.2])
    one = NewMessage(kind=kind, payload=json.dumps(payload), **more)
    return [one] * (chance.choice([2, 3]) if kind == "delivered" else 1)


def serve(url: str, seed: int, pause: float) -> None:
    """A service that publishes until it is killed."""
    _quiet()

    async def main() -> None:
        chance = random.Random(seed)
        source, number = f"service {seed}", 0
        async with Database(url, pool_size=2) as db:
            Messages(db)
            while True:
                number += 1
                things = [_draw(chance, source, number) for _ in range(chance.choice([1, 1, 4]))]
                messages = [message for thing in things for message in thing]
                chance.shuffle(messages)
                try:
                    async with db.transaction() as tx:
                        for thing in things:
                            token = json.loads(thing[0].payload)["token"]
                            await tx.execute(
                                text(
                                    "INSERT INTO ledger (token, kind, source) VALUES (:token, :kind, :source)"
                                ),
                                {"token": token, "kind": thing[0].kind, "source": source},
                            )
                        await tx.publish(*messages)
                        if chance.random() < 0.1:
                            raise ZeroDivisionError  # a rollback now and then
                except ZeroDivisionError:
                    pass
                except Exception:
                    await asyncio.sleep(
                        0.2
                    )  # the database is away: whether the last one counted, the ledger knows
                await asyncio.sleep(pause)

    asyncio.run(main())
