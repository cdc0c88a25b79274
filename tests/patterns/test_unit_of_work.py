"""What a transaction promises, with both drivers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from pattern_models import Account
from sqlalchemy import URL, event, exc, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError

from mainstay.patterns import (
    CommitUnknown,
    Database,
    Misuse,
    NestedTransaction,
    Transaction,
    TransactionAborted,
    TransactionOver,
    answer_to,
    sqlstate,
)
from mainstay.patterns.serialization_retry import lost_a_race


async def owners(db: Database) -> list[str]:
    async with db.transaction() as tx:
        return list(await tx.scalars(select(Account.owner).order_by(Account.id)))


async def test_commits_at_the_end_of_the_block(db: Database, other: Database) -> None:
    """Writes are visible to others after the block, not before."""
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
        await tx.flush()
        assert await owners(other) == []
    assert await owners(other) == ["ann"]


async def test_rolls_back_when_an_error_leaves_the_block(db: Database) -> None:
    """An error passes through unchanged, and nothing of the block stays."""
    with pytest.raises(KeyError, match="mine"):
        async with db.transaction() as tx:
            tx.add(Account(owner="ann"))
            await tx.flush()
            raise KeyError("mine")
    assert await owners(db) == []


async def test_rolls_back_when_its_task_is_cancelled(db: Database) -> None:
    """A cancelled block leaves nothing, and its connection goes back to the pool."""
    begun = asyncio.Event()

    async def work() -> None:
        async with db.transaction() as tx:
            tx.add(Account(owner="ann"))
            await tx.flush()
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await owners(db) == []
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_refusal_at_commit_rolls_back(db: Database) -> None:
    """A constraint violated at the flush that the commit does is raised, and rollback hooks run."""
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
    ran: list[str] = []
    with pytest.raises(IntegrityError):
        async with db.transaction() as tx:
            tx.add(Account(owner="ann"))
            tx.after_commit(lambda: ran.append("commit"))
            tx.after_rollback(lambda: ran.append("rollback"))
    assert ran == ["rollback"]


async def test_a_deferred_constraint_refuses_at_commit(db: Database) -> None:
    """What the server refuses at COMMIT itself is known to be rolled back."""
    async with db.engine.begin() as connection:
        await connection.execute(text("DROP TABLE IF EXISTS late"))
        await connection.execute(text("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    ran: list[str] = []
    with pytest.raises(IntegrityError) as caught:
        async with db.transaction() as tx:
            tx.after_rollback(lambda: ran.append("rollback"))
            await tx.execute(text("INSERT INTO late VALUES (1), (1)"))
    assert sqlstate(caught.value) == "23505"
    assert ran == ["rollback"]


async def test_time_limits_are_set_inside(db: Database) -> None:
    """The limits of the database hold inside a transaction, arguments replace them, and they end with it."""
    query = text(
        "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
        " current_setting('idle_in_transaction_session_timeout'), pg_backend_pid()"
    )
    async with db.transaction() as tx:
        *limits, process = (await tx.execute(query)).one()
        assert limits == ["5s", "2s", "10s"]
    async with db.transaction(statement_timeout=60, lock_timeout=0.25, idle_in_transaction_timeout=1.5) as tx:
        *limits, same = (await tx.execute(query)).one()
        assert limits == ["1min", "250ms", "1500ms"]
    async with db.engine.connect() as connection:
        *limits, again = (await connection.execute(query)).one()
        assert limits == ["0", "0", "0"]
    assert process == same == again


async def test_setting_the_limits_costs_one_statement(db: Database) -> None:
    """Besides its own statements a transaction sends one; a block that asks nothing takes no connection."""
    sent: list[str] = []
    async with db.transaction():
        pass
    assert db.engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    await owners(db)
    event.listen(
        db.engine.sync_engine, "before_cursor_execute", lambda conn, cursor, sql, *rest: sent.append(sql)
    )
    async with db.transaction() as tx:
        await tx.execute(text("SELECT 1"))
        async with tx.savepoint():
            await tx.execute(text("SELECT 2"))
    assert sent[0].startswith("SELECT set_config")
    assert [sql for sql in sent[1:] if "SAVEPOINT" not in sql] == ["SELECT 1", "SELECT 2"]


async def test_a_statement_that_takes_too_long_is_ended(db: Database) -> None:
    """Statement timeout: SQLSTATE 57014."""
    with pytest.raises(DBAPIError) as caught:
        async with db.transaction(statement_timeout=0.05) as tx:
            await tx.execute(text("SELECT pg_sleep(60)"))
    assert sqlstate(caught.value) == "57014"


async def test_waiting_for_a_lock_ends(db: Database, other: Database) -> None:
    """Lock timeout: SQLSTATE 55P03 for the one who waits, nothing for the one who holds."""
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
    async with db.transaction() as tx:
        await tx.execute(text("UPDATE account SET balance = 1"))
        with pytest.raises(DBAPIError) as caught:
            async with other.transaction(lock_timeout=0.05) as second:
                await second.execute(text("UPDATE account SET balance = 2"))
    assert sqlstate(caught.value) == "55P03"
    async with db.transaction() as tx:
        assert await tx.scalar(select(Account.balance)) == 1


async def test_an_idle_transaction_loses_its_connection(db: Database, other: Database) -> None:
    """Idle timeout: PostgreSQL ends the connection, the block fails, and nothing of it stays."""
    with pytest.raises(DBAPIError):
        async with db.transaction(idle_in_transaction_timeout=0.05) as tx:
            tx.add(Account(owner="ann"))
            await tx.flush()
            process = await tx.scalar(select(func.pg_backend_pid()))
            await until_gone(other, process)
            await tx.execute(select(1))
    assert await owners(db) == []


async def test_the_pool_is_a_limit(db: Database) -> None:
    """No connection beyond `pool_size` is opened; who waits longer than `pool_timeout` is told."""
    async with Database(db.engine.url, pool_size=1, pool_timeout=0.05) as small, small.transaction() as tx:
        await tx.execute(select(1))
        with pytest.raises(exc.TimeoutError, match="QueuePool limit"):
            await asyncio.create_task(owners(small), context=contextvars.Context())


async def until_gone(db: Database, process: int | None) -> None:
    alive = True
    while alive:
        async with db.transaction() as tx:
            alive = bool(
                await tx.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE pid = :p"), {"p": process})
            )


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_isolation(db: Database, isolation: Any) -> None:
    """The isolation level of one transaction, which the next one does not inherit."""
    async with db.transaction(isolation=isolation) as tx:
        assert await tx.scalar(text("SHOW transaction_isolation")) == isolation.lower()
    async with db.transaction() as tx:
        assert await tx.scalar(text("SHOW transaction_isolation")) == "read committed"
    async with Database(db.engine.url, isolation=isolation) as strict, strict.transaction() as tx:
        assert await tx.scalar(text("SHOW transaction_isolation")) == isolation.lower()


async def test_no_other_isolation() -> None:
    """Above all not SQLAlchemy's AUTOCOMMIT, with which nothing could be rolled back."""
    for options in ({"isolation": "AUTOCOMMIT"}, {"isolation": "serializable"}):
        with pytest.raises(ValueError, match="READ COMMITTED, REPEATABLE READ, SERIALIZABLE"):
            Database("postgresql://h/n", **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="isolation is one of"):
            async with Database("postgresql://h/n").transaction(**options):  # type: ignore[arg-type]
                pass
    with pytest.raises(ValueError, match="isolation="):
        Database("postgresql://h/n", isolation_level="AUTOCOMMIT")


