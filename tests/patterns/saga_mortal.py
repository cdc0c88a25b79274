"""A process with a worker that runs one saga, and is killed or stopped at one of the places where it may be."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from saga_shop import Shop, declare, until
from sqlalchemy import event

from mainstay.patterns import Database
from mainstay.patterns.messages import Messages

LONG = 30.0


class MortalShop(Shop):
    """Counts places: after each statement, before and after each COMMIT, after each effect outside."""

    places = 0
    at = 0
    signal = 0
    begun = False

    def place(self) -> None:
        """The process may end here."""
        self.places += self.begun
        if self.places == self.at:
            self.places += 1
            os.kill(os.getpid(), self.signal)

    async def outside(self, what: str, call: Any) -> str:
        """As ever, and then the answer is on its way."""
        self.place()
        answer = await super().outside(what, call)
        self.place()
        return answer

    def watch(self, db: Database) -> None:
        """Count from the first statement that concerns the saga."""

        def executed(*arguments: Any) -> None:
            self.begun = self.begun or "FROM mainstay.saga WHERE id" in arguments[2]
            self.place()

        event.listen(db.engine.sync_engine, "after_cursor_execute", executed)
        event.listen(db.engine.sync_engine, "commit", lambda _: self.place())
        event.listen(db.engine.sync_engine.pool, "checkin", lambda *_: self.place())


def live(url: str, queue: str, script: dict[str, list[str]], at: int, signal: int, saga: int) -> None:
    """The body of the process: serve the queue until its saga has ended."""

    async def main() -> None:
        async with Database(url, pool_size=2) as db:
            shop = MortalShop(db.engine.url, script)
            shop.at, shop.signal = at, signal
            shop.watch(db)
            messages = Messages(db)
            declare(messages, shop, timeout=LONG)
            async with messages.worker(queues=[queue], lease=30.0, concurrency=1):

                async def ended() -> bool:
                    return shop.sql("SELECT ended_at FROM mainstay.saga WHERE id = %s", saga) != [(None,)]

                await until(ended, 60)

    asyncio.run(main())
