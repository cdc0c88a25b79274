"""What became of attempts, written down in batches: as soon as the statement before has come back, and never later.

Nothing is forgotten while the database is away: what could not be written is written when it is back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mainstay.patterns.messages.driver import Link, is_lost
from mainstay.patterns.messages.handler import Handler
from mainstay.patterns.messages.message import Message, Unserializable, as_storable_json, storable_json
from mainstay.patterns.messages.statements import load

if TYPE_CHECKING:
    from mainstay.patterns.messages.worker import Worker

log = logging.getLogger("mainstay.messages")
SQL = load(__package__)

OURS = str(Path(__file__).parents[1])
"""Where the frames are that no user looks for."""
LONGEST_ERROR = 4000
"""Characters kept of an error's message and of its traceback: the end, which names the place."""
AT_ONCE = 1000
"""Messages in one statement at most."""


def failure(message: Message, error: BaseException | str, worker: str) -> str:
    """The entry for the error history of a message, as JSON."""
    entry: dict[str, Any] = {
        "attempt": message.attempt,
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "worker": worker,
    }
    if isinstance(error, str):
        entry["error"] = error
    else:
        try:
            text = str(error)
        except Exception:
            text = "(its message cannot be shown)"
        entry["error"] = f"{type(error).__name__}: {text}"[-LONGEST_ERROR:]
        told = traceback.format_exception(type(error), error, _from_the_handler(error))
        entry["traceback"] = "".join(told)[-LONGEST_ERROR:]
    return as_storable_json(entry)