# ------------------------------------------------------------------------------------------- misuse


async def test_a_transaction_of_another_database_is_its_own(db: Database, other: Database) -> None:
    """Inside a block a transaction of another `Database` is not a part of it."""
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
        await tx.flush()
        assert await owners(other) == []


async def test_a_task_that_outlives_the_transaction_is_free(db: Database) -> None:
    """A task started inside is refused while the transaction is open, and no longer."""
    over = asyncio.Event()

    async def later() -> list[str]:
        with pytest.raises(NestedTransaction):
            await owners(db)
        over_waiting.set()
        await over.wait()
        return await owners(db)

    over_waiting = asyncio.Event()
    async with db.transaction():
        task = asyncio.create_task(later())
        free = asyncio.create_task(owners(db), context=contextvars.Context())
        await over_waiting.wait()
        assert await free == []
    over.set()
    assert await task == []


async def test_an_ended_transaction_cannot_be_used(db: Database) -> None:
    """Every method says that it is over, and so does a session that was kept."""
    async with db.transaction() as tx:
        session = tx.session
        await tx.execute(select(1))
    for use in (
        lambda: tx.session,
        lambda: tx.add(Account(owner="ann")),
        lambda: tx.after_commit(print),
        lambda: tx.after_rollback(print),
    ):
        with pytest.raises(TransactionOver):
            use()
    with pytest.raises(TransactionOver):
        await tx.execute(select(1))
    with pytest.raises(InvalidRequestError):
        await session.execute(select(1))


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
async def test_a_block_that_ends_its_transaction_itself_is_refused(db: Database, end: str) -> None:
    """After `tx.session.commit()` nothing can follow in the block, and its end says so."""
    with pytest.raises(TransactionOver):
        async with db.transaction() as tx:
            await tx.execute(select(1))
            await getattr(tx.session, end)()
    async with db.transaction() as tx:
        with pytest.raises(TransactionOver, match=f"^{end} inside the block"):
            await getattr(tx.session, end)()
        with pytest.raises(TransactionOver, match=f"^{end} inside the block"):
            await tx.session.run_sync(lambda session: getattr(session, end)())
        tx.add(Account(owner="ann"))  # nothing was ended, so it goes on
    assert await owners(db) == ["ann"]


