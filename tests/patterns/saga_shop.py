"""A shop's saga whose steps do as a script says, and the two places that have its effects: this database, and outside.

Outside is a table written in autocommit through a connection of its own: what is there stays there, whatever becomes
of the process or of its transactions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from sqlalchemy import URL, text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import GiveUp, Messages, Retry
from mainstay.patterns.saga import Call, Refused, Saga, list_sagas, show, step
from mainstay.patterns.schema import upgrade

SOON = Retry(attempts=3, first=0.0, most=0.0)
HANG = 0.15
"""Seconds that a step of the script may take."""


async def prepare(db: Database) -> None:
    """Mainstay's tables and the two of effects, all empty."""
    await upgrade(db)
    async with db.transaction() as tx:
        await tx.execute(text("CREATE TABLE IF NOT EXISTS inside (saga bigint, what text)"))
        await tx.execute(text("CREATE TABLE IF NOT EXISTS outside (key text, what text, undoes text)"))
        tables = "mainstay.saga, mainstay.message, mainstay.worker, mainstay.queue, inside, outside"
        await tx.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))


def dsn(url: URL) -> str:
    """The URL as psycopg has it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 40.0) -> None:
    """Wait for a condition, at most so long; fail then."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.01)


async def until_ended(db: Database, *ids: int | None, seconds: float = 40.0) -> list[str]:
    """Wait until these sagas have ended; their states."""

    async def ended() -> bool:
        return all([(await show(db, id or 0))["ended_at"] for id in ids])

    await until(ended, seconds)
    return [(await show(db, id or 0))["state"] for id in ids]


async def until_stuck(db: Database, id: int | None) -> str:
    """Wait until a saga is stuck; why it is."""

    async def stuck() -> bool:
        return [one["id"] for one in await list_sagas(db, stuck=True)] == [id]

    await until(stuck)
    return str((await show(db, id or 0))["stuck"])


class Shop:
    """Two places with effects, and what the steps are to do.

    Args:
        script: by step, what its attempts do, one after the other; afterwards they go well. ``error`` fails without
            an effect, ``lost`` fails after it, ``hang`` never comes back after it, ``refused``, ``late refusal``
            (behind the gate) and ``give up`` raise.
    """

    def __init__(self, url: URL, script: dict[str, list[str]] | None = None) -> None:
        self.script = script or {}
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.connection = psycopg.connect(dsn(url), autocommit=True)

    def close(self) -> None:
        """Let the connection go."""
        self.connection.close()

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Run SQL in autocommit; the rows."""
        cursor = self.connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    async def inside(self, what: str, saga: Saga, tx: Transaction) -> None:
        """A step of this database."""
        await self._act(
            what,
            lambda: tx.execute(
                text("INSERT INTO inside VALUES (:saga, :what)"), {"saga": saga.saga_id, "what": what}
            ),
        )

    async def outside(self, what: str, call: Call) -> str:
        """A step elsewhere: what it did is known by its key."""

        async def effect() -> None:
            self.sql("INSERT INTO outside VALUES (%s, %s, %s)", call.idempotency_key, what, call.undoes)

        await self._act(what, effect)
        return f"{what} of {call.saga}"

    async def _act(self, what: str, effect: Callable[[], Awaitable[Any]]) -> None:
        self.log.append(what)
        todo = self.script.get(what, [])
        doing = todo.pop(0) if todo else "ok"
        match doing:
            case "error":
                raise RuntimeError(f"{what} went wrong")
            case "refused":
                raise Refused(f"{what} declined")
            case "give up":
                raise GiveUp(f"{what} is hopeless")
        await effect()
        if what in self.gates:
            self.log.append(f"{what} at its gate")
            await self.gates[what].wait()
        if doing == "late refusal":
            raise Refused(f"{what} declined")
        if doing == "lost":
            raise ConnectionError(f"{what} lost its answer")
        if doing == "hang":
            await asyncio.Event().wait()

    def there(self, saga: int | None) -> set[str]:
        """The effects that are there now: done and not undone. Nothing inside is there twice."""
        rows = [what for (what,) in self.sql("SELECT what FROM inside WHERE saga = %s", saga)]
        assert len(rows) == len(set(rows)), rows
        effects = {what for what in rows if not what.startswith("un-")}
        effects -= {what.removeprefix("un-") for what in rows if what.startswith("un-")}
        calls = self.sql("SELECT key, what, undoes FROM outside WHERE key ~ %s", f"-saga-{saga}-")
        gone = {undoes for _, _, undoes in calls}
        keys = {what: key for key, what, _ in calls}
        assert len(keys) == len({key for key, _, _ in calls}), "one key for a step, in all of its attempts"
        return effects | {what for key, what, undoes in calls if undoes is None and key not in gone}


def declare(
    messages: Messages,
    shop: Shop,
    *,
    retry: Retry = SOON,
    timeout: float = HANG,
    saga_timeout: float | None = None,
    **options: Any,
) -> type[Any]:
    """The saga: two steps here, two elsewhere, the third the pivot."""

    @messages.saga(timeout=saga_timeout, **options)
    class PlaceOrder(Saga):
        order: int = 1
        payment: str | None = None

        @step(retry=retry)
        async def reserve(self, tx: Transaction) -> None:
            await shop.inside("reserve", self, tx)

        @reserve.undo(retry=retry)
        async def release(self, tx: Transaction) -> None:
            await shop.inside("un-reserve", self, tx)

        @step(retry=retry, timeout=timeout)
        async def authorize(self, call: Call) -> None:
            self.payment = await shop.outside("authorize", call)

        @authorize.undo(retry=retry, timeout=timeout)
        async def void(self, call: Call) -> None:
            await shop.outside("un-authorize", call)

        @step(pivot=True, retry=retry, timeout=timeout)
        async def capture(self, call: Call) -> None:
            await shop.outside("capture", call)

        @step(retry=retry)
        async def ship(self, tx: Transaction) -> None:
            assert self.payment == f"authorize of {self.saga_id}"
            await shop.inside("ship", self, tx)

    return PlaceOrder


ALL = {"reserve", "authorize", "capture", "ship"}


async def start(db: Database, saga: Saga) -> int | None:
    """Start in a transaction of its own."""
    async with db.transaction() as tx:
        return await saga.start(tx)


async def blocked(db: Database) -> bool:
    """Whether a connection to this database waits for a lock."""
    async with db.engine.connect() as connection:
        found = await connection.scalar(
            text(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
                " AND cardinality(pg_blocking_pids(pid)) > 0)"
            )
        )
        return bool(found)
