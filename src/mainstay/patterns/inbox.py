"""Handle each event once, however often it is delivered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from mainstay.patterns.database import Database
from mainstay.patterns.errors import LockNotAvailable
from mainstay.patterns.serialization_retry import sqlstate
from mainstay.patterns.transaction import Transaction

RETENTION = timedelta(days=30)
"""How long an inbox remembers unless told otherwise."""
_LONGEST = 2000
_LOCK_NOT_AVAILABLE = "55P03"

# Of two transactions that insert the same key, the second waits for the end of the first: then it either finds
# the row (and inserts nothing), or the first was rolled back and it inserts its own.
_ACCEPT = text(
    "INSERT INTO mainstay.inbox (consumer, source, id) VALUES (:consumer, :source, :id)"
    " ON CONFLICT DO NOTHING RETURNING true"
)

# The rows are named by ctid, so that a batch costs one look at the index; a row that somebody deletes at the same
# time is passed over.
PRUNE = """
    WITH gone AS (
        DELETE FROM mainstay.inbox WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM mainstay.inbox WHERE received_at < now() - CAST(:age AS interval)
            ORDER BY received_at LIMIT :batch FOR UPDATE SKIP LOCKED
        )) RETURNING 1
    )
    SELECT count(*) FROM gone
"""
"""Forgets at most `batch` events that are older than `age`; how many."""
_PRUNE = text(PRUNE)


class BeingReceived(LockNotAvailable):
    """Another transaction is handling the same event, and took longer than the lock timeout. Try again later."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """What the consumer of this name has handled: one row an event in ``mainstay.inbox``."""

    consumer: str

    async def accept(self, tx: Transaction, source: str, id: str) -> bool:
        """Whether this event is new to the consumer; from now on it is not, if the transaction commits.

        Call it first in the transaction that has the event's effect, and leave the effect out where it says False.
        Of several that come at once, one goes on and the others wait for its end: if it commits, they are told
        False; if it is rolled back, one of them is told True.

        Args:
            source: who made the event, and
            id: its name there. Together they name the event: a CloudEvent's attributes of these names, or
                ``"stripe"`` and the ``id`` in a webhook.

        Raises:
            BeingReceived: the other transaction did not end within the lock timeout.
            ValueError: consumer, source and id have more than 2000 bytes together, which no index takes, or one of
                them has a NUL, which no text of PostgreSQL takes.
            sqlalchemy.exc.DBAPIError: with SQLSTATE 40001, under REPEATABLE READ or SERIALIZABLE, when one came at
                once; `Database.run` runs the transaction again.
        """
        if sum(len(part.encode()) for part in (self.consumer, source, id)) > _LONGEST:
            raise ValueError(
                f"consumer, source and id have at most {_LONGEST} bytes together; id begins {id[:40]!r}"
            )
        if "\0" in self.consumer + source + id:
            raise ValueError(f"the name of an event has no NUL; this is {id[:40]!r} of {source[:40]!r}")
        try:
            new = await tx.scalar(_ACCEPT, {"consumer": self.consumer, "source": source, "id": id})
        except DBAPIError as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                raise
            raise BeingReceived(
                f"event {id} of {source} is being handled by another transaction of consumer {self.consumer}"
            ) from error
        return new is not None


async def prune(database: Database, *, older_than: timedelta = RETENTION, batch: int = 10_000) -> int:
    """Forget events that all consumers accepted longer ago than that; how many were forgotten.

    Workers do this by themselves (`Messages.keep_inbox`); where none runs, call it from a schedule of your own. It goes
    in transactions of `batch` rows, oldest first, so that no lock is held for long; any number of processes may prune
    at once. An event that is delivered again after it was forgotten is handled again: keep them longer than anything
    may be delivered late (how long the broker keeps events, how far back you would replay).

    Raises:
        ValueError: `older_than` is not positive, or `batch` is less than 1.
    """
    if older_than <= timedelta(0):
        raise ValueError(f"older_than is a time above zero, not {older_than}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    forgotten = 0
    while True:
        async with database.transaction() as tx:
            gone: int = await tx.scalar(_PRUNE, {"age": older_than, "batch": batch}) or 0
        forgotten += gone
        if gone < batch:
            return forgotten
