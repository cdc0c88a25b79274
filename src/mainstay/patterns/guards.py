"""Which transaction is open here, and what must not happen inside it.

The scope of a transaction is kept in a context variable. Tasks started in the block (`gather`, `TaskGroup`,
`wait_for`, `create_task`) inherit it, and rightly: what they do while the transaction is open happens before
its commit, whether or not someone awaits them. A task that outlives the transaction is free the moment the
transaction ends, because each scope knows whether it is still open.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mainstay.patterns.errors import OutsideCallInTransaction


@dataclass(slots=True, eq=False)
class Scope:
    """One open transaction: of which database, and the scope around it (of another database)."""

    database: object
    transaction: Any
    outer: Scope | None
    open: bool = True


_innermost: ContextVar[Scope | None] = ContextVar("mainstay_transaction", default=None)


def enter(database: object, transaction: Any) -> Scope:
    """Mark the beginning of a transaction in this context."""
    scope = Scope(database, transaction, open_scope())
    _innermost.set(scope)
    return scope


def leave(scope: Scope) -> None:
    """Mark the end of a transaction, for this context and all that inherited it."""
    scope.open = False
    # Not reset by token: a fixture or dependency may be torn down in another context than it was set up in.
    if _innermost.get() is scope:
        _innermost.set(scope.outer)


def open_scope(database: object = None) -> Scope | None:
    """The innermost transaction open here, of this database or (None) of any."""
    scope = _innermost.get()
    while scope is not None and not (scope.open and (database is None or scope.database is database)):
        scope = scope.outer
    return scope


def refuse_in_transaction(what: str) -> None:
    """Call this before anything slow or irrevocable that leaves the process. `HttpClient` does.

    It works in plain functions and in threads that were started by `asyncio.to_thread` as well, so that a
    synchronous client can call it too: ``httpx.Client(event_hooks={"request": [hook]})``.

    Raises:
        OutsideCallInTransaction: a transaction is open in this task, or in the one it was started from.
    """
    if open_scope() is not None:
        raise OutsideCallInTransaction(
            f"{what} inside an open transaction: locks and a connection would be held while the other side"
            " thinks, and no rollback takes the call back; make it before the transaction begins or after it"
            " has ended (tx.after_commit)"
        )
