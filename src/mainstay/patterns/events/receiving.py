"""The way in: events from a broker become messages for this service's subscribers, each once.

The transaction that remembers the event in the inbox puts its messages on the table, and is committed before the
broker hears of it. From there on they are like any others. What cannot be read is kept as a dead message.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mainstay.patterns.brokers.broker import Broker, Refused
from mainstay.patterns.brokers.cloudevent import PARTITION_KEY, CloudEvent
from mainstay.patterns.brokers.holding import heed_cancellation
from mainstay.patterns.brokers.receive import DeadLetter, receive
from mainstay.patterns.database import Database
from mainstay.patterns.errors import Misuse
from mainstay.patterns.events.event import Event, versioned
from mainstay.patterns.events.publishing import SQL, Draft, values
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.message import NewMessage, as_storable_json
from mainstay.patterns.transaction import Transaction

if TYPE_CHECKING:
    from mainstay.patterns.messages.facade import Messages
    from mainstay.patterns.messages.worker import Worker

log = logging.getLogger("mainstay.events")

LONGEST_PAUSE = 60.0
"""Seconds between two attempts to consume where the broker says that there is nothing to consume from."""

_NAMES = {"correlationid": "correlation", "causationid": "causation"}


class Receiver:
    """Takes the events of some classes from a broker, in every worker that runs."""

    def __init__(
        self, database: Database, broker: Broker, consumer: str, events: Sequence[type[Event]]
    ) -> None:
        self._database = database
        self._broker = broker
        self._consumer = consumer
        self._events: Mapping[str, type[Event]] = {event.event_name: event for event in events}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self, worker: Worker) -> None:
        """Begin to receive."""
        await self._broker.__aenter__()
        self._tasks[id(worker)] = asyncio.create_task(self._run(), name=f"mainstay {self._consumer}")

    async def close(self, worker: Worker) -> None:
        """Stop receiving: what is in hand is rolled back and given back."""
        task = self._tasks.pop(id(worker), None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._broker.__aexit__(None, None, None)

    async def _run(self) -> None:
        pause = 1.0
        while True:
            try:
                await receive(
                    self._broker, self._database, self._consumer, self.take, dead_letter=self._keep_dead
                )
            except Refused as error:
                log.error("%s cannot receive: %s; trying again in %g s", self._consumer, error, pause)
            except (Exception, asyncio.CancelledError):
                heed_cancellation()  # else a client library let it out, and nobody wants this to end
                log.exception("%s stopped receiving; trying again in %g s", self._consumer, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def take(self, tx: Transaction, event: CloudEvent) -> None:
        """Put the event on the table for its subscribers; nothing where its type is none of those wanted."""
        name, version = versioned(event.type)
        if name not in self._events:
            name, version = event.type, 1
        if name not in self._events:
            return
        headers = {
            **{
                _NAMES.get(key, key): value for key, value in event.extensions.items() if key != PARTITION_KEY
            },
            "event": name,
            "version": str(version),
            "id": event.id,
            "source": event.source,
        }
        headers.setdefault("correlation", event.id)
        if event.time is not None:
            headers["time"] = event.time.isoformat()
        message = NewMessage(kind=name, payload=_json(event), key=event.key, headers=headers)
        keep = self._events[name].event_keep
        await connections.fetch(tx, SQL["publish"], values([Draft(message, keep, from_outside=True)]))

    async def _keep_dead(self, tx: Transaction, letter: DeadLetter) -> None:
        payload = {
            "headers": dict(letter.headers),
            "data_base64": None if letter.data is None else base64.b64encode(letter.data).decode(),
        }
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        await connections.fetch(
            tx,
            SQL["store_undeliverable"],
            {
                "kind": self._consumer,
                "payload": as_storable_json(payload),
                "headers": as_storable_json({"event": letter.event.type} if letter.event else {}),
                "attempts": letter.attempts,
                "error": as_storable_json(
                    {"attempt": letter.attempts, "at": now, "error": letter.error[-4000:]}
                ),
            },
        )


def register(messages: Messages, broker: Broker, consumer: str, events: Sequence[type[Event]]) -> None:
    """See `Messages.receive`."""
    if not events:
        raise Misuse(f"{consumer} receives which events? Name some: receive(…, events=[PaymentCaptured])")
    receiver = Receiver(messages.database, broker, consumer, events)
    messages.subscriptions()
    messages.starting.append(receiver.start)
    messages.ending.append(receiver.close)


def _json(event: CloudEvent) -> str:
    if event.data is None:
        return "{}"
    try:
        return json.dumps(json.loads(event.data), allow_nan=False)
    except ValueError as error:
        raise ValueError(f"the data of {event.type} {event.id} is no JSON: {error}") from None
