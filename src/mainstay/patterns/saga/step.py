"""The steps of a saga, as its class declares them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

from mainstay.patterns.errors import Misuse, PatternError
from mainstay.patterns.messages.handler import Retry
from mainstay.patterns.transaction import Transaction

S = TypeVar("S")
Takes = TypeVar("Takes", Transaction, "Call")

FORWARD = Retry(attempts=5, first=1.0, most=60.0)
"""How a step is retried unless it says otherwise."""
BACKWARD = Retry(attempts=10, first=1.0, most=300.0)
"""How an undo is retried unless it says otherwise: for ever, and stuck after this many attempts."""
TIMEOUT = 30.0
"""Seconds that one attempt may take unless the step says otherwise."""


START = "start"
"""The name of the step that is done as the saga starts: what the transaction did that started it."""
Place = Literal["start", "in order", "end"]


class Refused(PatternError):
    """Raise this in a step that has been refused for certain: it did not happen, in this attempt or an earlier one.

    The saga goes back at once and does not undo this step. Raise it where the other side has answered so (a declined
    card), never for a timeout or a lost connection: then the outcome is unknown, and the undo must be called.
    """


@dataclass(frozen=True, slots=True)
class Call:
    """What a step that calls another system is given, in place of a transaction.

    Attributes:
        idempotency_key: the same in every attempt of this step of this saga, and nowhere else; 1 to 255 visible
            ASCII characters. Send it along, so that the other side can tell a repetition.
        undoes: in an undo, the idempotency key that the step had: it names what is to be undone even where the
            step's answer never came. None in a step.
        saga: number of the saga.
        attempt: 1 for the first.
    """

    idempotency_key: str
    undoes: str | None
    saga: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Work:
    """One function of a saga: a step, or its undo.

    Attributes:
        function: ``function(saga, tx)`` or ``function(saga, call)``.
        outside: it takes a `Call`.
        retry: its attempts are a limit for a step that can still go back; else from then on it counts as stuck.
        timeout: seconds that one attempt may take.
    """

    function: Callable[[Any, Any], Awaitable[None]]
    outside: bool
    retry: Retry
    timeout: float

    @classmethod
    def of(cls, function: Callable[[Any, Any], Awaitable[None]], retry: Retry, timeout: float) -> Work:
        """Read off the annotation of the second parameter what the function takes.

        Raises:
            Misuse: it is no async function of that shape.
        """
        name = getattr(function, "__qualname__", repr(function))
        if not inspect.iscoroutinefunction(function):
            raise Misuse(f"{name} must be an async function (blocking code goes into asyncio.to_thread)")
        parameters = list(inspect.signature(function).parameters.values())
        if len(parameters) != 2:
            raise Misuse(f"{name} takes self and one parameter, tx: Transaction or call: Call, and no other")
        returns = function.__annotations__.get("return")
        if returns not in (None, "None"):
            raise Misuse(
                f"{name} returns something, which nobody would see: store it in a field of the saga, and return None"
            )
        if not 0.001 <= timeout <= 86400:
            raise Misuse(f"the timeout of {name} must be between 0.001 and 86400 seconds, not {timeout}")
        return cls(function, _takes(function, parameters[1].annotation, name) == "Call", retry, timeout)


def _takes(function: Any, annotation: Any, name: str) -> str:
    if isinstance(annotation, str):
        # As typing does it. What is imported for type checkers only is told by its last name.
        with suppress(NameError):
            annotation = eval(annotation, function.__globals__)
    told = annotation.rpartition(".")[2] if isinstance(annotation, str) else annotation
    if told in (Transaction, "Transaction"):
        return "Transaction"
    if told in (Call, "Call"):
        return "Call"
    raise Misuse(
        f"{name}: annotate its parameter, tx: Transaction for work in this database or call: Call for a call to"
        " another system"
    )


class Step(Generic[S, Takes]):
    """One step. On an instance it is the plain method, so that a test can call it."""

    def __init__(
        self,
        function: Callable[[S, Takes], Awaitable[None]],
        *,
        pivot: bool,
        no_undo: bool,
        retry: Retry,
        timeout: float,
        aliases: tuple[str, ...],
        place: Place = "in order",
    ) -> None:
        self.name = function.__name__
        self.work = Work.of(function, retry, timeout)
        self.undoing: Work | None = None
        self.place = place
        self.pivot = pivot
        self.no_undo = no_undo
        self.aliases = aliases
        self.__doc__ = function.__doc__
        self.__wrapped__: Any = function

    @overload
    def __get__(self, saga: None, owner: type[S]) -> Step[S, Takes]: ...

    @overload
    def __get__(self, saga: S, owner: type[S]) -> Callable[[Takes], Awaitable[None]]: ...

    def __get__(self, saga: S | None, owner: type[S]) -> Any:
        return self if saga is None else self.__wrapped__.__get__(saga, owner)

    @overload
    def undo(
        self, function: Callable[[S, Any], Awaitable[None]], /
    ) -> Callable[[S, Any], Awaitable[None]]: ...

    @overload
    def undo(
        self, function: None = None, /, *, retry: Retry = ..., timeout: float = ...
    ) -> Callable[[Callable[[S, Any], Awaitable[None]]], Callable[[S, Any], Awaitable[None]]]: ...

    def undo(
        self,
        function: Callable[[S, Any], Awaitable[None]] | None = None,
        /,
        *,
        retry: Retry = BACKWARD,
        timeout: float = TIMEOUT,
    ) -> Any:
        """Declare what undoes this step: ``@reserve_stock.undo``. It is retried until it succeeds.

        The undo of a call outside is called as well where nobody knows whether the step happened, so it must bear
        both that nothing is there and that it is called again.

        Args:
            retry: its attempts are those after which the saga counts as stuck; it goes on all the same.
            timeout: seconds that one attempt may take.

        Raises:
            Misuse: there is an undo already, or the function has the wrong shape.
        """
        if self.undoing is not None:
            raise Misuse(f"step {self.name} has an undo already")

        def declare(undoing: Callable[[S, Any], Awaitable[None]]) -> Callable[[S, Any], Awaitable[None]]:
            self.undoing = Work.of(undoing, retry, timeout)
            return undoing

        return declare if function is None else declare(function)


@overload
def step(function: Callable[[S, Takes], Awaitable[None]], /) -> Step[S, Takes]: ...


@overload
def step(
    *,
    pivot: bool = ...,
    no_undo: bool = ...,
    retry: Retry = ...,
    timeout: float = ...,
    aliases: tuple[str, ...] = ...,
) -> Callable[[Callable[[S, Takes], Awaitable[None]]], Step[S, Takes]]: ...


def step(
    function: Callable[[Any, Any], Awaitable[None]] | None = None,
    /,
    *,
    pivot: bool = False,
    no_undo: bool = False,
    retry: Retry = FORWARD,
    timeout: float = TIMEOUT,
    aliases: tuple[str, ...] = (),
) -> Any:
    """Make a method a step of its saga. Steps run in the order of their definition.

    A method that takes ``tx: Transaction`` works in the database: what it does is there once, with the saga's own
    progress. One that takes ``call: Call`` may call another system: it runs at least once, and outside of any
    transaction. Either may set fields of the saga, which are stored as the step completes.

    Args:
        pivot: when this step is done there is no way back: the steps after it are retried until they succeed.
            Without one, the last step is the pivot if it has no undo.
        no_undo: it leaves nothing behind that would have to be undone.
        retry: a step before the pivot that has failed `attempts` times makes the saga go back. After the pivot, the
            saga counts as stuck from then on, and goes on all the same.
        timeout: seconds that one attempt may take.
        aliases: names that the step had before, for sagas that were started then.

    Raises:
        Misuse: the method has the wrong shape.
    """

    def declare(method: Callable[[Any, Any], Awaitable[None]]) -> Step[Any, Any]:
        return Step(method, pivot=pivot, no_undo=no_undo, retry=retry, timeout=timeout, aliases=aliases)

    return declare if function is None else declare(function)


@overload
def on_completed(method: Callable[[S, Takes], Awaitable[None]], /) -> Step[S, Takes]: ...


@overload
def on_completed(
    *, retry: Retry = ..., timeout: float = ...
) -> Callable[[Callable[[S, Takes], Awaitable[None]]], Step[S, Takes]]: ...


def on_completed(
    method: Callable[[Any, Any], Awaitable[None]] | None = None,
    /,
    *,
    retry: Retry = FORWARD,
    timeout: float = TIMEOUT,
) -> Any:
    """Call a method once all steps are done: it is the last step, wherever it stands in the class or its bases.

    Behind a pivot it is retried until it succeeds. Where no step is one, it is the pivot itself.

    Args:
        retry: as of a step.
        timeout: seconds that one attempt may take.

    Raises:
        Misuse: the method has the wrong shape.
    """

    def declare(method: Callable[[Any, Any], Awaitable[None]]) -> Step[Any, Any]:
        return Step(method, pivot=False, no_undo=False, retry=retry, timeout=timeout, aliases=(), place="end")

    return declare if method is None else declare(method)


@overload
def on_compensated(method: Callable[[S, Takes], Awaitable[None]], /) -> Step[S, Takes]: ...


@overload
def on_compensated(
    *, retry: Retry = ..., timeout: float = ...
) -> Callable[[Callable[[S, Takes], Awaitable[None]]], Step[S, Takes]]: ...


def on_compensated(
    method: Callable[[Any, Any], Awaitable[None]] | None = None,
    /,
    *,
    retry: Retry = BACKWARD,
    timeout: float = TIMEOUT,
) -> Any:
    """Call a method when the saga has gone back, after all undos: it undoes what the start itself did.

    What the transaction did that started the saga (the order's row) is the step `START` of its plan, which is done from
    the beginning; this is its undo. So it is called whichever step the saga got to, none of them included, and retried
    until it succeeds; only then has the saga ended.

    Args:
        retry: its attempts are those after which the saga counts as stuck; it goes on all the same.
        timeout: seconds that one attempt may take.

    Raises:
        Misuse: the method has the wrong shape.
    """

    def declare(method: Callable[[Any, Any], Awaitable[None]]) -> Step[Any, Any]:
        start = Step(
            method, pivot=False, no_undo=False, retry=retry, timeout=timeout, aliases=(), place="start"
        )
        start.name, start.work, start.undoing = START, Work(_nothing, False, retry, timeout), start.work
        return start

    return declare if method is None else declare(method)


async def _nothing(saga: Any, tx: Transaction) -> None:
    """What `START` has to do: its work has been done by whoever started the saga."""
