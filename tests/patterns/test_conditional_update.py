"""The statement that writes decides."""

from __future__ import annotations

import asyncio

import pytest
from pattern_models import Account, Seat
from patterns_waiting import until_someone_waits
from sqlalchemy import select

from mainstay.patterns import ConditionFailed, Database, update_one, update_where


@pytest.fixture
async def ann(db: Database) -> int:
    async with db.transaction() as tx:
        account = Account(owner="ann", balance=100)
        tx.add(account)
    return account.id


async def test_counts_the_rows_it_changed(db: Database, ann: int) -> None:
    """Rows for which a condition does not hold stay as they are."""
    async with db.transaction() as tx:
        assert await update_where(tx, Account, Account.balance >= 80, balance=Account.balance - 80) == 1
        assert await update_where(tx, Account, Account.balance >= 80, balance=Account.balance - 80) == 0
        assert await tx.scalar(select(Account.balance)) == 20


async def test_objects_in_the_session_follow(db: Database, ann: int) -> None:
    """An object read before shows the new value afterwards."""
    async with db.transaction() as tx:
        account = await tx.get(Account, ann)
        assert account is not None
        await update_where(tx, Account, Account.id == ann, balance=Account.balance + 1)
        await tx.refresh(account)
        assert account.balance == 101


async def test_two_withdrawals_race_and_one_loses(db: Database, other: Database, ann: int) -> None:
    """Balance 100, two of 80 at once: the second waits for the first, looks again, and fails."""
    first_has_written = asyncio.Event()

    async def first() -> None:
        async with db.transaction() as tx:
            await update_one(
                tx, Account, Account.id == ann, Account.balance >= 80, balance=Account.balance - 80
            )
            first_has_written.set()
            await until_someone_waits(db)

    async def second() -> None:
        await first_has_written.wait()
        async with other.transaction() as tx:
            await update_one(
                tx, Account, Account.id == ann, Account.balance >= 80, balance=Account.balance - 80
            )

    results = await asyncio.gather(first(), second(), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], ConditionFailed)
    assert results[1].rows == 0
    async with db.transaction() as tx:
        assert await tx.scalar(select(Account.balance)) == 20


async def test_several_rows_are_not_one(db: Database) -> None:
    """More than one row fails as well, and says how many."""
    async with db.transaction() as tx:
        tx.add_all([Seat(row=1, number=1), Seat(row=1, number=2)])
    with pytest.raises(ConditionFailed, match="2 rows of Seat"):
        async with db.transaction() as tx:
            await update_one(tx, Seat, Seat.row == 1, holder="ann")
    async with db.transaction() as tx:
        assert set(await tx.scalars(select(Seat.holder))) == {None}


async def test_bad_arguments(db: Database, ann: int) -> None:
    """A whole table, nothing to set, and a name that is no column are refused."""
    async with db.transaction() as tx:
        with pytest.raises(ValueError, match="at least one condition"):
            await update_where(tx, Account, balance=0)
        with pytest.raises(ValueError, match="and one value"):
            await update_where(tx, Account, Account.id == ann)
        with pytest.raises(ValueError, match="no column attribute 'ballance'"):
            await update_where(tx, Account, Account.id == ann, ballance=0)
