"""A service function has its transaction at its door, whoever calls it; with both drivers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pattern_models import Account, Entry
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from mainstay.patterns import (
    Database,
    NestedTransaction,
    NotFound,
    Repository,
    Transaction,
    TransactionOver,
    sqlstate,
    transactional,
)

accounts = Repository(Account)


@transactional
async def open_account(tx: Transaction, owner: str, *, balance: int = 0) -> int:
    """Its id."""
    return (await accounts.add(tx, Account(owner=owner, balance=balance))).id


@transactional(isolation="SERIALIZABLE", statement_timeout=3)
async def settings_inside(tx: Transaction) -> tuple[Any, ...]:
    query = "SELECT current_setting('transaction_isolation'), current_setting('statement_timeout')"
    return tuple((await tx.execute(text(query))).one())


async def owners(db: Database) -> list[str]:
    async with db.transaction() as tx:
        return list(await tx.scalars(select(Account.owner).order_by(Account.id)))


async def test_called_with_the_database(db: Database, other: Database) -> None:
    """It has committed when it returns; arguments, result, name and docstring are those of the function."""
    id = await open_account(db, "ann", balance=5)
    async with other.transaction() as tx:
        assert (await accounts.get(tx, id)).balance == 5
    assert (open_account.__name__, open_account.__doc__) == ("open_account", "Its id.")
    assert await settings_inside(db) == ("serializable", "3s")


async def test_an_error_undoes_it(db: Database) -> None:
    """What leaves the function comes out unchanged, and nothing of it stays."""

    @transactional
    async def fail(tx: Transaction) -> None:
        await open_account(tx, "ann")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail(db)
    assert await owners(db) == []


async def test_called_by_another_service(db: Database) -> None:
    """Given the transaction, or the database while it is open, it is a part: undone alone, kept with the whole."""

    @transactional
    async def whole(tx: Transaction) -> None:
        await open_account(tx, "ann")
        await open_account(db, "bob")
        with pytest.raises(DBAPIError):
            await open_account(tx, "ann")

    await whole(db)
    assert await owners(db) == ["ann", "bob"]
    async with db.transaction() as tx:
        with pytest.raises(NestedTransaction, match="SERIALIZABLE"):
            await settings_inside(tx)
    async with db.transaction(isolation="SERIALIZABLE") as tx:
        assert await settings_inside(tx) == ("serializable", "3s")


async def test_a_transaction_that_is_over_is_no_door(db: Database) -> None:
    """It never begins one by itself in its place, also not outside of every scope."""
    async with db.transaction() as tx:
        elsewhere = asyncio.create_task(open_account(tx, "ann"), context=contextvars.Context())  # type: ignore[arg-type]
        with pytest.raises(NestedTransaction, match="another task"):
            await elsewhere
    with pytest.raises(TransactionOver):
        await open_account(tx, "ann")
    assert await owners(db) == []


async def test_a_lost_race_runs_the_whole_again(db: Database) -> None:
    """Once per attempt, from the outermost door; `attempts` bounds it; a part is never run again alone."""
    tries: list[str] = []

    @transactional
    async def part(tx: Transaction) -> None:
        tries.append("part")
        if len(tries) < 4:
            await tx.execute(text("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$"))

    @transactional(attempts=2)
    async def whole(tx: Transaction) -> str:
        tries.append("whole")
        await part(tx)
        return "done"

    assert await whole(db) == "done"
    assert tries == ["whole", "part"] * 2

    @transactional(attempts=1)
    async def once(tx: Transaction) -> None:
        tries.append("once")
        await tx.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    tries[:] = []
    with pytest.raises(DBAPIError):
        await once(db)
    assert tries == ["once"]


def test_what_is_no_service_function() -> None:
    """A generator would hold its transaction open while somebody takes its items; bad limits are told at once."""

    async def stream(tx: Transaction) -> AsyncIterator[int]:
        yield 1

    def plain(tx: Transaction) -> int:
        return 1

    for function in (stream, plain):
        with pytest.raises(TypeError, match=r"must be an `async def` without `yield`"):
            transactional(function)  # type: ignore[call-overload]
    for options in ({"attempts": 0}, {"statement_timeout": 0}, {"isolation": "AUTOCOMMIT"}):
        with pytest.raises(ValueError):
            transactional(**options)


@pytest.fixture
async def rolled_back(db: Database) -> AsyncIterator[Transaction]:
    """A test's own transaction, undone at its end."""

    class Undo(Exception):
        pass

    with contextlib.suppress(Undo):
        async with db.transaction() as tx:
            yield tx
            raise Undo


async def test_within_a_fixture_that_undoes_all(
    db: Database, other: Database, rolled_back: Transaction
) -> None:
    """A test may call service functions inside a transaction of its fixture, and nothing stays."""
    await open_account(db, "ann")
    assert await owners(db) == ["ann"]
    assert await owners(other) == []


