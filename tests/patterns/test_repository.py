"""Rows by key, locked rows, and relationships only as asked for."""

from __future__ import annotations

import asyncio

import pytest
from pattern_models import Account, Entry, Seat
from patterns_waiting import until_someone_waits
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import joinedload, selectinload

from mainstay.patterns import Database, LockNotAvailable, NotFound, Repository, update_where

accounts = Repository(Account)
entries = Repository(Entry)
seats = Repository(Seat)


@pytest.fixture
async def ann(db: Database) -> int:
    async with db.transaction() as tx:
        account = await accounts.add(tx, Account(owner="ann", balance=100))
        tx.add_all([Entry(account_id=account.id, amount=n) for n in (1, 2)])
    return account.id


async def test_get_and_find(db: Database, ann: int) -> None:
    """`get` raises where `find` returns None."""
    async with db.transaction() as tx:
        assert (await accounts.get(tx, ann)).owner == "ann"
        assert await accounts.find(tx, ann + 1) is None
        with pytest.raises(NotFound, match=f"no Account with primary key {ann + 1}") as caught:
            await accounts.get(tx, ann + 1)
    assert (caught.value.model, caught.value.id) == (Account, ann + 1)


async def test_a_key_of_two_columns(db: Database) -> None:
    """Such a key is a tuple, everywhere."""
    async with db.transaction() as tx:
        for row, number in [(1, 1), (1, 2), (2, 1)]:
            await seats.add(tx, Seat(row=row, number=number))
    async with db.transaction() as tx:
        assert (await seats.get(tx, (1, 2))).number == 2
        assert (await seats.lock(tx, (2, 1))).row == 2
        assert [seat.number for seat in await seats.lock_all(tx, [(1, 2), (1, 1)])] == [1, 2]
        with pytest.raises(NotFound):
            await seats.lock_all(tx, [(1, 2), (3, 1)])


async def test_add_speaks_at_once(db: Database, ann: int) -> None:
    """The key is known and constraints are checked as `add` returns."""
    with pytest.raises(IntegrityError):
        async with db.transaction() as tx:
            assert (await accounts.add(tx, Account(owner="bob"))).id
            await accounts.add(tx, Account(owner="ann"))


async def test_lazy_loading_raises(db: Database, ann: int) -> None:
    """Through `get`, `lock`, `lock_all` and `page`: a relationship that was not asked for cannot be read."""
    async with db.transaction() as tx:
        for account in (
            await accounts.get(tx, ann),
            await accounts.lock(tx, ann),
            (await accounts.lock_all(tx, [ann]))[0],
            (await accounts.page(tx)).items[0],
        ):
            with pytest.raises(InvalidRequestError, match="raise"):
                _ = account.entries


@pytest.mark.parametrize("option", [selectinload, joinedload])
async def test_relationships_asked_for_are_there(db: Database, ann: int, option: object) -> None:
    """`load` brings them, also for an object that the transaction held without; theirs still raise."""
    load = [option(Account.entries)]  # type: ignore[operator]
    async with db.transaction() as tx:
        await accounts.get(tx, ann)
        account = await accounts.get(tx, ann, load=load)
        assert [entry.amount for entry in account.entries] == [1, 2]
    async with db.transaction() as tx:
        (account,) = (await accounts.page(tx, load=load, limit=1)).items
        assert [entry.amount for entry in account.entries] == [1, 2]
        entry = (await entries.page(tx, limit=1)).items[0]
    async with db.transaction() as tx:
        entry = await entries.get(tx, entry.id, load=[option(Entry.account)])  # type: ignore[operator]
        assert entry.account.owner == "ann"
        with pytest.raises(InvalidRequestError):
            _ = entry.account.entries


async def test_lock_with_relationships(db: Database, ann: int) -> None:
    """A lock brings relationships too, in further statements."""
    async with db.transaction() as tx:
        account = await accounts.lock(tx, ann, load=[selectinload(Account.entries)])
        assert len(account.entries) == 2


# -------------------------------------------------------------------------------------------- locks


