"""The errors of the patterns, so that a caller can choose how coarsely to catch.

PatternError
├── NotFound                   a row that should be there is not (answer 404)
├── ConditionFailed            a conditional update changed no row, or not exactly one (answer 409)
├── StaleWrite                 someone else changed or deleted the row since it was read (answer 412 or 409)
├── VersionRequired            a change came without the version that it is based on (answer 428)
├── LockNotAvailable           someone else holds the lock (answer 503, or try later)
├── BadCursor  (ValueError)    a page cursor that this query did not hand out (answer 400)
├── BadLimit   (ValueError)    a page size outside 1 to 200 (answer 400)
├── BadETag    (ValueError)    an If-Match that is not an ETag of ours (answer 400)
├── CommitUnknown              the connection broke during COMMIT: nobody knows whether it happened
└── Misuse     (RuntimeError)  the program is wrong, and no retry helps
    ├── OutsideCallInTransaction
    ├── NestedTransaction
    ├── ConcurrentUse
    ├── ReplyInTransaction
    ├── TransactionOver
    └── TransactionAborted

Errors that belong to one pattern alone stand beside it (of messages: `GiveUp`, `TryAgain`, `LeaseLost`,
`PayloadTooLarge`, `PooledByTransaction`, `ReadOnlyDatabase`, `Unserializable`; of the schema: `SchemaBehind`); all of
them are `PatternError`.

Errors of the database stay what they are (`sqlalchemy.exc.DBAPIError`); `sqlstate` reads their code.
"""

from __future__ import annotations

from typing import Any


class PatternError(Exception):
    """Base of all errors that the patterns raise themselves."""


class NotFound(PatternError):
    """There is no row with this primary key."""

    def __init__(self, model: type[Any], id: Any) -> None:
        super().__init__(f"there is no {model.__name__} with primary key {id!r}")
        self.model = model
        self.id = id


class ConditionFailed(PatternError):
    """The condition of a conditional update did not hold for exactly one row; `rows` tells for how many."""

    def __init__(self, model: type[Any], rows: int) -> None:
        super().__init__(f"{rows} rows of {model.__name__} met the condition of the update, not exactly one")
        self.model = model
        self.rows = rows


class StaleWrite(PatternError):
    """The row is no longer as it was seen: someone else changed or deleted it. Read it again and decide anew.

    `expected` is the version that the caller named, None where it was the one that the transaction had read;
    `found` the version that is there now, where that is known; `model` and `id` tell the row, where known.
    """

    def __init__(
        self,
        model: type[Any] | None = None,
        id: Any = None,
        *,
        expected: int | None = None,
        found: int | None = None,
    ) -> None:
        which = "a row" if model is None else f"the {model.__name__} with primary key {id!r}"
        if found is not None and expected is not None:
            super().__init__(f"{which} has version {found}, not {expected}")
        else:
            super().__init__(f"{which} was changed or deleted by someone else since it was read")
        self.model = model
        self.id = id
        self.expected = expected
        self.found = found


class VersionRequired(PatternError):
    """A change came without the version of what it changes."""


class LockNotAvailable(PatternError):
    """Someone else holds the lock: at once with `nowait`, else after the transaction's lock timeout."""


class BadCursor(PatternError, ValueError):
    """The cursor was not handed out by a page of this model in this order."""


class BadLimit(PatternError, ValueError):
    """A page has at least 1 and at most 200 rows."""


class BadETag(PatternError, ValueError):
    """The header If-Match is not one ETag as this service sends them."""


class CommitUnknown(PatternError):
    """The connection broke during COMMIT, so the transaction may or may not have happened.

    Where a task is cancelled in that moment, its `CancelledError` is raised `from` this one, and so is what
    `asyncio.timeout` makes of it.

    Look in the database before you do it again. Neither after-commit nor after-rollback hooks have run.
    """


class Misuse(PatternError, RuntimeError):
    """The program is wrong: the same call fails every time."""


class OutsideCallInTransaction(Misuse):
    """Another system was about to be called while a transaction is open."""


class NestedTransaction(Misuse):
    """A transaction was begun inside one of the same database that it cannot be a part of.

    It belongs to another task, or another isolation level was asked for.
    """


class ConcurrentUse(Misuse):
    """Two tasks used one transaction at the same time."""


class ReplyInTransaction(Misuse):
    """A reply was about to be sent while a transaction is open, whose commit may yet fail."""


class TransactionOver(Misuse):
    """A transaction was used after its end, or its body was about to end it by itself."""


class TransactionAborted(Misuse):
    """A statement failed, its error was swallowed, and the block went on to commit.

    PostgreSQL answers such a COMMIT with a silent ROLLBACK, so this is raised instead. Work that may fail
    goes into `Transaction.savepoint`.
    """
