"""Kafka by confluent-kafka. Sources: CloudEvents Kafka binding, sections 3.1 and 3.2; librdkafka, Introduction."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

from mainstay.patterns.brokers.broker import PREFETCH, Delivery, Refused, check_consumer, missing
from mainstay.patterns.brokers.cloudevent import BadEvent, CloudEvent, read
from mainstay.patterns.brokers.publishing import Refusal, Unavailable, publish_in_order

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
except ModuleNotFoundError as error:
    raise missing("kafka", error) from None

T = TypeVar("T")
log = logging.getLogger("mainstay.patterns.brokers")

_PREFIX = "ce_"
_POLL = 0.2
"""Seconds that a thread of ours waits in librdkafka at a time."""
_SHOW_LIFE = 30.0
"""Seconds without a poll at most, while nothing more can be taken; librdkafka allows 300."""
_BACK_OFF = 1.0
"""Seconds after an error of the consumer."""
_REFUSALS = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
    }
)


class Implementation:
    """A topic that somebody has made; the record's key is the event's key, so that a key keeps its partition.

    Published with acks=all by an idempotent producer. Consumed as a consumer group, from the topic's beginning, in
    order per partition and so per key, over any number of processes. What is acknowledged out of order is
    committed once everything before it is, within a second and when the block is left; so a killed process leaves
    up to a second of acknowledged events to be delivered again.

    `options` are librdkafka's settings, with ``_`` for ``.`` (``security_protocol="SASL_SSL"``).
    """

    keeps_order = True

    def __init__(self, address: str, topic: str, *, timeout: float, largest: int, **options: Any) -> None:
        parts = urlsplit(address)
        if parts.scheme != "kafka":
            raise ValueError('Kafka takes TLS from its options, security_protocol="SSL", not from the scheme')
        user, _, self._shown = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        signing_in = {"sasl.username": unquote(name), "sasl.password": unquote(password)} if user else {}
        self._settings: dict[str, Any] = {
            "bootstrap.servers": self._shown,
            "socket.timeout.ms": int(timeout * 1000),
            "reconnect.backoff.max.ms": 1000,
            **signing_in,
            **{name.replace("_", "."): value for name, value in options.items()},
        }
        self._topic = topic
        self.place = f"{self._shown} {topic}"
        self._timeout = timeout
        self._largest = largest
        self._producer: _Producer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._producer is not None:
            await asyncio.to_thread(self._producer.close)
            self._producer = None

    # ------------------------------------------------------------------------------------------ publish

    async def publish(self, events: Sequence[CloudEvent]) -> None:
        """See `Broker.publish`."""

        async def ready() -> None:
            """librdkafka connects by itself."""

        await publish_in_order(events, self._send, ready, timeout=self._timeout, largest=self._largest)

    async def _send(self, event: CloudEvent) -> None:
        if self._producer is None:
            self._producer = _Producer(
                {
                    **self._settings,
                    "enable.idempotence": True,
                    "acks": "all",
                    "linger.ms": 1,
                    "message.timeout.ms": int(self._timeout * 1000),
                    "topic.metadata.propagation.max.ms": int(self._timeout * 500),
                    # Room for the headers beside the data; the broker's own limit stays.
                    "message.max.bytes": max(1_000_000, self._largest + 100_000),
                }
            )
        producer = self._producer
        try:
            await producer.send(self._topic, event)
        except BufferError as error:
            raise Unavailable(f"Kafka at {self._shown}: {error}") from None
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if (
                reason.fatal()
            ):  # an idempotent producer that lost its way works no more: the next call makes one anew
                if self._producer is producer:
                    self._producer = None
                    await asyncio.to_thread(producer.close)
            elif reason.code() in _REFUSALS:
                raise Refusal(f"Kafka at {self._shown}: {reason.str()}") from None
            raise Unavailable(f"Kafka at {self._shown}: {reason.str()}") from None

    # ------------------------------------------------------------------------------------------ consume

    @asynccontextmanager
    async def consume(
        self, consumer: str, *, prefetch: int = PREFETCH
    ) -> AsyncIterator[AsyncIterator[Delivery]]:
        """See `Broker.consume`."""
        check_consumer(consumer, prefetch)
        kafka = _Consumer(
            {
                **self._settings,
                "group.id": f"{self._topic}.{consumer}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": True,
                "auto.commit.interval.ms": 1000,
                "enable.auto.offset.store": False,
                # librdkafka reads ahead of us; by default as many as 100 000, and pauses for a second when it has them.
                "queued.min.messages": 10 * prefetch,
                "fetch.queue.backoff.ms": 20,
            },
            self._topic,
            prefetch,
        )
        deliveries = self._deliveries(kafka)
        try:
            yield deliveries
        finally:
            await deliveries.aclose()
            await kafka.close()

    async def _deliveries(self, kafka: _Consumer) -> AsyncGenerator[Delivery]:
        while True:
            for message in await kafka.take():
                reason = message.error()
                if reason is None:
                    yield self._delivery(kafka, message)
                elif reason.code() in _REFUSALS:
                    raise Refused(f"Kafka at {self._shown}: {reason.str()}")
                elif reason.code() != KafkaError._PARTITION_EOF:
                    log.warning("cannot consume from Kafka at %s now: %s", self._shown, reason.str())
                    await asyncio.sleep(_BACK_OFF)

    def _delivery(self, kafka: _Consumer, message: Message) -> Delivery:
        settle = kafka.settler(message)

        async def ack() -> None:
            settle()

        async def nack() -> None:
            kafka.again(message)

        headers = {name: value.decode(errors="replace") for name, value in _headers(message)}
        return Delivery(headers, _bytes(message.value()) or None, lambda: decode(message), ack, nack)


class _Producer:
    """librdkafka's producer, with a thread that fetches its delivery reports."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._producer = Producer(settings, logger=log)
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="mainstay-kafka-producer", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(_POLL)

    async def send(self, topic: str, event: CloudEvent) -> None:
        """Returns once all in-sync replicas have the event. Raises KafkaException or BufferError."""
        reported: asyncio.Future[KafkaError | None] = self._loop.create_future()

        def report(reason: KafkaError | None, _: Message) -> None:
            with suppress(RuntimeError):  # the loop was closed without waiting for us
                self._loop.call_soon_threadsafe(_resolve, reported, reason)

        self._producer.produce(
            topic,
            value=event.data,
            key=None if event.key is None else event.key.encode(),
            headers=encode(event),
            on_delivery=report,
        )
        reason = await reported
        if reason is not None:
            raise KafkaException(reason)

    def close(self) -> None:
        """Blocks until the thread has ended, a fraction of a second; what is not confirmed by then is given up."""
        self._closed.set()
        self._thread.join()
        self._producer.purge()
        self._producer.flush(0)


