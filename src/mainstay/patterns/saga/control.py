"""What people and services do with sagas: look, cancel, and get one going that is stuck. `mainstay sagas` calls this.

A saga is moved here only while no worker is at its step. Where one is, the wish is stored, and done as soon as the
attempt has ended: an undo must not overtake the call that it undoes. Everything returned can be written as JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, get_args

from mainstay.patterns.database import Database
from mainstay.patterns.errors import LockNotAvailable, PatternError
from mainstay.patterns.guards import refuse_in_transaction
from mainstay.patterns.messages import connections, statements
from mainstay.patterns.messages.message import Unserializable, storable_json
from mainstay.patterns.saga import moves, store
from mainstay.patterns.saga.moves import Move, Progress, State
from mainstay.patterns.serialization_retry import sqlstate

SQL = statements.load(__package__)
MESSAGES = statements.load("mainstay.patterns.messages")

Wish = Literal["cancel", "compensate", "skip"]


class NoSuchSaga(PatternError, LookupError):
    """There is no saga of this number, or no longer."""


class TooLate(PatternError):
    """The saga has ended, or has passed its pivot and only goes forward."""


async def list_sagas(
    where: Any,
    *,
    states: Sequence[State] | None = None,
    kind: str | None = None,
    key: str | None = None,
    lock: str | None = None,
    stuck: bool = False,
    before: int | None = None,
    most: int = 50,
) -> list[dict[str, Any]]:
    """Sagas by filter, newest first; ``stuck`` in each tells why it is, or is None.

    Args:
        where: a `Database`, or an open transaction as `Saga.start` takes it.
        states: any of these.
        stuck: only those that need a person, or a deploy.
        before: the page before this number.
        most: sagas at most, up to 1000.

    Raises:
        ValueError: there is no such state.
    """
    for state in states or ():
        if state not in get_args(State):
            raise ValueError(f"there is no state {state!r}; there are {', '.join(get_args(State))}")
    async with _transaction(where) as tx:
        rows = await connections.fetch(
            tx,
            SQL["list_sagas"],
            {
                "states": list(states) if states else None,
                "kind": kind,
                "key": key,
                "lock": lock,
                "stuck": stuck,
                "before": before,
                "most": max(1, min(most, 1000)),
            },
        )
    return [json.loads(row[0]) for row in rows]


async def show(where: Any, id: int) -> dict[str, Any]:
    """All that is known of one saga: data, steps with their times, errors of the step at work, what it waits for.

    Raises:
        NoSuchSaga: there is none of this number.
    """
    async with _transaction(where) as tx:
        rows = await connections.fetch(tx, SQL["show_saga"], {"id": id})
    if not rows:
        raise NoSuchSaga(f"there is no saga {id}")
    found: dict[str, Any] = json.loads(rows[0][0])
    return found


async def wait(database: Database, id: int, *, timeout: float = 30.0) -> dict[str, Any]:  # noqa: ASYNC109
    """Wait until a saga has ended; then as `show`. Looks again and again, after 20 ms first and at most every second.

    Args:
        id: what `start` returned, in a transaction that has committed.
        timeout: seconds to wait.

    Raises:
        NoSuchSaga: there is none of this number.
        TimeoutError: it has not ended in time; it goes on.
        OutsideCallInTransaction: a transaction is open here, which would be held all the while.
    """
    refuse_in_transaction(f"waiting for saga {id}")
    pause = 0.02
    try:
        async with asyncio.timeout(timeout):
            while (found := await show(database, id))["ended_at"] is None:
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 1.0)
    except TimeoutError:
        raise TimeoutError(f"saga {id} has not ended within {timeout:g} s") from None
    return found


async def cancel(where: Any, id: int, *, because: str) -> dict[str, Any]:
    """Have a saga undo what it has done. For services: it never goes back behind a pivot that may have happened.

    Where the pivot's outcome is unknown, the wish is kept and done if the pivot turns out to be refused. Where the saga
    waits for its lock and its start has something to be undone (`on_compensated`), it is done when its turn has come.

    Returns:
        ``id``, ``state``, ``step``, and ``requested``: whether the wish is stored and waits for the step at work.

    Raises:
        NoSuchSaga: there is none of this number.
        TooLate: it has ended, or passed its pivot.
        LockNotAvailable: a step's transaction held it for longer than the lock timeout.
    """
    return await _wish(where, id, "cancel", because, None)


async def compensate(where: Any, id: int, *, because: str) -> dict[str, Any]:
    """As `cancel`, by a person who has looked: where the pivot's outcome is unknown, it counts as not happened."""
    return await _wish(where, id, "compensate", because, None)


