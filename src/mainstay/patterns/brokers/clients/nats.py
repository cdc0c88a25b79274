"""NATS JetStream by nats-py. Sources: CloudEvents NATS binding, section 3.1; NATS documentation, JetStream."""

from __future__ import annotations

import asyncio
import logging
import re
import string
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from mainstay.patterns.brokers.broker import (
    PREFETCH,
    REDELIVER_AFTER,
    BrokerUnavailable,
    Delivery,
    Refused,
    check_consumer,
    missing,
)
from mainstay.patterns.brokers.cloudevent import BadEvent, CloudEvent, read
from mainstay.patterns.brokers.holding import Holding, heed_cancellation, repeating
from mainstay.patterns.brokers.publishing import Refusal, Unavailable, publish_in_order

try:
    import nats
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.errors import Error, MaxPayloadError
    from nats.js import JetStreamContext
    from nats.js.api import AckPolicy, ConsumerConfig
    from nats.js.errors import APIError, NoStreamResponseError, NotFoundError
except ModuleNotFoundError as error:
    raise missing("nats", error) from None

log = logging.getLogger("mainstay.patterns.brokers")

_PREFIX = "ce-"
_SUBJECT = re.compile(r"[^\s.*>]+(?:\.[^\s.*>]+)*")
_PLAIN = "".join(set(string.punctuation) - {'"', "%"})
_FETCH = 2.0
"""Seconds after which a request for messages is made anew at the latest, since one may be lost with its connection."""
_BACK_OFF = 1.0
"""Seconds between two attempts to consume while the server is away."""


