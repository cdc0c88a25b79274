"""Run the steps of sagas: the handlers of their messages.

A step in the database and everything that follows from it is one transaction. A step outside has two: the first
writes down that it begins, the second what came of it. Only the holder of a saga's message, or a person while nobody
holds it (`control.py`), moves the saga; the message's lease and the saga's version see to it that each attempt moves it
once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mainstay.patterns.messages import connections
from mainstay.patterns.messages.driver import transaction
from mainstay.patterns.messages.handler import GiveUp, Handler, NotNow, Retry, TryAgain
from mainstay.patterns.messages.message import LeaseLost, Message
from mainstay.patterns.saga import moves, store
from mainstay.patterns.saga.definition import Definition
from mainstay.patterns.saga.moves import Move, Progress
from mainstay.patterns.saga.saga import Saga, dump
from mainstay.patterns.saga.step import Call, Refused, Step, Work
from mainstay.patterns.serialization_retry import sqlstate
from mainstay.patterns.transaction import Transaction

if TYPE_CHECKING:
    from mainstay.patterns.messages.engine import Engine
    from mainstay.patterns.messages.worker import Worker

log = logging.getLogger("mainstay.saga")

FOR_EVER = 2**31 - 1
"""Attempts that the engine allows: when it is enough is decided here."""
MARGIN = 120.0
"""Seconds beyond a step's own timeout until the engine cancels its handler: for the statements around it."""
UNREADABLE = 30.0
"""Seconds after which a saga whose data this code cannot read is looked at again, perhaps by other code."""
PATIENCE = 20
"""Milliseconds that upkeep waits for another one who takes a saga's lock at the same moment."""
LOCK_NOT_AVAILABLE, UNIQUE_VIOLATION = "55P03", "23505"
PRUNE_EVERY = 60.0
BATCH = 1000


def register(engine: Engine, definition: Definition) -> None:
    """Have the workers of `engine` run the steps of a saga.

    Raises:
        Misuse: there is a saga of this name already.
    """
    for step in definition.steps:
        for name in (step.name, *step.aliases):
            for undo, work in ((False, step.work), (True, step.undoing)):
                if work is not None:
                    runner = Runner(engine, definition, step, work, undo)
                    engine.handle(
                        Handler(
                            kind=store.kind(definition.name, name, undo=undo),
                            call=runner.attempt,
                            queue=definition.queue,
                            retry=Retry(FOR_EVER, work.retry.first, work.retry.most),
                            timeout=work.timeout + MARGIN,
                        )
                    )


class Upkeep:
    """What the workers of one engine do for all sagas, once a second."""

    def __init__(self, engine: Engine) -> None:
        self._pruned = 0.0
        engine.duties.append(self.duty)

    async def duty(self, worker: Worker) -> None:
        """Begin what has waited for a lock and was overlooked as it came free; forget what is old."""
        for (lock,) in await worker.upkeep.link.fetch(store.SQL["overlooked_locks"]):
            await self._begin_next(worker, lock)
        if time.monotonic() - self._pruned >= PRUNE_EVERY:
            [(pruned,)] = await worker.upkeep.link.fetch(store.SQL["prune_sagas"], most=BATCH)
            if pruned < BATCH:  # else there is more, which the next round takes
                self._pruned = time.monotonic()

    async def _begin_next(self, worker: Worker, lock: str) -> None:
        """Each lock by itself, and not waited for: a start that is not committed may be taking it, for however long."""
        link = worker.upkeep.link
        try:
            async with transaction(link):
                await link.run(f"SET LOCAL lock_timeout = '{PATIENCE}ms'")
                rows = await link.fetch(store.SQL["next_of_lock"], lock=lock)
        except Exception as error:
            if sqlstate(error) not in (LOCK_NOT_AVAILABLE, UNIQUE_VIOLATION):
                raise
            log.debug("the lock %r is being taken by another saga at this moment", lock)
            return
        worker.feed({row[0] for row in rows})


class StepFailed(TryAgain):
    """An attempt failed, and there will be another."""


