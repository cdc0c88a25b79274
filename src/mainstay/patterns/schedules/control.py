"""What people do with schedules: look, pause, resume, run one now. `mainstay schedules` calls this."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mainstay.patterns.database import Database
from mainstay.patterns.errors import PatternError
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.engine import Engine
from mainstay.patterns.messages.statements import load
from mainstay.patterns.schedules.definition import Definition, next_tick
from mainstay.patterns.transaction import Transaction

SQL = load(__package__)


class UnknownSchedule(PatternError, LookupError):
    """No worker has declared a schedule of this name, or not for a week."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it stands in the database.

    Attributes:
        name: of the schedule.
        job: the kind of its messages.
        ticks: for people: ``0 9 * * 1-5 Europe/Berlin`` or ``every 60 s``.
        state: ``active``; ``paused``; ``undeclared``: not fired, since no live worker's code has it.
        next_at: its next tick.
        last_fired: the newest tick that was fired, or None.
        last_message: the number of that tick's job, or None.
        last_state: the state of that job; None where it has gone, as those do that succeed.
    """

    name: str
    job: str
    ticks: str
    state: str
    next_at: datetime
    last_fired: datetime | None
    last_message: int | None
    last_state: str | None


async def list_schedules(database: Database) -> Sequence[Schedule]:
    """All schedules, by name."""
    async with database.transaction() as tx:
        rows = await connections.fetch(tx, SQL["list_schedules"], {})
    return [
        Schedule(name, found["message"]["kind"], _told(found["ticks"]), state, *more)
        for name, text, state, *more in rows
        for found in (json.loads(text),)
    ]


async def pause(database: Database, name: str) -> None:
    """Let no tick of a schedule be fired until `resume`. A job that has been enqueued runs all the same.

    Raises:
        UnknownSchedule: there is none of this name.
    """
    async with database.transaction() as tx:
        await _locked(tx, name)
        await connections.fetch(tx, SQL["pause"], {"name": name})


async def resume(database: Database, name: str) -> datetime:
    """End a pause; the next tick. Those that passed meanwhile are not made up for, whatever `missed` says.

    Raises:
        UnknownSchedule: there is none of this name.
    """
    async with database.transaction() as tx:
        definition, now, last = await _locked(tx, name)
        following = next_tick(definition.ticks, now, last)
        rows = await connections.fetch(tx, SQL["resume"], {"name": name, "next": following})
        next_at: datetime = rows[0][0]
        return next_at


async def fire_now(database: Database, name: str) -> int | None:
    """Enqueue the job of a schedule now, beside its ticks, paused or not; ``scheduled_for`` is the present.

    Returns:
        The number of the job; None where one of this schedule has not ended and may not overlap.

    Raises:
        UnknownSchedule: there is none of this name.
    """
    async with database.transaction() as tx:
        definition, now, _ = await _locked(tx, name)
        return (await Engine(database).publish(tx, definition.message_at(now)))[0]


async def _locked(tx: Transaction, name: str) -> tuple[Definition, datetime, datetime | None]:
    rows = await connections.fetch(tx, SQL["lock"], {"name": name})
    if not rows:
        raise UnknownSchedule(
            f"there is no schedule {name!r}; a worker makes its schedules known as it starts"
        )
    text, now, last = rows[0]
    return Definition.from_json(text), now, last


def _told(ticks: dict[str, Any]) -> str:
    return f"every {ticks['every']} s" if "every" in ticks else f"{ticks['cron']} {ticks['zone']}"
