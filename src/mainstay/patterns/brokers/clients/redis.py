"""Redis streams by redis-py. Source: Redis documentation, Streams; there is no CloudEvents binding for them.

So the fields of an entry are ours: `ce-` and the attribute's name for each attribute, with its value in canonical
string form, and `data`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

from mainstay.patterns.brokers.broker import (
    PREFETCH,
    REDELIVER_AFTER,
    BrokerUnavailable,
    Delivery,
    Refused,
    check_consumer,
    missing,
)
from mainstay.patterns.brokers.cloudevent import CloudEvent, read
from mainstay.patterns.brokers.holding import Holding, heed_cancellation, repeating
from mainstay.patterns.brokers.publishing import raise_for
from mainstay.patterns.guards import refuse_in_transaction

try:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        BusyLoadingError,
        ConnectionError,
        OutOfMemoryError,
        ReadOnlyError,
        RedisError,
        ResponseError,
        TryAgainError,
    )
    from redis.exceptions import TimeoutError as RedisTimeout
except ModuleNotFoundError as error:
    raise missing("redis", error) from None

log = logging.getLogger("mainstay.patterns.brokers")

_PREFIX = "ce-"
_BLOCK = 1.0
"""Seconds that one read waits for something new at most; less than the socket's time-out."""
_BACK_OFF = 1.0
"""Seconds between two attempts to consume while the server is away."""
_AWAY = (
    OSError,
    RedisTimeout,
    ConnectionError,
    BusyLoadingError,
    ReadOnlyError,
    OutOfMemoryError,
    TryAgainError,
)
_AWAY_CODES = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN")
_NO_STREAM = ("NOGROUP", "UNBLOCKED")
"""The stream was deleted; the second, while a read was waiting for it."""
_ALL = 10_000
"""Entries in one reply about what stands in a consumer's name; there are at most about `prefetch`."""
_Entry = tuple[bytes, Mapping[bytes, bytes]]


