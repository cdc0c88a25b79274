"""A PostgreSQL database, and the unit of work on it: a transaction with time limits and a clear end."""

from __future__ import annotations

import asyncio
import math
import random as _random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args

from sqlalchemy import URL, Connection, ExceptionContext, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from mainstay.patterns.errors import Misuse
from mainstay.patterns.guards import enter, leave, open_scope
from mainstay.patterns.serialization_retry import run_again, sqlstate
from mainstay.patterns.session import Limits
from mainstay.patterns.transaction import FAILED, Hook, Transaction, run_hooks, stale_writes_named
from mainstay.patterns.version_column import check_deletes

if TYPE_CHECKING:
    from mainstay.patterns.messages import Messages

T = TypeVar("T")

Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


class Database:
    """A pool of connections to one PostgreSQL database, used through `transaction` or `run`.

    Nothing is connected before the first statement. Close it when the process ends, or use it as an async
    context manager.

    Args:
        url: ``postgresql://user:password@host/name`` (psycopg 3) or ``postgresql+asyncpg://…``.
        pool_size: connections at most, without overflow, so that the number means what it says.
        pool_timeout: seconds to wait for a connection to become free.
        connect_timeout: seconds to wait for a new connection; psycopg counts in whole ones, at least 2.
        statement_timeout: seconds that one statement may run.
        lock_timeout: seconds that one statement may wait for one lock.
        idle_in_transaction_timeout: seconds that the program may do something else between two statements;
            then PostgreSQL ends the connection.
        isolation: ``READ COMMITTED``, ``REPEATABLE READ`` or ``SERIALIZABLE``; None is the server's default.
        options: further options of `sqlalchemy.ext.asyncio.create_async_engine`, such as `echo`.

    Raises:
        ValueError: the URL is not one of PostgreSQL with psycopg or asyncpg, a limit is not positive, or there
            is no such isolation level.
    """

    messages: Messages | None = None
    """What `Messages(database)` made, for `Transaction.publish` and `enqueue`."""

    engine: AsyncEngine
    """SQLAlchemy's engine, for what needs no unit of work (`metadata.create_all`); it sets no time limits."""

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self,
        url: str | URL,
        *,
        pool_size: int = 10,
        pool_timeout: float = 5.0,
        connect_timeout: float = 5.0,
        statement_timeout: float = 5.0,
        lock_timeout: float = 2.0,
        idle_in_transaction_timeout: float = 10.0,
        isolation: Isolation | None = None,
        **options: Any,
    ) -> None:
        self._limits = {
            "statement_timeout": _limit("statement_timeout", statement_timeout),
            "lock_timeout": _limit("lock_timeout", lock_timeout),
            "idle_in_transaction_timeout": _limit("idle_in_transaction_timeout", idle_in_transaction_timeout),
        }
        if pool_size < 1:
            raise ValueError(f"pool_size must be at least 1, not {pool_size}")
        _limit("pool_timeout", pool_timeout)
        _limit("connect_timeout", connect_timeout)
        if "isolation_level" in options:
            raise ValueError("name the isolation level by isolation=…")
        self._isolation = isolation
        address = _with_driver(url)
        patience = (
            {"timeout": connect_timeout}
            if address.drivername.endswith("asyncpg")
            else {"connect_timeout": max(2, math.ceil(connect_timeout))}
        )
        self.engine = create_async_engine(
            address,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout,
            connect_args={**patience, **options.pop("connect_args", {})},
            **({} if isolation is None else {"isolation_level": _level(isolation)}),
            **options,
        )
        event.listen(self.engine.sync_engine, "begin", _healthy)
        event.listen(self.engine.sync_engine, "rollback_savepoint", _healthy)
        event.listen(self.engine.sync_engine, "handle_error", _failed)
        check_deletes(self.engine.sync_engine)

    @asynccontextmanager
    async def transaction(
        self,
        *,
        isolation: Isolation | None = None,
        statement_timeout: float | None = None,
        lock_timeout: float | None = None,
        idle_in_transaction_timeout: float | None = None,
    ) -> AsyncIterator[Transaction]:
        """A unit of work: commits at the end of the block, rolls back when an error leaves it.

        Arguments replace those of the database for this transaction; units are seconds.

        Inside an open transaction of the same database and the same task it is a part of that one: a
        savepoint, which an error undoes alone. It yields the same `Transaction`, for there is one session; its
        after-commit hooks wait for the outermost COMMIT, and limits that are given hold until its end.

        Raises:
            NestedTransaction: a transaction of this database is open here already, and belongs to another
                task, or has another isolation level than the one that is asked for.
            Misuse: with asyncpg, the pool has connections of another event loop.
            TransactionAborted: at the end, a statement had failed and its error had been swallowed.
            ConcurrentUse: at the end, another task was in the middle of a statement of this transaction.
            StaleWrite: at the end, a row to be written was changed or deleted by someone else since it was read.
            CommitUnknown: at the end, the connection broke during COMMIT.
            ValueError: a limit is not positive, or there is no such isolation level.
            sqlalchemy.exc.TimeoutError: at the first statement, no connection became free in time.
            sqlalchemy.exc.DBAPIError: what the database refuses, at a statement or at the end.
        """
        level, limits = asked(isolation, statement_timeout, lock_timeout, idle_in_transaction_timeout)
        around = open_scope(self)
        if around is not None:
            async with around.transaction._nested(level, limits) as tx:
                yield tx
            return
        self._of_this_loop()
        engine = self.engine if level is None else self.engine.execution_options(isolation_level=level)
        hooks: list[Hook] = []
        tx = Transaction(engine, self._limits | limits, level or self._isolation, self.messages)
        scope = enter(self, tx)
        try:
            try:
                with stale_writes_named():
                    yield tx
                    hooks = await tx._commit()
            except BaseException:
                hooks = await tx._rollback()
                raise
            finally:
                await tx._close()
        finally:
            leave(scope)
            await run_hooks(hooks)

    async def run(
        self,
        work: Callable[[Transaction], Awaitable[T]],
        *,
        attempts: int = 5,
        isolation: Isolation | None = None,
        statement_timeout: float | None = None,
        lock_timeout: float | None = None,
        idle_in_transaction_timeout: float | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = _random.random,
    ) -> T:
        """Run `work(tx)` in a transaction, and in a new one when it lost against another; what it returned.

        Lost means SQLSTATE 40001 (serialization failure) or 40P01 (deadlock), at a statement or at COMMIT.
        The waits are those of `serialization_retry.run_again`, spent outside of any transaction. After-commit
        hooks of a lost attempt are dropped, its after-rollback hooks run.

        `work` runs up to `attempts` times: what it does must be undone by a rollback, and it must read
        everything anew.

        Raises:
            sqlalchemy.exc.DBAPIError: the error of the last attempt, unchanged.
            Exception: anything else that `work` raises, at once; and what `transaction` raises.
            ValueError: `attempts` is less than 1.
        """

        async def attempt() -> T:
            async with self.transaction(
                isolation=isolation,
                statement_timeout=statement_timeout,
                lock_timeout=lock_timeout,
                idle_in_transaction_timeout=idle_in_transaction_timeout,
            ) as tx:
                return await work(tx)

        if attempts > 1 and open_scope(self) is not None:
            attempts = 1
        return await run_again(attempt, attempts=attempts, sleep=sleep, random=random)

    def _of_this_loop(self) -> None:
        """Tell apart what asyncpg would only trip over: its connections belong to the loop that made them."""
        pool = self.engine.pool
        if self.engine.driver != "asyncpg" or not isinstance(pool, QueuePool):
            return
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop) and pool.checkedin() + pool.checkedout() > 0:
            raise Misuse(
                "this Database has connections of another event loop, and asyncpg's work only there; make one Database"
                " for each loop, or await its close() before the other loop ends"
            )
        self._loop = loop

    async def close(self) -> None:
        """Close all connections that are not in use."""
        await self.engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _with_driver(url: str | URL) -> URL:
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: of a port, where several hosts are written libpq's way
        raise ValueError(
            "the database URL cannot be read; write postgresql://user:password@host/name, and several hosts as"
            " postgresql://user:password@/name?host=one:5432&host=two:5432&target_session_attrs=read-write"
        ) from None
    if address.drivername in ("postgresql", "postgres"):
        return address.set(drivername="postgresql+psycopg")
    if address.drivername in ("postgresql+psycopg", "postgresql+psycopg_async", "postgresql+asyncpg"):
        return address
    raise ValueError(f"Database speaks PostgreSQL through psycopg or asyncpg, not {address.drivername!r}")


