"""A worker: leases due messages, runs their handlers, completes them; and stays right whatever dies.

One event loop, five connections: one leases, one completes, one does the upkeep (`upkeep.py`), one keeps the worker
alive whatever the others wait for, one listens.
Here are its life and the attempts of handlers; what it takes is in `leasing.py`.
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
from mainstay.patterns.messages.driver import Link
from mainstay.patterns.messages.event_loop import timed
from mainstay.patterns.messages.handler import GiveUp, Handler, NotNow, TryAgain
from mainstay.patterns.messages.leasing import Leasing
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

MOST_THREADS = 32
"""Plain functions at work at once in one worker."""


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
        self._ready: deque[Running] = deque()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self.started = asyncio.Event()
        """Set once messages are being taken."""
        self._held = (-math.inf, "")
        self._transactions = asyncio.Semaphore(max(1, self.database.engine.pool.size() - 1))  # type: ignore[attr-defined]
        self._threads: ThreadPoolExecutor | None = None
        self._thread_room = asyncio.Semaphore(min(MOST_THREADS, concurrency))
        self.leasing = Leasing(self)
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
                    ("leases", self.leasing.step, self._stopping),
                    ("completes", self.completion.step, self._ended),
                    ("upkeep", self.upkeep.step, self._ended),
                    ("heartbeat", self.upkeep.heartbeat, self._ended),
                    ("listens", self.leasing.listen, self._ended),
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
        self.leasing.room()

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
        self.leasing.feed(self.queues)

    async def register(self) -> None:
        """Become a worker, or a new one where the old has been declared gone."""
        rows = await self.upkeep.link.fetch(
            SQL["register_worker"], name=self.name, lease=self.lease_seconds, info=json.dumps(self.info())
        )
        self.id, self.leasing.idle = rows[0][0], False

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
            self.leasing.link,
            self.leasing.listening,
            self.completion.link,
            self.upkeep.link,
            self.upkeep.pulse,
        )

    def feed(self, queues: Iterable[str]) -> None:
        """These queues may hold something."""
        self.leasing.feed(queues)

    # --------------------------------------------------------------------------------------- running

    def held(self) -> int:
        """How many messages are at work or wait for their turn here."""
        return len(self.running) + len(self._ready)

    def known(self) -> list[tuple[int, int]]:
        """Their ids and leases."""
        return [*self.running, *((one.message.id, one.message.lease) for one in self._ready)]

    def take(self, row: Sequence[Any]) -> None:
        """A message has been leased: begin it, or as soon as there is room."""
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
            self.leasing.room()

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
                self.leasing.leave_alone(message.queue, error.after)
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
            tx.after_commit(partial(self.leasing.feed, (message.queue,)))

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