class Implementation:
    """A stream, made by its first event, and a consumer group for each consumer, from the stream's beginning.

    Confirmed means that Redis has replied to XADD: what that is worth in a power cut is the server's setting
    (``appendfsync always``). One call of `publish` is one MULTI, so that all of its events are there or none.

    Order per key holds while one process consumes under a name, which `receive` sees to; a group itself hands out to
    several at once. What a killed process held comes back after 30 s, and a new one waits for it before it takes
    anything newer. What a lost connection swallowed is read again before anything newer.

    Args:
        keep: entries kept in the stream, about; more are trimmed from its beginning, read or not. Default: all.
    """

    keeps_order = False

    def __init__(
        self,
        address: str,
        topic: str,
        *,
        timeout: float,
        largest: int,
        keep: int | None = None,
        redeliver_after: float = REDELIVER_AFTER,
        **options: Any,
    ) -> None:
        parts = urlsplit(address)  # without its query too, which may hold a password
        self._shown = parts.netloc.rpartition("@")[2] + parts.path
        self._topic = topic
        self.place = f"{self._shown} {topic}"
        self._timeout = timeout
        self._largest = largest
        self._keep = keep
        self._redeliver_after = redeliver_after
        self._redis = Redis.from_url(
            address,
            **{
                "socket_timeout": timeout,
                "socket_connect_timeout": timeout,
                "health_check_interval": 30,
                # A read that is repeated behind our back would bring what is newer than what the first one brought.
                "retry": Retry(NoBackoff(), 0),
                **options,
                "decode_responses": False,
            },
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._redis.aclose()

    # ------------------------------------------------------------------------------------------ publish

    async def publish(self, events: Sequence[CloudEvent]) -> None:
        """See `Broker.publish`."""
        refuse_in_transaction("events were published to a broker")
        refused: dict[CloudEvent, str] = {}
        skipped: set[str] = set()
        sent: list[CloudEvent] = []
        for event in events:
            size = len(event.data or b"")
            if event.key is not None and event.key in skipped:
                continue
            if size > self._largest:
                refused[event] = f"its data has {size} bytes, and at most {self._largest} are sent"
                if event.key is not None:
                    skipped.add(event.key)
            else:
                sent.append(event)
        reasons: list[str] = []
        if sent:
            try:
                async with asyncio.timeout(self._timeout):
                    await self._add(sent)
            except (RedisError, OSError, TimeoutError) as error:
                if self._is_away(error):
                    reasons.append(self._say(error))
                else:
                    refused |= dict.fromkeys(sent, self._say(error))
                sent = []
        raise_for(events, sent, refused, reasons)

    async def _add(self, events: Sequence[CloudEvent]) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            for event in events:
                pipeline.xadd(self._topic, encode(event), maxlen=self._keep, approximate=True)
            await pipeline.execute()

    # ------------------------------------------------------------------------------------------ consume

    @asynccontextmanager
    async def consume(
        self, consumer: str, *, prefetch: int = PREFETCH
    ) -> AsyncIterator[AsyncIterator[Delivery]]:
        """See `Broker.consume`."""
        check_consumer(consumer, prefetch)
        holding = Holding[bytes](prefetch)
        me = uuid4().hex
        deliveries = self._deliveries(consumer, me, holding)
        async with repeating(lambda: self._refresh(consumer, me, holding), self._redeliver_after / 3):
            try:
                yield deliveries
            finally:
                await deliveries.aclose()
                with suppress(RedisError, OSError, TimeoutError):
                    async with asyncio.timeout(min(self._timeout, 2.0)):
                        # All that stands in this name, also what was on its way as the block was left.
                        left = await self._redis.xpending_range(self._topic, consumer, "-", "+", _ALL, me)
                        await self._give_back(consumer, me, [entry["message_id"] for entry in left])
                        if not left:  # with a consumer goes what it holds
                            await self._redis.xgroup_delconsumer(self._topic, consumer, me)

    async def _deliveries(self, consumer: str, me: str, holding: Holding[bytes]) -> AsyncGenerator[Delivery]:
        loop = asyncio.get_running_loop()
        # What a killed process held is older than all that is new: it comes first, once its time has passed.
        only_old_until = loop.time() + self._redeliver_after * 1.1
        claim_at = 0.0
        ready = interrupted = False
        while True:
            heed_cancellation()
            room = await holding.room()
            try:
                if not ready:
                    await self._make_group(consumer)
                    ready = True
                entries: list[_Entry] = []
                if interrupted:
                    entries = await self._mine(consumer, me, holding)
                    interrupted = False
                if not entries and loop.time() >= claim_at:
                    early = loop.time() < only_old_until
                    entries = await (self._claim_in_turn if early else self._claim)(consumer, me, room)
                    claim_at = loop.time() + (0.0 if entries else self._redeliver_after / 10)
                if not entries:
                    if loop.time() < only_old_until:
                        if (await self._redis.xpending(self._topic, consumer))["pending"] > len(holding):
                            await asyncio.sleep(min(_BACK_OFF, self._redeliver_after / 10))
                            continue
                        only_old_until = 0.0
                    reply = await self._redis.xreadgroup(
                        consumer,
                        me,
                        {self._topic: ">"},
                        count=room,
                        block=int(min(_BLOCK, self._timeout / 2) * 1000) or 1,
                    )
                    entries = _entries(reply)
            except (RedisError, OSError, TimeoutError) as error:
                if not self._is_away(error) and not str(error).startswith(_NO_STREAM):
                    raise Refused(self._say(error)) from None
                log.warning("cannot consume from Redis at %s now: %r", self._shown, error)
                ready, interrupted = False, True
                await asyncio.sleep(_BACK_OFF)
                continue
            fresh = [(id, fields) for id, fields in entries if id not in holding]
            for id, _ in fresh:
                holding.add(id)
            for id, fields in fresh:
                yield self._delivery(id, fields, consumer, me, holding)

    async def _make_group(self, consumer: str) -> None:
        try:
            await self._redis.xgroup_create(self._topic, consumer, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _mine(self, consumer: str, me: str, holding: Holding[bytes]) -> list[_Entry]:
        """What stands in this name and is not in hand: the reply that brought it was lost."""
        found: list[_Entry] = []
        start: bytes | str = "0"
        while page := _entries(await self._redis.xreadgroup(consumer, me, {self._topic: start}, count=_ALL)):
            # One that was trimmed has no fields; it is told of when it is claimed.
            found += [(id, fields) for id, fields in page if fields and id not in holding]
            start = page[-1][0]
        return found

    async def _claim_in_turn(self, consumer: str, me: str, room: int) -> list[_Entry]:
        """What others have left lying for too long, up to the first that has not lain for as long.

        Of two processes that died one after the other, the later one may hold what is older: it comes first.
        """
        idle = int(self._redeliver_after * 1000)
        left: list[bytes | str | int] = []
        start = b"-"
        while len(left) < room:
            page: list[Any] = await self._redis.xpending_range(self._topic, consumer, start, "+", _ALL)
            for entry in page:
                if entry["consumer"] == me.encode():
                    continue
                if entry["time_since_delivered"] < idle:
                    page = []
                    break
                left.append(entry["message_id"])
            if len(page) < _ALL:
                break
            start = b"(" + page[-1]["message_id"]
        if not left:
            return []
        entries: Any = await self._redis.xclaim(self._topic, consumer, me, idle, [*left[:room]])
        return await self._there(consumer, entries, 0)

    async def _claim(self, consumer: str, me: str, room: int) -> list[_Entry]:
        """What others have left lying for too long, oldest first."""
        start: bytes | str = "0-0"
        while True:
            start, entries, *trimmed = await self._redis.xautoclaim(
                self._topic, consumer, me, int(self._redeliver_after * 1000), start, count=room
            )
            found = await self._there(consumer, entries, len(trimmed[0]) if trimmed else 0)
            if found or start == b"0-0":
                return found

    async def _there(self, consumer: str, entries: Sequence[_Entry], trimmed: int) -> list[_Entry]:
        """The entries that are still in the stream; of the others it is told that they were trimmed."""
        gone = [id for id, fields in entries if not fields]  # as Redis 6.2 tells of what was trimmed
        if gone:
            await self._redis.xack(self._topic, consumer, *gone)
        if number := len(gone) + trimmed:
            log.error(
                "%s had not handled %d events of %s when they were trimmed", consumer, number, self._topic
            )
        return [(id, fields) for id, fields in entries if fields]

    async def _refresh(self, consumer: str, me: str, holding: Holding[bytes]) -> None:
        """Say that what is in hand is still at work, unless another consumer has taken it over."""
        if len(holding):
            mine = await self._redis.xpending_range(self._topic, consumer, "-", "+", _ALL, me)
            if ids := [entry["message_id"] for entry in mine if entry["message_id"] in holding]:
                await self._redis.xclaim(self._topic, consumer, me, 0, [*ids], justid=True)

    async def _give_back(self, consumer: str, me: str, ids: Sequence[bytes | str | int]) -> None:
        """Redis knows no nack: make them look as old as what a dead consumer left."""
        if ids:
            idle = int(self._redeliver_after * 1000) + 1
            await self._redis.xclaim(self._topic, consumer, me, 0, [*ids], idle=idle, justid=True)

    def _delivery(
        self, id: bytes, fields: Mapping[bytes, bytes], consumer: str, me: str, holding: Holding[bytes]
    ) -> Delivery:
        async def settle(by_acknowledging: bool) -> None:
            holding.discard(id)
            try:
                if by_acknowledging:
                    await self._redis.xack(self._topic, consumer, id)
                else:
                    await self._give_back(consumer, me, [id])
            except (RedisError, OSError, TimeoutError) as error:
                raise BrokerUnavailable(self._say(error)) from None

        data = fields.get(b"data") or None
        headers = {
            name.decode(errors="replace"): value.decode(errors="replace")
            for name, value in fields.items()
            if name != b"data"
        }
        return Delivery(
            headers, data, lambda: decode(headers, data), lambda: settle(True), lambda: settle(False)
        )

    # ------------------------------------------------------------------------------------------- errors

    def _is_away(self, error: Exception) -> bool:
        return isinstance(error, _AWAY) or str(error).startswith(_AWAY_CODES)

    def _say(self, error: Exception) -> str:
        return f"Redis at {self._shown}: {error!r}"


def encode(event: CloudEvent) -> dict[Any, Any]:
    """The fields of an event."""
    fields: dict[Any, Any] = {_PREFIX + name: value for name, value in event.attributes().items()}
    return fields | {"data": event.data or b""}


def decode(headers: Mapping[str, str], data: bytes | None) -> CloudEvent:
    """The event in an entry.

    Raises:
        BadEvent: there is none.
    """
    attributes = {
        name.removeprefix(_PREFIX): value for name, value in headers.items() if name.startswith(_PREFIX)
    }
    return read(attributes, headers.get("content-type"), data)


def _entries(reply: Any) -> list[_Entry]:
    """The entries in a reply about one stream; it is a mapping or a list of pairs, as the versions go."""
    return [entry for entries in dict(reply or ()).values() for entry in entries]
