"""RabbitMQ by aio-pika (AMQP 0-9-1). Sources: CloudEvents AMQP binding, section 3.1; RabbitMQ documentation,
Publisher Confirms, Quorum Queues, Single Active Consumer.

The binding is written for AMQP 1.0, whose application properties are the headers of 0-9-1 in RabbitMQ.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from mainstay.patterns.brokers.broker import (
    PREFETCH,
    BrokerUnavailable,
    Delivery,
    Refused,
    check_consumer,
    missing,
)
from mainstay.patterns.brokers.cloudevent import CloudEvent, read
from mainstay.patterns.brokers.holding import heed_cancellation
from mainstay.patterns.brokers.publishing import Refusal, Unavailable, publish_in_order

try:
    import aio_pika
    from aio_pika import DeliveryMode, Message
    from aio_pika.abc import (
        AbstractChannel,
        AbstractConnection,
        AbstractExchange,
        AbstractIncomingMessage,
        AbstractQueue,
    )
    from aio_pika.exceptions import (
        CONNECTION_EXCEPTIONS,
        ChannelNotFoundEntity,
        ChannelPreconditionFailed,
        PublishError,
    )
    from aiormq.exceptions import ChannelAccessRefused
except ModuleNotFoundError as error:
    raise missing("rabbitmq", error) from None

log = logging.getLogger("mainstay.patterns.brokers")

_PREFIX = "cloudEvents_"
_OTHER_PREFIX = "cloudEvents:"
_LONGEST_ROUTING_KEY = 255
_BACK_OFF = 1.0
"""Seconds between two attempts to consume while the server is away."""


class Implementation:
    """An exchange of kind topic that somebody has made; the routing key is the event's type.

    Published with publisher confirms and as mandatory: an event that no queue is bound for is refused, not dropped.

    A consumer is the durable queue ``topic.<consumer>``. One that is there is used as it is; else a quorum queue with a
    single active consumer is made and bound to all types, so that order per key holds over any number of
    processes: one consumes, the others stand by. It gets what is published from then on.

    A connection that broke is replaced by the next call, or by the consumer within a second. (aio-pika's robust
    connection restores consumers behind our back and keeps what was half published; a fresh one has no past.)
    """

    keeps_order = True

    def __init__(self, address: str, topic: str, *, timeout: float, largest: int, **options: Any) -> None:
        self._address = address
        self._shown = urlsplit(address).netloc.rpartition("@")[2]
        self._topic = topic
        self.place = f"{self._shown} {topic}"
        self._timeout = timeout
        self._largest = largest
        self._options = options
        self._connection: AbstractConnection | None = None
        self._channel_open: AbstractChannel | None = None
        self._exchange: AbstractExchange | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()

    # ------------------------------------------------------------------------------------------ publish

    async def publish(self, events: Sequence[CloudEvent]) -> None:
        """See `Broker.publish`."""
        await publish_in_order(events, self._send, self._ready, timeout=self._timeout, largest=self._largest)

    async def _send(self, event: CloudEvent) -> None:
        if len(event.type.encode()) > _LONGEST_ROUTING_KEY:
            raise Refusal("its type is longer than the 255 bytes of a routing key")
        message = encode(event)
        with self._told():
            exchange = await self._opened()
            try:
                await exchange.publish(message, event.type, mandatory=True, timeout=self._timeout)
            except PublishError:
                raise Refusal(
                    f"no queue is bound to exchange {self._topic} for its type {event.type}"
                ) from None
            except ChannelPreconditionFailed as error:
                # It closes the channel, so that all that was on its way fails; only the one it names is at fault.
                if f"message size {len(message.body)} " in str(error):
                    raise Refusal(self._say(error)) from None
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Sort the client library's errors into those that time may heal and those that it does not."""
        try:
            yield
        except ChannelNotFoundEntity:
            raise Refusal(f"there is no exchange {self._topic}; make one of kind topic") from None
        except ChannelAccessRefused as error:
            raise Refusal(self._say(error)) from None
        except BaseException as error:
            if not _is_lost(error):
                raise
            raise Unavailable(self._say(error)) from None

    # ------------------------------------------------------------------------------------------ consume

    @asynccontextmanager
    async def consume(
        self, consumer: str, *, prefetch: int = PREFETCH
    ) -> AsyncIterator[AsyncIterator[Delivery]]:
        """See `Broker.consume`. `prefetch` is at most 65 535."""
        check_consumer(consumer, prefetch)
        if prefetch > 65_535:
            raise ValueError(f"prefetch is at most 65535 with RabbitMQ, not {prefetch}")
        deliveries = self._deliveries(consumer, prefetch)
        try:
            yield deliveries
        finally:
            await deliveries.aclose()

    async def _deliveries(self, consumer: str, prefetch: int) -> AsyncGenerator[Delivery]:
        while True:
            heed_cancellation()
            connection: AbstractConnection | None = None
            arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
            try:
                connection = await self._connect()
                queue = await self._queue(connection, consumer)
                await queue.channel.set_qos(prefetch_count=prefetch, timeout=self._timeout)
                # A queue that is deleted, or a channel that is closed, ends the consumer: begin again.
                channel = await queue.channel.get_underlay_channel()
                ended = partial(_end, arrived)
                channel.closing.add_done_callback(ended)
                channel.on_consumer_cancel_callbacks.add(ended)
                await queue.consume(arrived.put, timeout=self._timeout)
                while (message := await arrived.get()) is not None:
                    yield self._delivery(message)
                log.warning(
                    "RabbitMQ at %s ended the consumer of %s; beginning again", self._shown, queue.name
                )
            except (ChannelNotFoundEntity, ChannelPreconditionFailed, ChannelAccessRefused) as error:
                raise Refused(self._say(error)) from None
            except BaseException as error:
                if not _is_lost(error):
                    raise
                log.warning("cannot consume from RabbitMQ now: %s", self._say(error))
            finally:
                if (
                    connection is not None
                ):  # what is not acknowledged goes back into the queue, in its old place
                    await self._close(connection)
            await asyncio.sleep(_BACK_OFF)

    async def _queue(self, connection: AbstractConnection, consumer: str) -> AbstractQueue:
        name = f"{self._topic}.{consumer}"
        probe = await self._channel(connection)
        try:
            await probe.declare_queue(name, passive=True, timeout=self._timeout)
        except ChannelNotFoundEntity:
            arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-single-active-consumer": True}
            if _version(connection) >= 4:
                # From 4.0 on a quorum queue drops what was delivered twenty times, unless told not to.
                arguments["x-delivery-limit"] = -1
            channel = await self._channel(connection)
            queue = await channel.declare_queue(
                name, durable=True, arguments=arguments, timeout=self._timeout
            )
            await queue.bind(self._topic, "#", timeout=self._timeout)
            return queue
        return await probe.get_queue(name, ensure=False)

    def _delivery(self, message: AbstractIncomingMessage) -> Delivery:
        async def settle(by_acknowledging: bool) -> None:
            try:
                async with asyncio.timeout(self._timeout):
                    await (message.ack() if by_acknowledging else message.nack(requeue=True))
            except BaseException as error:
                if not _is_lost(error):
                    raise
                raise BrokerUnavailable(self._say(error)) from None

        return Delivery(
            {name: _canonical(value) for name, value in message.headers.items()},
            message.body or None,
            lambda: decode(message),
            lambda: settle(True),
            lambda: settle(False),
        )

    # --------------------------------------------------------------------------------------- connection

    async def _ready(self) -> None:
        with self._told():
            await self._opened()

    async def _opened(self) -> AbstractExchange:
        """The exchange to publish to, on a channel that is open."""
        async with self._connecting:
            if self._exchange is None or self._channel_open is None or self._channel_open.is_closed:
                await self._drop()
                self._connection = await self._connect()
                self._channel_open = await self._channel(self._connection, confirms=True)
                self._exchange = await self._channel_open.get_exchange(self._topic, ensure=True)
            return self._exchange

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = await aio_pika.connect(
            self._address, timeout=self._timeout, **self._options
        )
        return connection

    async def _channel(self, connection: AbstractConnection, *, confirms: bool = False) -> AbstractChannel:
        channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize(timeout=self._timeout)
        return channel

    async def _drop(self) -> None:
        connection, self._connection, self._channel_open, self._exchange = self._connection, None, None, None
        if connection is not None:
            await self._close(connection)

    async def _close(self, connection: AbstractConnection) -> None:
        with suppress(Unavailable, Refusal), self._told():
            async with asyncio.timeout(min(self._timeout, 2.0)):
                await connection.close()

    def _say(self, error: BaseException) -> str:
        return f"RabbitMQ at {self._shown}: {str(error) or 'the connection was lost'}"


