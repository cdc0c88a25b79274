"""What the database knows of subscribers, kept true by the workers: declared as they start, retired when forgotten.

A publisher sees subscriptions as rows, so it need not know the code of its subscribers. Workers write them, and
deploys (`Messages.declare`): each declares what its code has. None takes a row away because *its* code lacks it: in a
deploy, old and new workers run side by side. A row that nobody has declared for `retire_after` seconds is retired.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mainstay.patterns.errors import Misuse
from mainstay.patterns.events.control import list_subscriptions
from mainstay.patterns.events.event import Event, check_upcasters
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.driver import Link
from mainstay.patterns.messages.handler import Handler
from mainstay.patterns.messages.statements import load
from mainstay.patterns.schema import check

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
OBSERVED = 600.0
"""Seconds for which a worker has seen for itself that nobody declares a subscription, before it retires it. The time
since the last declaration does not tell: a clock may have been set, or everything may have been down."""
TRIES, BETWEEN = 20, 0.2
"""How often `declare` tries to open what is the first of its event while others publish, and the seconds between."""


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
        self._forgotten: dict[tuple[str, str, str], float] = {}
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

    # ------------------------------------------------------------------------------------ in a deploy

    async def declare(self) -> list[dict[str, Any]]:
        """See `Messages.declare`."""
        database = self._engine.database
        await check(database)
        self._check()

        async def fetch(name: str, **values: Any) -> Sequence[Sequence[Any]]:
            async with database.transaction(statement_timeout=60.0) as tx:
                return await connections.fetch(tx, SQL[name], values)

        if self._mine:
            await fetch("declare", **self._columns())
        for attempt in range(TRIES):
            events = [row[0] for row in await fetch("opening")]
            while events and (await fetch("hand_over", events=events, most=BATCH))[0][0]:
                pass
            if not events or (await fetch("open", events=events))[0][0]:
                break
            if attempt + 1 < TRIES:
                await asyncio.sleep(BETWEEN)
        mine = {(one[0], one[1]) for one in self._mine}
        known = await list_subscriptions(database)
        return [one for one in known if (one["subscriber"], one["event"]) in mine]

    # ------------------------------------------------------------------------------------ in a worker

    async def _start(self, worker: Worker) -> None:
        self._check()
        await self._declare(worker)
        await self._open(worker)
        self._seldom[id(worker)] = time.monotonic()

    async def _duty(self, worker: Worker) -> None:
        await self._open(worker)
        if time.monotonic() - self._seldom.get(id(worker), 0.0) >= SELDOM:
            self._seldom[id(worker)] = time.monotonic()
            await self._tidy(worker)

    async def _declare(self, worker: Worker) -> None:
        if self._mine:
            await worker.upkeep.link.fetch(SQL["declare"], **self._columns())

    def _check(self) -> None:
        for event in self._events:
            check_upcasters(event)

    def _columns(self) -> dict[str, list[Any]]:
        names = ("subscribers", "events", "queues", "relays")
        return {name: [one[place] for one in self._mine] for place, name in enumerate(names)}

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
        await self._retire(link)
        while (await link.fetch(SQL["cancel_retired"], most=1000))[0][0] >= 1000:
            pass
        await self._warn(link)

    async def _retire(self, link: Link) -> None:
        """Retire what has long been forgotten, once this worker has seen for some time that it stays so."""
        now = time.monotonic()
        rows = await link.fetch(SQL["long_forgotten"], after=self.retire_after)
        gone = [(subscriber, event, declared_at) for subscriber, event, declared_at in rows]
        self._forgotten = {one: self._forgotten.get(one, now) for one in gone}
        for subscriber, event, declared_at in gone:
            if now - self._forgotten[subscriber, event, declared_at] >= min(self.retire_after, OBSERVED):
                values = {"subscriber": subscriber, "event": event, "declared_at": declared_at}
                if await link.fetch(SQL["retire_forgotten"], **values):
                    log.warning(
                        "%s no longer subscribes to %s: no worker has declared it for %.0f s; what waits for it is"
                        " called off",
                        subscriber, event, self.retire_after,
                    )  # fmt: skip

    async def _warn(self, link: Link) -> None:
        for subscriber, event, seconds, waiting in await link.fetch(SQL["forgotten"], after=WARN_AFTER):
            if time.monotonic() - self._warned.get((subscriber, event), -WARN_AGAIN) >= WARN_AGAIN:
                self._warned[subscriber, event] = time.monotonic()
                log.warning(
                    "%s subscribes to %s, and no worker has declared it for %.0f min; %d of its messages wait. If it"
                    " is gone from the code, retire it (events.control.retire); else start its worker",
                    subscriber, event, seconds / 60, waiting,
                )  # fmt: skip