def _level(isolation: str) -> str:
    """Refuses above all SQLAlchemy's AUTOCOMMIT, with which a transaction would be none."""
    if isolation not in get_args(Isolation):
        raise ValueError(f"isolation is one of {', '.join(get_args(Isolation))}, not {isolation!r}")
    return isolation


def asked(
    isolation: Isolation | None = None,
    statement_timeout: float | None = None,
    lock_timeout: float | None = None,
    idle_in_transaction_timeout: float | None = None,
) -> tuple[str | None, Limits]:
    """What is asked of one transaction, in PostgreSQL's notation; of the limits those that are given.

    Raises:
        ValueError: a limit is not positive, or there is no such isolation level.
    """
    given = {
        "statement_timeout": statement_timeout,
        "lock_timeout": lock_timeout,
        "idle_in_transaction_timeout": idle_in_transaction_timeout,
    }
    limits = {name: _limit(name, value) for name, value in given.items() if value is not None}
    return None if isolation is None else _level(isolation), limits


def _limit(name: str, seconds: float) -> str:
    """A limit in PostgreSQL's notation. Zero would mean none there, so it is refused."""
    if not 0.001 <= seconds <= 2_147_483:
        raise ValueError(f"{name} must be between 0.001 and 2147483 seconds, not {seconds}")
    return f"{round(seconds * 1000)}ms"


# Why these: PostgreSQL answers COMMIT with ROLLBACK, and no error, once a statement has failed. Remember it.


def _failed(context: ExceptionContext) -> None:
    if context.connection is not None and not context.is_disconnect and sqlstate(context.original_exception):
        context.connection.info.setdefault(FAILED, context.original_exception)


def _healthy(connection: Connection, *_: object) -> None:
    if not connection.invalidated:
        connection.info.pop(FAILED, None)
