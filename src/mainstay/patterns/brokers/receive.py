"""Take events from a broker and handle each once: consume, inbox, handler, commit, acknowledge."""

from __future__ import annotations

import asyncio
import logging
import random as _random
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from mainstay.patterns.brokers.broker import PREFETCH, Broker, BrokerUnavailable, Delivery
from mainstay.patterns.brokers.cloudevent import BadEvent, CloudEvent
from mainstay.patterns.brokers.holding import heed_cancellation
from mainstay.patterns.brokers.standby import while_alone
from mainstay.patterns.database import Database
from mainstay.patterns.errors import CommitUnknown
from mainstay.patterns.inbox import BeingReceived, Inbox
from mainstay.patterns.serialization_retry import sqlstate
from mainstay.patterns.transaction import Transaction

log = logging.getLogger("mainstay.patterns.brokers")

_QUERY_CANCELED = "57014"  # by the statement timeout: that may well be the handler's doing

Handler = Callable[[Transaction, CloudEvent], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a consumer could not handle, with all that is needed to look at it and to handle it later."""

    consumer: str
    event: CloudEvent | None
    """None where the message was no valid CloudEvent."""
    headers: Mapping[str, str]
    """The message's headers as they came."""
    data: bytes | None = field(repr=False)
    """The message's body as it came."""
    error: str = field(repr=False)
    """The traceback of the last attempt."""
    attempts: int
    """How often the handler failed; 0 where the message was no valid CloudEvent."""


async def receive(
    broker: Broker,
    database: Database,
    consumer: str,
    handler: Handler,
    *,
    dead_letter: Callable[[Transaction, DeadLetter], Awaitable[object]],
    attempts: int = 5,
    first_wait: float = 0.5,
    longest_wait: float = 30.0,
    timeout: float = 30.0,  # noqa: ASYNC109 (of one attempt, not of this call, which runs for ever)
    concurrency: int = 5,
    prefetch: int = PREFETCH,
    in_order: bool = True,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    random: Callable[[], float] = _random.random,
) -> None:
    """Handle the events of `consumer` until this call is cancelled. What is in hand then is rolled back and given back.

    For each event, in one transaction: the inbox, and if the event is new, ``await handler(tx, event)``. After its
    commit the event is acknowledged. So what the handler does through `tx` happens once, wherever a process
    dies. Events with the same key are handled one after the other in the order in which they came, also where several
    processes receive as `consumer`: with a broker that does not see to it itself (NATS, Redis) one of them is at work
    and the others stand by, as `standby.while_alone` has it.

    A handler that raises is run again, in a new transaction, while other events go on. After `attempts` failures
    ``await dead_letter(tx, letter)`` shall store the event where people see it, in a transaction with the inbox's row;
    then the event is acknowledged. Nothing is ever dropped: while storing fails, it is tried again. There is no
    store of our own behind this, so that dead events stand where the service's other failures stand.

    What is not the event's fault is not counted: the database is away, or has no connection to spare, or another
    process is handling the same event.

    Args:
        attempts: how often the handler may fail before the event is dead.
        first_wait: seconds before the second attempt at most; each further wait has twice that at most (full jitter).
        longest_wait: seconds that no wait exceeds.
        timeout: seconds for one attempt, its commit included.
        concurrency: events handled at once at most, each with a connection of the database's pool.
        prefetch: events taken from the broker and not acknowledged at most, those that wait included.
        in_order: False lets all processes be at work at once; then the order of a key is not kept (NATS, Redis).

    Raises:
        Refused: there is nothing to consume from.
        ValueError: a number makes no sense.
    """
    if attempts < 1 or concurrency < 1 or prefetch < 1:
        raise ValueError("attempts, concurrency and prefetch must be at least 1")
    if not (0 < first_wait <= longest_wait and timeout > 0):
        raise ValueError("first_wait and timeout must be above 0, and longest_wait not below first_wait")
    work = _Work(database, consumer, handler, dead_letter, attempts, timeout, asyncio.Semaphore(concurrency))

    async def wait(times: int) -> None:
        await sleep(random() * min(longest_wait, first_wait * 2.0 ** min(times - 1, 30)))

    go = partial(_receive, broker, consumer, prefetch, work, wait)
    if in_order and not broker.keeps_order:
        await while_alone(database, f"{consumer} receives from {broker.place}", go)
    else:
        await go()


async def _receive(
    broker: Broker, consumer: str, prefetch: int, work: _Work, wait: Callable[[int], Awaitable[None]]
) -> None:
    tasks: set[asyncio.Task[None]] = set()
    last_of_key: dict[str, asyncio.Task[None]] = {}
    async with broker.consume(consumer, prefetch=prefetch) as deliveries:
        try:
            async for delivery in deliveries:
                heed_cancellation()
                # A broker that lost the connection forgets what it had handed out, and we are still at work on it.
                while len(tasks) >= prefetch:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                event = _read(delivery)
                key = event.key if isinstance(event, CloudEvent) else None
                before = None if key is None else last_of_key.get(key)
                task = asyncio.create_task(work.settle(delivery, event, before, wait))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                if key is not None:
                    last_of_key[key] = task
                    task.add_done_callback(partial(_forget, last_of_key, key))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class _Work:
    """What is the same for every event."""

    database: Database
    consumer: str
    handler: Handler
    dead_letter: Callable[[Transaction, DeadLetter], Awaitable[object]]
    attempts: int
    timeout: float
    room: asyncio.Semaphore

    async def settle(
        self,
        delivery: Delivery,
        event: CloudEvent | BadEvent,
        before: asyncio.Task[None] | None,
        wait: Callable[[int], Awaitable[None]],
    ) -> None:
        """Handle or bury the event, however long it takes, and acknowledge it."""
        if before is not None:
            await asyncio.wait([before])
        if isinstance(event, BadEvent):
            await self._bury(
                DeadLetter(self.consumer, None, delivery.headers, delivery.data, str(event), 0), wait
            )
        elif (error := await self._handle(event, wait)) is not None:
            letter = DeadLetter(self.consumer, event, delivery.headers, delivery.data, error, self.attempts)
            await self._bury(letter, wait)
        try:
            await delivery.ack()
        except BrokerUnavailable as unavailable:
            log.info("an event that is done will be delivered again, without effect: %s", unavailable)

    async def _handle(self, event: CloudEvent, wait: Callable[[int], Awaitable[None]]) -> str | None:
        """None once the handler's transaction has committed; the last traceback once it is given up."""
        inbox = Inbox(self.consumer)
        failures = times = 0
        while True:
            heed_cancellation()
            started = False

            async def attempt(tx: Transaction) -> None:
                nonlocal started
                started = False
                if await inbox.accept(tx, event.source, event.id):
                    started = True
                    await self.handler(tx, event)

            try:
                async with self.room, asyncio.timeout(self.timeout):
                    await self.database.run(attempt)
                return None
            except (Exception, asyncio.CancelledError) as error:  # whatever a handler raises
                heed_cancellation()  # else it came out of something that the handler had awaited
                times += 1
                failures += not _passing(error, started)
                log.warning(
                    "%s could not handle event %s of %s (failure %d of %d): %r",
                    self.consumer, event.id, event.source, failures, self.attempts, error,
                )  # fmt: skip
                if failures >= self.attempts:
                    return "".join(traceback.format_exception(error))
            await wait(times)

    async def _bury(self, letter: DeadLetter, wait: Callable[[int], Awaitable[None]]) -> None:
        async def attempt(tx: Transaction) -> None:
            if letter.event is None or await self._is_new(tx, letter.event):
                await self.dead_letter(tx, letter)

        times = 0
        while True:
            heed_cancellation()
            try:
                async with self.room, asyncio.timeout(self.timeout):
                    await self.database.run(attempt)
                return
            except (
                Exception,
                asyncio.CancelledError,
            ):  # whatever the hook raises; the event must not get lost
                heed_cancellation()
                times += 1
                log.exception("%s could not store a dead event, and will try again", self.consumer)
            await wait(times)

    async def _is_new(self, tx: Transaction, event: CloudEvent) -> bool:
        try:
            return await Inbox(self.consumer).accept(tx, event.source, event.id)
        except ValueError:  # a name too long for the inbox is why it is dead
            return True


def _read(delivery: Delivery) -> CloudEvent | BadEvent:
    try:
        return delivery.event()
    except BadEvent as error:
        return error


def _forget(last_of_key: dict[str, asyncio.Task[None]], key: str, task: asyncio.Task[None]) -> None:
    if last_of_key.get(key) is task:
        del last_of_key[key]


def _passing(error: BaseException, started: bool) -> bool:
    """Whether the event is not to blame: before the handler began, or because the database went away."""
    if not started:
        return not isinstance(error, ValueError)
    if isinstance(error, DBAPIError):
        state = sqlstate(error) or ""
        # Appendix A of the PostgreSQL manual: connection, resources, operator intervention.
        return error.connection_invalidated or (state[:2] in ("08", "53", "57") and state != _QUERY_CANCELED)
    return isinstance(error, CommitUnknown | BeingReceived | NoConnectionFree)
