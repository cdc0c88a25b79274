"""Kill what may die: the service, workers, and connections to the database, at random moments."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import psycopg

from operate.stack import Stack


class Chaos:
    """Kills until it is told to stop, and starts again what it has killed.

    Args:
        every: mean seconds between two kills.
        seed: of what is killed and when. The moment in the life of the victim is luck all the same.
    """

    def __init__(self, stack: Stack, *, every: float, seed: int) -> None:
        self._stack = stack
        self._every = every
        self._chance = random.Random(f"chaos {seed}")
        self.kills: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Kill for so long. Afterwards everything runs."""
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, self._every * self._chance.uniform(0.5, 1.5)))
            victim = self._chance.choice([*self._stack.fragile, "connections", "connections"])
            if victim == "connections":
                self.kills["connections"] += await self._cut(self._chance.randint(1, 4))
            elif self._stack.alive(victim):
                self._stack.kill(victim)
                self.kills["service" if victim == "service" else "workers"] += 1
                await asyncio.sleep(self._chance.uniform(0.0, 0.5))
                self._stack.start(victim)
            self._stack.revive()

    async def _cut(self, most: int) -> int:
        """End some of the database's sessions, at work or not; how many."""
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            " ORDER BY (state = 'idle'), random() LIMIT %s) AS chosen"
        )
        async with await psycopg.AsyncConnection.connect(self._stack.conninfo, autocommit=True) as connection:
            row = await (await connection.execute(query, [most])).fetchone()
        return int(row[0]) if row else 0
