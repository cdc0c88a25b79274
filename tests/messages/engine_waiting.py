"""What the tests of the engine wait for, and where."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from sqlalchemy import URL


def dsn(url: URL) -> str:
    """The URL as psycopg has it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait for a condition; fail after so long, which is more than a busy machine takes to start a process."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if not isinstance(result, bool):
            result = await result
        if result:
            return
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.01)
