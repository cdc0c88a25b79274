"""What a consumer holds unacknowledged: bounded, known to the broker as still at work, and let go when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

log = logging.getLogger("mainstay.patterns.brokers")

Token = TypeVar("Token")


class Holding(Generic[Token]):
    """The deliveries in hand, oldest first, at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tokens: dict[Token, None] = {}
        self._freed = asyncio.Event()

    def add(self, token: Token) -> None:
        """One more is in hand."""
        self._tokens[token] = None

    def discard(self, token: Token) -> None:
        """This one is settled, or lost."""
        self._tokens.pop(token, None)
        self._freed.set()

    def clear(self) -> None:
        """All of them are lost: their connection is gone."""
        self._tokens.clear()
        self._freed.set()

    async def room(self) -> int:
        """How many more may be taken; waits until it is at least one."""
        while len(self._tokens) >= self._most:
            self._freed.clear()
            await self._freed.wait()
        return self._most - len(self._tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._tokens

    def __iter__(self) -> Iterator[Token]:
        return iter(tuple(self._tokens))

    def __len__(self) -> int:
        return len(self._tokens)


def heed_cancellation() -> None:
    """Raise CancelledError if this task was cancelled and nobody noticed. Loops around a client library begin with it.

    Before Python 3.12, `asyncio.wait_for`, which all client libraries use, swallows a cancellation that comes in the
    moment in which what it waits for is done.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@asynccontextmanager
async def repeating(action: Callable[[], Awaitable[object]], seconds: float) -> AsyncIterator[None]:
    """Await `action()` every so many seconds while the block runs. What it raises is logged, and it goes on."""

    async def forever() -> None:
        while True:
            heed_cancellation()
            await asyncio.sleep(seconds)
            try:
                await action()
            except Exception as error:  # whatever a client library raises while its connection is away
                log.warning("deliveries could not be kept, and may be handed to another consumer: %r", error)

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
