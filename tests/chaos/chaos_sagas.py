"""Payments as sagas: five steps, here and at the provider, each with a fate that says where it must end.

What a step of this database did is written into ``saga_effect``, without any constraint, and changes a purse; what the
provider was asked, it writes down itself. The fate is known before the saga starts, so the audit need not believe what
the sagas' own tables say.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import suppress
from typing import Any, NamedTuple

from sqlalchemy import text
from stub_provider import Answer, Asked, ask

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import GiveUp, Messages, Retry
from mainstay.patterns.saga import Call, Refused, Saga, TooLate, cancel, step

PURSES = 20
OFTEN = Retry(attempts=1000, first=0.05, most=0.5)
"""An attempt whose worker is killed counts; none of these steps may fail of being killed often."""
IMPATIENT = Retry(attempts=4, first=0.05, most=20.0)
"""Where some are to be stuck. They go on trying, so that they must come to wait for long."""
HURRY = 3.0
"""Seconds that a payment in a hurry has."""

End = tuple[str, tuple[str, ...]]
"""State of the saga, and what its steps of this database did, in order."""

_COMPLETED: End = ("completed", ("withdraw", "note", "deposit"))
_NOTHING_DONE: End = ("compensated", ())
_BACK_FROM_RESERVE: End = ("compensated", ("withdraw", "put back"))
_BACK_FROM_SEND: End = ("compensated", ("withdraw", "note", "un-note", "put back"))
_EITHER = {_COMPLETED, _NOTHING_DONE, _BACK_FROM_RESERVE, _BACK_FROM_SEND}


class Fate(NamedTuple):
    """What happens to a payment: how many of a hundred it happens to, the ends that it may come to, and in words."""

    often: int
    ends: set[End]
    told: str


FATES = {
    "well": Fate(25, {_COMPLETED}, "nothing goes wrong of itself"),
    "rough": Fate(
        25,
        {_COMPLETED},
        "three of ten attempts fail after their effect, three of ten answers from outside get lost",
    ),
    "poor": Fate(6, {_NOTHING_DONE}, "the first step is refused"),
    "declined": Fate(8, {_BACK_FROM_RESERVE}, "the provider refuses the second step"),
    "unanswered": Fate(
        8, {_BACK_FROM_RESERVE}, "the second step has its effect, is never answered, and gives up"
    ),
    "refused": Fate(8, {_BACK_FROM_SEND}, "the provider refuses the pivot"),
    "hurried": Fate(8, _EITHER, f"has {HURRY:g} seconds in all, on a clock that is stepped"),
    "called off": Fate(8, _EITHER, "cancelled by the service, at once or a moment later"),
    "no way back": Fate(
        2,
        {("compensating", ("withdraw", "note", "un-note"))},
        "the provider refuses the pivot, and then to undo the second step",
    ),
    "no way on": Fate(2, {("finishing", ("withdraw", "note"))}, "the step behind the pivot fails for ever"),
}

STUCK = {
    "no way back": "the undo of step reserve has failed",
    "no way on": "step deposit has failed",
}
"""Fates that end in being stuck, and how the reason begins."""

_NO = {("declined", "reserve"), ("refused", "send"), ("no way back", "send"), ("no way back", "revoke")}
"""What the provider refuses, by fate."""

TABLES = f"""
CREATE TABLE saga_ledger (
    saga bigint PRIMARY KEY, fate text NOT NULL, place text NOT NULL,
    source integer NOT NULL, target integer NOT NULL, amount integer NOT NULL);