@pytest.mark.parametrize("isolation", [None, "SERIALIZABLE"])
async def test_a_swallowed_error_is_not_committed_silently(db: Database, isolation: Any) -> None:
    """PostgreSQL would answer COMMIT with ROLLBACK and no error; the block raises instead."""
    ran: list[str] = []
    with pytest.raises(TransactionAborted, match="savepoint"):
        async with db.transaction(isolation=isolation) as tx:
            tx.after_commit(lambda: ran.append("commit"))
            tx.add(Account(owner="ann"))
            await tx.flush()
            with contextlib.suppress(DBAPIError):
                await tx.execute(text("SELECT 1 / 0"))
    assert ran == []
    assert await owners(db) == []
    async with db.transaction() as tx:  # the same connection is healthy again
        tx.add(Account(owner="bob"))
    assert await owners(db) == ["bob"]


async def test_a_time_limit_that_passes_during_commit_is_no_invitation_to_repeat(db: Database) -> None:
    """Nobody knows what became of it, so no hook runs, it is not taken for a lost race, and HTTP does not say 503."""
    ran: list[str] = []
    limit = asyncio.timeout(None)
    with pytest.raises(TimeoutError) as caught:
        async with limit, db.transaction() as tx:
            tx.after_commit(lambda: ran.append("commit"))
            tx.after_rollback(lambda: ran.append("rollback"))
            for statement in LINGERING_COMMIT:
                await tx.execute(text(statement))
            limit.reschedule(asyncio.get_running_loop().time() + 0.2)
    cancelled = caught.value.__cause__
    assert isinstance(cancelled, asyncio.CancelledError) and isinstance(cancelled.__cause__, CommitUnknown)
    assert ran == []
    answer = answer_to(caught.value)
    assert answer is not None and (answer.status, answer.retry_after) == (500, None)
    assert not lost_a_race(caught.value)


LINGERING_COMMIT = [
    "CREATE TEMP TABLE slow (n int) ON COMMIT DROP",
    "CREATE FUNCTION pg_temp.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END'",
    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
    " EXECUTE FUNCTION pg_temp.slow()",
    "INSERT INTO slow VALUES (1)",
]


