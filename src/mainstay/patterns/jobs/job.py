"""A job: a function that runs later, in a worker, once what enqueued it has committed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from pydantic import TypeAdapter
from typing_extensions import TypedDict, Unpack

from mainstay.patterns.errors import Misuse
from mainstay.patterns.jobs.arguments import Arguments, hints_of
from mainstay.patterns.messages.handler import Handler, Retry
from mainstay.patterns.messages.message import Message, NewMessage
from mainstay.patterns.transaction import Transaction

if TYPE_CHECKING:
    from mainstay.patterns.messages.engine import Engine

Call = ParamSpec("Call")
Takes = ParamSpec("Takes")
Given = TypeVar("Given", covariant=True)
Result = TypeVar("Result", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
Async = Coroutine[Any, Any, R]


class Options(TypedDict, total=False):
    """How one enqueued job is delivered: the attributes of `NewMessage` of these names."""

    queue: str
    delay: float
    at: datetime | None
    priority: int
    expires: float | None
    key: str | None
    key_limit: int
    unique: str | None
    unique_for: float | None
    headers: Mapping[str, str]


class Job(Generic[Call, Takes, Given, Result]):
    """A function that can be enqueued. Called directly, it is the function itself.

    Attributes:
        function: as it was written.
        name: the kind of its messages.
        keep: seconds for which its result is kept.
    """

    def __init__(
        self,
        function: Callable[Call, Given],
        name: str,
        arguments: Arguments,
        keep: float,
        options: Options,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.arguments = arguments
        self.keep = keep
        self._options = options
        self._returns: TypeAdapter[Any] | None = None
        hint = hints_of(name, function).get("return", Any) if keep else Any
        if hint is not Any:
            try:
                self._returns = TypeAdapter(hint)
            except Exception as error:
                raise Misuse(
                    f"the result of job {name} cannot be kept: its type is no JSON ({error})"
                ) from None

    def __call__(self, *args: Call.args, **kwargs: Call.kwargs) -> Given:
        """Call the function here and now."""
        return self.function(*args, **kwargs)

    def options(self, **options: Unpack[Options]) -> Job[Call, Takes, Given, Result]:
        """The same job, to be enqueued with these options."""
        changed = Job[Call, Takes, Given, Result].__new__(Job)
        changed.__dict__.update(self.__dict__)
        changed._options = {**self._options, **options}
        NewMessage(kind=self.name, payload="{}", **changed._options)  # complains here, where they are written
        return changed

    def message(self, *args: Takes.args, **kwargs: Takes.kwargs) -> NewMessage:
        """The message that runs it with these arguments, for `publish`.

        Raises:
            BadArguments: the function does not take them.
            Unserializable: one of them cannot be written as JSON.
            PayloadTooLarge: they are too long.
        """
        return NewMessage(kind=self.name, payload=self.arguments.dump(args, kwargs), **self._options)

    def messages(self, many: Iterable[Mapping[str, Any]]) -> Sequence[NewMessage]:
        """As `message`, for each of `many` by name."""
        return [
            NewMessage(kind=self.name, payload=self.arguments.dump((), one), **self._options) for one in many
        ]

    def dump_result(self, result: Any) -> Any:
        """What the function returned, as JSON knows it; nothing where it is not kept."""
        if not self.keep:
            return None
        return result if self._returns is None else self._returns.dump_python(result, mode="json")

    def load_result(self, stored: Any) -> Result:
        """The result from its JSON, typed by the function's annotation."""
        result: Result = stored if self._returns is None else self._returns.validate_python(stored)
        return result

    def __repr__(self) -> str:
        return f"<job {self.name}>"