def _from_the_handler(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame that is not of this library: whoever reads it looks for their own code."""
    steps = error.__traceback__
    while steps is not None and steps.tb_frame.f_code.co_filename.startswith(OURS):
        steps = steps.tb_next
    return steps or error.__traceback__


def as_json(result: Any, what: str = "the result") -> str:
    """A result, or what else a handler has to say, as JSON.

    Raises:
        Unserializable: it is none.
    """
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Unserializable(f"{what} of a handler must be JSON: {error}") from error
    if not storable_json(text):
        raise Unserializable(
            f"{what} of a handler holds the character NUL or half a surrogate pair, which PostgreSQL cannot store"
        )
    return text


class Completion:
    """What is to be written down, by the statement that does it: rows of values beside id and lease."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.link = Link(worker.database, "completes")
        self._due: dict[str, list[tuple[Message, tuple[Any, ...]]]] = {}
        self._writing: Sequence[tuple[Message, tuple[Any, ...]]] = ()
        self.due = 0
        """Messages that are still to be written down."""
        self._news = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()

    def succeed(self, message: Message, handler: Handler, result: Any) -> None:
        """It is done.

        Raises:
            Unserializable: the result is to be kept and is no JSON.
        """
        if handler.keep or message.unique_held:
            self._add("complete_and_keep", message, as_json(result), handler.keep)
        else:
            self._add("complete", message)

    def fail(self, message: Message, error: str, delay: float | None) -> None:
        """The attempt failed; the next one follows in `delay` seconds, or (None) never."""
        self._add("fail", message, error, delay)

    def postpone(self, message: Message, reason: str, delay: float) -> None:
        """It is not its time: the attempt does not count, and the next one follows in `delay` seconds."""
        reason = reason[:LONGEST_ERROR].replace("\x00", "\ufffd").encode(errors="replace").decode()
        self._add("postpone", message, reason, max(0.0, delay))

    def end(self, message: Message, state: str) -> None:
        """It is ``cancelled`` or ``expired``."""
        self._add("end_running", message, state)

    def hand_back(self, message: Message) -> None:
        """It has not been begun, or was interrupted by this worker's own end."""
        self._add("hand_back", message)

    def success(self, message: Message, handler: Handler, result: Any) -> tuple[str, dict[str, Any]]:
        """The statement that completes one message, and its values, for the handler's own transaction."""
        values: dict[str, Any] = {"ids": [message.id], "leases": [message.lease]}
        if handler.keep or message.unique_held:
            return "complete_and_keep", values | {"results": [as_json(result)], "keeps": [handler.keep]}
        return "complete", values

    def explain(self, message: Message, why: str) -> None:
        """Why the worker seemed to have gone away, where others have taken the message over."""
        self._add("explain_loss", message, why)

    def forget(self) -> list[Message]:
        """Others have taken over: nothing of it may be written; of what."""
        forgotten = [message for batch in self._due.values() for message, _ in batch]
        self._due.clear()
        self.due = 0
        return forgotten

    def known(self) -> list[tuple[int, int]]:
        """Id and lease of what is still to be written down."""
        batches = (*self._due.values(), self._writing)
        return [(message.id, message.lease) for batch in batches for message, _ in batch]

    async def flushed(self) -> None:
        """Wait until everything has been written."""
        await self._quiet.wait()

    def _add(self, name: str, message: Message, *values: Any) -> None:
        self._due.setdefault(name, []).append((message, values))
        self.due += 1
        self._news.set()
        self._quiet.clear()

    async def step(self) -> None:
        """Write down all there is."""
        await self._news.wait()
        self._news.clear()
        while self._due:
            name = next(iter(self._due))
            batch = self._due.pop(name)
            if len(batch) > AT_ONCE:
                self._due[name] = batch[AT_ONCE:]
                batch = batch[:AT_ONCE]
            self._writing = batch
            try:
                await self._write(name, batch)
            except BaseException:
                self._due[name] = batch + self._due.get(name, [])
                self._news.set()
                raise
            finally:
                self._writing = ()
            self.due = max(0, self.due - len(batch))
            self._worker.leasing.room()
        self._quiet.set()

    async def _write(self, name: str, batch: Sequence[tuple[Message, tuple[Any, ...]]]) -> None:
        worker = self._worker
        values: dict[str, Any] = {
            "worker": worker.id,
            "ids": [message.id for message, _ in batch],
            "leases": [message.lease for message, _ in batch],
        }
        match name:
            case "complete_and_keep":
                values |= {"results": [more[0] for _, more in batch], "keeps": [more[1] for _, more in batch]}
            case "fail":
                values |= {
                    "errors": [more[0] for _, more in batch],
                    "delays": [more[1] for _, more in batch],
                    "keep": worker.keep_ended,
                }
            case "postpone":
                values |= {
                    "reasons": [more[0] for _, more in batch],
                    "delays": [more[1] for _, more in batch],
                    "keep": worker.keep_ended,
                }
            case "end_running":
                values |= {"states": [more[0] for _, more in batch], "keep": worker.keep_ended}
            case "explain_loss":
                values |= {
                    "name": worker.name,
                    "attempts": [message.attempt for message, _ in batch],
                    "errors": [more[0] for _, more in batch],
                }
        try:
            rows = await self.link.fetch(SQL[name], **values)
        except Exception as error:
            if is_lost(error) or getattr(error, "sqlstate", None) is None:
                raise
            if not str(getattr(error, "sqlstate", "")).startswith(("22", "54")) or name == "hand_back":
                raise
            await self._one_by_one(name, batch, error)
            return
        if len(rows) != len(batch) and name != "explain_loss":
            written = {row[0] for row in rows}
            for message, _ in batch:
                if message.id not in written:
                    log.warning(
                        "%r: its lease has gone to another worker; this attempt does not count", message
                    )
        if name == "fail":
            soon = min((more[1] for _, more in batch if more[1] is not None), default=None)
            if soon is not None:
                worker.upkeep.hurry(soon)
        # What was blocked behind these, or did not fit into their queue, may go on.
        freed = {
            message.queue
            for message, _ in batch
            if message.key is not None or message.queue in worker.upkeep.limited
        }
        if freed:
            worker.feed(freed)

    async def _one_by_one(
        self, name: str, batch: Sequence[tuple[Message, tuple[Any, ...]]], error: Exception
    ) -> None:
        """Something in the batch cannot be stored (SQLSTATE classes 22 and 54): find it, and let it fail alone."""
        if len(batch) > 1:
            for one in batch:
                await self._write(name, [one])
            return
        [(message, values)] = batch
        log.error("%r: what became of it cannot be stored: %s", message, error)
        text = f"what became of it could not be stored: {type(error).__name__}"
        if name == "postpone":
            await self._write(name, [(message, (text, values[1]))])
        else:
            # What fails is tried again as it would have been; what was done would only be done again.
            delay = values[1] if name == "fail" else None
            await self._write("fail", [(message, (failure(message, text, self._worker.name), delay))])