class Implementation:
    """Subjects ``topic.<type>``, kept by a stream that somebody has made with the subjects ``topic.>``.

    The message's `Nats-Msg-Id` is made of source and id, so that the server drops what is published again within
    the stream's duplicate window (two minutes unless set otherwise).

    A durable pull consumer keeps the place. Order per key holds while one process consumes under a name, which
    `receive` sees to; JetStream itself hands out to several at once. What a killed process held, or a lost connection
    swallowed, comes back after 30 s, and nothing newer is handed out before it.
    """

    keeps_order = False

    def __init__(
        self,
        address: str,
        topic: str,
        *,
        timeout: float,
        largest: int,
        redeliver_after: float = REDELIVER_AFTER,
        **options: Any,
    ) -> None:
        scheme, _ = address.split("://", 1)
        if scheme != "nats":
            raise ValueError(
                "NATS takes TLS from its options, tls=ssl.create_default_context(), not from the scheme"
            )
        user, at, hosts = urlsplit(address).netloc.rpartition("@")
        self._servers = [f"{scheme}://{user}{at}{host}" for host in hosts.split(",")]
        self._shown = f"{scheme}://{hosts}"
        self._topic = topic
        self.place = f"{self._shown} {topic}"
        self._timeout = timeout
        self._largest = largest
        self._redeliver_after = redeliver_after
        # Well before anything is redelivered, so that it does not go to the open request of a process that is dead.
        self._fetch = min(_FETCH, redeliver_after / 4)
        self._options = options
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._trouble: Exception | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            with suppress(Error, OSError, TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self._client.close()

    # ------------------------------------------------------------------------------------------ publish

    async def publish(self, events: Sequence[CloudEvent]) -> None:
        """See `Broker.publish`."""
        await publish_in_order(
            events, self._send, self._jetstream, timeout=self._timeout, largest=self._largest
        )

    async def _send(self, event: CloudEvent) -> None:
        subject = f"{self._topic}.{event.type}"
        if not _SUBJECT.fullmatch(subject):
            raise Refusal(f"its type {event.type!r} cannot be part of a NATS subject")
        headers = encode(event)
        data = event.data or b""
        jetstream = await self._jetstream()
        # The server counts headers too, and closes the connection on what is too large.
        size = len(data) + sum(len(name) + len(value) + 4 for name, value in headers.items()) + 12
        if size > jetstream._nc.max_payload:
            raise Refusal(f"it has {size} bytes, and the server takes {jetstream._nc.max_payload}")
        try:
            await jetstream.publish(subject, data, timeout=self._timeout, headers=headers)
        except NoStreamResponseError:
            raise await self._why_nobody_responded(jetstream, subject) from None
        except MaxPayloadError:
            raise Refusal(f"its {len(data)} bytes of data are more than the server takes") from None
        except APIError as error:
            if error.code is not None and 400 <= error.code < 500:
                raise Refusal(f"JetStream says: {error.description}") from None
            raise Unavailable(f"JetStream says: {error.description}") from None
        except (Error, OSError, TimeoutError) as error:
            raise Unavailable(self._say(error)) from None

    async def _why_nobody_responded(self, jetstream: JetStreamContext, subject: str) -> Exception:
        """A stream that is missing for good, or one that is about to come back?"""
        try:
            await jetstream.find_stream_name_by_subject(subject)
        except NotFoundError:
            return Refusal(
                f"no stream keeps the subject {subject}; make one with the subjects {self._topic}.>"
            )
        except (Error, OSError, TimeoutError) as error:
            return Unavailable(self._say(error))
        return Unavailable(f"the stream of {subject} does not answer now")

    # ------------------------------------------------------------------------------------------ consume

    @asynccontextmanager
    async def consume(
        self, consumer: str, *, prefetch: int = PREFETCH
    ) -> AsyncIterator[AsyncIterator[Delivery]]:
        """See `Broker.consume`."""
        check_consumer(consumer, prefetch)
        holding = Holding[str](prefetch)

        async def keep() -> None:
            if self._client is not None:
                for reply in holding:
                    await self._client.publish(reply, Msg.Ack.Progress)

        deliveries = self._deliveries(consumer, prefetch, holding, deque(maxlen=2 * prefetch))
        async with repeating(keep, self._redeliver_after / 3):
            try:
                yield deliveries
            finally:
                await deliveries.aclose()
                with suppress(Error, OSError, TimeoutError):
                    async with asyncio.timeout(min(self._timeout, 2.0)):
                        if self._client is not None:
                            for reply in holding:
                                await self._client.publish(reply, Msg.Ack.Nak)
                            await self._client.flush()

    async def _deliveries(
        self, consumer: str, prefetch: int, holding: Holding[str], acked: deque[str]
    ) -> AsyncGenerator[Delivery]:
        """All that comes, in order: what is newer waits for what another process held, or a lost connection swallowed.

        While something is missing, what comes is gathered, until nothing is missing any more or its time has passed.
        The server hands out again before it hands out what is new.
        """
        loop = asyncio.get_running_loop()
        patience = self._redeliver_after * 1.1
        while True:
            heed_cancellation()
            gathered: list[Msg] = []
            subscription: JetStreamContext.PullSubscription | None = None
            try:
                subscription = await self._subscribe(consumer)
                client = subscription._nc
                connection, until = client.stats["reconnects"], loop.time() + patience
                while True:
                    heed_cancellation()
                    over = loop.time() >= until
                    if until and await self._pending(subscription) <= len(holding):
                        until = 0.0
                    if not until:
                        gathered.sort(key=lambda message: message.metadata.sequence.stream)
                        while gathered:
                            yield self._delivery(gathered.pop(0), holding, acked)
                    if not over and any(map(_is_new, gathered)):
                        await asyncio.sleep(_BACK_OFF / 4)
                        if len(holding) >= prefetch:
                            continue
                    room = 1 if gathered else await holding.room()
                    try:
                        messages = await subscription.fetch(1 if until else room, timeout=self._fetch)
                    except TimeoutError:
                        messages = []
                    for message in messages:
                        holding.add(message.reply)
                    if client.stats["reconnects"] != connection:
                        connection, until, over = client.stats["reconnects"], loop.time() + patience, False
                        with suppress(Error, OSError):  # those on their way were lost with the connection
                            for reply in tuple(acked):
                                await client.publish(reply, Msg.Ack.Ack)
                    if until:
                        gathered += messages
                        if over and all(map(_is_new, messages)):
                            until = 0.0
                        continue
                    for message in messages:
                        yield self._delivery(message, holding, acked)
            except (Unavailable, Error, OSError, TimeoutError) as error:
                log.warning("cannot consume from %s now: %s", self._shown, self._say(error))
                await asyncio.sleep(_BACK_OFF)
            finally:
                for message in gathered:  # not to be given back before what is older
                    holding.discard(message.reply)
                if subscription is not None:
                    with suppress(Error, OSError):
                        await subscription.unsubscribe()

    async def _subscribe(self, consumer: str) -> JetStreamContext.PullSubscription:
        jetstream = await self._jetstream()
        subjects = f"{self._topic}.>"
        try:
            stream = await jetstream.find_stream_name_by_subject(subjects)
        except NotFoundError:
            raise Refused(f"no stream keeps the subjects {subjects}; make one before you consume") from None
        durable = f"{self._topic.replace('.', '_')}-{consumer}"
        await jetstream.add_consumer(
            stream,
            ConsumerConfig(
                durable_name=durable,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=self._redeliver_after,
                filter_subject=subjects,
                max_ack_pending=-1,  # each process bounds what it asks for
            ),
        )
        return await jetstream.pull_subscribe_bind(durable=durable, stream=stream)

    async def _pending(self, subscription: JetStreamContext.PullSubscription) -> int:
        """How many messages are handed out and not acknowledged, by whichever process."""
        return (await subscription.consumer_info()).num_ack_pending or 0

    def _delivery(self, message: Msg, holding: Holding[str], acked: deque[str]) -> Delivery:
        async def settle(by_acknowledging: bool) -> None:
            holding.discard(message.reply)
            try:
                if by_acknowledging:
                    acked.append(message.reply)
                    await message.ack()
                else:
                    await message.nak()
            except (Error, OSError, TimeoutError) as error:
                raise BrokerUnavailable(self._say(error)) from None

        headers = message.headers or {}
        return Delivery(
            headers,
            message.data or None,
            lambda: decode(headers, message.data),
            lambda: settle(True),
            lambda: settle(False),
        )

    # --------------------------------------------------------------------------------------- connection

    async def _jetstream(self) -> JetStreamContext:
        """Connected once; from then on nats-py reconnects by itself, for ever."""
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                client = Client()
                try:
                    async with asyncio.timeout(self._timeout):
                        await client.connect(
                            self._servers,
                            error_cb=self._on_error,
                            max_reconnect_attempts=-1,
                            reconnect_time_wait=1,
                            connect_timeout=max(1, int(self._timeout)),
                            **self._options,
                        )
                except (Error, OSError, TimeoutError) as error:
                    with suppress(Exception):
                        await client.close()
                    raise Unavailable(self._say(self._trouble or error)) from None
                self._client = client
            return self._client.jetstream(timeout=self._timeout)

    async def _on_error(self, error: Exception) -> None:
        self._trouble = error
        log.info("NATS at %s: %r", self._shown, error)

    def _say(self, error: Exception) -> str:
        return str(error) if isinstance(error, Unavailable) else f"NATS at {self._shown}: {error!r}"


def _is_new(message: Msg) -> bool:
    """Whether it is handed out for the first time."""
    return message.metadata.num_delivered == 1


def encode(event: CloudEvent) -> dict[str, str]:
    """The headers of an event in binary mode."""
    headers = {_PREFIX + name: _percent(value) for name, value in event.attributes().items()}
    headers[nats.js.api.Header.MSG_ID.value] = f"{_percent(event.source)} {_percent(event.id)}"
    return headers


def decode(headers: Mapping[str, str], data: bytes) -> CloudEvent:
    """The event in a message.

    Raises:
        BadEvent: there is none.
    """
    named = {name.lower(): value for name, value in headers.items()}
    attributes = {
        name.removeprefix(_PREFIX): _plain(value) for name, value in named.items() if name.startswith(_PREFIX)
    }
    return read(attributes, named.get("content-type"), data)


def _percent(value: str) -> str:
    return quote(value, safe=_PLAIN)


def _plain(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise BadEvent(f"the header value {value!r} is no percent-encoded UTF-8") from None
