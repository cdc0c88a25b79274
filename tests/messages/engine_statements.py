"""The engine's own statements, run one by one as a worker's connections run them: without a worker, without waiting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import psycopg

from mainstay.patterns.messages import NewMessage, driver, engine
from mainstay.patterns.messages.statements import load

SQL = load(engine.__package__ or "")
KEEP = 500.0
"""Seconds for which cancelled and expired messages are kept here."""

MOVE_TIME = """
UPDATE mainstay.message SET
    published_at = published_at - :by, ready_at = ready_at - :by, rank = rank - :by, expires_at = expires_at - :by,
    ended_at = ended_at - :by, keep_until = keep_until - :by, unique_until = unique_until - :by;
UPDATE mainstay.worker SET alive_until = alive_until - :by, started_at = started_at - :by;
UPDATE mainstay.queue SET next_start = next_start - :by;
"""


@dataclass(frozen=True)
class Lease:
    """What a lease statement gave out."""

    worker: int
    id: int
    number: int
    attempt: int
    expired: bool
    unique_held: bool


class Hand:
    """One connection with a worker's settings, and a method for each statement."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.connection.execute(driver._PLANS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def run(self, name: str, /, **values: Any) -> Sequence[Any]:
        """One named statement; its rows."""
        cursor = self.connection.execute(SQL[name].named, values, prepare=True)
        return cursor.fetchall() if cursor.description else []

    def rows(self, sql: str, *values: Any) -> Sequence[Any]:
        """Any other statement; its rows."""
        cursor = self.connection.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []

    def register(self, lease: float = 100.0) -> int:
        """A worker begins."""
        id: int = self.run("register_worker", name="w", lease=lease, info="{}")[0][0]
        return id

    def publish(self, *new: NewMessage) -> list[int | None]:
        """As `Engine.publish`, in a transaction of its own."""
        with self.connection.transaction():
            if keys := engine._unique_keys(new):
                self.run("release_unique_keys", keys=keys)
            statement, values = engine._insert(new)
            rows = self.connection.execute(statement.named, values).fetchall()
        return engine._ids(new, rows)

    def lease(
        self, worker: int, queues: Sequence[str], most: int, kinds: Sequence[str] = ("k",)
    ) -> list[Lease]:
        """Lease from queues without limits."""
        return self._leased(worker, queues, most, kinds, False)

    def lease_limited(self, worker: int, queue: str, most: int, kinds: Sequence[str] = ("k",)) -> list[Lease]:
        """Lease from a limited queue, in a transaction as a worker does it."""
        with self.connection.transaction():
            if not self.run("lock_limited_queue", queue=queue):
                return []
            room = self.run("room_in_limited_queue", queue=queue, most=most)[0][0]
            if room == 0:
                return []
            found = self._leased(worker, [queue], room, kinds, True)
            if found:
                self.run("count_starts", queue=queue, started=len(found))
            return found

    def _leased(
        self, worker: int, queues: Sequence[str], most: int, kinds: Sequence[str], locked: bool
    ) -> list[Lease]:
        rows = self.run(
            "lease", worker=worker, queues=list(queues), kinds=list(kinds), most=most, locked=locked
        )
        return [Lease(worker, row[0], row[1], row[2], bool(row[9]), row[10]) for row in rows if row[1]]

    def complete(self, lease: Lease) -> bool:
        """Success, with what the worker would choose; whether the lease still stood."""
        values: dict[str, Any] = {"worker": lease.worker, "ids": [lease.id], "leases": [lease.number]}
        if lease.unique_held:
            return bool(self.run("complete_and_keep", results=["null"], keeps=[0.0], **values))
        return bool(self.run("complete", **values))

    def fail(self, lease: Lease, delay: float | None) -> bool:
        """A failed attempt; whether the lease still stood."""
        return bool(
            self.run(
                "fail",
                worker=lease.worker,
                ids=[lease.id],
                leases=[lease.number],
                errors=[json.dumps({"attempt": lease.attempt, "error": "no"})],
                delays=[delay],
                keep=KEEP,
            )
        )

    def postpone(self, lease: Lease, delay: float) -> bool:
        """Not its time; whether the lease still stood."""
        return bool(
            self.run(
                "postpone",
                worker=lease.worker,
                ids=[lease.id],
                leases=[lease.number],
                reasons=["away"],
                delays=[delay],
                keep=KEEP,
            )
        )

    def end(self, lease: Lease, state: str) -> bool:
        """Cancelled or expired while leased; whether the lease still stood."""
        return bool(
            self.run(
                "end_running",
                worker=lease.worker,
                ids=[lease.id],
                leases=[lease.number],
                states=[state],
                keep=KEEP,
            )
        )

    def hand_back(self, lease: Lease) -> bool:
        """Not begun; whether the lease still stood."""
        return bool(self.run("hand_back", worker=lease.worker, ids=[lease.id], leases=[lease.number]))

    def redrive(self, *ids: int) -> list[int]:
        """Start over whatever has ended of these; which."""
        nothing = dict.fromkeys(("states", "queue", "kind", "key", "error"))
        return [row[0] for row in self.run("redrive_messages", ids=list(ids), most=1000, **nothing)]

    def move_time(self, seconds: float) -> None:
        """Let so much time have passed: every time that is stored lies that much further back."""
        with self.connection.transaction():
            for statement in MOVE_TIME.replace(":by", f"interval '{seconds} seconds'").split(";")[:3]:
                self.connection.execute(statement)