async def test_a_second_event_loop(db: Database) -> None:
    """psycopg's connections go with whoever uses them; of asyncpg's it is said, before anything trips over it."""

    async def use() -> list[str]:
        return await owners(db)

    async with db.engine.connect() as connection:  # in this loop, past any transaction
        await connection.execute(select(1))
    assert await use() == []
    if db.engine.driver == "asyncpg":
        with pytest.raises(Misuse, match="connections of another event loop"):
            await asyncio.to_thread(asyncio.run, use())
        assert await use() == []
    await db.close()
    try:
        assert await asyncio.to_thread(asyncio.run, use()) == []
    finally:
        await asyncio.to_thread(asyncio.run, db.close())


async def raw(tx: Transaction) -> Any:
    """The driver's connection beneath a transaction."""
    return (await (await tx.session.connection()).get_raw_connection()).driver_connection


async def test_an_error_of_the_drivers_own_connection_is_not_committed_silently(empty: URL) -> None:
    """SQLAlchemy sees nothing of it, psycopg's connection tells (asyncpg's does not: see the page)."""
    ran: list[str] = []
    async with Database(empty) as db:
        with pytest.raises(TransactionAborted, match="savepoint"):
            async with db.transaction() as tx:
                tx.after_commit(lambda: ran.append("commit"))
                tx.add(Account(owner="ann"))
                await tx.flush()
                with contextlib.suppress(psycopg.Error):
                    await (await raw(tx)).execute("COPY nothing TO STDOUT")
        assert ran == []
        assert await owners(db) == []
        async with db.transaction() as tx:
            with contextlib.suppress(TransactionAborted):
                async with tx.savepoint():
                    with contextlib.suppress(psycopg.Error):
                        await (await raw(tx)).execute("SELECT 1 / 0")
            tx.add(Account(owner="bob"))
        assert await owners(db) == ["bob"]


async def test_a_transaction_that_was_ended_past_it_is_told(db: Database) -> None:
    """A COMMIT on the driver's connection: what follows would commit by itself or not at all."""
    ran: list[str] = []
    with pytest.raises(TransactionOver, match="past this transaction"):
        async with db.transaction() as tx:
            tx.after_commit(lambda: ran.append("commit"))
            await (await raw(tx)).execute("COMMIT")
    assert ran == []


async def test_a_swallowed_error_of_a_flush(db: Database) -> None:
    """SQLAlchemy has rolled back by then; the block says the same as for a statement."""
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
    ran: list[str] = []
    with pytest.raises(TransactionAborted):
        async with db.transaction() as tx:
            tx.after_rollback(lambda: ran.append("rollback"))
            tx.add(Account(owner="bob"))
            await tx.flush()
            tx.add(Account(owner="ann"))
            with contextlib.suppress(IntegrityError):
                await tx.flush()
    assert ran == ["rollback"]
    assert await owners(db) == ["ann"]


async def test_a_savepoint_undoes_its_part_only(db: Database) -> None:
    """After an error in a savepoint the rest commits; hooks of the undone part behave accordingly."""
    ran: list[str] = []
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
        await tx.flush()
        tx.after_commit(lambda: ran.append("outer"))
        with pytest.raises(IntegrityError):
            async with tx.savepoint():
                tx.after_commit(lambda: ran.append("never"))
                tx.after_rollback(lambda: ran.append("undone"))
                await tx.execute(text("INSERT INTO account (owner, balance) VALUES ('ann', 0)"))
        async with tx.savepoint():
            tx.add(Account(owner="bob"))
            tx.after_commit(lambda: ran.append("inner"))
    assert await owners(db) == ["ann", "bob"]
    assert ran == ["outer", "undone", "inner"]


