"""A worker: leases due messages, runs their handlers, completes them; and stays right whatever dies.

One event loop, five connections: one leases, one completes, one does the upkeep (`upkeep.py`), one keeps the worker
alive whatever the others wait for, one listens.
The heart is `_lease`: it is never asleep while there is room and a queue that may hold something ("hungry").
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
import math
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mainstay.patterns.errors import Misuse, PatternError
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.completion import Completion, as_json, failure
from mainstay.patterns.messages.driver import Link, transaction
from mainstay.patterns.messages.event_loop import timed
from mainstay.patterns.messages.handler import GiveUp, Handler, NotNow, TryAgain
from mainstay.patterns.messages.message import AT_WORK, LeaseLost, Message
from mainstay.patterns.messages.statements import load
from mainstay.patterns.messages.upkeep import Upkeep
from mainstay.patterns.schema import check
from mainstay.patterns.serialization_retry import sqlstate

if TYPE_CHECKING:
    from mainstay.patterns.messages.engine import Engine
    from mainstay.patterns.transaction import Transaction

log = logging.getLogger("mainstay.messages")
SQL = load(__package__)

FIRST_POLL = 0.02
"""Seconds after falling asleep until the first look; each further one follows after twice the time, up to `poll`.

A publisher that looked for sleeping workers before this one fell asleep, and commits after, wakes nobody. By doubling,
its message is found within about as much time as its transaction took."""
SIP = 0.005
"""Seconds at least between two leases while less than a quarter of the slots is free: a few at a time cost the most."""
MOST_THREADS = 32
"""Plain functions at work at once in one worker."""
FULL = 1.0
"""Seconds until a queue is looked at again that was at its limit of messages at work."""
RECOUNT = 5.0
"""Seconds between two looks for leases of which this worker has never heard."""
QUEUES_AT_ONCE = 64
"""How many queues one lease statement looks into."""


class ReadOnlyDatabase(PatternError):
    """A worker was started on a database that takes no writes, such as a standby."""


class Running:
    """An attempt under way."""

    __slots__ = ("begun", "deadline", "handler", "held", "message", "task", "why")

    def __init__(self, message: Message, handler: Handler) -> None:
        self.message = message
        self.handler = handler
        # What waits for a connection or a thread has not begun: its time counts from then on.
        waits = handler.transactional or handler.blocking
        self.deadline = math.inf if waits else time.monotonic() + handler.timeout
        self.task: asyncio.Task[None] | None = None
        self.begun = False
        self.held = ""
        """Where it has held the event loop for too long: for how long, as a sentence."""
        self.why = ""
        """Why it was cancelled: ``timeout``, ``cancelled``, ``stopping`` or ``lost``."""

    def cancel(self, why: str) -> None:
        """End the attempt, if it has not been told so already."""
        if not self.why:
            self.why = why
            # A task cancelled before its first step never runs, not even its `finally`: it looks at `why` instead.
            if self.task is not None and self.begun:
                self.task.cancel()


class Worker:
    """Runs the handlers of `messages` until `stop` is called. Any number of workers may serve one database.

    Args:
        messages: what is handled, and the database.
        queues: the queues to serve; default: those of all handlers. Any name is taken, for messages may be published
            to queues that no handler names; `mainstay worker` refuses those that neither code nor database know.
        concurrency: handlers that may be at work at once.
        lease: seconds after its last sign of life until others may take over what this worker had leased.
        poll: seconds between looks at a quiet table, behind the notifications.
        grace: seconds that handlers may go on after `stop`; then they are cancelled and handed back.
        keep_ended: seconds for which cancelled and expired messages are kept.
        name: for people; default: host and process number.

    Raises:
        Misuse: there is no handler.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        messages: Engine,
        *,
        queues: Iterable[str] | None = None,
        concurrency: int = 100,
        lease: float = 30.0,
        poll: float = 5.0,
        grace: float = 25.0,
        keep_ended: float = 7 * 86400.0,
        name: str | None = None,
    ) -> None:
        if not messages.handlers:
            raise Misuse("there is nothing to do: register a handler before making a worker")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        for what, seconds in (("lease", lease), ("poll", poll)):
            if not 0.1 <= seconds <= 3600:
                raise ValueError(f"{what} must be between 0.1 and 3600 seconds, not {seconds}")
        self.messages = messages
        self.database = messages.database
        self.handlers = dict(messages.handlers)
        self.queues = list(dict.fromkeys(queues or (one.queue for one in self.handlers.values())))
        self.concurrency = concurrency
        self.lease_seconds = lease
        self.poll = poll
        self.grace = grace
        self.keep_ended = keep_ended
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.id = 0
        self.installation = ""
        self.finished = 0
        self.failed = 0
        self.running: dict[tuple[int, int], Running] = {}
        """By message and lease: after a long absence this worker may meet a message again that it still runs."""
        self._kinds = list(self.handlers)
        self._ready: deque[Running] = deque()
        self._hungry: set[str] = set()
        self._left_alone: set[str] = set()
        self._keyed: set[str] = set()
        """Queues in which messages with keys have been met."""
        self._order: deque[str] = deque(self.queues)
        self._served = frozenset(self.queues)
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self.started = asyncio.Event()
        """Set once messages are being taken."""
        self._idle = False
        self._last_rest = 0.0
        self._pause = FIRST_POLL
        self._looked = False
        self._held = (-math.inf, "")
        self._rate = 0.0
        self._measured = (0.0, 0)
        self._lease_took = 0.0
        self._leased_at = 0.0
        self._recounted = -math.inf
        self._transactions = asyncio.Semaphore(max(1, self.database.engine.pool.size() - 1))  # type: ignore[attr-defined]
        self._threads: ThreadPoolExecutor | None = None
        self._thread_room = asyncio.Semaphore(min(MOST_THREADS, concurrency))
        # A lease lost in a crash of the server only means that the message is due again: no need to wait for the disk.
        self._leasing = Link(self.database, "leases", settings="SET synchronous_commit = off")
        self._listening = Link(self.database, "listens")
        self.completion = Completion(self)
        self.upkeep = Upkeep(self)
        self._main: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------ life

    async def run(self) -> None:
        """Work until `stop` is called. Comes back when every lease has been completed or handed back.

        Raises:
            SchemaBehind: the tables are missing or older than this code.
            ReadOnlyDatabase: the database takes no writes as the worker begins; later on it waits instead.
        """
        await check(self.database)
        tasks: list[asyncio.Task[None]] = []
        ended = False
        try:
            await self._begin()
            tasks = [
                asyncio.create_task(self._forever(step, until), name=f"mainstay {name}")
                for name, step, until in (
                    ("leases", self._lease, self._stopping),
                    ("completes", self.completion.step, self._ended),
                    ("upkeep", self.upkeep.step, self._ended),
                    ("heartbeat", self.upkeep.heartbeat, self._ended),
                    ("listens", self._listen, self._ended),
                )
            ]
            self.started.set()
            await self._stopping.wait()
            await self._wind_down(tasks[0])
            ended = True
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not ended:
                await self._let_go()
            for link in self._links():
                await link.drop()
            for ending in self.messages.ending:
                try:
                    await ending(self)
                except Exception:
                    log.exception("worker %s: a layer could not end well", self.name)
            if self._threads is not None:
                self._threads.shutdown(wait=False)
            self._ended.set()

    def stop(self) -> None:
        """Take nothing more; finish what is at work within `grace` seconds, hand back the rest. Again: at once."""
        if self._stopping.is_set():
            self.grace = 0.0
            for one in list(self.running.values()):
                one.cancel("stopping")
        self._stopping.set()
        self._wake.set()

    async def __aenter__(self) -> Self:
        """Run in the background until the block ends."""
        self._main = asyncio.create_task(self.run())
        started = asyncio.create_task(self.started.wait())
        await asyncio.wait((self._main, started), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._main.done():
            self._main.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._stopping.is_set():
            self.stop()
        if self._main is not None:
            await self._main

    async def _begin(self) -> None:
        self.installation = (await self.upkeep.link.fetch(SQL["installation"]))[0][0]
        try:
            await self.register()
        except Exception as error:
            if sqlstate(error) == "25006":
                raise ReadOnlyDatabase(
                    "the database is read-only (a standby?), and a worker has to write: give it the URL of the primary"
                ) from error
            raise
        for starting in self.messages.starting:
            await starting(self)
        await self.upkeep.read_limits()
        self._hungry.update(self._served)

    async def register(self) -> None:
        """Become a worker, or a new one where the old has been declared gone."""
        rows = await self.upkeep.link.fetch(
            SQL["register_worker"], name=self.name, lease=self.lease_seconds, info=json.dumps(self.info())
        )
        self.id, self._idle = rows[0][0], False

    def lost(self) -> None:
        """Others have taken over what was leased here: drop it, whatever state it is in."""
        log.warning(
            "worker %s was away for more than %s s and has been declared gone: what it had leased is others' by now",
            self.name,
            self.lease_seconds,
        )
        at, culprit = self._held
        lost = [one.message for one in (*self.running.values(), *self._ready) if not one.held]
        lost += self.completion.forget()
        for one in list(self.running.values()):
            one.cancel("lost")
        self._ready.clear()
        if time.monotonic() - at < 2 * self.lease_seconds:
            for message in lost:
                self.completion.explain(
                    message, f"its worker {self.name} seemed to have gone away: {culprit}"
                )

    def info(self) -> dict[str, Any]:
        """What is shown of this worker."""
        return {
            "queues": self.queues,
            "concurrency": self.concurrency,
            "running": len(self.running),
            "finished": self.finished,
            "failed": self.failed,
        }

    async def _forever(self, step: Callable[[], Awaitable[None]], until: asyncio.Event) -> None:
        """Repeat a step. The database may be away for any time: wait longer and longer, up to 5 s, and go on."""
        pause = 0.1
        while not until.is_set():
            try:
                await step()
                pause = 0.1
            except Exception as error:
                if until.is_set():
                    return
                log.warning("worker %s: %s; trying again in %.1f s", self.name, _brief(error), pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _wind_down(self, leasing: asyncio.Task[None]) -> None:
        # A lease may be on its way: what it brings must be handed back before this worker takes its leave.
        await asyncio.wait((leasing,), timeout=5.0)
        while self._ready:
            self.completion.hand_back(self._ready.popleft().message)
        tasks = [one.task for one in self.running.values() if one.task is not None]
        if tasks and self.grace > 0:
            await asyncio.wait(tasks, timeout=self.grace)
        await self._let_go()
        # Where the database is away, others take over when the lease has run out.
        try:
            if not leasing.done():
                raise TimeoutError("its last lease has not come back")
            async with asyncio.timeout(10.0):
                await self.completion.flushed()
                await self.upkeep.link.fetch(SQL["remove_worker"], worker=self.id)
        except Exception as error:
            log.warning(
                "worker %s could not take its leave (%s); its leases will run out", self.name, _brief(error)
            )

    async def _let_go(self) -> None:
        """Cancel what is still at work: nothing of it may go on behind this worker's back."""
        for one in list(self.running.values()):
            one.cancel("stopping")
        tasks = [one.task for one in self.running.values() if one.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)

    def _links(self) -> Sequence[Link]:
        return (
            self._leasing,
            self._listening,
            self.completion.link,
            self.upkeep.link,
            self.upkeep.pulse,
        )

    # --------------------------------------------------------------------------------------- leasing

    def feed(self, queues: Iterable[str]) -> None:
        """These queues may hold something."""
        served = self._served.intersection(queues) - self._left_alone
        if served:
            self._hungry |= served
            self._wake.set()

    def leave_alone(self, queue: str, seconds: float) -> None:
        """Take nothing from this queue for so long: what its messages need is away."""
        if queue not in self._left_alone:
            self._left_alone.add(queue)
            asyncio.get_running_loop().call_later(seconds, self._come_back, queue)

    def _come_back(self, queue: str) -> None:
        self._left_alone.discard(queue)
        self.feed((queue,))

    def room(self) -> None:
        """There may be room for more."""
        self._wake.set()

    async def _lease(self) -> None:
        if time.monotonic() - self._recounted >= RECOUNT:
            await self._recount()
        self._hungry -= self._left_alone
        # Ahead of the free slots, as many as will become free while the statement is on its way.
        room = self.concurrency + min(self.concurrency, int(self._rate * self._lease_took))
        # What is done and not yet written down counts too, or a crash would repeat all of it.
        room -= len(self.running) + len(self._ready) + max(0, self.completion.due - self.concurrency)
        asked = [name for name in self._order if name in self._hungry][:QUEUES_AT_ONCE] if room > 0 else []
        if room > 0 and not asked:
            await self._rest()
            return
        if not asked:
            self._wake.clear()
            await self._woken(RECOUNT)
            return
        if room * 4 < self.concurrency and (early := self._leased_at + SIP - time.monotonic()) > 0:
            await asyncio.sleep(early)
            return
        if self._idle and time.monotonic() - self._last_rest > 1.0:
            self._idle = False
            await self._leasing.fetch(SQL["set_idle"], worker=self.id, idle=False)
        limited, keyed = asked[0] in self.upkeep.limited, asked[0] in self._keyed
        if limited:
            asked = asked[:1]
        else:
            asked = [
                name for name in asked if name not in self.upkeep.limited and (name in self._keyed) == keyed
            ]
        self._hungry.difference_update(asked)
        begun = time.monotonic()
        try:
            if limited:
                rows = await self._lease_limited(asked[0], room)
            else:
                rows = await self._leased(asked, room, False)
        except BaseException:
            self._hungry.update(asked)
            self._recounted = -math.inf  # the server may have done it
            raise
        self._measure(begun)
        self._leased_at = self._measured[0]
        self._looked = self._looked and not rows
        if rows:
            # Full: what was asked after the last queue that gave may hold more, and that one too. And it goes last.
            last = rows[-1][3]
            if len(rows) >= room:
                self._hungry.update(asked[asked.index(last) :])
            self._order.remove(last)
            self._order.append(last)
        for row in rows:
            if row[1]:
                self._take(row)
            else:
                self._hungry.add(row[3])
                self._keyed.add(row[3])

    async def _leased(self, queues: Sequence[str], most: int, locked: bool) -> Sequence[Sequence[Any]]:
        statement = SQL["lease" if queues[0] in self._keyed else "lease_plain"]
        return await self._leasing.fetch(
            statement, worker=self.id, queues=queues, kinds=self._kinds, most=most, locked=locked
        )

    async def _lease_limited(self, queue: str, most: int) -> Sequence[Sequence[Any]]:
        """Lease from a queue with limits over all workers: one worker at a time, counting first."""
        loop = asyncio.get_running_loop()
        async with transaction(self._leasing):
            if not await self._leasing.fetch(SQL["lock_limited_queue"], queue=queue):
                if queue in self.upkeep.limited:
                    loop.call_later(0.02, self.feed, (queue,))
                return ()
            room, wait = (await self._leasing.fetch(SQL["room_in_limited_queue"], queue=queue, most=most))[0]
            if room == 0:
                # Others' completions free room without a word, so look again.
                wait = wait if wait is not None and wait > 0 else min(FULL, self.poll)
                loop.call_later(wait, self.feed, (queue,))
                return ()
            rows = await self._leased([queue], room, True)
            if started := sum(1 for row in rows if row[1]):
                await self._leasing.fetch(SQL["count_starts"], queue=queue, started=started)
            if len(rows) >= room:
                self._hungry.add(queue)
            return rows

    def _measure(self, begun: float) -> None:
        now = time.monotonic()
        self._lease_took = now - begun
        at, finished = self._measured
        if now > at:
            self._rate += 0.3 * ((self.finished - finished) / (now - at) - self._rate)
        self._measured = (now, self.finished)

    async def _rest(self) -> None:
        """Nothing to take: ask to be woken, look once more, and sleep."""
        self._wake.clear()
        if not self._idle:
            await self._leasing.fetch(SQL["set_idle"], worker=self.id, idle=True)
            self._idle = True
            self._pause = FIRST_POLL
        self._last_rest = time.monotonic()
        # What is there and was not given (its queue paused or full, its kind unknown) is looked at again after a pause.
        if not self._looked:
            self._looked = True
            self.feed(row[0] for row in await self._leasing.fetch(SQL["queues_with_work"]))
            if self._hungry:
                return
        pause, self._pause = self._pause, min(self._pause * 2, self.poll)
        await self._woken(pause)
        self._looked = False
        self._last_rest = time.monotonic()
        self._measured = (self._last_rest, self.finished)

    async def _woken(self, most: float) -> None:
        """Sleep until woken, for `most` seconds."""
        timer = asyncio.get_running_loop().call_later(most, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _recount(self) -> None:
        """Give back what was leased for this worker by a statement whose answer got lost on its way.

        Only here, where no lease is on its way. What is done meanwhile is not running any more.
        """
        known = [*self.running, *((one.message.id, one.message.lease) for one in self._ready)]
        known += self.completion.known()
        rows = await self._leasing.fetch(
            SQL["hand_back_unknown"],
            worker=self.id,
            ids=[id for id, _ in known],
            leases=[lease for _, lease in known],
        )
        self._recounted = time.monotonic()
        if rows:
            log.warning(
                "worker %s: a lease of %s messages had never been heard of here, and they are due again",
                self.name,
                len(rows),
            )
            self.feed(row[1] for row in rows)

    async def _listen(self) -> None:
        def notified(channel: str, payload: str) -> None:
            if channel == "mainstay_messages":
                self._pause = FIRST_POLL
                self.feed((payload,))
            else:
                self.upkeep.hurry()

        driver = await self._listening.driver()

        def listening() -> None:
            self.feed(self.queues)  # what was published while nobody listened

        try:
            await driver.listen(("mainstay_messages", "mainstay_control"), notified, listening)
        finally:
            await self._listening.drop()
        raise ConnectionError("the connection that listens has ended")

    # --------------------------------------------------------------------------------------- running

    def _take(self, row: Sequence[Any]) -> None:
        id, lease, attempt, queue, kind, payload, headers, key, published_at, expired, unique_held = row
        handler = self.handlers[kind]
        message = Message(
            id,
            lease,
            attempt,
            queue,
            kind,
            payload,
            headers,
            key,
            published_at,
            unique_held,
            handler.transactional,
            self,
        )
        if expired:
            self.completion.end(message, "expired")
        elif attempt > handler.retry.attempts:
            # The last attempt never came back: its worker went away with it.
            self.completion.fail(
                message, failure(message, f"given up after {attempt - 1} attempts", self.name), None
            )
        elif self._stopping.is_set():
            self.completion.hand_back(message)
        else:
            self._ready.append(Running(message, handler))
            self._start()

    def _start(self) -> None:
        while self._ready and len(self.running) < self.concurrency:
            one = self._ready.popleft()
            self.running[one.message.id, one.message.lease] = one
            one.task = asyncio.create_task(self._attempt(one))

    async def _attempt(self, one: Running) -> None:
        message, handler = one.message, one.handler
        one.begun = True
        AT_WORK.set(message)  # in the context of this task alone
        try:
            if one.why:
                raise asyncio.CancelledError
            if handler.transactional:
                async with self._transactions:
                    one.deadline = time.monotonic() + handler.timeout
                    await self.database.run(partial(self._in_transaction, one))
            else:
                if handler.blocking:
                    result = await self._in_thread(one)
                else:
                    result = await self._timed(one, handler.call, message)
                if not message._completed:
                    self.completion.succeed(message, handler, result)
            self.finished += 1
        except LeaseLost as error:
            log.warning("%r: %s", message, error)
        except BaseException as error:
            try:
                self._failed(one, error)
            except Exception as odd:  # a message of which nothing is written down would stay at work for ever
                log.exception("%r failed, and what it raised cannot be told", message)
                self.completion.fail(
                    message, failure(message, odd, self.name), handler.retry.delay(message.attempt)
                )
            if isinstance(error, GeneratorExit):
                raise
        finally:
            del self.running[message.id, message.lease]
            if one.held:
                self.completion.explain(
                    message, f"its worker {self.name} seemed to have gone away: it {one.held}"
                )
            if self._ready:
                self._start()
            self._wake.set()

    def _failed(self, one: Running, error: BaseException) -> None:
        message, handler = one.message, one.handler
        if isinstance(error, asyncio.CancelledError) and one.why:
            match one.why:
                case "lost":
                    return
                case "stopping":
                    self.completion.hand_back(message)
                    return
                case "cancelled":
                    self.completion.end(message, "cancelled")
                    return
            error = TimeoutError(f"not done within {handler.timeout:g} s")
        if isinstance(error, NotNow):
            self.completion.postpone(message, str(error), error.after)
            if error.whole_queue:
                self.leave_alone(message.queue, error.after)
            return
        self.failed += 1
        delay = handler.retry.delay(message.attempt)
        match error:
            case GiveUp():
                delay = None
            case TryAgain() if delay is not None:
                delay = max(0.0, error.after)
        if isinstance(error, TryAgain) and error.instead is not None:
            error = error.instead
        self.completion.fail(message, failure(message, error, self.name), delay)
        log.warning(
            "%r failed (%s); %s",
            message,
            _brief(error),
            "it is dead" if delay is None else f"next attempt in {delay:.1f} s",
        )

    async def _timed(self, one: Running, call: Callable[..., Any], *arguments: Any) -> Any:
        # Heartbeats follow after a third of the lease: what is held for half of it may cost the lease.
        return await timed(
            call, *arguments, limit=self.lease_seconds / 2, tell=partial(self._tell_of_hold, one)
        )

    def _tell_of_hold(self, one: Running, seconds: float) -> None:
        one.held = (
            f"held the event loop for {seconds:.1f} s, and the lease is {self.lease_seconds:g} s: make it a plain"
            " function, which runs in a thread, or put what computes or blocks into asyncio.to_thread"
        )
        self._held = (time.monotonic(), f"{one.message!r} {one.held}")
        log.error("worker %s: %s", self.name, self._held[1])

    @asynccontextmanager
    async def in_turn(self, message: Message) -> AsyncIterator[None]:
        """Hold one of the connections that handlers share. The wait for it does not count to the handler's time."""
        one = self.running.get((message.id, message.lease))
        left = math.inf
        if one is not None:
            left, one.deadline = one.deadline - time.monotonic(), math.inf
        async with self._transactions:
            if one is not None:
                one.deadline = time.monotonic() + left
            yield

    async def _in_transaction(self, one: Running, tx: Transaction) -> None:
        message = one.message
        message._result = None
        result = await self._timed(one, one.handler.call, message, tx)
        if message._result is not None:
            (result,) = message._result
        await self.complete_in(tx, message, result)

    async def _in_thread(self, one: Running) -> Any:
        if self._threads is None:
            most = min(MOST_THREADS, self.concurrency)
            self._threads = ThreadPoolExecutor(most, thread_name_prefix="mainstay")
        async with self._thread_room:
            one.deadline = time.monotonic() + one.handler.timeout
            call = partial(contextvars.copy_context().run, one.handler.call, one.message)
            result = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        if inspect.iscoroutine(result):
            result.close()
            raise Misuse(
                f"the handler of {one.message.kind} was called in a thread, as a plain function, and returned a"
                " coroutine that nobody awaits, so it has done nothing; make it (or what wraps it) async def"
            )
        return result

    async def complete_in(self, tx: Transaction, message: Message, result: Any) -> None:
        """Complete a message in the transaction of its handler."""
        name, values = self.completion.success(message, self.handlers[message.kind], result)
        if not await connections.fetch(tx, SQL[name], {"worker": self.id, **values}):
            raise LeaseLost("its lease has gone to another worker, so this attempt is rolled back")
        if message.key is not None or message.queue in self.upkeep.limited:
            tx.after_commit(partial(self.feed, (message.queue,)))

    async def report_progress(self, message: Message, progress: Any) -> None:
        """Store the progress of a running message."""
        values = {
            "id": message.id,
            "lease": message.lease,
            "worker": self.id,
            "progress": as_json(progress, "the progress"),
        }
        if not await self.upkeep.link.fetch(SQL["report_progress"], **values):
            raise LeaseLost("its lease has gone to another worker")


def _brief(error: BaseException) -> str:
    try:
        # Half a surrogate pair would break the log's own encoding.
        text = str(error).strip().partition("\n")[0].encode(errors="replace").decode()
    except Exception:
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