class Declaration:
    """What `Messages.job` returns: makes a function a job.

    The overloads tell type checkers which parameters the worker fills. They see that only where those come first;
    anywhere else it works as well, and is not checked.
    """

    def __init__(self, engine: Engine, name: str | None, aliases: Sequence[str], **handler: Any) -> None:
        self._engine = engine
        self._name = name
        self._aliases = aliases
        self._handler = handler

    @overload
    def __call__(
        self, function: Callable[Concatenate[Message, Transaction, P], Async[R]]
    ) -> Job[Concatenate[Message, Transaction, P], P, Async[R], R]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Transaction, Message, P], Async[R]]
    ) -> Job[Concatenate[Transaction, Message, P], P, Async[R], R]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Transaction, P], Async[R]]
    ) -> Job[Concatenate[Transaction, P], P, Async[R], R]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Message, P], Async[R]]
    ) -> Job[Concatenate[Message, P], P, Async[R], R]: ...

    @overload
    def __call__(self, function: Callable[P, Async[R]]) -> Job[P, P, Async[R], R]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Message, P], R]
    ) -> Job[Concatenate[Message, P], P, R, R]: ...

    @overload
    def __call__(self, function: Callable[P, R]) -> Job[P, P, R, R]: ...

    def __call__(self, function: Callable[..., Any]) -> Job[..., Any, Any, Any]:
        """Make the function a job.

        Raises:
            Misuse: its name is taken or not stable, or its parameters cannot be told from a payload.
        """
        name = self._name or stable_name(function)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise Misuse(f"job {name} is a generator, and nobody would take what it yields; return a result")
        arguments = Arguments(name, function)
        blocking = not inspect.iscoroutinefunction(function)
        if blocking and arguments.transaction is not None:
            raise Misuse(
                f"job {name} is a plain function, which runs in a thread, and its parameter {arguments.transaction}"
                " is a transaction of the event loop; write async def"
            )
        queue = self._handler["queue"]
        job: Job[..., Any, Any, Any] = Job(function, name, arguments, self._handler["keep"], {"queue": queue})
        for kind in (name, *self._aliases):
            self._engine.handle(
                Handler(
                    kind=kind,
                    call=_call(job, blocking),
                    blocking=blocking,
                    transactional=arguments.transaction is not None,
                    **self._handler,
                )
            )
        return job


def stable_name(function: Callable[..., Any]) -> str:
    """The function's module and name, where every process finds it under these.

    Raises:
        Misuse: it is a lambda, a partial, defined inside another function or in ``__main__``.
    """
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not module or not name or module == "__main__" or "<" in name:
        raise Misuse(
            f"{name or repr(function)} in module {module} has no name that another process would find it under;"
            ' define it at the top of an imported module, or give it one: job(name="…")'
        )
    return f"{module}.{name}"


def _call(job: Job[..., Any, Any, Any], blocking: bool) -> Callable[..., Any]:
    """What the worker calls: the function with parsed arguments and what it wants of the worker."""
    function, arguments = job.function, job.arguments

    def parsed(message: Message, tx: Transaction | None = None) -> dict[str, Any]:
        values = arguments.load(message.payload)
        if arguments.message is not None:
            values[arguments.message] = message
        if arguments.transaction is not None:
            values[arguments.transaction] = tx
        return values

    def plain(message: Message) -> Any:
        result = function(**parsed(message))
        # A coroutine is no result: the worker tells so.
        return result if inspect.iscoroutine(result) else job.dump_result(result)

    async def asynchronous(message: Message, tx: Transaction | None = None) -> Any:
        return job.dump_result(await function(**parsed(message, tx)))

    return plain if blocking else asynchronous


def declare(
    engine: Engine,
    *,
    name: str | None,
    queue: str,
    retry: Retry | None,
    timeout: float,
    keep: float,
    aliases: Sequence[str],
) -> Declaration:
    """See `Messages.job`."""
    if isinstance(aliases, str):
        raise TypeError(f'aliases is a list of names: ["{aliases}"]')
    return Declaration(engine, name, aliases, queue=queue, retry=retry or Retry(), timeout=timeout, keep=keep)