async def test_a_savepoint_rolls_back_with_the_whole(db: Database) -> None:
    """Each rollback hook runs once, however deep it was registered."""
    ran: list[str] = []
    with pytest.raises(KeyError):
        async with db.transaction() as tx:
            with pytest.raises(ValueError):
                async with tx.savepoint():
                    tx.after_rollback(lambda: ran.append("inner"))
                    raise ValueError
            tx.after_rollback(lambda: ran.append("outer"))
            raise KeyError
    assert ran == ["inner", "outer"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///x.db", "psycopg or asyncpg"),
        ("postgresql+psycopg2://h/n", "psycopg or asyncpg"),
        ("no url", "cannot be read"),
    ],
)
def test_other_databases_are_refused(url: str, message: str) -> None:
    """A URL of something else than PostgreSQL, or of a driver that is not async."""
    with pytest.raises(ValueError, match=message):
        Database(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_driver_is_psycopg_unless_named(scheme: str) -> None:
    """A URL as providers hand it out works as it is."""
    assert Database(f"{scheme}://h/n").engine.url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "limit",
    [
        {"statement_timeout": 0},
        {"lock_timeout": -1},
        {"idle_in_transaction_timeout": float("inf")},
        {"statement_timeout": float("nan")},
        {"pool_size": 0},
        {"pool_timeout": 0},
        {"connect_timeout": 0},
    ],
)
async def test_no_limit_is_refused(limit: dict[str, Any]) -> None:
    """Zero means `no limit` to PostgreSQL, so it cannot be asked for."""
    with pytest.raises(ValueError, match=next(iter(limit))):
        Database("postgresql://h/n", **limit)
    if "pool" not in next(iter(limit)) and "connect" not in next(iter(limit)):
        with pytest.raises(ValueError):
            async with Database("postgresql://h/n").transaction(**limit):
                pass


# -------------------------------------------------------------------------------------------- hooks


async def test_hooks_run_after_the_transaction_and_outside_of_it(db: Database) -> None:
    """A hook sees the committed rows and may begin a transaction of its own; plain and async, in order."""
    seen: list[object] = []

    async def look() -> None:
        seen.append(await owners(db))

    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
        tx.after_commit(look)
        tx.after_commit(lambda: seen.append("plain"))
        tx.after_rollback(lambda: seen.append("never"))
        assert seen == []
    assert seen == [["ann"], "plain"]


async def test_rollback_hooks_run_after_a_rollback_only(db: Database) -> None:
    """They run outside of the transaction, while the error is on its way."""
    seen: list[object] = []

    async def look() -> None:
        seen.append(await owners(db))

    with pytest.raises(KeyError):
        async with db.transaction() as tx:
            tx.add(Account(owner="ann"))
            tx.after_rollback(look)
            tx.after_commit(lambda: seen.append("never"))
            raise KeyError
    assert seen == [[]]


