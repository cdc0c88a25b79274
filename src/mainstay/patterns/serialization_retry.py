"""Run a transaction again when PostgreSQL says that it lost against another one."""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mainstay.patterns.errors import CommitUnknown

T = TypeVar("T")

SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"

FIRST_WAIT = 0.02
"""Upper end of the first wait, in seconds; each further one has twice that."""
LONGEST_WAIT = 1.0
"""No wait is longer than this, in seconds."""


def sqlstate(error: BaseException) -> str | None:
    """The five-character SQLSTATE of a database error, or None where the server did not send one.

    Source: PostgreSQL manual, appendix A.
    """
    code = getattr(getattr(error, "orig", error), "sqlstate", None)
    return code if isinstance(code, str) else None


def lost_a_race(error: BaseException) -> bool:
    """Whether PostgreSQL rolled the transaction back only because of another one: the same again may succeed.

    An error raised ``from`` such a one counts as well, so that a service may give it a name of its own; so does
    `TransactionAborted` where it was swallowed. `CommitUnknown` never does, for it may have happened.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CommitUnknown):
        if sqlstate(cause) in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
            return True
        cause = cause.__cause__
    return False


async def run_again(
    attempt: Callable[[], Awaitable[T]],
    *,
    attempts: int = 5,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    random: Callable[[], float] = _random.random,
) -> T:
    """Await `attempt()` until it returns, or raises something else than a lost race.

    Before attempt n + 1 it waits ``random() * min(1.0, 0.02 * 2 ** (n - 1))`` seconds (full jitter): up to
    20 ms, 40 ms, 80 ms, 160 ms with the defaults.

    Args:
        attempts: how often it is tried in all, at least 1.
        sleep: waits so many seconds.
        random: a number in [0, 1).

    Raises:
        ValueError: `attempts` is less than 1.
        Exception: what the last attempt raised, unchanged.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts}")
    most = FIRST_WAIT
    for _ in range(attempts - 1):
        try:
            return await attempt()
        except Exception as error:
            if not lost_a_race(error):
                raise
        # Outside the handler, so that the failed attempt's transaction is not kept alive by its traceback.
        await sleep(random() * most)
        most = min(LONGEST_WAIT, most * 2)
    return await attempt()
