"""The way out: a subscriber that sends events on to a broker.

Handlers of many messages meet in one call of `Broker.publish`: while one call is on its way, the next batch gathers.
The engine runs one message of a key at a time, so order per key needs nothing more. A broker that is away is nobody's
fault: messages go back uncounted, the worker leaves the queue alone, and one message at a time tries it again.
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mainstay.patterns.brokers.broker import Broker, BrokerUnavailable, PublishError, Refused
from mainstay.patterns.brokers.cloudevent import PARTITION_KEY, CloudEvent
from mainstay.patterns.errors import Misuse
from mainstay.patterns.events.event import Event
from mainstay.patterns.events.subscriptions import EVERY
from mainstay.patterns.messages.handler import Handler, NotNow, Retry
from mainstay.patterns.messages.message import CAUSED_BY, Message

if TYPE_CHECKING:
    from mainstay.patterns.messages.facade import Messages
    from mainstay.patterns.messages.worker import Worker

log = logging.getLogger("mainstay.events")

AT_ONCE = 500
"""Events in one call of the broker at most."""
FIRST_PAUSE = 0.5
"""Seconds until a broker that is away is tried again; then twice as long each time, …"""
LONGEST_PAUSE = 30.0
"""… up to this."""
TIMEOUT = 120.0
"""Seconds for one attempt; the broker's own time-out comes long before."""

_NAMES = {"correlation": "correlationid", "causation": "causationid"}
"""Headers whose CloudEvents extension has another name (CloudEvents, Correlation extension)."""
_NOT_SENT = frozenset({"event", "version", "id", "source", "time", CAUSED_BY})


class Relay:
    """Sends messages of events to one broker.

    Args:
        source: the CloudEvents source; None: a URN with the id of the database's installation.
    """

    def __init__(
        self,
        broker: Broker,
        name: str,
        source: str | None,
        *,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._broker = broker
        self._name = name
        self._source = source
        self._random = random
        self._waiting: list[tuple[CloudEvent, asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._pause = 0.0
        self._away_until = 0.0
        self._trying = False

    async def start(self, worker: Worker) -> None:
        """Get ready to send from this worker."""
        if self._source is None:
            self._source = f"urn:uuid:{worker.installation}"
        await self._broker.__aenter__()

    async def send(self, message: Message) -> None:
        """The handler: returns when the broker has confirmed the event.

        Raises:
            NotNow: the broker is away.
            Refused: it will not take the event.
            BadEvent: the event cannot be told as a CloudEvent.
        """
        assert self._source is not None  # a worker has started
        event = cloud_event(message, self._source)
        if self._pause:
            self._refuse_while_away()
            self._trying = True  # this one looks whether the broker is back
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, done))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all(), name=f"mainstay {self._name}")
        await done

    def _refuse_while_away(self) -> None:
        left = self._away_until - asyncio.get_running_loop().time()
        if left > 0 or self._trying:
            raise NotNow(
                f"the broker of {self._name} is away", after=max(left, FIRST_PAUSE), whole_queue=True
            )

    async def _send_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            batch = [(event, done) for event, done in batch if not done.done()]
            if not batch:  # all were cancelled; so nobody has looked whether the broker is back
                self._trying = False
                continue
            try:
                await self._broker.publish([event for event, _ in batch])
            except PublishError as error:
                self._settle(batch, error)
            except BaseException as error:
                self._trying = False
                for _, done in (*batch, *self._waiting):
                    if not done.done():
                        done.set_exception(
                            error if isinstance(error, Exception) else ConnectionError("ended")
                        )
                self._waiting = []
                raise
            else:
                self._back()
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)

    def _settle(self, batch: list[tuple[CloudEvent, asyncio.Future[None]]], error: PublishError) -> None:
        away = isinstance(error, BrokerUnavailable)
        if away:
            self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
            self._away_until = asyncio.get_running_loop().time() + self._pause * (1 - self._random() / 2)
            self._trying = False
            log.warning("%s: %s; trying again in up to %g s", self._name, error, self._pause)
            # Those that gathered meanwhile would only wait for the same time-out.
            batch = [*batch, *self._waiting]
            self._waiting = []
        else:
            self._back()
        confirmed = set(error.confirmed)
        after = max(FIRST_PAUSE, self._away_until - asyncio.get_running_loop().time())
        for event, done in batch:
            if done.done():
                continue
            if event in confirmed:
                done.set_result(None)
            elif event in error.refused:
                done.set_exception(Refused(error.refused[event]))
            else:
                done.set_exception(NotNow(str(error), after=after, whole_queue=away))

    def _back(self) -> None:
        if self._pause:
            log.warning("%s: the broker is back", self._name)
        self._pause = self._away_until = 0.0
        self._trying = False

    async def close(self, worker: Worker) -> None:
        """Give the connection back as a worker ends; another one in this process makes its own."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        await self._broker.__aexit__(None, None, None)


def register(
    messages: Messages,
    broker: Broker,
    events: Sequence[type[Event]] | None,
    *,
    name: str,
    source: str | None,
    queue: str | None,
    retry: Retry | None,
) -> None:
    """See `Messages.relay`."""
    if events is not None and not events:
        raise Misuse("relay which events? Name some, or leave events out to relay all")
    relay = Relay(broker, name, source)
    messages.subscriptions().add(
        Handler(kind=name, call=relay.send, queue=queue or name, retry=retry or Retry(), timeout=TIMEOUT),
        {EVERY: None} if events is None else {event.event_name: event for event in events},
        relay=True,
    )
    messages.starting.append(relay.start)
    messages.ending.append(relay.close)


def cloud_event(message: Message, source: str) -> CloudEvent:
    """The event of a message as the world outside sees it.

    Its type is ``<name>.v<version>``, its id the event's own, the same for every subscriber and in every attempt.

    Raises:
        BadEvent: a header or the key breaks a rule of CloudEvents.
    """
    headers = message.headers
    extensions = {_NAMES.get(name, name): value for name, value in headers.items() if name not in _NOT_SENT}
    if message.key is not None:
        extensions[PARTITION_KEY] = message.key.removeprefix(f"{message.kind} ")
    return CloudEvent(
        id=headers["id"],
        source=source,
        type=f"{headers['event']}.v{headers['version']}",
        time=message.published_at,
        datacontenttype="application/json",
        data=message.payload.encode(),
        extensions=extensions,
    )