async def test_a_failing_hook_is_logged_and_stops_nothing(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The transaction has happened, so the caller is not told otherwise; the next hook runs."""
    seen: list[str] = []

    def fail() -> None:
        raise ValueError("cache is down")

    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
        tx.after_commit(fail)
        tx.after_commit(lambda: seen.append("next"))
    assert seen == ["next"]
    assert await owners(db) == ["ann"]
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.name == "mainstay.patterns"
    assert "cache is down" in caplog.text


# ----------------------------------------------------------------------------- the process dies here


async def test_a_connection_lost_at_commit_leaves_the_outcome_open(db: Database, other: Database) -> None:
    """Neither kind of hook runs, and the error says that nobody knows."""
    ran: list[str] = []
    with pytest.raises(CommitUnknown, match="look whether"):
        async with db.transaction() as tx:
            tx.add(Account(owner="ann"))
            await tx.flush()
            tx.after_commit(lambda: ran.append("commit"))
            tx.after_rollback(lambda: ran.append("rollback"))
            await kill(other, await tx.scalar(select(func.pg_backend_pid())))
    assert ran == []
    assert await owners(other) == []


SLOW_COMMIT = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON account INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();
"""


@pytest.fixture
async def slow_commit(db: Database) -> AsyncIterator[None]:
    """COMMIT of a new account takes a minute."""
    async with db.engine.begin() as connection:
        for statement in SLOW_COMMIT.strip().splitlines():
            await connection.execute(text(statement))
    yield
    async with db.engine.begin() as connection:
        await connection.execute(text("DROP FUNCTION slow() CASCADE"))


async def test_cancelled_during_commit(db: Database, other: Database, slow_commit: None) -> None:
    """The task ends as cancelled, no hook claims to know the outcome, and the pool gets its connection back."""
    ran: list[str] = []

    async def work() -> None:
        async with db.transaction() as tx:
            tx.add(Account(owner="ann"))
            tx.after_commit(lambda: ran.append("commit"))
            tx.after_rollback(lambda: ran.append("rollback"))

    task = asyncio.create_task(work())
    committing = text(
        "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^COMMIT' AND wait_event = 'PgSleep'"
    )
    async with other.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not await connection.scalar(committing):
            pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ran == []
    assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_connection_lost_before_commit_is_a_rollback(db: Database, other: Database) -> None:
    """Until COMMIT is sent the outcome is certain: nothing happened."""
    ran: list[str] = []
    with pytest.raises(DBAPIError):
        async with db.transaction() as tx:
            tx.add(Account(owner="ann"))
            await tx.flush()
            tx.after_rollback(lambda: ran.append("rollback"))
            await kill(other, await tx.scalar(select(func.pg_backend_pid())))
            await tx.execute(select(1))
    assert ran == ["rollback"]
    assert await owners(db) == []


async def kill(db: Database, process: int | None) -> None:
    async with db.transaction() as tx:
        await tx.scalar(text("SELECT pg_terminate_backend(:p)"), {"p": process})
    await until_gone(db, process)


CHILD = """
import asyncio, os, signal, sys
from sqlalchemy import text
from mainstay.patterns import Database

async def main():
    async with Database(sys.argv[1]) as db:
        async def hook():
            if sys.argv[2] == "after commit":
                os.kill(os.getpid(), signal.SIGKILL)
        async with db.transaction() as tx:
            tx.after_commit(hook)
            await tx.execute(text("INSERT INTO account (owner, balance) VALUES ('ann', 0)"))
            if sys.argv[2] == "before commit":
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize(("moment", "left"), [("before commit", []), ("after commit", ["ann"])])
async def test_killed(db: Database, moment: str, left: list[str]) -> None:
    """A process killed before COMMIT leaves nothing; one killed after it, before the hook, leaves all."""
    url = db.engine.url.render_as_string(hide_password=False)
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, url, moment)
    assert await child.wait() == -signal.SIGKILL
    while True:  # the server notices the closed connection in its own time
        async with db.transaction() as tx:
            alive = await tx.scalar(
                text(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        if not alive:
            break
    assert await owners(db) == left


# ------------------------------------------------------------------------------------ advisory locks


@pytest.mark.parametrize("key", ["nightly report", 42, -(2**63)])
async def test_an_advisory_lock_excludes_others_until_the_end(
    db: Database, other: Database, key: str | int
) -> None:
    """The second one does not get it at once, waits no longer than the lock timeout, and gets it in the end."""
    async with db.transaction() as tx:
        assert await tx.advisory_lock(key)
        async with other.transaction() as second:
            assert not await second.advisory_lock(key, wait=False)
        with pytest.raises(DBAPIError) as caught:
            async with other.transaction(lock_timeout=0.05) as second:
                await second.advisory_lock(key)
        assert sqlstate(caught.value) == "55P03"
    async with other.transaction() as second:
        assert await second.advisory_lock(key, wait=False)


async def test_an_advisory_lock_has_64_bits(db: Database) -> None:
    """A larger number is refused."""
    async with db.transaction() as tx:
        with pytest.raises(ValueError, match="64-bit"):
            await tx.advisory_lock(2**63)


# ------------------------------------------------------------------------------------- as in a session


async def test_methods_of_a_session(db: Database) -> None:
    """Reading and writing as in SQLAlchemy; objects stay readable after the commit."""
    async with db.transaction() as tx:
        ann, bob = Account(owner="ann"), Account(owner="bob")
        tx.add_all([ann, bob])
        await tx.flush()
        assert await tx.get(Account, ann.id) is ann
        assert (await tx.execute(select(Account.owner).order_by(Account.id))).scalars().all() == [
            "ann",
            "bob",
        ]
        await tx.execute(text("UPDATE account SET balance = 7 WHERE owner = 'ann'"))
        await tx.refresh(ann)
        await tx.delete(bob)
    assert (ann.owner, ann.balance) == ("ann", 7)
    assert await owners(db) == ["ann"]
