"""What every worker does for schedules: make known what its code declares, and fire what is due.

Which definition counts. While a deploy goes on, old and new workers declare different definitions of a schedule. Of
those that live workers declare, the one that has appeared last counts, and only its workers fire. The order in which
definitions appeared is stored for good, so that an old worker that restarts changes nothing. With the last worker that
declares it, a definition ceases to count: the one before counts again (a rollback), or none (the schedule is removed).

Exactly one firing. A tick is published by the statement that moves the schedule on (`sql/fire.sql`), which finds the
row only while the tick is still the next one. Nobody leads: whichever worker comes first does it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mainstay.patterns.messages.driver import is_lost
from mainstay.patterns.messages.statements import load
from mainstay.patterns.schedules.definition import Definition, next_tick

if TYPE_CHECKING:
    from datetime import datetime

    from mainstay.patterns.messages.worker import Worker

log = logging.getLogger("mainstay.schedules")
SQL = load(__package__)

SELDOM = 30.0
"""Seconds between two looks for schedules that nobody declares any more."""


class Firing:
    """The duties of the workers of one engine, for these definitions by name."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self._definitions = definitions
        self._declared: WeakKeyDictionary[Worker, int] = WeakKeyDictionary()
        self._seldom = 0.0

    async def begin(self, worker: Worker) -> None:
        """As a worker starts."""
        await self._declare(worker)
        await self._fire_due(worker)

    async def step(self, worker: Worker) -> None:
        """About once a second, and when a tick is due."""
        if self._declared.get(worker) != worker.id:  # it had been declared gone, and has begun anew
            await self._declare(worker)
        await self._fire_due(worker)
        if time.monotonic() - self._seldom >= SELDOM:
            self._seldom = time.monotonic()
            for (name,) in await worker.upkeep.link.fetch(SQL["forget"]):
                log.warning("schedule %s is forgotten: no worker has declared it for a week", name)
            # Another worker may have forgotten one in the moment in which this one declared it again.
            [(declared,)] = await worker.upkeep.link.fetch(SQL["declared"], worker=worker.id)
            if declared < len(self._definitions):
                await self._declare(worker)

    async def _declare(self, worker: Worker) -> None:
        definitions = [self._definitions[name] for name in sorted(self._definitions)]
        await worker.upkeep.link.fetch(
            SQL["declare"],
            worker=worker.id,
            schedules=[one.name for one in definitions],
            digests=[one.digest for one in definitions],
            definitions=[one.to_json() for one in definitions],
        )
        self._declared[worker] = worker.id

    async def _fire_due(self, worker: Worker) -> None:
        for name, id, adopted, paused, next_at, last, now, wait in await worker.upkeep.link.fetch(
            SQL["due"], worker=worker.id
        ):
            definition = self._definitions[name]
            if adopted != id:
                await worker.upkeep.link.fetch(
                    SQL["adopt"],
                    name=name,
                    definition=id,
                    replaced=adopted,
                    next=next_tick(definition.ticks, now, last),
                )
                worker.upkeep.hurry()
            elif not paused:
                if wait > 0:
                    worker.upkeep.hurry(wait)
                else:
                    try:
                        await self._fire(worker, definition, id, next_at, now)
                    except Exception as error:
                        if is_lost(error):
                            raise
                        # One that cannot be fired holds up neither the others nor this worker.
                        log.exception("schedule %s cannot be fired, and will be tried again", name)

    async def _fire(
        self, worker: Worker, definition: Definition, id: int, first: datetime, now: datetime
    ) -> None:
        ticks, last = definition.due(first, now)
        messages = [definition.message_at(tick) for tick in ticks]
        message = definition.message
        rows = await worker.upkeep.link.fetch(
            SQL["fire"],
            name=definition.name,
            definition=id,
            due=first,
            last=last,
            next=next_tick(definition.ticks, last, None),
            fired=ticks[-1] if ticks else None,
            kind=message.kind,
            queue=message.queue,
            priority=message.priority,
            expires=message.expires,
            key=message.key,
            key_limit=message.key_limit if message.key is not None else None,
            unique=message.unique,
            payloads=[one.payload for one in messages],
            headers=[json.dumps(dict(one.headers)) for one in messages],
        )
        if not rows:
            return  # another worker was first
        if rows[0][0]:
            worker.feed((message.queue,))
        elif ticks:
            log.warning(
                "schedule %s: the tick of %s is passed over, because the job of an earlier one has not ended",
                definition.name,
                last,
            )
        else:
            log.warning("schedule %s: the tick of %s was missed, and is skipped", definition.name, last)
        if (wait := (next_tick(definition.ticks, last, None) - now).total_seconds()) < 1:
            worker.upkeep.hurry(max(0.0, wait))