# ------------------------------------------------------------------------- what counts as a lost race

WRITE_SKEW = "SELECT sum(balance) FROM account"


async def write_skew(db: Database, other: Database, how: Callable[[Transaction], Any]) -> list[int]:
    """Two SERIALIZABLE transactions read both rows and write one each; one is refused, at COMMIT at the latest."""
    ids = [await open_account(db, owner, balance=50) for owner in ("ann", "bob")]
    both_have_written = asyncio.Barrier(2)
    tries = 0

    async def work(tx: Transaction, id: int) -> int:
        nonlocal tries
        tries += 1
        first = tries <= 2
        total: int = await tx.scalar(text(WRITE_SKEW))
        if total >= 100:
            (await accounts.get(tx, id)).balance -= 60
            await tx.flush()
        if first:
            await both_have_written.wait()
        await how(tx)
        return total

    totals = await asyncio.gather(
        db.run(lambda tx: work(tx, ids[0]), isolation="SERIALIZABLE"),
        other.run(lambda tx: work(tx, ids[1]), isolation="SERIALIZABLE"),
    )
    assert tries == 3
    async with db.transaction() as tx:
        assert await tx.scalar(select(func.sum(Account.balance))) == 40
    return sorted(totals)


async def test_refused_at_commit(db: Database, other: Database) -> None:
    """A serialization failure that PostgreSQL finds at COMMIT runs again."""

    async def nothing(tx: Transaction) -> None:
        pass

    assert await write_skew(db, other, nothing) == [40, 100]


class Mine(Exception):
    """A service's own name for an error."""


@pytest.mark.parametrize("how", ["named", "swallowed", "flush", "raw"])
async def test_a_lost_race_in_disguise(db: Database, how: str) -> None:
    """Raised from a service's own error, swallowed, out of an ORM flush, or straight from the driver."""
    tries = 0

    async def work(tx: Transaction) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            await tx.execute(
                text(
                    "CREATE FUNCTION pg_temp.lose() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$ BEGIN RAISE SQLSTATE '40001'; END $$"
                )
            )
            await tx.execute(
                text(
                    "CREATE TRIGGER lose BEFORE INSERT ON account FOR EACH ROW"
                    " EXECUTE FUNCTION pg_temp.lose()"
                )
            )
            tx.add(Account(owner="ann"))
            if how == "named":
                try:
                    await tx.flush()
                except DBAPIError as error:
                    raise Mine from error
            elif how == "swallowed":
                with contextlib.suppress(DBAPIError):
                    await tx.execute(text("INSERT INTO account (owner, balance) VALUES ('ann', 0)"))
            elif how == "raw":
                with tx.session.no_autoflush:
                    raw: Any = await (await tx.session.connection()).get_raw_connection()
                await raw.driver_connection.execute("INSERT INTO account (owner, balance) VALUES ('a', 0)")
        return "done"

    assert await db.run(work, random=lambda: 0.0) == "done"
    assert tries == 2


async def test_hooks_of_lost_attempts(db: Database) -> None:
    """Of all attempts only the last one's after-commit hook runs; each lost one's after-rollback hook does."""
    ran: list[str] = []

    @transactional
    async def work(tx: Transaction) -> None:
        number = len(ran) + 1
        tx.after_commit(lambda: ran.append(f"commit {number}"))
        tx.after_rollback(lambda: ran.append(f"rollback {number}"))
        if number < 3:
            await tx.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    await work(db)
    assert ran == ["rollback 1", "rollback 2", "commit 3"]


async def test_the_limits_of_run(db: Database) -> None:
    """As those of a transaction."""

    async def slow(tx: Transaction) -> None:
        await tx.execute(text("SELECT pg_sleep(60)"))

    with pytest.raises(DBAPIError) as caught:
        await db.run(slow, statement_timeout=0.05)
    assert sqlstate(caught.value) == "57014"


async def test_entries_belong_to_their_account(db: Database) -> None:
    """A service that uses two others leaves all or nothing."""

    @transactional
    async def book(tx: Transaction, account: int, amount: int) -> None:
        (await accounts.lock(tx, account)).balance += amount
        tx.add(Entry(account_id=account, amount=amount))

    @transactional
    async def transfer(tx: Transaction, source: int, target: int, amount: int) -> None:
        await book(tx, source, -amount)
        await book(tx, target, amount)

    ann = await open_account(db, "ann", balance=100)
    with pytest.raises(NotFound):
        await transfer(db, ann, ann + 1000, 30)
    async with db.transaction() as tx:
        assert (await accounts.get(tx, ann)).balance == 100
        assert await tx.scalar(select(func.count()).select_from(Entry)) == 0
