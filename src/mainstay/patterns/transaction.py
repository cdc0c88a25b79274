"""One open transaction: what a unit of work reads and writes through."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

from sqlalchemy import Connection, Executable, Result, ScalarResult, event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.interfaces import ORMOption

from mainstay.patterns.errors import CommitUnknown, TransactionAborted, TransactionOver
from mainstay.patterns.serialization_retry import sqlstate

if TYPE_CHECKING:
    from sqlalchemy.sql.selectable import TypedReturnsRows

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Model = TypeVar("Model")
Hook = Callable[[], Awaitable[object] | object]

log = logging.getLogger("mainstay.patterns")

# One statement, so that the limits cost one round trip; `true` makes them end with the transaction, which
# also holds behind a connection pooler such as PgBouncer. Written out, which costs less than parameters; the
# values are made by `Database` alone.
_SET_LIMITS = (
    "SELECT set_config('statement_timeout', '{statement_timeout}', true),"
    " set_config('lock_timeout', '{lock_timeout}', true),"
    " set_config('idle_in_transaction_session_timeout', '{idle_in_transaction_timeout}', true)"
)

FAILED = "mainstay_failed"
"""Key in `Connection.info`: a statement failed in this transaction and nothing has healed it."""


class _LimitedSession(Session):
    """A session that sets the time limits as its transaction begins: lazily, at its first statement."""

    limits: dict[str, str]
    root: Connection | None = None


@event.listens_for(_LimitedSession, "after_begin")
def _set_limits(session: _LimitedSession, transaction: SessionTransaction, connection: Connection) -> None:
    if not transaction.nested:
        session.root = connection
        connection.exec_driver_sql(_SET_LIMITS.format_map(session.limits))


class Transaction:
    """A transaction, from its beginning in `Database.transaction` to the end of that block.

    It takes a connection at its first statement. Objects stay readable after the commit (nothing expires).
    Methods that are as in SQLAlchemy's `AsyncSession` say so in their docstring and no more.
    """

    def __init__(self, engine: AsyncEngine, limits: dict[str, str]) -> None:
        self._session = AsyncSession(
            engine,
            sync_session_class=_LimitedSession,
            expire_on_commit=False,
            # With these two, a session that has ended stays ended instead of beginning again without limits.
            autobegin=False,
            close_resets_only=False,
        )
        self._sync: _LimitedSession = self._session.sync_session  # type: ignore[assignment]
        self._sync.limits = limits
        self._sync.begin()
        self._open = True
        self._committing = False
        self._on_commit: list[Hook] = []
        self._on_rollback: list[Hook] = []

    @property
    def session(self) -> AsyncSession:
        """The session beneath. Leave its `commit`, `rollback` and `close` to the block.

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
        """`AsyncSession.flush`."""
        await self.session.flush()

    async def refresh(self, instance: object, attribute_names: Iterable[str] | None = None) -> None:
        """`AsyncSession.refresh`."""
        await self.session.refresh(instance, attribute_names)

    # -------------------------------------------------------------------------------- beyond a session

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part that may fail: an error that leaves the block undoes what the block did, and no more.

        After-commit hooks that the block registered are dropped with it; its after-rollback hooks will run.
        """
        kept, undone = len(self._on_commit), len(self._on_rollback)
        try:
            async with self.session.begin_nested():
                yield
        except BaseException:
            del self._on_commit[kept:]
            # The savepoint's work is undone whatever becomes of the rest, so its hooks may run either way.
            self._on_commit.extend(self._on_rollback[undone:])
            raise

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
        number = key if isinstance(key, int) else _number(key)
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

    # ------------------------------------------------------------------- its end, called by Database only

    async def _commit(self) -> list[Hook]:
        """Commit; the hooks to run then. Where it is unknown what became of it, that is no hook."""
        if not self._session.in_transaction():
            raise TransactionOver(
                "the block ended its transaction itself; leave that to the end of the block"
            )
        await self._session.flush()
        if self._sync.root is not None and self._sync.root.info.get(FAILED):
            raise TransactionAborted(
                "a statement of this transaction failed and its error was swallowed, so nothing of it can be"
                " committed; put work that may fail into tx.savepoint()"
            )
        self._committing = True
        try:
            await self._session.commit()
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
        try:
            await self._session.rollback()
        except Exception:
            # The server rolls back by itself once it notices that the connection is gone.
            log.warning("rollback failed; the connection is given up", exc_info=True)
        return [] if self._committing else self._on_rollback

    async def _close(self) -> None:
        self._open = False
        # Shielded: a task cancelled a second time must still give its connection back.
        await asyncio.shield(self._session.close())


async def run_hooks(hooks: Iterable[Hook]) -> None:
    """Call each hook in turn; log what one raises and go on."""
    for hook in hooks:
        try:
            result = hook()
            if inspect.isawaitable(result):
                await result
        except Exception:
            log.exception("the hook %r failed; the end of its transaction stands", hook)


def _number(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)
