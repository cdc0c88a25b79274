"""What must not happen inside a transaction is refused in one clear sentence, with both drivers."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator

import httpx
import pytest
from pattern_models import Account
from patterns_waiting import until_someone_waits
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from mainstay.patterns import (
    ConcurrentUse,
    Database,
    OutsideCallInTransaction,
    TransactionOver,
    refuse_in_transaction,
)


async def count(db: Database) -> int:
    async with db.transaction() as tx:
        return await tx.scalar(select(func.count()).select_from(Account)) or 0


def idle(db: Database) -> bool:
    """Whether every connection is back in the pool."""
    return db.engine.pool.checkedout() == 0  # type: ignore[attr-defined, no-any-return]


# ---------------------------------------------------------------------------------- one task at a time


@pytest.mark.parametrize("used", [False, True])
async def test_two_tasks_at_the_same_time(db: Database, used: bool) -> None:
    """The second one is refused, be the connection there already or only on its way; the first one goes on."""
    async with db.transaction() as tx:
        if used:
            await tx.execute(select(1))
        ended = await asyncio.gather(
            tx.execute(text("SELECT pg_sleep(0.01)")),
            tx.execute(select(1)),
            tx.scalar(select(1)),
            tx.scalars(select(1)),
            tx.get(Account, 1),
            tx.flush(),
            tx.session.connection(),
            tx.session.run_sync(lambda session: session.execute(select(1))),
            return_exceptions=True,
        )
        assert not isinstance(ended[0], BaseException)
        for refused in ended[1:]:
            assert isinstance(refused, ConcurrentUse)
            assert "one thing at a time" in str(refused)
        tx.add(Account(owner="ann"))
    assert await count(db) == 1


async def test_one_task_after_the_other(db: Database) -> None:
    """That is no harm: `wait_for` makes a task of its own on some versions of Python."""
    async with db.transaction() as tx:
        for owner in ("ann", "bob"):
            tx.add(Account(owner=owner))
            await asyncio.wait_for(tx.flush(), 5)
    assert await count(db) == 2


async def test_a_task_still_at_work_at_the_end(
    db: Database, other: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is committed, the block says so, and the connection comes back whole."""
    async with other.transaction() as holder:
        await holder.advisory_lock("gate")
        with pytest.raises(ConcurrentUse, match="await what the block has started"):
            async with db.transaction() as tx:
                tx.add(Account(owner="ann"))
                await tx.flush()
                left_alone = asyncio.create_task(tx.advisory_lock("gate"))
                await until_someone_waits(other)
                released = asyncio.create_task(release(other), context=contextvars.Context())
    with pytest.raises(DBAPIError):
        await left_alone
    await released
    assert not caplog.records  # the rollback waited for its turn
    assert idle(db)
    assert await count(db) == 0


async def release(other: Database) -> None:
    """End the statement of whoever waits for a lock."""
    async with other.transaction() as tx:
        await tx.execute(
            text(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
            )
        )


# -------------------------------------------------------------------------- ended by its block alone


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "commit;",
        "  ROLLBACK",
        "rollback work",
        "END",
        "ABORT",
        "BEGIN",
        "START TRANSACTION READ ONLY",
        "PREPARE TRANSACTION 'x'",
        "ROLLBACK PREPARED 'x'",
    ],
)
async def test_a_statement_that_would_end_the_block(db: Database, statement: str) -> None:
    """It is never sent, and the block goes on."""
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
        with pytest.raises(TransactionOver, match="would end the transaction"):
            await tx.execute(text(statement))
    assert await count(db) == 1


async def test_statements_that_look_like_it(db: Database) -> None:
    """Savepoints by hand, and names that begin with such a word."""
    async with db.transaction() as tx:
        await tx.execute(text("SAVEPOINT mine"))
        await tx.execute(text("ROLLBACK TO SAVEPOINT mine"))
        await tx.execute(text("ROLLBACK TRANSACTION TO mine"))
        await tx.execute(text("DO $$ BEGIN PERFORM 1; END $$"))
        assert await tx.scalar(text("SELECT 'COMMIT'")) == "COMMIT"


@pytest.mark.parametrize("end", ["reset", "invalidate"])
async def test_other_ways_to_end_it(db: Database, end: str) -> None:
    """Besides commit, rollback and close, of which test_unit_of_work speaks."""
    async with db.transaction() as tx:
        with pytest.raises(TransactionOver, match=f"^{end} inside the block"):
            await getattr(tx.session, end)()
        tx.add(Account(owner="ann"))
    assert await count(db) == 1


# --------------------------------------------------------------------------------------- outside calls


async def test_a_synchronous_client_is_refused_too(db: Database) -> None:
    """By its own hook, also in a thread that the block waits for; free again after the block."""

    def hook(request: httpx.Request) -> None:
        refuse_in_transaction(f"{request.method} {request.url.host}")

    transport = httpx.MockTransport(lambda request: httpx.Response(204))
    with httpx.Client(transport=transport, event_hooks={"request": [hook]}) as client:
        async with db.transaction():
            with pytest.raises(OutsideCallInTransaction, match="GET provider"):
                client.get("http://provider/")  # noqa: ASYNC212
            with pytest.raises(OutsideCallInTransaction, match="GET provider"):
                await asyncio.to_thread(client.get, "http://provider/")
        assert client.get("http://provider/").status_code == 204  # noqa: ASYNC212


async def test_a_generator_that_holds_a_transaction_open(db: Database) -> None:
    """Whoever takes its items is inside the transaction, and is refused what it must not do there."""

    async def items() -> AsyncIterator[int]:
        async with db.transaction() as tx:
            for n in await tx.scalars(text("SELECT generate_series(1, 3)")):
                yield n

    stream = items()
    async for _ in stream:
        with pytest.raises(OutsideCallInTransaction):
            refuse_in_transaction("a call")
        break
    await stream.aclose()  # type: ignore[attr-defined]
    refuse_in_transaction("a call")
    assert idle(db)