class _Offsets:
    """The offsets of one partition, for as long as it is assigned to us."""

    def __init__(self) -> None:
        self.held: dict[int, None] = {}  # ascending, as they came
        self.next = 0
        """Where to go on once nothing is held any more."""

    def add(self, offset: int) -> None:
        self.held[offset] = None
        self.next = offset + 1

    def discard(self, offset: int) -> int:
        """The offset from which a new owner would have to go on."""
        self.held.pop(offset, None)
        return next(iter(self.held), self.next)


class _Consumer:
    """librdkafka's consumer, called in a thread of its own, and the offsets that may be committed."""

    def __init__(self, settings: dict[str, Any], topic: str, prefetch: int) -> None:
        self._consumer = Consumer(settings, logger=log)
        self._topic = topic
        self._prefetch = prefetch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mainstay-kafka-consumer")
        self._offsets: dict[int, _Offsets] = {}
        self._lost: list[int] = []  # partitions taken from us, noted by the thread
        self._freed = asyncio.Event()
        self._repeated: list[Message] = []
        self._subscribed = False

    async def take(self) -> list[Message]:
        """What has arrived; empty where nothing has for a moment. Errors come as messages too."""
        if not self._subscribed:
            noted = lambda _, partitions: self._lost.extend(each.partition for each in partitions)  # noqa: E731
            await self._call(partial(self._consumer.subscribe, [self._topic], on_revoke=noted, on_lost=noted))
            self._subscribed = True
        if self._repeated:
            again, self._repeated = self._repeated, []
            return again
        if (room := await self._room()) > 0:
            messages = await self._call(partial(self._poll, room))
        else:
            messages = await self._call(self._show_life)
        self._forget_lost()
        for message in messages:
            if message.error() is None:
                self._offsets.setdefault(_number(message.partition()), _Offsets()).add(
                    _number(message.offset())
                )
        return messages

    def settler(self, message: Message) -> Callable[[], None]:
        """What to call once the message is done with."""
        partition, offset = _number(message.partition()), _number(message.offset())
        offsets = self._offsets.get(partition)

        def settle() -> None:
            self._forget_lost()
            if offsets is None or self._offsets.get(partition) is not offsets:
                return  # taken from us meanwhile: the new owner gets it again
            go_on = offsets.discard(offset)
            self._freed.set()
            with suppress(KafkaException):  # taken from us this moment
                self._consumer.store_offsets(offsets=[TopicPartition(self._topic, partition, go_on)])

        return settle

    def again(self, message: Message) -> None:
        """Kafka knows no nack: hand it out once more here. Until it is done with, its offset is not committed."""
        self._repeated.append(message)
        self._freed.set()

    async def close(self) -> None:
        """Commit what is acknowledged and leave the group."""
        try:
            await self._call(self._consumer.close)
        finally:
            self._thread.shutdown(wait=False)

    async def _room(self) -> int:
        """How many more may be taken; 0 when none for so long that the group must hear of us."""
        while (room := self._prefetch - sum(len(each.held) for each in self._offsets.values())) <= 0:
            self._freed.clear()
            try:
                async with asyncio.timeout(_SHOW_LIFE):
                    await self._freed.wait()
            except TimeoutError:
                return 0
            if self._repeated:
                return 0
        return room

    def _poll(self, room: int) -> list[Message]:
        first = self._consumer.poll(_POLL)
        if first is None:
            return []
        return [first] if room == 1 else [first, *self._consumer.consume(room - 1, 0)]

    def _show_life(self) -> list[Message]:
        """Poll without taking more: who does not within max.poll.interval.ms loses its partitions."""
        assigned = self._consumer.assignment()
        self._consumer.pause(assigned)
        message = self._consumer.poll(0)  # of a partition that was assigned this moment
        self._consumer.resume(assigned)
        return [] if message is None else [message]

    def _forget_lost(self) -> None:
        while self._lost:
            self._offsets.pop(self._lost.pop(), None)
            self._freed.set()

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _resolve(reported: asyncio.Future[KafkaError | None], reason: KafkaError | None) -> None:
    if not reported.done():
        reported.set_result(reason)


