"""The inbox: of all deliveries of an event, one has the effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pattern_models import Account
from patterns_waiting import until_someone_waits
from sqlalchemy import func, select, text

from mainstay.patterns import Database
from mainstay.patterns.inbox import BeingReceived, Inbox, prune
from mainstay.patterns.schema import upgrade

INBOX = Inbox("mailer")


@pytest.fixture(autouse=True)
async def inbox_table(db: Database) -> AsyncIterator[None]:
    """Mainstay's tables, the inbox empty."""
    await upgrade(db)
    async with db.transaction() as tx:
        await tx.execute(text("TRUNCATE mainstay.inbox"))
    yield


async def credit(db: Database, id: str = "1", *, fail: bool = False, inbox: Inbox = INBOX) -> bool:
    """An effect in the same transaction: one more account."""
    async with db.transaction() as tx:
        new = await inbox.accept(tx, "/s", id)
        if new:
            tx.add(Account(owner=f"{inbox.consumer} {id}"))
            await tx.flush()
        if fail:
            raise RuntimeError
    return new


async def accounts(db: Database) -> int:
    """How many effects there are."""
    async with db.transaction() as tx:
        return await tx.scalar(select(func.count(Account.id))) or 0


async def test_a_duplicate_has_no_effect(db: Database) -> None:
    """The second delivery of an event to a consumer is told so; another consumer's first one is not."""
    assert await credit(db)
    assert not await credit(db)
    assert await credit(db, "2")
    assert await credit(db, inbox=Inbox("biller"))
    assert await accounts(db) == 3


async def test_a_rolled_back_delivery_is_none(db: Database) -> None:
    """What did not commit was not received."""
    with pytest.raises(RuntimeError):
        await credit(db, fail=True)
    assert await credit(db)
    assert await accounts(db) == 1


@pytest.mark.parametrize("first_commits", [True, False])
async def test_of_two_at_once_one_has_the_effect(db: Database, other: Database, first_commits: bool) -> None:
    """The second waits for the first, sees its commit, or runs if it was rolled back."""
    end = asyncio.Event()

    async def first() -> None:
        async with db.transaction() as tx:
            assert await INBOX.accept(tx, "/s", "1")
            tx.add(Account(owner="first"))
            await tx.flush()
            end_now.set()
            await end.wait()
            if not first_commits:
                raise RuntimeError

    end_now = asyncio.Event()
    one = asyncio.create_task(first())
    await end_now.wait()
    two = asyncio.create_task(credit(other))
    await until_someone_waits(db)
    end.set()
    await asyncio.gather(one, return_exceptions=True)
    assert await two is not first_commits
    assert await accounts(db) == 1


async def test_who_waits_too_long_is_told(db: Database, other: Database) -> None:
    """After the lock timeout, with an error of its own, so that it can come back later."""
    async with db.transaction() as tx:
        await INBOX.accept(tx, "/s", "1")
        with pytest.raises(BeingReceived, match="event 1 of /s"):
            await asyncio.create_task(short_wait(other))


async def short_wait(db: Database) -> None:
    """Accept with little patience."""
    async with db.transaction(lock_timeout=0.05) as tx:
        await INBOX.accept(tx, "/s", "1")


async def test_under_serializable_the_loser_runs_again(db: Database, other: Database) -> None:
    """`Database.run` tries again and is then told that the event is a duplicate."""
    answers = []

    async def work(tx: object) -> None:
        answers.append(await INBOX.accept(tx, "/s", "1"))  # type: ignore[arg-type]

    async with db.transaction(isolation="SERIALIZABLE") as tx:
        await INBOX.accept(tx, "/s", "1")
        two = asyncio.create_task(other.run(work, isolation="SERIALIZABLE"))
        await until_someone_waits(db)
    await two
    assert answers == [False]


async def test_a_name_that_no_index_takes_is_refused(db: Database) -> None:
    """Before the database says it in its own words."""
    async with db.transaction() as tx:
        assert await INBOX.accept(tx, "/s", "é" * 990)
        with pytest.raises(ValueError, match="2000 bytes"):
            await INBOX.accept(tx, "/s", "é" * 1000)


async def test_old_rows_are_forgotten_in_batches(db: Database) -> None:
    """Only those beyond the retention; an event that comes after that is new again."""
    async with db.transaction() as tx:
        await tx.execute(
            text(
                "INSERT INTO mainstay.inbox"
                " SELECT 'mailer', '/s', n::text, now() - n * interval '1 day' + interval '1 hour'"
                " FROM generate_series(1, 60) n"
            )
        )
    assert await prune(db, batch=7) == 30
    assert not await credit(db, "29")
    assert await credit(db, "31")
    assert await prune(db, older_than=timedelta(days=10)) == 20
    with pytest.raises(ValueError, match="above zero"):
        await prune(db, older_than=timedelta(0))
    with pytest.raises(ValueError, match="at least 1"):
        await prune(db, batch=0)


async def test_a_name_with_nul_is_no_name(db: Database) -> None:
    """A sender may have put it there; PostgreSQL would refuse it with an error of its own."""
    with pytest.raises(ValueError, match="NUL"):
        await credit(db, "evt_\0")
