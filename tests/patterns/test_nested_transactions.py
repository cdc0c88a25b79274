"""A transaction inside a transaction is a part of it, with both drivers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pattern_models import Account
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from mainstay.patterns import Database, NestedTransaction, Transaction, TransactionAborted, sqlstate
from mainstay.patterns.database import Isolation

LIMITS = text(
    "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
    " current_setting('idle_in_transaction_session_timeout')"
)


async def owners(db: Database) -> list[str]:
    async with db.transaction() as tx:
        return list(await tx.scalars(select(Account.owner).order_by(Account.id)))


async def limits(tx: Transaction) -> list[str]:
    return list((await tx.execute(LIMITS)).one())


async def test_a_part_commits_with_the_whole(db: Database, other: Database) -> None:
    """Nothing of an inner block is visible to others before the outer block has committed."""
    async with db.transaction() as tx:
        async with db.transaction() as inner:
            assert inner is tx
            inner.add(Account(owner="ann"))
        assert await owners(other) == []
    assert await owners(other) == ["ann"]


async def test_an_error_undoes_the_inner_block_only(db: Database) -> None:
    """As by a savepoint: the outer block catches it and goes on."""
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
        with pytest.raises(KeyError):
            async with db.transaction():
                tx.add(Account(owner="bob"))
                await tx.flush()
                raise KeyError
        with pytest.raises(IntegrityError):
            async with db.transaction():
                tx.add(Account(owner="ann"))  # refused at the end of the inner block
        tx.add(Account(owner="eve"))
    assert await owners(db) == ["ann", "eve"]


async def test_an_inner_block_goes_with_the_outer_one(db: Database) -> None:
    """What an inner block did is undone when the outer one fails."""
    with pytest.raises(KeyError):
        async with db.transaction():
            async with db.transaction() as tx:
                tx.add(Account(owner="ann"))
            raise KeyError
    assert await owners(db) == []


async def test_a_block_without_statements_sends_nothing(db: Database) -> None:
    """An inner block costs a savepoint only once it asks something."""
    sent: list[str] = []
    await owners(db)
    event.listen(
        db.engine.sync_engine, "before_cursor_execute", lambda conn, cursor, sql, *rest: sent.append(sql)
    )
    async with db.transaction(), db.transaction(), db.transaction():
        pass
    assert sent == []


class Undone(Exception):
    """Leaves a block."""


Tree = tuple[bool, list[Any]]
trees = st.recursive(
    st.tuples(st.booleans(), st.just([])),
    lambda inner: st.tuples(st.booleans(), st.lists(inner, max_size=3)),
    max_leaves=8,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees)
async def test_law_of_parts(db: Database, tree: Tree) -> None:
    """A block's writes stay exactly if neither it nor a block around it was undone, and its hooks say the same.

    An after-commit hook runs once if so and never otherwise; an after-rollback hook just the other way round; none
    of them before the outermost block has ended.
    """
    ran: list[tuple[str, str]] = []
    kept: list[str] = []
    all_names: list[str] = []

    async def walk(tree: Tree, name: str, stays: bool) -> None:
        fails, parts = tree
        stays = stays and not fails
        all_names.append(name)
        if stays:
            kept.append(name)
        async with db.transaction() as tx:
            tx.add(Account(owner=name))
            tx.after_commit(lambda: ran.append(("commit", name)))
            tx.after_rollback(lambda: ran.append(("rollback", name)))
            for number, part in enumerate(parts):
                with contextlib.suppress(Undone):
                    await walk(part, f"{name}.{number}", stays)
            assert not ran
            if fails:
                raise Undone

    async with db.engine.begin() as connection:
        await connection.execute(text("TRUNCATE account CASCADE"))
    with contextlib.suppress(Undone):
        await walk(tree, "a", True)
    assert sorted(await owners(db)) == sorted(kept)
    assert sorted(ran) == sorted(("commit" if name in kept else "rollback", name) for name in all_names)


async def test_limits_of_an_inner_block(db: Database) -> None:
    """They hold inside it, the rest stays as outside, and the outer ones are back after it, whatever its end."""
    async with db.transaction(lock_timeout=1) as tx:
        async with db.transaction(statement_timeout=60):
            assert await limits(tx) == ["1min", "1s", "10s"]
            async with db.transaction(statement_timeout=7):
                assert await limits(tx) == ["7s", "1s", "10s"]
            async with tx.savepoint():
                assert await limits(tx) == ["1min", "1s", "10s"]
            assert await limits(tx) == ["1min", "1s", "10s"]
        assert await limits(tx) == ["5s", "1s", "10s"]
        with contextlib.suppress(DBAPIError):
            async with db.transaction(statement_timeout=0.05):
                await tx.execute(text("SELECT pg_sleep(60)"))
        assert await limits(tx) == ["5s", "1s", "10s"]
    async with db.transaction() as tx:
        assert await limits(tx) == ["5s", "2s", "10s"]


async def test_the_last_writes_of_an_inner_block_are_within_its_limits(db: Database) -> None:
    """What is only written when the inner block ends still has its statement timeout."""
    with pytest.raises(DBAPIError) as caught:
        async with db.transaction() as tx:
            await tx.execute(
                text(
                    "CREATE FUNCTION pg_temp.doze() RETURNS trigger LANGUAGE plpgsql AS"
                    " 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END'"
                )
            )
            await tx.execute(
                text(
                    "CREATE TRIGGER doze BEFORE INSERT ON account FOR EACH ROW EXECUTE FUNCTION pg_temp.doze()"
                )
            )
            async with db.transaction(statement_timeout=0.05):
                tx.add(Account(owner="ann"))
    assert sqlstate(caught.value) == "57014"


async def test_isolation_belongs_to_the_whole(db: Database) -> None:
    """Another level than that of the outermost block is refused in one sentence; the same one is fine."""
    async with db.transaction():
        with pytest.raises(NestedTransaction, match="SERIALIZABLE was asked for inside"):
            async with db.transaction(isolation="SERIALIZABLE"):
                pass
    level: Isolation = "REPEATABLE READ"
    async with db.transaction(isolation=level), db.transaction(isolation=level) as tx:
        assert await tx.scalar(text("SHOW transaction_isolation")) == "repeatable read"
    async with (
        Database(db.engine.url, isolation=level) as strict,
        strict.transaction(),
        strict.transaction(isolation=level) as tx,
    ):
        assert await tx.scalar(text("SHOW transaction_isolation")) == "repeatable read"


async def test_bad_arguments_are_refused_inside_too(db: Database) -> None:
    """A limit that is none, or a level that there is not."""
    async with db.transaction():
        with pytest.raises(ValueError, match="statement_timeout"):
            async with db.transaction(statement_timeout=0):
                pass
        with pytest.raises(ValueError, match="isolation is one of"):
            async with db.transaction(isolation="serializable"):  # type: ignore[arg-type]
                pass


async def test_another_task_cannot_take_part(db: Database) -> None:
    """Neither by `gather` nor by `create_task`, be it through the database or a savepoint; the whole goes on."""
    async with db.transaction() as tx:

        async def part(name: str) -> None:
            async with db.transaction():
                tx.add(Account(owner=name))

        async def savepoint() -> None:
            async with tx.savepoint():
                tx.add(Account(owner="eve"))

        for refused in await asyncio.gather(part("bob"), savepoint(), return_exceptions=True):
            assert isinstance(refused, NestedTransaction)
            assert "another task" in str(refused) and "asyncio.timeout" in str(refused)
        async with asyncio.timeout(5):
            await part("ann")
        await asyncio.create_task(owners(db), context=contextvars.Context())
    assert await owners(db) == ["ann"]


async def test_a_block_set_up_in_a_task_that_has_ended(db: Database) -> None:
    """As fixtures and dependencies do it: whoever goes on may take part."""
    scope = db.transaction()
    context = contextvars.copy_context()
    await asyncio.create_task(scope.__aenter__(), context=context)
    await asyncio.create_task(owners(db), context=context)
    await asyncio.create_task(scope.__aexit__(None, None, None), context=context)
    assert context.run(lambda: db.engine.pool.checkedout()) == 0  # type: ignore[attr-defined]


async def test_a_swallowed_error_inside_a_part(db: Database) -> None:
    """The part cannot be kept and says so; the whole can."""
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
        with pytest.raises(TransactionAborted) as caught:
            async with db.transaction():
                tx.add(Account(owner="bob"))
                await tx.flush()
                with contextlib.suppress(DBAPIError):
                    await tx.execute(text("SELECT 1 / 0"))
        assert sqlstate(caught.value.__cause__ or caught.value) == "22012"
        with pytest.raises(TransactionAborted):
            async with tx.savepoint():
                tx.add(Account(owner="ann"))
                with contextlib.suppress(IntegrityError):
                    await tx.flush()
    assert await owners(db) == ["ann"]


@pytest.mark.parametrize("nested", [True, False])
async def test_a_statement_that_was_given_up(db: Database, nested: bool) -> None:
    """It loses the connection, so the whole ends with one clear error, and not with a silent half."""
    with pytest.raises(TransactionAborted, match="connection was lost"):
        async with db.transaction() as tx:
            tx.add(Account(owner="ann"))
            await tx.flush()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    async with db.transaction() if nested else contextlib.nullcontext():
                        await tx.execute(text("SELECT pg_sleep(60)"))
    assert await owners(db) == []
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_task_cancelled_in_a_part(db: Database) -> None:
    """It ends as cancelled, whatever became of its connection."""

    async def work() -> None:
        async with db.transaction(), db.transaction() as tx:
            await tx.execute(text("SELECT pg_sleep(60)"))

    task = asyncio.create_task(work())
    asleep = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    async with db.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not await connection.scalar(asleep):
            pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_run_inside_a_transaction_runs_once(db: Database) -> None:
    """A lost race inside goes to the outermost scope, which runs the whole again."""
    tries: list[str] = []

    async def part(tx: Transaction) -> str:
        tries.append("part")
        if len(tries) < 4:
            await tx.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))
        tx.add(Account(owner="ann"))
        return "done"

    async def whole(tx: Transaction) -> str:
        tries.append("whole")
        return await db.run(part)

    assert await db.run(whole, random=lambda: 0.0) == "done"
    assert tries == ["whole", "part"] * 2
    tries[:] = []
    with pytest.raises(DBAPIError):
        async with db.transaction():
            await db.run(part)
    assert tries == ["part"]
    with pytest.raises(ValueError, match="at least 1"):
        async with db.transaction():
            await db.run(part, attempts=0)
    assert await owners(db) == ["ann"]


async def test_objects_changed_in_an_undone_part(db: Database) -> None:
    """They are read anew: what the part had set is gone from them, too."""
    async with db.transaction() as tx:
        ann = Account(owner="ann", balance=1)
        tx.add(ann)
        await tx.flush()
        with contextlib.suppress(Undone):
            async with db.transaction():
                ann.balance = 99
                await tx.flush()
                raise Undone
        await tx.refresh(ann)
        assert ann.balance == 1
