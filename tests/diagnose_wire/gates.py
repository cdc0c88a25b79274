"""Gates for the tests: one that keeps what it saw, one that holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mainstay.architect.diagnose.proxy import Statement


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another process or task brings about and cannot tell."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Record:
    """A gate that lets everything through and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Statement] = []

    async def before(self, s: Statement) -> None:
        pass

    def after(self, s: Statement) -> None:
        self.seen.append(s)

    @property
    def sql(self) -> list[str]:
        return [s.sql for s in self.seen]

    def last(self, word: str) -> Statement:
        """The last statement with `word` in it."""
        return next(s for s in reversed(self.seen) if word in s.sql)


class Hold:
    """A gate that holds statements with a word in them until it is opened."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.held = asyncio.Event()
        self.release = asyncio.Event()
        self.done: list[Statement] = []

    async def before(self, s: Statement) -> None:
        if self.word in s.sql:
            self.held.set()
            await self.release.wait()

    def after(self, s: Statement) -> None:
        self.done.append(s)