class Runner:
    """Runs one step of one class of sagas, or its undo."""

    def __init__(
        self,
        engine: Engine,
        definition: Definition,
        step: Step[Any, Any],
        work: Work,
        undo: bool,
    ) -> None:
        self._database = engine.database
        self._definition = definition
        self._step = step
        self._work = work
        self._undo = undo

    async def attempt(self, message: Message) -> None:
        """Handle a message: one attempt of the step."""
        try:
            await (self._outside(message) if self._work.outside else self._inside(message))
        except LeaseLost:
            raise
        except Exception as error:
            failure = error
        else:
            return
        async with message.in_turn():
            after = await self._database.run(partial(self._failed, message=message, error=failure))
        if after is None:
            return
        if isinstance(failure, NotNow):
            raise NotNow(str(failure), after=after, whole_queue=failure.whole_queue) from failure
        again = StepFailed(_told(failure), after=after)
        again.instead = failure
        raise again from failure

    # ------------------------------------------------------------------------------------- both kinds of steps

    async def _inside(self, message: Message) -> None:
        async def work(tx: Transaction) -> None:
            progress = await self._begin(tx, message)
            if progress is not None:
                saga = self._read(progress)
                await self._run(progress, saga, tx)
                await self._finish(tx, message, progress, saga)

        async with message.in_turn():
            await self._database.run(work)

    async def _outside(self, message: Message) -> None:
        async def begin(tx: Transaction) -> tuple[Progress, Saga] | None:
            progress = await self._begin(tx, message)
            if progress is None:
                return None
            saga = self._read(progress)
            if not self._undo:
                values = {"id": progress.id, "step": progress.step}
                await connections.fetch(tx, store.SQL["begin_call"], values)
                progress.current.state = "begun"
            return progress, saga

        async def finish(tx: Transaction) -> None:
            now = await self._current(tx, message)
            if now is not None:
                await self._finish(tx, message, now, saga)

        async with message.in_turn():
            begun = await self._database.run(begin)
        if begun is None:
            return
        progress, saga = begun
        here = progress.current
        call = Call(
            idempotency_key=progress.idempotency_key(here, undo=self._undo),
            undoes=progress.idempotency_key(here) if self._undo else None,
            saga=progress.id,
            attempt=message.attempt,
        )
        await self._run(progress, saga, call)
        async with message.in_turn():
            await self._database.run(finish)

    async def _begin(self, tx: Transaction, message: Message) -> Progress | None:
        """The saga, if this attempt is to be made; else the message is completed and the saga moved."""
        progress = await self._current(tx, message)
        if progress is None:
            return None
        other = self._due(progress, message.attempt - 1, None)
        if other is None:
            return progress
        await self._move(tx, message, progress, other)
        return None

    async def _current(self, tx: Transaction, message: Message) -> Progress | None:
        """The saga, locked; or None where the message is of a past version or a second one, which is then done."""
        order = json.loads(message.payload)
        progress = await store.locked(tx, order["saga"])
        if (
            progress is None
            or progress.version != order["version"]
            or progress.message not in (None, message.id)
        ):
            await message.complete(tx)
            return None
        if progress.message is None:
            # Called off and started over: from now on it is the saga's message again, so that nothing overtakes it.
            await connections.fetch(
                tx, store.SQL["adopt_message"], {"id": progress.id, "message": message.id}
            )
        return progress

    async def _run(self, progress: Progress, saga: Saga, argument: Transaction | Call) -> None:
        seconds = self._work.timeout
        if progress.can_go_back and progress.remaining is not None:
            seconds = min(seconds, progress.remaining)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await self._work.function(saga, argument)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(f"not done within {seconds:g} s") from error

    async def _finish(self, tx: Transaction, message: Message, progress: Progress, saga: Saga) -> None:
        following = moves.undone(progress) if self._undo else moves.forward(progress)
        await self._move(tx, message, progress, following, dump(saga))

    async def _failed(self, tx: Transaction, *, message: Message, error: Exception) -> float | None:
        """After an attempt that failed: None where the saga goes another way, else seconds until the next one."""
        progress = await self._current(tx, message)
        if progress is None:
            return None
        counted = not isinstance(error, NotNow)
        failed = message.attempt if counted else message.attempt - 1
        if isinstance(error, Refused) and progress.state == "running" and progress.requested != "skip":
            other: Move | None = moves.back(
                progress, f"step {self._step.name} was refused: {error}", "failed"
            )
        else:
            attempts = failed if isinstance(error, GiveUp) else self._work.retry.attempts
            other = self._due(progress, failed, _told(error), attempts)
        if other is not None:
            await self._move(tx, message, progress, other)
            return None
        retry = self._work.retry
        after = Retry(FOR_EVER, retry.first, retry.most).delay(message.attempt) or 0.0
        if isinstance(error, GiveUp):
            after = retry.most
        if isinstance(error, TryAgain | NotNow):
            after = error.after
        if progress.can_go_back and progress.remaining is not None:
            after = min(after, progress.remaining)
        if counted and failed == retry.attempts:
            log.error("saga %s %s is stuck: %s", progress.kind, progress.id, _told(error))
        return max(0.0, after)

    def _due(
        self, progress: Progress, failed: int, error: str | None, attempts: int | None = None
    ) -> Move | None:
        most = self._work.retry.attempts if attempts is None else attempts
        # An earlier version of the code may have made a call of this step.
        known = not self._work.outside and progress.current.state != "begun"
        return moves.due(progress, failed, most, error, known=known)

    async def _move(
        self, tx: Transaction, message: Message, progress: Progress, to: Move, data: str | None = None
    ) -> None:
        await message.complete(tx)  # first: its unique key passes on to the next message
        await store.move(tx, progress, to, data)
        if to.error is not None:
            log.warning("saga %s %s goes back: %s", progress.kind, progress.id, to.error)

    def _read(self, progress: Progress) -> Saga:
        try:
            saga = self._definition.cls.model_validate_json(progress.data, by_alias=False, by_name=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "its data"
            raise NotNow(
                f"this code cannot read the saga's data ({place}: {first['msg']}); give new fields a default",
                after=UNREADABLE,
            ) from error
        saga._id = progress.id
        return saga


def _told(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
