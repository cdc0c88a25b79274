"""The processes that are killed: workers with handlers of every manner, and a service that publishes and starts sagas.

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import chaos_events
import chaos_sagas
from chaos_events import EFFECT, Told
from chaos_sagas import OFTEN
from sqlalchemy import text
from stub_provider import Asked, ask

from mainstay.patterns import Database, Transaction
from mainstay.patterns.inbox import Inbox
from mainstay.patterns.messages import GiveUp, Handler, Message, Messages, NewMessage

LIMIT = 2
ACCOUNTS = 20
KINDS = ("transfer", "outside", "keyed", "failing", "doomed", "limited", "slotted", "delivered", "blocking")
PAYMENT, TOLD = "payment", "told"
BACKLOG = text(
    "SELECT (SELECT count(*) FROM mainstay.saga WHERE state = 'waiting') > 30"
    " OR (SELECT count(*) FROM mainstay.message WHERE state IN ('waiting', 'blocked')) > 300"
)
"""Whether the services publish more than this machine can do while so much of it is being killed."""


async def _effect(message: Message, tx: Transaction) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(message.payload)
    values = {"kind": message.kind, "source": None, "number": None, **payload}
    await tx.execute(EFFECT, {name: values[name] for name in ("token", "kind", "source", "number")})
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


def _quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process


def work(url: str, provider: int, lease: float, brokers: Mapping[str, tuple[str, str]]) -> None:
    """A worker process, until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until there is something that can be stopped
    _quiet()

    async def main() -> None:
        async def outside(message: Message) -> None:
            token = json.loads(message.payload)["token"]
            if not await ask(provider, Asked(message.idempotency_key, "notify", token)):
                raise RuntimeError("the provider refused")

        async with Database(url, pool_size=12) as db:
            messages = Messages(db)
            messages.handle(Handler(kind="transfer", call=_transfer, transactional=True, retry=OFTEN))
            messages.handle(Handler(kind="keyed", call=_keep, transactional=True, retry=OFTEN))
            messages.handle(Handler(kind="slotted", call=_keep, transactional=True, retry=OFTEN))
            messages.handle(Handler(kind="failing", call=_failing, transactional=True, retry=OFTEN))
            messages.handle(Handler(kind="doomed", call=_doomed, transactional=True, retry=OFTEN))
            messages.handle(
                Handler(kind="limited", call=_keep, transactional=True, queue="limited", retry=OFTEN)
            )
            messages.handle(Handler(kind="delivered", call=_delivered, transactional=True, retry=OFTEN))
            messages.handle(Handler(kind="outside", call=outside, retry=OFTEN))
            messages.handle(Handler(kind="blocking", call=_blocking, blocking=True, retry=OFTEN))
            chaos_sagas.declare(messages, provider)
            chaos_events.declare(messages, brokers, OFTEN)
            worker = messages.worker(concurrency=10, lease=lease, poll=1.0, grace=3.0)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            async with chaos_events.taking(db, brokers):
                await worker.run()

    asyncio.run(main())


def _draw(chance: random.Random, kind: str, source: str, number: int) -> list[NewMessage]:
    """One thing that shall come true, as the messages that it takes."""
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


class _RollBack(Exception):
    """It shall not be, after all."""


def _told(chance: random.Random, source: str, number: int) -> Told:
    return Told(token=str(uuid.UUID(int=chance.getrandbits(128))), source=source, number=number)


def serve(url: str, seed: int, pause: float, ways: Sequence[str]) -> None:
    """A service that publishes and starts sagas until it is killed.

    Args:
        ways: the kinds of effects that an event shall have.
    """
    _quiet()

    async def main() -> None:
        chance = random.Random(seed)
        source, number = f"service {seed}", 0
        async with Database(url, pool_size=2) as db:
            payments = chaos_sagas.declare(Messages(db), provider=0)
            while True:
                number += 1
                kinds = chance.choices([*KINDS, *2 * [TOLD, PAYMENT]], k=chance.choice([1, 1, 4]))
                things = [_draw(chance, kind, source, number) for kind in kinds if kind in KINDS]
                events = [_told(chance, source, number) for kind in kinds if kind == TOLD]
                started = [chaos_sagas.draw(chance, payments) for kind in kinds if kind == PAYMENT]
                messages: list[NewMessage | Told] = [message for thing in things for message in thing]
                messages += events
                chance.shuffle(messages)
                promised = [(json.loads(thing[0].payload)["token"], thing[0].kind) for thing in things]
                promised += [(event.token, way) for event in events for way in ways]
                try:
                    async with db.transaction() as tx:
                        if await tx.scalar(BACKLOG):
                            raise _RollBack
                        for token, kind in promised:
                            await tx.execute(
                                text(
                                    "INSERT INTO ledger (token, kind, source) VALUES (:token, :kind, :source)"
                                ),
                                {"token": token, "kind": kind, "source": source},
                            )
                        await tx.publish(*messages)
                        for payment in started:
                            await chaos_sagas.start(tx, payment, again=chance.random() < 0.2)
                        if chance.random() < 0.1:
                            raise _RollBack
                    for payment in started:
                        if payment.fate == "called off":
                            await chaos_sagas.call_off(db, payment, chance.choice([0.0, 0.05, 0.3]))
                except _RollBack:
                    pass
                except Exception:
                    # The database is away: whether the last one counted, the ledger knows.
                    await asyncio.sleep(0.2)
                await asyncio.sleep(pause)

    asyncio.run(main())