CREATE TABLE saga_effect (id bigserial PRIMARY KEY, saga bigint NOT NULL, what text NOT NULL);
CREATE TABLE purse (id integer PRIMARY KEY, balance integer NOT NULL);
INSERT INTO purse SELECT id, 1000 FROM generate_series(1, {PURSES}) AS id;
"""


def declare(messages: Messages, provider: int) -> dict[str, type[Any]]:
    """Register the sagas; the class of each fate.

    Args:
        provider: its port.
    """

    @messages.saga(key="{token}", lock="{place}")
    class Payment(Saga):
        token: str
        place: str
        source: int
        target: int
        amount: int
        fate: str

        @step(retry=OFTEN)
        async def withdraw(self, tx: Transaction) -> None:
            await _effect(self, tx, "withdraw", self.source, -self.amount)
            if self.fate == "poor":
                raise Refused("the purse is too light")

        @withdraw.undo(retry=OFTEN)
        async def put_back(self, tx: Transaction) -> None:
            await _effect(self, tx, "put back", self.source, self.amount)

        @step(retry=OFTEN)
        async def reserve(self, call: Call) -> None:
            if self.fate == "unanswered":
                try:
                    await _ask(self, call, "reserve", provider, "lost")
                except ConnectionError:
                    raise GiveUp("nobody knows whether it is reserved") from None
            if not await _ask(self, call, "reserve", provider):
                raise Refused("the provider does not take it")

        @reserve.undo(retry=IMPATIENT)
        async def revoke(self, call: Call) -> None:
            if not await _ask(self, call, "revoke", provider):
                raise RuntimeError("the provider does not let go of it")

        @step(retry=OFTEN)
        async def note(self, tx: Transaction) -> None:
            await _effect(self, tx, "note")

        @note.undo(retry=OFTEN)
        async def unnote(self, tx: Transaction) -> None:
            await _effect(self, tx, "un-note")

        @step(pivot=True, retry=OFTEN)
        async def send(self, call: Call) -> None:
            if not await _ask(self, call, "send", provider):
                raise Refused("the provider does not send it")

        @step(retry=IMPATIENT)
        async def deposit(self, tx: Transaction) -> None:
            await _effect(self, tx, "deposit", self.target, self.amount)
            if self.fate == "no way on":
                raise RuntimeError("the purse is sewn up")

    @messages.saga(key="{token}", lock="{place}", timeout=HURRY)
    class HurriedPayment(Payment):
        pass

    return {fate: HurriedPayment if fate == "hurried" else Payment for fate in FATES}


async def _effect(saga: Any, tx: Transaction, what: str, purse: int = 0, amount: int = 0) -> None:
    """Do it, and then fail now and then where that is its fate: nothing of such an attempt may stay."""
    await tx.execute(
        text("INSERT INTO saga_effect (saga, what) VALUES (:saga, :what)"),
        {"saga": saga.saga_id, "what": what},
    )
    if amount:
        await tx.execute(
            text("UPDATE purse SET balance = balance + :amount WHERE id = :purse"),
            {"purse": purse, "amount": amount},
        )
    if saga.fate == "rough" and random.random() < 0.3:
        raise RuntimeError("not this time")


async def _ask(saga: Any, call: Call, what: str, provider: int, answer: Answer = "ok") -> bool:
    if (saga.fate, what) in _NO:
        answer = "no"
    elif saga.fate == "rough" and random.random() < 0.3:
        answer = "lost"
    return await ask(provider, Asked(call.idempotency_key, what, str(call.saga), call.undoes, answer))


def draw(chance: random.Random, classes: dict[str, type[Any]]) -> Any:
    """A payment by chance. Most take the lock of their source; one that will be stuck has a lock of its own."""
    fate = chance.choices(list(FATES), [fate.often for fate in FATES.values()])[0]
    source, target = chance.sample(range(1, PURSES + 1), 2)
    token = str(uuid.UUID(int=chance.getrandbits(128)))
    place = f"payment {token}" if fate in STUCK else f"purse {source}"
    return classes[fate](
        token=token, place=place, source=source, target=target, amount=chance.randint(1, 9), fate=fate
    )


async def start(tx: Transaction, payment: Any, *, again: bool) -> None:
    """Start it in the transaction, and write down what shall come of it.

    Args:
        again: start it a second time. By its key that starts nothing; if it did, the audit would find a saga too many.
    """
    id = await payment.start(tx)
    if again:
        await payment.model_copy().start(tx)
    await tx.execute(
        text("INSERT INTO saga_ledger VALUES (:saga, :fate, :place, :source, :target, :amount)"),
        {"saga": id, **payment.model_dump(include={"fate", "place", "source", "target", "amount"})},
    )


async def call_off(db: Database, payment: Any, after: float) -> None:
    """Cancel it, unless that is too late."""
    await asyncio.sleep(after)
    with suppress(TooLate):
        await cancel(db, payment.saga_id, because="changed their mind")
