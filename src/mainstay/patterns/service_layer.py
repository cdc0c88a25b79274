"""A service function: written once, with its transaction at its door, for HTTP, worker, test and other services."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from mainstay.patterns.database import Database, Isolation, asked
from mainstay.patterns.transaction import Transaction

P = ParamSpec("P")
R = TypeVar("R")

Inner = Callable[Concatenate[Transaction, P], Awaitable[R]]
Door = Callable[Concatenate[Database | Transaction, P], Awaitable[R]]


@overload
def transactional(function: Inner[P, R], /) -> Door[P, R]: ...


@overload
def transactional(
    *,
    attempts: int = 5,
    isolation: Isolation | None = None,
    statement_timeout: float | None = None,
    lock_timeout: float | None = None,
    idle_in_transaction_timeout: float | None = None,
) -> Callable[[Inner[P, R]], Door[P, R]]: ...


def transactional(
    function: Inner[P, R] | None = None, /, *, attempts: int = 5, **options: Any
) -> Door[P, R] | Callable[[Inner[P, R]], Door[P, R]]:
    """Make ``async def place(tx, …)`` a function that is called as ``await place(db, …)`` or ``await place(tx, …)``.

    Given a `Database`, it runs in a transaction by `Database.run`: again from the beginning when it lost a race,
    and committed when it returns. Given a `Transaction`, it is a part of that one: a savepoint, which an error
    undoes alone, and not run again, because whoever began the whole has to.

    Args:
        attempts: how often it is tried in all when it loses races, at least 1.
        isolation: as for `Database.transaction`; inside a transaction it must be that of the whole.
        statement_timeout, lock_timeout, idle_in_transaction_timeout: seconds, as for `Database.transaction`.

    Raises:
        TypeError: the function is no coroutine function. A generator above all: its transaction would stay
            open as long as somebody takes the items, and hold locks meanwhile. Return a page instead.
        ValueError: `attempts` is less than 1, a limit is not positive, or there is no such isolation level.
    """

    def decorate(function: Inner[P, R]) -> Door[P, R]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{getattr(function, '__qualname__', function)!s} must be an `async def` without `yield`: its"
                " transaction ends when it returns"
            )

        @functools.wraps(function)
        async def door(where: Database | Transaction, /, *args: P.args, **kwargs: P.kwargs) -> R:
            if isinstance(where, Transaction):
                async with where._nested(level, limits):
                    return await function(where, *args, **kwargs)
            return await where.run(lambda tx: function(tx, *args, **kwargs), attempts=attempts, **options)

        return door

    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts}")
    level, limits = asked(**options)
    return decorate if function is None else decorate(function)