async def skip(where: Any, id: int, *, because: str, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Count the step that a saga is at as done, because a person did it or it need not be done.

    Of a saga that goes back, the undo is skipped, and the step says ``left``: what it did may still be there.

    Args:
        data: fields of the saga to set, such as the number that the step would have found out.

    Returns, raises:
        As `cancel`. `TooLate` also where it waits for its lock and is at no step yet, or goes back when its
        step attempt has ended; `Unserializable` where data is nothing that PostgreSQL can store as JSON.
    """
    text = None if data is None else json.dumps(dict(data), allow_nan=False)
    if text is not None and not storable_json(text):
        raise Unserializable(
            "data holds the character NUL or half a surrogate pair, which PostgreSQL cannot store"
        )
    return await _wish(where, id, "skip", because, text)


async def retry(where: Any, id: int) -> dict[str, Any]:
    """Have the step of a saga tried now; also if its message was called off or given up.

    Raises:
        NoSuchSaga: there is none of this number.
        TooLate: it has ended.
    """
    async with _transaction(where) as tx:
        progress = await _open(tx, id)
        if progress.step is None:  # it waits for its lock
            return _answer(progress.id, progress.state, None, False)
        found = await connections.fetch(tx, SQL["find_message"], {"id": id})
        if found:
            await connections.fetch(tx, MESSAGES["retry_messages"], {"ids": [found[0][0]]})
        else:
            message = store.kind(progress.kind, progress.step, undo=progress.state == "compensating")
            await connections.fetch(tx, SQL["put_message"], {"id": id, "message": message})
        return _answer(progress.id, progress.state, progress.step, False)


async def _wish(where: Any, id: int, wish: Wish, because: str, data: str | None) -> dict[str, Any]:
    if not because.strip():
        raise ValueError("say why: it is kept with the saga")
    because = store.storable(because)
    async with _transaction(where) as tx:
        progress = await _open(tx, id)
        to = _move(progress, wish, because)
        if to is not None:
            taken = await connections.fetch(tx, SQL["take_message"], {"id": id})
            if taken or not await connections.fetch(tx, SQL["find_message"], {"id": id}):
                await store.move(tx, progress, to, data)
                return _answer(id, to.state, to.step, False)
        elif progress.state == "compensating":  # what is wished is under way
            return _answer(id, progress.state, progress.step, False)
        values = {"id": id, "requested": wish, "because": because, "data": data}
        await connections.fetch(tx, SQL["request"], values)
        return _answer(id, progress.state, progress.step, True)


def _move(progress: Progress, wish: Wish, because: str) -> Move | None:
    """What the wish comes to while no worker is at the step; None where it has to wait, or is under way.

    Raises:
        TooLate: it is.
    """
    if progress.state == "finishing" and wish != "skip":
        raise TooLate(
            f"saga {progress.id} has passed its pivot and only goes forward; retry or skip its step"
        )
    if progress.state == "waiting":
        if wish == "skip":
            raise TooLate(f"saga {progress.id} waits for {progress.lock!r} and is at no step yet")
        to = moves.back(progress, f"cancelled: {because}")
        return None if to.step else to  # what its start did is undone under its lock, when its turn has come
    if wish == "skip" and progress.requested in ("cancel", "compensate") and progress.can_go_back:
        raise TooLate(
            f"saga {progress.id} goes back as soon as the attempt at its step {progress.step} has ended:"
            f" {progress.because}; what is to be undone then can be skipped"
        )
    progress.requested, progress.because = wish, because
    return moves.due(progress, failed=0, attempts=1, error=None, known=False)


async def _open(tx: Any, id: int) -> Progress:
    try:
        progress = await store.locked(tx, id)
    except Exception as error:
        if sqlstate(error) != "55P03":
            raise
        raise LockNotAvailable(f"saga {id} is in the middle of a step's transaction; try again") from error
    if progress is None:
        raise NoSuchSaga(f"there is no saga {id}")
    if progress.state in ("completed", "compensated"):
        raise TooLate(f"saga {id} has ended: it is {progress.state}")
    return progress


def _answer(id: int, state: State, step: str | None, requested: bool) -> dict[str, Any]:
    return {"id": id, "state": state, "step": step, "requested": requested}


@asynccontextmanager
async def _transaction(where: Any) -> AsyncIterator[Any]:
    if isinstance(where, Database):
        async with where.transaction() as tx:
            yield tx
    else:
        yield where
