"""What every worker does beside its messages, so that no extra process is needed: whoever comes first does it.

Once a second: bring what has come due, take over from workers that went away, learn of limits. Now and then:
expire, prune, and look under the safety net of keys.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING

from mainstay.patterns.messages.driver import Link
from mainstay.patterns.messages.statements import load

if TYPE_CHECKING:
    from mainstay.patterns.messages.worker import Worker

log = logging.getLogger("mainstay.messages")
SQL = load(__package__)

TICK = 1.0
"""Seconds between two rounds, unless something comes due before."""
SELDOM = 5.0
"""Seconds between two rounds of what is not urgent."""
LONGEST_DUTY = 20.0
"""Seconds that a layer's duty may take in one round."""
BATCH = 1000
"""Messages moved or pruned by one statement."""


class Upkeep:
    """The duties of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.link = Link(worker.database, "upkeep")
        self.pulse = Link(worker.database, "heartbeat")
        """Of its own, so that no heartbeat waits behind a duty that waits for a lock."""
        self.limited: set[str] = set()
        """Queues with a limit, as last read."""
        self._hurry = asyncio.Event()
        self._seldom = 0.0

    def hurry(self, seconds: float = 0.0) -> None:
        """Someone has asked for something, or something will be due in so many seconds."""
        if seconds < TICK:
            asyncio.get_running_loop().call_later(seconds + 0.001, self._hurry.set)

    async def heartbeat(self) -> None:
        """Say that this worker is alive, three times a lease."""
        worker = self._worker
        beat = worker.lease_seconds / 3
        await asyncio.sleep(beat)
        late = time.monotonic()
        alive = await self.pulse.fetch(
            SQL["heartbeat"], worker=worker.id, lease=worker.lease_seconds, info=json.dumps(worker.info())
        )
        if not alive:
            worker.lost()
            await worker.register()
        if (waited := time.monotonic() - late) > beat:
            log.warning("a heartbeat of worker %s took %.1f s", worker.name, waited)

    async def step(self) -> None:
        """One round of duties, and the wait for the next."""
        worker = self._worker
        hurried = self._hurry.is_set()
        self._hurry.clear()  # what is asked for from now on is for the next round
        next_due = await self._stage()
        for id, queue, kind, name, _ in await self.link.fetch(SQL["rescue"], worker=worker.id):
            log.warning("message %s (%s) is due again: its worker %s went away", id, kind, name)
            worker.feed((queue,))
        await self.read_limits(hurried)
        await self._cancel_wanted()
        self._watch_deadlines()
        for duty in worker.messages.duties:
            try:
                async with asyncio.timeout(LONGEST_DUTY):
                    await duty(worker)
            except Exception:
                log.exception("worker %s: the duty %r failed; the others go on", worker.name, duty)
        if time.monotonic() - self._seldom >= SELDOM:
            self._seldom = time.monotonic()
            await self._tidy()
        try:
            async with asyncio.timeout(min(TICK, max(0.01, next_due))):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _stage(self) -> float:
        """Bring what has come due; seconds until the next will be."""
        while True:
            queues, _, next_due = (await self.link.fetch(SQL["stage_due"], most=BATCH))[0]
            if not queues:
                return TICK if next_due is None else float(next_due)
            self._worker.feed(queues)

    async def read_limits(self, asked: bool = False) -> None:
        """Which queues are limited; and, where somebody `asked` for something, look at all: a pause may have ended."""
        rows = await self.link.fetch(SQL["limited_queues"])
        limited = {name for name, _, concurrency, rate in rows if concurrency is not None or rate is not None}
        changed = limited ^ self.limited
        self.limited = limited
        if changed or asked:
            self._worker.feed(self._worker.queues)

    async def _cancel_wanted(self) -> None:
        worker = self._worker
        if worker.running:
            for id, lease in await self.link.fetch(SQL["cancelled_leases"], worker=worker.id):
                if (one := worker.running.get((id, lease))) is not None:
                    one.cancel("cancelled")

    def _watch_deadlines(self) -> None:
        now = time.monotonic()
        for one in list(self._worker.running.values()):
            if one.deadline < now:
                one.cancel("timeout")

    async def _tidy(self) -> None:
        await self.link.fetch(SQL["expire"], most=BATCH, keep=self._worker.keep_ended)
        await self.link.fetch(SQL["unblock_stragglers"], most=BATCH)
        await self.link.fetch(SQL["rescue_strays"])
        for _ in range(20):
            if (await self.link.fetch(SQL["prune"], most=BATCH))[0][0] < BATCH:
                break
