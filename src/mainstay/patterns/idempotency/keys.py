"""The keys of one database: taking one, storing the reply under it, giving the reply again, pruning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from mainstay.patterns.database import Database, Isolation
from mainstay.patterns.errors import Misuse
from mainstay.patterns.idempotency.key import IdempotencyKey
from mainstay.patterns.idempotency.reply import REPLAYED, Headers, Reply, kept_headers, restored_headers
from mainstay.patterns.transaction import Transaction

_CLAIM = text("SELECT * FROM mainstay.claim_idempotency_key(:id, :lock)")

# Under REPEATABLE READ the snapshot may be older than the lock, so that a row which was stored in between went unseen.
# ON CONFLICT makes a lost race of it (SQLSTATE 40001) instead of a violated key, and the request is run again.
_STORE = text(
    "INSERT INTO mainstay.idempotency_key"
    " (id, tenant, route, key, fingerprint, status, headers, body, expires_at) VALUES"
    " (:id, :tenant, :route, :key, :fingerprint, :status, CAST(CAST(:headers AS text) AS jsonb), :body,"
    " clock_timestamp() + make_interval(secs => CAST(:keep AS double precision)))"
    " ON CONFLICT DO NOTHING RETURNING true"
)

_STORE_PART = text(
    "INSERT INTO mainstay.idempotency_key_part (id, number, body) VALUES (:id, :number, :body)"
)

_COUNT_PARTS = text("UPDATE mainstay.idempotency_key SET parts = :parts WHERE id = :id")

_PART = text("SELECT body FROM mainstay.idempotency_key_part WHERE id = :id AND number = :number")

# SKIP LOCKED: two programs that prune at once share the work instead of waiting for each other.
PRUNE = """
    WITH gone AS (
        DELETE FROM mainstay.idempotency_key WHERE id IN (
            SELECT id FROM mainstay.idempotency_key WHERE expires_at <= clock_timestamp()
            ORDER BY expires_at LIMIT :batch FOR UPDATE SKIP LOCKED
        ) RETURNING 1
    )
    SELECT count(*) FROM gone
"""
"""Deletes at most `batch` keys that have expired; how many."""
_PRUNE = text(PRUNE)


class Busy(Exception):
    """Another request with this key is at work."""


class Reused(Exception):
    """The key was used for another request."""


@dataclass(frozen=True, slots=True)
class IdempotencyKeys:
    """Where keys and replies are stored, and within which bounds. One for a database; it has no state.

    Needs the schema ``mainstay`` (`mainstay.patterns.schema.upgrade`).

    Args:
        database: the one that the handlers write to.
        wait: seconds that a second request waits while a first one with the same key is at work; then, or at
            once with 0, it is answered 409 with ``Retry-After``. It holds no connection while it waits.
        retry_after: what ``Retry-After`` says, in seconds.
        keep: seconds that a reply is kept; after that the key is as one never seen. Publish it to clients.
        largest_request: bytes of a keyed request's body at most, else 413: it is held in memory.
        largest_reply: bytes of a reply at most. One that is larger raises `ReplyTooLarge` and undoes the effect.
        part: bytes of a reply that are held in memory; of a larger one, parts of this size are stored as they come.
        attempts: how often a request is run in all that loses a race (serialization failure, deadlock).
        isolation: that of the transaction around the handler; None is the database's own.
        sleep, clock: how time passes, in seconds; replaced in tests.

    Raises:
        ValueError: a bound is out of range.
    """

    database: Database
    _: KW_ONLY
    wait: float = 5.0
    retry_after: int = 1
    keep: float = 24 * 60 * 60
    largest_request: int = 1 << 20
    largest_reply: int = 64 << 20
    part: int = 1 << 20
    attempts: int = 5
    isolation: Isolation | None = None
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if not 0 <= self.wait < float("inf"):
            raise ValueError(f"wait is a number of seconds, 0 or more, not {self.wait}")
        for name, least in (
            ("retry_after", 1),
            ("keep", 1),
            ("largest_request", 0),
            ("part", 1),
            ("attempts", 1),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.largest_reply < self.part:
            raise ValueError("largest_reply must not be less than part")

    async def claim(self, tx: Transaction, key: IdempotencyKey, fingerprint: bytes) -> Reply | None:
        """Take the key until `tx` ends: None, or the reply that was stored under it.

        Raises:
            Busy: another transaction has it.
            Reused: the stored reply is that to another request.
        """
        row = (await tx.execute(_CLAIM, {"id": key.id, "lock": key.lock})).one()
        if not row.claimed:
            raise Busy
        if row.fingerprint is None:
            return None
        if row.fingerprint != fingerprint:
            raise Reused
        headers = [*restored_headers(row.headers), REPLAYED]
        return Reply(row.status, headers, row.body, self.rest(key.id, row.parts) if row.parts else None)

    async def store(
        self,
        tx: Transaction,
        key: IdempotencyKey,
        fingerprint: bytes,
        status: int,
        headers: Headers,
        body: bytes,
    ) -> None:
        """Store a reply, or the beginning of one."""
        values: dict[str, Any] = {
            "id": key.id,
            # For people who look at the table; NUL is what PostgreSQL's text cannot hold, and a path may (%00).
            "tenant": key.tenant.replace("\0", "\N{REPLACEMENT CHARACTER}"),
            "route": key.route.replace("\0", "\N{REPLACEMENT CHARACTER}"),
            "key": key.key,
            "fingerprint": fingerprint,
            "status": status,
            "headers": kept_headers(headers),
            "body": body,
            "keep": self.keep,
        }
        if not await tx.scalar(_STORE, values):
            raise Misuse(
                f"a reply is stored already under the idempotency key {key.key!r} of {key.route}, which this request"
                " holds; leave the table mainstay.idempotency_key to Mainstay"
            )

    async def store_part(self, tx: Transaction, id: UUID, number: int, body: bytes) -> None:
        """Store a further part of a reply; numbers begin at 1."""
        await tx.execute(_STORE_PART, {"id": id, "number": number, "body": body})

    async def close_parts(self, tx: Transaction, id: UUID, parts: int) -> None:
        """Say how many further parts there are."""
        await tx.execute(_COUNT_PARTS, {"id": id, "parts": parts})

    async def rest(self, id: UUID, parts: int) -> AsyncIterator[bytes]:
        """The further parts of a reply, one at a time; no transaction is open in between.

        Raises:
            LookupError: a part has been pruned meanwhile. The connection breaks then, which the client notices.
        """
        for number in range(1, parts + 1):
            async with self.database.transaction() as tx:
                body = await tx.scalar(_PART, {"id": id, "number": number})
            if body is None:
                raise LookupError("the reply expired while it was being sent")
            yield body

    async def prune(self, *, batch: int = 1000) -> int:
        """Delete what has expired, so many at a time, each batch in a transaction of its own; how many.

        Workers do this by themselves; where none runs, call it from a schedule of your own. Any number of processes
        may at once.

        Raises:
            ValueError: `batch` is less than 1.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}")
        pruned, last = 0, batch
        while last == batch:
            async with self.database.transaction() as tx:
                last = await tx.scalar(_PRUNE, {"batch": batch}) or 0
            pruned += last
        return pruned
