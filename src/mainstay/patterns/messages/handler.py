"""What a worker does with messages of one kind."""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mainstay.patterns.errors import PatternError

LONGEST = 100 * 366 * 86400.0
"""Seconds that anything may wait."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When an attempt that failed is made again: waits that double, with jitter.

    Attempt n + 1 follows after ``first * 2 ** (n - 1)`` seconds, at most `most`, of which a random half is taken
    off, so that what failed together does not come back together.

    Attributes:
        attempts: in all, the first one included; then the message is dead.
        first: seconds.
        most: seconds.
    """

    attempts: int = 12
    first: float = 2.0
    most: float = 3600.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {self.attempts}")
        if not 0 <= self.first <= self.most:
            raise ValueError(f"first ({self.first}) must lie between 0 and most ({self.most}) seconds")

    def delay(self, attempt: int, random: Callable[[], float] = _random.random) -> float | None:
        """Seconds to wait after attempt number `attempt` failed; None when it was the last."""
        if attempt >= self.attempts:
            return None
        longest = min(self.most, self.first * 2.0 ** min(attempt - 1, 60))
        return longest * (1 - random() / 2)


class GiveUp(PatternError):
    """Raise this in a handler where no other attempt can help: the message is dead at once, with this reason."""


class TryAgain(PatternError):
    """Raise this in a handler to be called again after `after` seconds. It counts as an attempt."""

    instead: BaseException | None = None
    """What the history of the message tells of, where this here only says when there will be another attempt."""

    def __init__(self, reason: str, *, after: float) -> None:
        super().__init__(reason)
        self.after = _seconds(after)


class NotNow(PatternError):
    """Raise this in a handler where not the message is at fault but something that it needs is away.

    The message is tried again after `after` seconds, and the attempt does not count: an outage is no poison. With
    `whole_queue`, this worker takes nothing from the message's queue until then, since all of it needs the same.
    """

    def __init__(self, reason: str, *, after: float, whole_queue: bool = False) -> None:
        super().__init__(reason)
        self.after = _seconds(after)
        self.whole_queue = whole_queue


def _seconds(after: float) -> float:
    if isinstance(after, (int, float)) and -LONGEST < after < LONGEST:
        return float(after)
    raise ValueError(f"after is a number of seconds up to a hundred years, not {after!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """How messages of one kind are handled.

    Attributes:
        kind: of the messages.
        call: what is called: ``call(message)``, or ``call(message, tx)`` where `transactional`. What it returns is the
            result, and must be JSON where it is kept. A plain function holds the event loop, unless it is `blocking`.
        queue: where messages of this kind are published by default.
        transactional: the handler gets a transaction, and the message is completed in it.
        blocking: `call` is a plain function and is run in a thread.
        retry: after a failure.
        timeout: seconds that one attempt may take; then it is cancelled and counts as failed.
        keep: seconds for which a message that succeeded is kept with its result; 0 deletes it at once.
    """

    kind: str
    call: Callable[..., Awaitable[Any] | Any]
    queue: str = "default"
    transactional: bool = False
    blocking: bool = False
    retry: Retry = field(default_factory=Retry)
    timeout: float = 300.0
    keep: float = 0.0