def encode(event: CloudEvent) -> list[tuple[str, str | bytes | None]]:
    """The headers of an event in binary mode."""
    attributes = event.attributes()
    content_type = attributes.pop("datacontenttype", None)
    headers: list[tuple[str, str | bytes | None]] = [
        (_PREFIX + name, value) for name, value in attributes.items()
    ]
    return headers if content_type is None else [*headers, ("content-type", content_type)]


def decode(message: Message) -> CloudEvent:
    """The event in a message.

    Raises:
        BadEvent: there is none.
    """
    attributes: dict[str, str] = {}
    content_type = None
    for name, value in _headers(message):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise BadEvent(f"the header {name} is not UTF-8") from None
        if name.lower() == "content-type":
            content_type = attributes["datacontenttype"] = text
        elif name.startswith(_PREFIX):
            attributes[name.removeprefix(_PREFIX)] = text
    return read(attributes, content_type, _bytes(message.value()))


def _headers(message: Message) -> list[tuple[str, bytes]]:
    found = message.headers() or []
    return [
        (name, _bytes(value) or b"") for name, value in (found.items() if isinstance(found, dict) else found)
    ]


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _number(value: int | None) -> int:
    """librdkafka's types allow for messages without a place; none that was consumed is without."""
    assert value is not None
    return value
