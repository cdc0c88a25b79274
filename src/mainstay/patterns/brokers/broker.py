"""What a broker does for us, whichever it is: publish with confirmation, and hand over for a durable consumer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from mainstay.patterns.brokers import clients
from mainstay.patterns.brokers.cloudevent import CloudEvent
from mainstay.patterns.errors import PatternError
from mainstay.patterns.guards import refuse_in_transaction

TIMEOUT = 10.0
"""Seconds that a call to the broker may take, the connection included."""
LARGEST = 1_000_000
"""Bytes of data in one event at most. NATS and Kafka refuse a message above 1 MiB unless they are told otherwise."""
PREFETCH = 100
"""Events that a consumer holds unacknowledged at most."""
REDELIVER_AFTER = 30.0
"""Seconds after which what a dead consumer held is handed to another one, where the broker does not see its death."""


class PublishError(PatternError):
    """Not all events of a call of `publish` were confirmed.

    Of an event that is neither in `confirmed` nor in `refused`, nobody knows whether the broker has it: publish it
    again. It keeps its place before later events of its key, because none of those has been sent.
    """

    def __init__(
        self,
        message: str,
        confirmed: Sequence[CloudEvent] = (),
        refused: Mapping[CloudEvent, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.confirmed: Sequence[CloudEvent] = tuple(confirmed)
        """The events that the broker has for good: these are done."""
        self.refused: Mapping[CloudEvent, str] = dict(refused or {})
        """The events that the broker will not take however often they are sent, each with the reason."""


class BrokerUnavailable(PublishError):
    """The broker does not answer, or not in time: try again later."""


class Refused(PublishError):
    """The broker answered that it will not: no such stream or exchange, too large, not allowed. See `refused`."""


class Broker(Protocol):
    """One topic of one broker. Nothing is connected before the first call; what breaks is connected again.

    Use it as an async context manager, from one event loop, for as long as the process lives.
    """

    place: str
    """The broker's host and the topic, for people and for names; without a password."""
    keeps_order: bool
    """Whether events of one key come in order to several processes under one consumer name too."""

    async def publish(self, events: Sequence[CloudEvent]) -> None:
        """Returns once the broker has confirmed that it keeps every event; at the latest after the time-out.

        Events with the same key (`CloudEvent.key`) are kept in the order given, also when one of them fails: what
        comes after it is then not sent. Do not publish events of one key by two calls at once. An event that is
        published twice arrives twice, except where the broker knows duplicates (JetStream): consumers need an
        `Inbox`.

        Raises:
            Refused: at least one event will never be taken.
            BrokerUnavailable: else, at least one was not confirmed.
            OutsideCallInTransaction: a transaction is open here.
        """

    def consume(
        self, consumer: str, *, prefetch: int = PREFETCH
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Take deliveries one by one, for ever: ``async with broker.consume("mailer") as deliveries: async for …``.

        `consumer` (letters, digits, ``_`` and ``-``) names the durable place from which it goes on after a restart;
        several processes with the same name share the work, and then a key's order is kept only where `keeps_order`
        says so. While the broker is away the iterator waits. What has not been acknowledged when the block is left,
        or the process dies, is delivered again.

        Raises:
            Refused: from the iterator, there is nothing of this name to consume from.
            ValueError: the name cannot be used, or `prefetch` is less than 1.
        """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(eq=False, slots=True)
class Delivery:
    """One message from a broker, not acknowledged yet. Until it is, the broker keeps it for this consumer."""

    headers: Mapping[str, str]
    """The message's headers as they came, for a look at what is no CloudEvent."""
    data: bytes | None
    """The message's body as it came."""
    _read: Callable[[], CloudEvent] = field(repr=False)
    _ack: Callable[[], Awaitable[None]] = field(repr=False)
    _nack: Callable[[], Awaitable[None]] = field(repr=False)
    _settled: bool = False

    def event(self) -> CloudEvent:
        """The event in the message.

        Raises:
            BadEvent: it is no valid CloudEvent.
        """
        return self._read()

    async def ack(self) -> None:
        """Done: the broker may forget it. Only after the transaction with its effect has committed.

        Raises:
            BrokerUnavailable: the connection is gone, so it will be delivered again.
            OutsideCallInTransaction: a transaction is open here; were it rolled back, the event would be lost.
        """
        refuse_in_transaction("a delivery was acknowledged")
        if not self._settled:
            self._settled = True
            await self._ack()

    async def nack(self) -> None:
        """Not done: the broker delivers it again, here or to another process, soon.

        Raises:
            BrokerUnavailable: the connection is gone, so it will be delivered again anyway.
        """
        if not self._settled:
            self._settled = True
            await self._nack()


_TOPIC = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_CONSUMER = re.compile(r"[A-Za-z0-9_-]{1,100}")


def broker(
    address: str, topic: str, *, timeout: float = TIMEOUT, largest: int = LARGEST, **options: Any
) -> Broker:
    """The topic of that name at the broker with this address.

    ==================================== ========================== ============
    address                              `topic` is                 extra
    ==================================== ========================== ============
    ``nats://host:4222``                 subjects ``topic.<type>``  ``nats``
    ``amqp://user:password@host/vhost``  an exchange of kind topic  ``rabbitmq``
    ``redis://host:6379/0``              a stream                   ``redis``
    ``kafka://host:9092,other:9092``     a topic                    ``kafka``
    ==================================== ========================== ============

    The scheme is the name of a module in `clients`; one more broker is one more module. With an ``s`` behind the scheme
    (``amqps``, ``rediss``) the connection is over TLS; NATS and Kafka take that from `options`.

    Args:
        topic: names of letters, digits, ``_`` and ``-``, joined by dots.
        timeout: seconds for one call, default 10.
        largest: bytes of data in one event at most, default 1 000 000; more is refused before it is sent.
        options: handed to the client library as they are (for TLS, sign-in, names).

    Raises:
        ValueError: the address, the topic or a limit cannot be used.
        ImportError: the client library is not installed; the message names the extra.
    """
    if not _TOPIC.fullmatch(topic) or len(topic) > 200:
        raise ValueError(f"a topic is named with letters, digits, _ and -, joined by dots, not {topic!r}")
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout is a number of seconds above 0, not {timeout}")
    if largest < 1:
        raise ValueError(f"largest is a number of bytes above 0, not {largest}")
    scheme = urlsplit(address).scheme
    known = {module.name for module in iter_modules(clients.__path__)}
    name = next((name for name in (scheme, scheme.removesuffix("s")) if name in known), None)
    if name is None or not urlsplit(address).netloc:
        raise ValueError(
            f"a broker's address begins with {', '.join(f'{each}://' for each in sorted(known))} and a host"
            + (f", not with {scheme!r}" if scheme else "")
        )
    module = import_module(f"{clients.__name__}.{name}")
    opened: Broker = module.Implementation(address, topic, timeout=timeout, largest=largest, **options)
    return opened


def missing(extra: str, error: ModuleNotFoundError) -> ImportError:
    """What a client module raises where its library is not installed."""
    return ImportError(
        f"this broker needs the Python package {error.name!r}, which is not installed: install Mainstay with its"
        f" extra {extra!r}",
        name=error.name,
    )


def check_consumer(consumer: str, prefetch: int) -> None:
    """Raises ValueError for what no implementation can use."""
    if not _CONSUMER.fullmatch(consumer):
        raise ValueError(f"a consumer is named with up to 100 letters, digits, _ and -, not {consumer!r}")
    if prefetch < 1:
        raise ValueError(f"prefetch must be at least 1, not {prefetch}")
