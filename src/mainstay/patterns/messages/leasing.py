"""What a worker takes and when it looks: leases due messages in batches, and sleeps until there may be more.

The heart is `step`: it is never asleep while there is room and a queue that may hold something ("hungry").
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mainstay.patterns.messages.driver import Link, transaction
from mainstay.patterns.messages.statements import load

if TYPE_CHECKING:
    from mainstay.patterns.messages.worker import Worker

log = logging.getLogger("mainstay.messages")
SQL = load(__package__)

FIRST_POLL = 0.02
"""Seconds after falling asleep until the first look; each further one follows after twice the time, up to `poll`.

A publisher that looked for sleeping workers before this one fell asleep, and commits after, wakes nobody. By doubling,
its message is found within about as much time as its transaction took."""
SIP = 0.005
"""Seconds at least between two leases while less than a quarter of the slots is free: a few at a time cost the most."""
FULL = 1.0
"""Seconds until a queue is looked at again that was at its limit of messages at work."""
RECOUNT = 5.0
"""Seconds between two looks for leases of which this worker has never heard."""
QUEUES_AT_ONCE = 64
"""How many queues one lease statement looks into."""


class Leasing:
    """The leases of one worker, and its ear for what is published."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        # A lease lost in a crash of the server only means that the message is due again: no need to wait for the disk.
        self.link = Link(worker.database, "leases", settings="SET synchronous_commit = off")
        self.listening = Link(worker.database, "listens")
        self.idle = False
        """Whether the database has been told that this worker sleeps."""
        self._kinds = list(worker.handlers)
        self._served = frozenset(worker.queues)
        self._order = deque(worker.queues)
        self._hungry: set[str] = set()
        self._left_alone: set[str] = set()
        self._keyed: set[str] = set()
        """Queues in which messages with keys have been met."""
        self._wake = asyncio.Event()
        self._pause = FIRST_POLL
        self._looked = False
        self._last_rest = 0.0
        self._rate = 0.0
        self._measured = (0.0, 0)
        self._took = 0.0
        self._leased_at = 0.0
        self._recounted = -math.inf

    def feed(self, queues: Iterable[str]) -> None:
        """These queues may hold something."""
        served = self._served.intersection(queues) - self._left_alone
        if served:
            self._hungry |= served
            self._wake.set()

    def leave_alone(self, queue: str, seconds: float) -> None:
        """Take nothing from this queue for so long: what its messages need is away."""
        if queue not in self._left_alone:
            self._left_alone.add(queue)
            asyncio.get_running_loop().call_later(seconds, self._come_back, queue)

    def _come_back(self, queue: str) -> None:
        self._left_alone.discard(queue)
        self.feed((queue,))

    def room(self) -> None:
        """There may be room for more."""
        self._wake.set()

    async def step(self) -> None:
        """Lease once, or sleep."""
        worker = self._worker
        late = time.monotonic() - self._recounted
        # Where something has just woken this worker, that goes first.
        if late >= (2 * RECOUNT if self._hungry else RECOUNT):
            await self._recount()
        self._hungry -= self._left_alone
        # Ahead of the free slots, as many as will become free while the statement is on its way.
        room = worker.concurrency + min(worker.concurrency, int(self._rate * self._took))
        # What is done and not yet written down counts too, or a crash would repeat all of it.
        room -= worker.held() + max(0, worker.completion.due - worker.concurrency)
        asked = [name for name in self._order if name in self._hungry][:QUEUES_AT_ONCE] if room > 0 else []
        if room > 0 and not asked:
            await self._rest()
            return
        if not asked:
            self._wake.clear()
            await self._woken(RECOUNT)
            return
        if room * 4 < worker.concurrency and (early := self._leased_at + SIP - time.monotonic()) > 0:
            await asyncio.sleep(early)
            return
        if self.idle and time.monotonic() - self._last_rest > 1.0:
            self.idle = False
            await self.link.fetch(SQL["set_idle"], worker=worker.id, idle=False)
        limited, keyed = asked[0] in worker.upkeep.limited, asked[0] in self._keyed
        if limited:
            asked = asked[:1]
        else:
            asked = [
                name for name in asked if name not in worker.upkeep.limited and (name in self._keyed) == keyed
            ]
        self._hungry.difference_update(asked)
        begun = time.monotonic()
        try:
            if limited:
                rows = await self._lease_limited(asked[0], room)
            else:
                rows = await self._leased(asked, room, False)
        except BaseException:
            self._hungry.update(asked)
            self._recounted = -math.inf  # the server may have done it
            raise
        self._measure(begun)
        self._leased_at = self._measured[0]
        self._looked = self._looked and not rows
        if rows:
            # Full: what was asked after the last queue that gave may hold more, and that one too. And it goes last.
            last = rows[-1][3]
            if len(rows) >= room:
                self._hungry.update(asked[asked.index(last) :])
            self._order.remove(last)
            self._order.append(last)
        for row in rows:
            if row[1]:
                worker.take(row)
            else:
                self._hungry.add(row[3])
                self._keyed.add(row[3])

    async def _leased(self, queues: Sequence[str], most: int, locked: bool) -> Sequence[Sequence[Any]]:
        statement = SQL["lease" if queues[0] in self._keyed else "lease_plain"]
        return await self.link.fetch(
            statement, worker=self._worker.id, queues=queues, kinds=self._kinds, most=most, locked=locked
        )

    async def _lease_limited(self, queue: str, most: int) -> Sequence[Sequence[Any]]:
        """Lease from a queue with limits over all workers: one worker at a time, counting first."""
        loop = asyncio.get_running_loop()
        async with transaction(self.link):
            if not await self.link.fetch(SQL["lock_limited_queue"], queue=queue):
                if queue in self._worker.upkeep.limited:
                    loop.call_later(0.02, self.feed, (queue,))
                return ()
            room, wait = (await self.link.fetch(SQL["room_in_limited_queue"], queue=queue, most=most))[0]
            if room == 0:
                # Others' completions free room without a word, so look again.
                wait = wait if wait is not None and wait > 0 else min(FULL, self._worker.poll)
                loop.call_later(wait, self.feed, (queue,))
                return ()
            rows = await self._leased([queue], room, True)
            if started := sum(1 for row in rows if row[1]):
                await self.link.fetch(SQL["count_starts"], queue=queue, started=started)
            if len(rows) >= room:
                self._hungry.add(queue)
            return rows

    def _measure(self, begun: float) -> None:
        now = time.monotonic()
        self._took = now - begun
        at, finished = self._measured
        if now > at:
            self._rate += 0.3 * ((self._worker.finished - finished) / (now - at) - self._rate)
        self._measured = (now, self._worker.finished)

    async def _rest(self) -> None:
        """Nothing to take: ask to be woken, look once more, and sleep."""
        self._wake.clear()
        if not self.idle:
            await self.link.fetch(SQL["set_idle"], worker=self._worker.id, idle=True)
            self.idle = True
            self._pause = FIRST_POLL
        self._last_rest = time.monotonic()
        # What is there and was not given (its queue paused or full, its kind unknown) is looked at again after a pause.
        if not self._looked:
            self._looked = True
            self.feed(row[0] for row in await self.link.fetch(SQL["queues_with_work"]))
            if self._hungry:
                return
        pause, self._pause = self._pause, min(self._pause * 2, self._worker.poll)
        await self._woken(pause)
        self._looked = False
        self._last_rest = time.monotonic()
        self._measured = (self._last_rest, self._worker.finished)

    async def _woken(self, most: float) -> None:
        """Sleep until woken, for `most` seconds."""
        timer = asyncio.get_running_loop().call_later(most, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _recount(self) -> None:
        """Give back what was leased for this worker by a statement whose answer got lost on its way.

        Only here, where no lease is on its way. What is done meanwhile is not running any more.
        """
        known = [*self._worker.known(), *self._worker.completion.known()]
        rows = await self.link.fetch(
            SQL["hand_back_unknown"],
            worker=self._worker.id,
            ids=[id for id, _ in known],
            leases=[lease for _, lease in known],
        )
        self._recounted = time.monotonic()
        if rows:
            log.warning(
                "worker %s: a lease of %s messages had never been heard of here, and they are due again",
                self._worker.name,
                len(rows),
            )
            self.feed(row[1] for row in rows)

    async def listen(self) -> None:
        """Hear of what is published and asked for, until the connection ends."""

        def notified(channel: str, payload: str) -> None:
            if channel == "mainstay_messages":
                self._pause = FIRST_POLL
                self.feed((payload,))
            else:
                self._worker.upkeep.hurry()

        driver = await self.listening.driver()

        def listening() -> None:
            self.idle = False  # a server that crashed may have forgotten that this worker sleeps
            self.feed(self._worker.queues)  # what was published while nobody listened

        try:
            await driver.listen(("mainstay_messages", "mainstay_control"), notified, listening)
        finally:
            await self.listening.drop()
        raise ConnectionError("the connection that listens has ended")
