"""What people do with subscriptions: look at them, and retire one at once. The command line calls this."""

from __future__ import annotations

from typing import Any

from mainstay.patterns.database import Database
from mainstay.patterns.errors import PatternError
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.statements import load

SQL = load(__package__)

_COLUMNS = ("subscriber", "event", "queue", "relay", "state", "since", "declared_at", "waiting", "dead")


class NoSuchSubscriber(PatternError, LookupError):
    """No subscriber of this name is declared, or it is retired already."""


async def list_subscriptions(database: Database) -> list[dict[str, Any]]:
    """All subscriptions, retired ones too, with how many messages wait (counted up to 10 000) and are dead."""
    async with database.transaction() as tx:
        rows = await connections.fetch(tx, SQL["list_subscriptions"], {})
    return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]


async def retire(database: Database, subscriber: str) -> int:
    """Retire a subscriber that is gone from the code, without waiting; how many of its messages were called off.

    They are kept for 30 days and can be redriven. A worker that starts with code that still has the subscriber
    brings it back.

    Raises:
        NoSuchSubscriber: there is none.
    """
    async with database.transaction() as tx:
        rows = await connections.fetch(tx, SQL["retire"], {"subscriber": subscriber})
    if not rows:
        raise NoSuchSubscriber(f"there is no subscriber {subscriber!r}, or it is retired")
    cancelled = 0
    while True:
        async with database.transaction() as tx:
            count: int = (await connections.fetch(tx, SQL["cancel_retired"], {"most": 1000}))[0][0]
        cancelled += count
        if not count:
            return cancelled
