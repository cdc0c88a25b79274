"""A transaction that lost against another one runs again; anything else comes out at once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pattern_models import Account
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from mainstay.patterns import Database, Repository, Transaction, sqlstate
from mainstay.patterns.serialization_retry import run_again

accounts = Repository(Account)


class Refused(Exception):
    """What a driver raises: an error with the server's code."""

    def __init__(self, code: str) -> None:
        self.sqlstate = code


def refusal(code: str) -> DBAPIError:
    return DBAPIError("SELECT", {}, Refused(code))


codes = st.sampled_from(["40001", "40P01", "23505", "57014", "55P03", "40002"])


@settings(deadline=None)
@given(
    st.lists(codes, max_size=8), st.integers(1, 6), st.lists(st.floats(0, 1, exclude_max=True), min_size=8)
)
async def test_law(refusals: list[str], attempts: int, numbers: list[float]) -> None:
    """It ends at the first success, the first other error or the last attempt; waits are jittered and bounded."""
    left, drawn, waits, tries = list(refusals), list(numbers), [], 0

    async def attempt() -> str:
        nonlocal tries
        tries += 1
        if left:
            raise refusal(left.pop(0))
        return "done"

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    lost = 0
    while lost < len(refusals) and refusals[lost] in ("40001", "40P01"):
        lost += 1
    expected_tries = min(lost + 1, attempts)
    try:
        assert await run_again(attempt, attempts=attempts, sleep=sleep, random=lambda: drawn.pop(0)) == "done"
        assert lost == len(refusals) < attempts
    except DBAPIError as error:
        assert sqlstate(error) == refusals[expected_tries - 1]
    assert tries == expected_tries
    assert waits == [numbers[n] * min(1.0, 0.02 * 2**n) for n in range(expected_tries - 1)]


async def test_at_least_one_attempt(db: Database) -> None:
    """No attempt at all is refused."""
    with pytest.raises(ValueError, match="at least 1"):
        await db.run(lambda tx: tx.flush(), attempts=0)


async def test_returns_what_the_work_returns(db: Database) -> None:
    """And commits it."""

    async def work(tx: Transaction) -> int:
        return (await accounts.add(tx, Account(owner="ann"))).id

    id = await db.run(work)
    async with db.transaction() as tx:
        assert (await accounts.get(tx, id)).owner == "ann"


async def test_a_serialization_failure_runs_again(db: Database, other: Database) -> None:
    """Two SERIALIZABLE withdrawals of 80 from 100: one loses with 40001, runs again, and then sees 20."""
    async with db.transaction() as tx:
        id = (await accounts.add(tx, Account(owner="ann", balance=100))).id
    both_have_read = asyncio.Barrier(2)
    seen: list[int] = []
    ran: list[str] = []
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def withdraw(tx: Transaction) -> bool:
        account = await accounts.get(tx, id)
        seen.append(account.balance)
        tx.after_commit(lambda: ran.append("commit"))
        tx.after_rollback(lambda: ran.append("rollback"))
        if len(seen) <= 2:
            await both_have_read.wait()
        if account.balance < 80:
            return False
        account.balance -= 80
        return True

    paid = await asyncio.gather(
        db.run(withdraw, isolation="SERIALIZABLE", sleep=sleep),
        other.run(withdraw, isolation="SERIALIZABLE", sleep=sleep),
    )
    assert sorted(paid) == [False, True]
    assert seen == [100, 100, 20]
    assert sorted(ran) == ["commit", "commit", "rollback"]
    assert len(waits) == 1 and 0 <= waits[0] < 0.02


async def test_a_deadlock_runs_again(db: Database, other: Database) -> None:
    """Two transactions lock two rows crosswise: PostgreSQL ends one with 40P01, and both succeed in the end."""
    async with db.transaction() as tx:
        ann, bob = Account(owner="ann"), Account(owner="bob")
        tx.add_all([ann, bob])
    both_hold_one = asyncio.Barrier(2)
    tries = 0

    def crosswise(first: int, second: int) -> object:
        async def work(tx: Transaction) -> None:
            nonlocal tries
            tries += 1
            (await accounts.lock(tx, first)).balance += 1
            if tries <= 2:
                await both_hold_one.wait()
            (await accounts.lock(tx, second)).balance += 1

        return work

    await asyncio.gather(db.run(crosswise(ann.id, bob.id)), other.run(crosswise(bob.id, ann.id)))  # type: ignore[arg-type]
    assert tries == 3
    async with db.transaction() as tx:
        assert list(await tx.scalars(select(Account.balance))) == [2, 2]


async def test_gives_up_with_the_original_error(db: Database) -> None:
    """The last attempt's error comes out as the database sent it."""
    tries = 0

    async def work(tx: Transaction) -> None:
        nonlocal tries
        tries += 1
        await tx.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    with pytest.raises(DBAPIError) as caught:
        await db.run(work, attempts=3, random=lambda: 0.0)
    assert sqlstate(caught.value) == "40001"
    assert tries == 3


@pytest.mark.parametrize("error", [KeyError("mine"), asyncio.CancelledError(), refusal("23505")])
async def test_other_errors_come_out_at_once(db: Database, error: BaseException) -> None:
    """What another attempt would not mend is not tried again."""
    tries = 0

    async def work(tx: Transaction) -> None:
        nonlocal tries
        tries += 1
        raise error

    with pytest.raises(type(error)):
        await db.run(work)
    assert tries == 1


def test_sqlstate_of_other_errors() -> None:
    """An error that does not come from the server has none."""
    assert sqlstate(ValueError()) is None
    assert sqlstate(refusal("40001")) == "40001"
