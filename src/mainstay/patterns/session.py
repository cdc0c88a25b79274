"""The session beneath a transaction: limited in time, used by one task at a time, ended by its block alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, TextClause, Update, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from mainstay.patterns.errors import ConcurrentUse, TransactionOver
from mainstay.patterns.version_column import counted

Limits = dict[str, str]
"""The three time limits by name, in PostgreSQL's notation; made by `Database` alone."""

# What would end the transaction behind the session's back. With asyncpg, each statement after it would commit
# by itself. ROLLBACK TO ends a savepoint only, and is left to the server.
_ENDING = re.compile(
    r"[\s;]*(COMMIT|END|ABORT|BEGIN|START\s+TRANSACTION|PREPARE\s+TRANSACTION"
    r"|ROLLBACK(?!\s+((WORK|TRANSACTION)\s+)?TO\b))\b",
    re.IGNORECASE,
)


def set_limits(limits: Limits) -> str:
    """The statement that sets the limits until the transaction ends.

    One statement, so that they cost one round trip; `true` makes them end with the transaction, which also
    holds behind a connection pooler such as PgBouncer. Written out, which costs less than parameters.
    """
    return (
        f"SELECT set_config('statement_timeout', '{limits['statement_timeout']}', true),"
        f" set_config('lock_timeout', '{limits['lock_timeout']}', true),"
        f" set_config('idle_in_transaction_session_timeout', '{limits['idle_in_transaction_timeout']}', true)"
    )


class BlockSession(Session):
    """Sets the time limits at its first statement, and refuses what would end the transaction inside its block."""

    limits: Limits
    root: Connection | None = None
    """The connection, once the first statement has taken one."""
    ending = False
    """Whether the block is over, so that its own commit, rollback and close may pass."""

    def execute(self, statement: Any, *args: Any, **options: Any) -> Any:
        return super().execute(_checked(statement, args, options), *args, **options)

    def scalar(self, statement: Any, *args: Any, **options: Any) -> Any:
        return super().scalar(_checked(statement, args, options), *args, **options)

    def scalars(self, statement: Any, *args: Any, **options: Any) -> Any:
        return super().scalars(_checked(statement, args, options), *args, **options)

    def commit(self) -> None:
        self._refuse("commit")
        super().commit()

    def rollback(self) -> None:
        self._refuse("rollback")
        super().rollback()

    def close(self) -> None:
        self._refuse("close")
        super().close()

    def reset(self) -> None:
        self._refuse("reset")
        super().reset()

    def invalidate(self) -> None:
        self._refuse("invalidate")
        super().invalidate()

    def _refuse(self, what: str) -> None:
        if not self.ending:
            raise TransactionOver(
                f"{what} inside the block would end its transaction; it commits at the end of the block, and"
                " rolls back when an error leaves it; a part that may fail goes into tx.savepoint()"
            )


def _checked(statement: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if isinstance(statement, Update):
        params = args[0] if args else options.get("params")
        # A list of rows is SQLAlchemy's "bulk update by primary key", which checks and counts by itself.
        return statement if isinstance(params, (list, tuple)) else counted(statement)
    if isinstance(statement, TextClause) and (ending := _ENDING.match(statement.text)):
        raise TransactionOver(
            f"the statement {ending[1].upper()} would end the transaction of the block; leave that to the end of"
            " the block, or raise an error to roll back"
        )
    return statement


@event.listens_for(BlockSession, "after_begin")
def _set_limits(session: BlockSession, transaction: SessionTransaction, connection: Connection) -> None:
    if not transaction.nested:
        session.root = connection
        connection.exec_driver_sql(set_limits(session.limits))


class OneTaskSession(AsyncSession):
    """Says in one sentence that two tasks use it at the same time, before SQLAlchemy or the driver trips over it."""

    user: asyncio.Task[Any] | None = None
    """The task that waits for the database through this session at the moment."""
    _idle: asyncio.Future[None] | None = None

    async def settled(self) -> None:
        """Wait until no task uses it; a statement ends at its time limit at the latest."""
        while self.user is not None:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def enter(self) -> bool:
        """The running task begins to use it; False if it does so already, one call inside another."""
        task = asyncio.current_task()
        if self.user is task:
            return False
        if self.user is not None:
            raise ConcurrentUse(
                "another task is in the middle of a statement of this transaction, and a transaction has one"
                " connection, which does one thing at a time; await one after the other, or give each task a"
                " transaction of its own after this block"
            )
        self.user = task
        return True

    def leave(self) -> None:
        """It no longer does."""
        self.user = None
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None


def _one_task(name: str) -> Callable[..., Any]:
    original = getattr(AsyncSession, name)

    async def method(self: OneTaskSession, *args: Any, **options: Any) -> Any:
        first = self.enter()
        try:
            return await original(self, *args, **options)
        finally:
            if first:
                self.leave()

    method.__name__, method.__doc__ = name, f"`AsyncSession.{name}`."
    return method


_WAITING = """
    execute scalar scalars stream stream_scalars get get_one delete delete_all merge merge_all flush refresh
    connection run_sync commit rollback close reset invalidate
"""

for _name in _WAITING.split():
    if hasattr(AsyncSession, _name):  # some are newer than SQLAlchemy 2.0.40
        setattr(OneTaskSession, _name, _one_task(_name))


def open_session(engine: AsyncEngine, limits: Limits) -> tuple[OneTaskSession, BlockSession]:
    """A session with an open transaction and no connection yet, and the synchronous one beneath it."""
    session = OneTaskSession(
        engine,
        sync_session_class=BlockSession,
        expire_on_commit=False,
        # With these two, a session that has ended stays ended instead of beginning again without limits.
        autobegin=False,
        close_resets_only=False,
    )
    beneath = session.sync_session
    assert isinstance(beneath, BlockSession)
    beneath.limits = limits
    beneath.begin()
    return session, beneath
