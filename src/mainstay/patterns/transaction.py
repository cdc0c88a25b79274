"""One open transaction: what a unit of work reads and writes through."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, overload

from sqlalchemy import Executable, Result, ScalarResult, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.orm.interfaces import ORMOption

from mainstay.patterns.errors import (
    CommitUnknown,
    ConcurrentUse,
    Misuse,
    NestedTransaction,
    StaleWrite,
    TransactionAborted,
    TransactionOver,
)
from mainstay.patterns.serialization_retry import sqlstate
from mainstay.patterns.session import Limits, open_session, set_limits

if TYPE_CHECKING:
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from mainstay.patterns.jobs import Job
    from mainstay.patterns.messages import Messages

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Takes = ParamSpec("Takes")
Model = TypeVar("Model")
Hook = Callable[[], Awaitable[object] | object]

log = logging.getLogger("mainstay.patterns")

FAILED = "mainstay_failed"
"""Key in `Connection.info`: the error of a statement of this transaction that nothing has healed."""


class Transaction:
    """A transaction, from its beginning in `Database.transaction` to the end of that block.

    It takes a connection at its first statement. Objects stay readable after the commit (nothing expires).
    Methods that are as in SQLAlchemy's `AsyncSession` say so in their docstring and no more.
    """

    def __init__(
        self, engine: AsyncEngine, limits: Limits, isolation: str | None, messages: Messages | None = None
    ) -> None:
        self._session, self._sync = open_session(engine, limits)
        self._limits = limits
        self._isolation = isolation
        self._messages = messages
        self._owner = asyncio.current_task()
        self._open = True
        self._committing = False
        self._on_commit: list[Hook] = []
        self._on_rollback: list[Hook] = []

    @property
    def session(self) -> AsyncSession:
        """The session beneath. Its `commit`, `rollback` and `close` are refused: they belong to the block.

        Raises:
            TransactionOver: the block has ended.
        """
        if not self._open:
            raise TransactionOver(
                "this transaction is over; do the work inside its block, or begin another one"
            )
        return self._session

    # ------------------------------------------------------------------------------ as in AsyncSession

    @overload
    async def execute(self, statement: TypedReturnsRows[*Ts], params: Any = None) -> Result[*Ts]: ...

    @overload
    async def execute(self, statement: Executable, params: Any = None) -> Result[*tuple[Any, ...]]: ...

    async def execute(self, statement: Executable, params: Any = None) -> Result[*tuple[Any, ...]]:
        """`AsyncSession.execute`."""
        return await self.session.execute(statement, params)

    @overload
    async def scalar(self, statement: TypedReturnsRows[T], params: Any = None) -> T | None: ...

    @overload
    async def scalar(self, statement: Executable, params: Any = None) -> Any: ...

    async def scalar(self, statement: Executable, params: Any = None) -> Any:
        """`AsyncSession.scalar`."""
        return await self.session.scalar(statement, params)

    @overload
    async def scalars(self, statement: TypedReturnsRows[T], params: Any = None) -> ScalarResult[T]: ...

    @overload
    async def scalars(self, statement: Executable, params: Any = None) -> ScalarResult[Any]: ...

    async def scalars(self, statement: Executable, params: Any = None) -> ScalarResult[Any]:
        """`AsyncSession.scalars`."""
        return await self.session.scalars(statement, params)

    async def get(self, model: type[Model], id: Any, *, options: Sequence[ORMOption] = ()) -> Model | None:
        """`AsyncSession.get`."""
        return await self.session.get(model, id, options=options)

    async def get_one(self, model: type[Model], id: Any, *, options: Sequence[ORMOption] = ()) -> Model:
        """`AsyncSession.get_one`.

        Raises:
            sqlalchemy.exc.NoResultFound: there is no such row.
        """
        return await self.session.get_one(model, id, options=options)

    def add(self, instance: object) -> None:
        """`AsyncSession.add`."""
        self.session.add(instance)

    def add_all(self, instances: Iterable[object]) -> None:
        """`AsyncSession.add_all`."""
        self.session.add_all(instances)

    async def delete(self, instance: object) -> None:
        """`AsyncSession.delete`."""
        await self.session.delete(instance)

    async def flush(self) -> None:
        """`AsyncSession.flush`.

        Raises:
            StaleWrite: a row to be written was changed or deleted by someone else since it was read.
        """
        with stale_writes_named():
            await self.session.flush()

    async def refresh(self, instance: object, attribute_names: Iterable[str] | None = None) -> None:
        """`AsyncSession.refresh`."""
        await self.session.refresh(instance, attribute_names)

    # ----------------------------------------------------------------------------------------- messages

    async def publish(self, *items: Any) -> list[int | None]:
        """Publish events or messages: they exist if and when this transaction commits (`Messages.publish`).

        Returns:
            The id of each message, in order; None for one whose unique key is taken.
        """
        return await self._with_messages().publish(self, *items)

    async def enqueue(
        self, job: Job[..., Takes, Any, Any], /, *args: Takes.args, **kwargs: Takes.kwargs
    ) -> int | None:
        """Have `job` run with these arguments, if and when this transaction commits (`Messages.enqueue`)."""
        return await self._with_messages().enqueue(self, job, *args, **kwargs)

    def _with_messages(self) -> Messages:
        if self._messages is None:
            raise Misuse(
                "this database has no messages yet; make them once, with messages = Messages(database)"
            )
        return self._messages

    # -------------------------------------------------------------------------------- beyond a session

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part that may fail: an error that leaves the block undoes what the block did, and no more.

        After-commit hooks that the block registered are dropped with it; its after-rollback hooks will run.
        `Database.transaction` inside an open transaction is the same.

        Raises:
            NestedTransaction: the transaction belongs to another task.
            TransactionAborted: at the end, a statement of the block had failed and its error had been swallowed.
            StaleWrite: at the end, as `flush`.
        """
        async with self._part(self._limits):
            yield

    @asynccontextmanager
    async def _nested(self, isolation: str | None, limits: Limits) -> AsyncIterator[Transaction]:
        """A transaction asked for inside this one: a savepoint, with the limits that are given for it."""
        if isolation is not None and isolation != self._isolation:
            raise NestedTransaction(
                f"isolation {isolation} was asked for inside an open transaction, and the level is that of the"
                " whole; begin the outermost transaction with it"
            )
        async with self._part(self._limits | limits):
            yield self

    @asynccontextmanager
    async def _part(self, limits: Limits) -> AsyncIterator[None]:
        session = self.session
        self._must_be_mine()
        kept, undone, around = len(self._on_commit), len(self._on_rollback), self._limits
        try:
            with stale_writes_named():
                async with session.begin_nested():
                    if limits != around:
                        await session.execute(text(set_limits(limits)))
                        self._limits = limits
                    yield
                    self._must_be_whole()
                    if limits != around:
                        await session.flush()  # still within the limits of the part
                        await session.execute(text(set_limits(around)))
        except BaseException:
            del self._on_commit[kept:]
            # The part is undone whatever becomes of the rest, so its hooks may run either way.
            self._on_commit.extend(self._on_rollback[undone:])
            raise
        finally:
            self._limits = around  # where the part was undone, PostgreSQL has undone its limits too

    async def advisory_lock(self, key: str | int, *, wait: bool = True) -> bool:
        """Hold the lock named `key` until the transaction ends; whether it was got.

        For what has no row to lock. An integer is the lock's 64-bit number; of a string, the first 8 bytes of
        its SHA-256 are. All users of one database share the numbers.

        Args:
            wait: wait for it, at most as long as the lock timeout; else return False at once.

        Raises:
            ValueError: the integer has more than 64 bits.
            sqlalchemy.exc.DBAPIError: with SQLSTATE 55P03 when the lock timeout passed.
        """
        number = key if isinstance(key, int) else lock_number(key)
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"an advisory lock's number is a signed 64-bit integer, not {number}")
        if wait:
            await self.execute(select(func.pg_advisory_xact_lock(number)))
            return True
        return bool(await self.scalar(select(func.pg_try_advisory_xact_lock(number))))

    def after_commit(self, hook: Hook) -> None:
        """Call `hook()` (a plain or an async function) once the transaction has committed, outside of it.

        Hooks run in the order of registration, before the block is left. One that fails is logged with its
        traceback (logger ``mainstay.patterns``) and stops neither the next one nor the caller: the transaction
        *has* happened, and an exception would say that it has not. If the process dies between commit and
        hook, the hook never runs.
        """
        self._must_be_open()
        self._on_commit.append(hook)

    def after_rollback(self, hook: Hook) -> None:
        """Call `hook()` once the transaction has been rolled back; else as `after_commit`."""
        self._must_be_open()
        self._on_rollback.append(hook)

    def _must_be_open(self) -> None:
        _ = self.session

    def _must_be_mine(self) -> None:
        """Only the task that began the transaction may divide it: savepoints lie one inside the other."""
        task = asyncio.current_task()
        if self._owner is not task:
            if self._owner is not None and not self._owner.done():
                raise NestedTransaction(
                    "the transaction that is open here belongs to another task, which cannot share it: its"
                    " session does one thing at a time; do this part in that task (asyncio.timeout instead of"
                    " wait_for), or start the task after the block, or with context=contextvars.Context()"
                )
            # Set up in a task that has ended, as fixtures and dependencies are: whoever goes on has it now.
            self._owner = task

    def _must_be_whole(self) -> None:
        root = self._sync.root
        if root is not None and root.invalidated:
            raise TransactionAborted(
                "the connection was lost in the middle of this transaction (a cancelled statement loses it too) and"
                " the error was swallowed; nothing of it can be committed, so let the error leave the block"
            )
        failed = None if root is None else root.info.get(FAILED)
        beneath = "open" if root is None or root.closed else _status(root.connection.driver_connection)
        if failed is not None or beneath == "failed" or not self._sync.is_active:
            raise TransactionAborted(
                "a statement of this transaction failed and its error was swallowed, so nothing of it can be"
                " committed; put work that may fail into tx.savepoint()"
            ) from failed
        if beneath == "ended":
            raise TransactionOver(
                "a statement sent past this transaction ended it (a COMMIT or ROLLBACK on the driver's connection, or"
                " behind another statement), so what came before and after it does not belong together"
            )

    # ------------------------------------------------------------------- its end, called by Database only

    async def _commit(self) -> list[Hook]:
        """Commit; the hooks to run then. Where it is unknown what became of it, that is no hook."""
        if self._session.user is not None:
            raise ConcurrentUse(
                "the block is at its end, and another task is still in the middle of a statement of its"
                " transaction, so nothing is committed; await what the block has started"
            )
        if not self._session.in_transaction():
            raise TransactionOver(
                "the block ended its transaction itself; leave that to the end of the block"
            )
        self._must_be_whole()
        await self._session.flush()
        self._committing = self._sync.ending = True
        try:
            await self._session.commit()
        except asyncio.CancelledError as cancelled:
            # It has to go on as what it is; asyncio.timeout makes a TimeoutError of it, with this among its causes.
            raise cancelled from CommitUnknown(
                "the task was cancelled during COMMIT: look whether the transaction happened before you repeat it"
            )
        except Exception as error:
            if sqlstate(error) is None or getattr(error, "connection_invalidated", False):
                raise CommitUnknown(
                    "the connection broke during COMMIT: look whether the transaction happened before you repeat it"
                ) from error
            self._committing = False  # the server refused, and has rolled back
            raise
        self._open = False
        return self._on_commit

    async def _rollback(self) -> list[Hook]:
        """Roll back; the hooks to run then. Never raises, so that the error that led here is the one seen."""
        self._open = False
        self._sync.ending = True
        try:
            await self._session.settled()
            self._forget_failure()
            await self._session.rollback()
        except Exception:
            # The server rolls back by itself once it notices that the connection is gone.
            log.warning("rollback failed; the connection is given up", exc_info=True)
        return [] if self._committing else self._on_rollback

    def _forget_failure(self) -> None:
        """Not to keep the frames of an error alive as long as a connection waits in the pool."""
        root = self._sync.root
        if root is not None and not root.closed and not root.invalidated:
            root.info.pop(FAILED, None)

    async def _close(self) -> None:
        self._open = False
        self._sync.ending = True
        # Shielded: a task cancelled a second time must still give its connection back.
        await asyncio.shield(self._give_back())

    async def _give_back(self) -> None:
        await self._session.settled()
        await self._session.close()


@contextmanager
def stale_writes_named() -> Iterator[None]:
    """SQLAlchemy's `StaleDataError` as `StaleWrite`."""
    try:
        yield
    except StaleDataError as error:
        raise StaleWrite from error


def _status(raw: Any) -> str:
    """Whether the transaction on a driver's connection is ``open``, has ``failed``, or has ``ended``; nothing is sent.

    SQLAlchemy does not see what is done on that connection itself, as for COPY. asyncpg does not tell failed from open.
    """
    if (pgconn := getattr(raw, "pgconn", None)) is not None:  # psycopg; libpq's PGTransactionStatusType
        return {0: "ended", 3: "failed"}.get(int(pgconn.transaction_status), "open")
    return "open" if raw.is_closed() or raw.is_in_transaction() else "ended"


async def run_hooks(hooks: Iterable[Hook]) -> None:
    """Call each hook in turn; log what one raises and go on."""
    for hook in hooks:
        try:
            result = hook()
            if inspect.isawaitable(result):
                await result
        except Exception:
            log.exception("the hook %r failed; the end of its transaction stands", hook)


def lock_number(key: str) -> int:
    """The number of the advisory lock of that name: the first 8 bytes of its SHA-256, signed."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)
