"""What the database knows of subscribers, kept true by the workers: declared as they start, retired when forgotten.

A publisher sees subscriptions as rows, so it need not know the code of its subscribers. Only workers write them: each
declares what its code has. None takes a row away because *its* code lacks it: in a deploy, old and new workers run
side by side. A row that nobody has declared for `retire_after` seconds is retired.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mainstay.patterns.errors import Misuse
from mainstay.patterns.events.event import Event, check_upcasters
from mainstay.patterns.messages.driver import Link
from mainstay.patterns.messages.handler import Handler
from mainstay.patterns.messages.statements import load

if TYPE_CHECKING:
    from mainstay.patterns.messages.engine import Engine
    from mainstay.patterns.messages.worker import Worker

log = logging.getLogger("mainstay.events")
SQL = load(__package__)

EVERY = "*"
"""Stands for every event in the table."""
RETIRE_AFTER = 7 * 86400.0
"""Seconds after which a subscription that no worker declares is retired, unless told otherwise."""
WARN_AFTER = 600.0
"""Seconds after which a subscription that no worker declares is told of in the log, once in `WARN_AGAIN` seconds."""
WARN_AGAIN = 3600.0
SELDOM = 20.0
"""Seconds between two rounds of what is not urgent."""
BATCH = 10_000
"""Unclaimed messages handed over by one statement."""


class Subscriptions:
    """The subscriptions of one `Messages`: those of this code, and the upkeep of all.

    Attributes:
        retire_after: seconds after which a subscription that no worker declares is retired.
    """

    def __init__(self, engine: Engine) -> None:
        self.retire_after = RETIRE_AFTER
        self._engine = engine
        self._mine: list[tuple[str, str, str, bool]] = []
        self._events: list[type[Event]] = []
        self._seldom: dict[int, float] = {}
        self._warned: dict[tuple[str, str], float] = {}
        engine.starting.append(self._start)
        engine.duties.append(self._duty)

    def add(self, handler: Handler, events: Mapping[str, type[Event] | None], *, relay: bool = False) -> None:
        """Have `handler` called with messages of these events.

        Raises:
            Misuse: its name is taken, or too long for an index.
        """
        if len(handler.kind) > 200 or len(handler.queue) > 200:
            raise Misuse(f"the name and the queue of {handler.kind[:40]}… may have 200 characters")
        self._engine.handle(handler)
        for name, event in events.items():
            self._mine.append((handler.kind, name, handler.queue, relay))
            if event is not None:
                self._events.append(event)

    # ------------------------------------------------------------------------------------ in a worker

    async def _start(self, worker: Worker) -> None:
        for event in self._events:
            check_upcasters(event)
        await self._declare(worker)
        await self._open(worker)
        self._seldom[id(worker)] = time.monotonic()

    async def _duty(self, worker: Worker) -> None:
        await self._open(worker)
        if time.monotonic() - self._seldom.get(id(worker), 0.0) >= SELDOM:
            self._seldom[id(worker)] = time.monotonic()
            await self._tidy(worker)

    async def _declare(self, worker: Worker) -> None:
        subscribers, events, queues, relays = (list(column) for column in zip(*self._mine, strict=True))
        await worker.upkeep.link.fetch(
            SQL["declare"], subscribers=subscribers, events=events, queues=queues, relays=relays
        )

    async def _open(self, worker: Worker) -> None:
        """Hand over what was published before the first subscriber of an event came, then let publishers know of it.

        Where a transaction that has published is under way for long, this is done again with the next duty. Until then
        events take the way through here, so they are late by a second and in order.
        """
        link = worker.upkeep.link
        events = [row[0] for row in await link.fetch(SQL["opening"])]
        if not events:
            return
        await self._hand_over(worker, events)
        opened, queues = (await link.fetch(SQL["open"], events=events))[0]
        worker.feed(queues)
        if not opened:
            log.info("the subscribers of %s open as soon as no publisher is under way", ", ".join(events))

    async def _hand_over(self, worker: Worker, events: list[str]) -> None:
        more = bool(events)
        while more:
            more, queues = (await worker.upkeep.link.fetch(SQL["hand_over"], events=events, most=BATCH))[0]
            worker.feed(queues)

    async def _tidy(self, worker: Worker) -> None:
        """Say that this code is still there; look after what others have left."""
        link = worker.upkeep.link
        await link.fetch(
            SQL["still_declared"],
            subscribers=[one[0] for one in self._mine],
            events=[one[1] for one in self._mine],
        )
        # A publisher under REPEATABLE READ may have looked at subscriptions as they were long before.
        await self._hand_over(worker, [row[0] for row in await link.fetch(SQL["unclaimed"])])
        for subscriber, event in await link.fetch(SQL["retire"], after=self.retire_after, subscriber=None):
            log.warning(
                "%s no longer subscribes to %s: no worker has declared it for %.0f s; what waits for it is called off",
                subscriber, event, self.retire_after,
            )  # fmt: skip
        while (await link.fetch(SQL["cancel_retired"], most=1000))[0][0] >= 1000:
            pass
        await self._warn(link)

    async def _warn(self, link: Link) -> None:
        for subscriber, event, seconds, waiting in await link.fetch(SQL["forgotten"], after=WARN_AFTER):
            if time.monotonic() - self._warned.get((subscriber, event), -WARN_AGAIN) >= WARN_AGAIN:
                self._warned[subscriber, event] = time.monotonic()
                log.warning(
                    "%s subscribes to %s, and no worker has declared it for %.0f min; %d of its messages wait. If it"
                    " is gone from the code, retire it (events.control.retire); else start its worker",
                    subscriber, event, seconds / 60, waiting,
                )  # fmt: skip