def _is_lost(error: BaseException) -> bool:
    """Whether it says that the connection is gone, or does not answer.

    When its connection goes, aiormq cancels what waits for it, or raises a bare Exception where it knows no reason.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or not task.cancelling()
    return isinstance(error, (*CONNECTION_EXCEPTIONS, TimeoutError)) or type(error) is Exception


def _end(arrived: asyncio.Queue[AbstractIncomingMessage | None], *_: object) -> None:
    arrived.put_nowait(None)


def encode(event: CloudEvent) -> Message:
    """The message of an event in binary mode, persistent."""
    attributes = event.attributes()
    return Message(
        event.data or b"",
        content_type=attributes.pop("datacontenttype", None),
        headers={_PREFIX + name: value for name, value in attributes.items()},
        delivery_mode=DeliveryMode.PERSISTENT,
    )


def decode(message: AbstractIncomingMessage) -> CloudEvent:
    """The event in a message.

    Raises:
        BadEvent: there is none.
    """
    attributes = {
        name[len(_PREFIX) :]: _canonical(value)
        for name, value in message.headers.items()
        if name.startswith((_PREFIX, _OTHER_PREFIX)) and value is not None
    }
    if message.content_type:
        attributes["datacontenttype"] = message.content_type
    return read(attributes, message.content_type, message.body)


def _canonical(value: object) -> str:
    """Publishers may send native AMQP types."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)


def _version(connection: AbstractConnection) -> int:
    """RabbitMQ's major version; 0 where the server does not say."""
    transport = connection.transport
    said: Mapping[str, Any] = {} if transport is None else transport.connection.server_properties
    version = said.get("version", b"0")
    text = version.decode() if isinstance(version, bytes | bytearray) else str(version)
    return int(text.partition(".")[0]) if text.partition(".")[0].isdigit() else 0