async def test_a_lock_reads_anew(db: Database, other: Database, ann: int) -> None:
    """What was read before the lock does not survive it, nor does anybody else's change get lost."""
    async with db.transaction() as tx:
        account = await accounts.get(tx, ann)
        async with other.transaction() as second:
            await update_where(second, Account, Account.id == ann, balance=20)
        assert account.balance == 100
        assert (await accounts.lock(tx, ann)).balance == 20
        assert account.balance == 20


async def test_a_lock_keeps_own_changes(db: Database, ann: int) -> None:
    """Changes not yet flushed are written before the row is read anew."""
    async with db.transaction() as tx:
        account = await accounts.get(tx, ann)
        account.balance = 7
        assert (await accounts.lock(tx, ann)).balance == 7


async def test_two_withdrawals_race_and_the_second_sees_the_first(
    db: Database, other: Database, ann: int
) -> None:
    """Balance 100, two of 80 at once under the lock: one is refused."""
    first_holds = asyncio.Event()

    async def withdraw(database: Database, first: bool) -> bool:
        if not first:
            await first_holds.wait()
        async with database.transaction() as tx:
            account = await accounts.lock(tx, ann)
            if first:
                first_holds.set()
                await until_someone_waits(database)
            if account.balance < 80:
                return False
            account.balance -= 80
            return True

    assert await asyncio.gather(withdraw(db, True), withdraw(other, False)) == [True, False]
    async with db.transaction() as tx:
        assert (await accounts.get(tx, ann)).balance == 20


async def test_ways_not_to_wait(db: Database, other: Database, ann: int) -> None:
    """`nowait` raises, `skip_locked` returns None, and waiting ends at the lock timeout."""
    async with db.transaction() as tx:
        await accounts.lock(tx, ann)
        with pytest.raises(LockNotAvailable, match="Account"):
            async with other.transaction() as second:
                await accounts.lock(second, ann, nowait=True)
        with pytest.raises(LockNotAvailable):
            async with other.transaction() as second:
                await accounts.lock_all(second, [ann], nowait=True)
        with pytest.raises(LockNotAvailable):
            async with other.transaction(lock_timeout=0.05) as second:
                await accounts.lock(second, ann)
        async with other.transaction() as second:
            assert await accounts.lock(second, ann, skip_locked=True) is None
    async with other.transaction() as second:
        assert await accounts.lock(second, ann, skip_locked=True) is not None
        with pytest.raises(NotFound):
            await accounts.lock(second, ann + 1)
        with pytest.raises(ValueError, match="exclude"):
            await accounts.lock(second, ann, nowait=True, skip_locked=True)


async def test_rows_that_refer_to_a_locked_one(db: Database, other: Database, ann: int) -> None:
    """They can be inserted under the plain lock, and wait under `key=True`."""

    async def insert() -> None:
        async with other.transaction(lock_timeout=0.05) as second:
            await entries.add(second, Entry(account_id=ann, amount=3))

    async with db.transaction() as tx:
        await accounts.lock(tx, ann)
        await insert()
    async with db.transaction() as tx:
        await accounts.lock(tx, ann, key=True)
        with pytest.raises(Exception, match="lock timeout"):
            await insert()


async def test_many_locks_are_taken_in_the_order_of_the_keys(db: Database, other: Database) -> None:
    """Two transactions that name the same rows in opposite orders do not deadlock."""
    async with db.transaction() as tx:
        made = [await accounts.add(tx, Account(owner=str(n))) for n in range(20)]
    ids = [account.id for account in made]

    async def raise_all(database: Database, order: list[int]) -> None:
        async with database.transaction() as tx:
            for account in await accounts.lock_all(tx, order):
                account.balance += 1

    await asyncio.gather(
        *(raise_all(x, ids) for x in (db, other)), *(raise_all(x, ids[::-1]) for x in (db, other))
    )
    async with db.transaction() as tx:
        locked = await accounts.lock_all(tx, [ids[3], ids[1], ids[3]])
        assert [(account.id, account.balance) for account in locked] == [(ids[1], 4), (ids[3], 4)]
        assert await accounts.lock_all(tx, []) == []
        with pytest.raises(NotFound):
            await accounts.lock_all(tx, [ids[0], -1])
