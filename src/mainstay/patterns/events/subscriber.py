"""How a function becomes the subscriber of an event: what it takes, and what it is called with."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mainstay.patterns.errors import Misuse
from mainstay.patterns.events.envelope import caused_by
from mainstay.patterns.events.event import Event, NewerVersion
from mainstay.patterns.messages.handler import Handler, NotNow, Retry
from mainstay.patterns.messages.message import Message
from mainstay.patterns.transaction import Transaction

if TYPE_CHECKING:
    from mainstay.patterns.events.subscriptions import Subscriptions

LATER = 5.0
"""Seconds until a message is looked at again that only other code can read."""


def stable_name(function: Callable[..., Any]) -> str:
    """The name under which messages find the function again after a restart.

    Raises:
        Misuse: it has none.
    """
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    if "<" in name or name.startswith(("__main__.", ".")) or name.endswith("."):
        raise Misuse(
            f"{name} has no name that is the same in every process, and messages wait under it: give it one, as in"
            ' subscribe(…, name="reserve_stock")'
        )
    return name


def subscribe(
    subscriptions: Subscriptions,
    events: Sequence[type[Event]],
    function: Callable[..., Any],
    *,
    name: str | None,
    queue: str | None,
    retry: Retry,
    timeout: float,
) -> None:
    """See `Messages.subscribe`."""
    for event in events:
        if not (isinstance(event, type) and issubclass(event, Event)):
            raise Misuse(
                f"subscribe takes classes derived from Event, not {event!r}; write @messages.subscribe(OrderPlaced)"
            )
    if not events:
        raise Misuse("subscribe to which event? Write @messages.subscribe(OrderPlaced)")
    name = name or stable_name(function)
    known: dict[str, type[Event]] = {}
    for event in events:
        if known.setdefault(event.event_name, event) is not event:
            raise Misuse(f"{name} subscribes to two classes with the name {event.event_name!r}")
    takes = _takes(function, name, events)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 (an object whose call is async)
    )
    if takes.tx and not is_async:
        raise Misuse(
            f"{name} takes a transaction, which is used with await: make it async, or leave the transaction out"
        )
    call = _Call(function, name, known, takes)
    subscriptions.add(
        Handler(
            kind=name,
            call=call.transactional if takes.tx else call.plain if is_async else call.blocking,
            queue=queue or name,
            transactional=takes.tx is not None,
            blocking=not is_async,
            retry=retry,
            timeout=timeout,
        ),
        known,
    )


@dataclass(frozen=True, slots=True)
class _Takes:
    """The names of the parameters that get the transaction and the message."""

    tx: str | None
    message: str | None


def _takes(function: Callable[..., Any], name: str, events: Sequence[type[Event]]) -> _Takes:
    parameters = list(inspect.signature(function).parameters.values())
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that is imported for the type checker only, or is local to a function
        hints = {}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in positional:
        raise Misuse(f"{name} must take the event as its first argument")
    first = hints.get(parameters[0].name)
    accepted = tuple(one for one in (first, *typing.get_args(first)) if isinstance(one, type))
    if accepted:
        for event in events:
            if not issubclass(event, accepted):
                raise Misuse(f"{name} is subscribed to {event.__name__}, and its first argument is {first}")
    found: dict[str, str] = {}
    for parameter in parameters[1:]:
        hint = hints.get(parameter.name, parameter.annotation)
        for what, kind in (("tx", Transaction), ("message", Message)):
            if hint is kind or (isinstance(hint, str) and hint.rpartition(".")[2] == kind.__name__):
                found[what] = parameter.name
                break
        else:
            if parameter.default is parameter.empty and parameter.kind in (
                *positional,
                parameter.KEYWORD_ONLY,
            ):
                raise Misuse(
                    f"{name} has an argument {parameter.name!r} that nothing fills: besides the event it may take a"
                    " Transaction and a Message, told by their annotations"
                )
    return _Takes(found.get("tx"), found.get("message"))


@dataclass(frozen=True, slots=True)
class _Call:
    """Reads the event of a message and calls the function with it."""

    function: Callable[..., Any]
    name: str
    events: Mapping[str, type[Event]]
    takes: _Takes

    def _read(self, message: Message, headers: Mapping[str, str]) -> Event:
        event = self.events.get(headers.get("event", ""))
        if event is None:
            raise NotNow(
                f"{self.name} of this code does not subscribe to {headers.get('event')!r}; other code did",
                after=LATER,
            )
        try:
            return event.read(message.payload, int(headers["version"]))
        except NewerVersion as error:
            raise NotNow(str(error), after=LATER) from None

    def _arguments(self, message: Message) -> dict[str, Any]:
        return {} if self.takes.message is None else {self.takes.message: message}

    async def transactional(self, message: Message, tx: Transaction) -> None:
        headers = message.headers
        event = self._read(message, headers)
        assert self.takes.tx is not None
        with caused_by(headers):
            await self.function(event, **self._arguments(message), **{self.takes.tx: tx})

    async def plain(self, message: Message) -> None:
        headers = message.headers
        event = self._read(message, headers)
        with caused_by(headers):
            await self.function(event, **self._arguments(message))

    def blocking(self, message: Message) -> Any:
        headers = message.headers
        event = self._read(message, headers)
        with caused_by(headers):
            return self.function(
                event, **self._arguments(message)
            )  # for the worker to see that it is no coroutine
