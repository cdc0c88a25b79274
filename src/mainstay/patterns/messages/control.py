"""What people do with messages: look, call off, hurry, start over, pause and limit. `mainstay messages` calls this."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, get_args

from mainstay.patterns.database import Database
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.statements import load

SQL = load(__package__)

State = Literal["scheduled", "waiting", "blocked", "running", "succeeded", "dead", "cancelled", "expired"]


class Control:
    """The messages of a database from outside: of all queues and kinds, whether or not this process handles them.

    Every method is one short transaction. Results are plain: dictionaries, lists, strings, numbers and datetimes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self,
        *,
        states: Sequence[State] | None = None,
        queue: str | None = None,
        kind: str | None = None,
        key: str | None = None,
        error: str | None = None,
        before: int | None = None,
        most: int = 50,
    ) -> list[dict[str, Any]]:
        """Messages by filter, newest first.

        Args:
            states: any of these.
            error: part of an entry of the error history.
            before: the page before this id.
            most: messages at most, up to 1000.
        """
        rows = await self._fetch(
            "list_messages",
            states=_states(states),
            queue=queue,
            kind=kind,
            key=key,
            error=error,
            before=before,
            most=max(1, min(most, 1000)),
        )
        names = (
            *("id", "state", "queue", "kind", "key", "priority", "attempts"),
            *("published_at", "ready_at", "ended_at", "leased_by", "worker", "error"),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def show(self, id: int) -> dict[str, Any] | None:
        """All that is known of one message, error history included; None where it is not, or no longer, there."""
        rows = await self._fetch("show_message", id=id)
        found: dict[str, Any] | None = json.loads(rows[0][0]) if rows else None
        return found

    async def cancel(self, *ids: int, keep: float = 7 * 86400.0) -> dict[int, str]:
        """Call messages off; the state of each that was not over yet.

        ``running`` means that its worker has been asked to cancel the handler, and will unless it is done before.
        """
        return {row[0]: row[1] for row in await self._fetch("cancel_messages", ids=list(ids), keep=keep)}

    async def retry(self, *ids: int) -> Sequence[int]:
        """Make due now what is scheduled: delayed, or waiting for its next attempt; which were."""
        return [row[0] for row in await self._fetch("retry_messages", ids=list(ids))]

    async def redrive(
        self,
        *ids: int,
        states: Sequence[State] | None = ("dead",),
        queue: str | None = None,
        kind: str | None = None,
        key: str | None = None,
        error: str | None = None,
        most: int = 1000,
    ) -> Sequence[int]:
        """Start over what was given up, by id or by filter, oldest first; which were. The error history stays."""
        rows = await self._fetch(
            "redrive_messages",
            ids=list(ids) or None,
            states=_states(states),
            queue=queue,
            kind=kind,
            key=key,
            error=error,
            most=most,
        )
        return [row[0] for row in rows]

    async def delete(self, *ids: int) -> Sequence[int]:
        """Forget messages that have ended; which were."""
        return [row[0] for row in await self._fetch("delete_messages", ids=list(ids))]

    async def pause(self, queue: str) -> None:
        """Let nothing of a queue be begun until `resume`. What runs goes on."""
        await self._fetch("set_paused", queue=queue, paused=True)

    async def resume(self, queue: str) -> None:
        """End a pause."""
        await self._fetch("set_paused", queue=queue, paused=False)

    async def limit(
        self, queue: str, *, concurrency: int | None = None, rate: float | None = None, burst: int = 1
    ) -> None:
        """Limit a queue over all workers; without arguments, set it free.

        Args:
            concurrency: messages at work at once; only live leases count.
            rate: messages begun a second.
            burst: messages that may begin at once after a quiet time.

        Raises:
            ValueError: a limit is not positive.
        """
        if (concurrency is not None and concurrency < 1) or (rate is not None and rate <= 0) or burst < 1:
            raise ValueError("limits are positive; to stop a queue, pause it")
        await self._fetch("set_limits", queue=queue, concurrency=concurrency, rate=rate, burst=burst)

    async def stats(self) -> list[dict[str, Any]]:
        """Each queue that has messages or limits: counts by state, seconds that the oldest due one waits, limits.

        ``workers`` counts those that are alive and serve it.
        """
        alive = [one["queues"] for one in await self.workers() if one["alive_for"] > 0]
        return [
            {
                "queue": queue,
                "states": json.loads(states) if states else {},
                "oldest_waiting": oldest,
                "paused": paused,
                "concurrency": concurrency,
                "rate": rate,
                "burst": burst,
                "workers": sum(queue in queues for queues in alive),
            }
            for queue, states, oldest, paused, concurrency, rate, burst in await self._fetch("stats")
        ]

    async def workers(self) -> list[dict[str, Any]]:
        """The workers that are alive or have not been declared gone yet."""
        return [
            {
                "id": id,
                "name": name,
                "started_at": started_at,
                "alive_for": alive_for,
                "idle": idle,
                **json.loads(info),
            }
            for id, name, started_at, alive_for, idle, info in await self._fetch("list_workers")
        ]

    async def _fetch(self, name: str, **values: Any) -> Sequence[Sequence[Any]]:
        async with self._database.transaction() as tx:
            return await connections.fetch(tx, SQL[name], values)


def _states(states: Sequence[State] | None) -> list[str] | None:
    for state in states or ():
        if state not in get_args(State):
            raise ValueError(f"there is no state {state!r}; there are {', '.join(get_args(State))}")
    return list(states) if states else None
