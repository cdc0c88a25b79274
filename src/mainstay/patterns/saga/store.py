"""A saga's row: read under its lock, and moved on."""

from __future__ import annotations

import json
from typing import Any

from mainstay.patterns.messages import connections
from mainstay.patterns.messages.completion import LONGEST_ERROR
from mainstay.patterns.messages.statements import load
from mainstay.patterns.saga.moves import Move, Progress, StepProgress

SQL = load(__package__)


async def locked(connection: Any, id: int) -> Progress | None:
    """The saga, locked until the transaction ends; None where it is not, or no longer, there."""
    if not await connections.fetch(connection, SQL["lock_saga"], {"id": id}):
        return None
    rows = await connections.fetch(connection, SQL["read_saga"], {"id": id})
    values = list(rows[0])
    values[-1] = [StepProgress(**one) for one in json.loads(values[-1])]
    return Progress(*values)


async def move(connection: Any, progress: Progress, to: Move, data: str | None = None) -> None:
    """Move a locked saga, whose message has been completed or taken away. One that ends gives its lock to the next."""
    error = None if to.error is None else storable(to.error)
    values = {
        "id": progress.id,
        "state": to.state,
        "step": to.step,
        "message": to.step and kind(progress.kind, to.step, undo=to.state == "compensating"),
        "changed": to.changed,
        "outcome": to.outcome,
        "step_error": error if to.outcome in ("failed", "left") else None,
        "error": error,
        "settled": to.settled,
        "data": data,
    }
    await connections.fetch(connection, SQL["move_saga"], values)
    if to.step is None and progress.lock is not None:
        await connections.fetch(connection, SQL["next_of_lock"], {"lock": progress.lock})


def kind(saga: str, step: str, *, undo: bool = False) -> str:
    """The kind of the messages that do or undo a step."""
    return f"saga/{saga}/{step}/undo" if undo else f"saga/{saga}/{step}"


def storable(text: str) -> str:
    """Text as PostgreSQL stores it: no NUL, no half of a surrogate pair, and not too much of it."""
    return text[-LONGEST_ERROR:].replace("\x00", "\ufffd").encode(errors="replace").decode()
