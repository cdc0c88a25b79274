"""One process that works: import the app, run its worker, end as it is asked to.

It is told to end by SIGTERM, SIGINT or SIGHUP, by the supervisor that started it, or by that supervisor's death. The
first word lets it finish what is at work within the grace, or hand it back; the second hands back at once. It keeps
that promise even where a handler holds up the event loop: an alarm ends the process when the time is over.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import DBAPIError

from mainstay.errors import MainstayError, complain
from mainstay.nearest import nearest
from mainstay.operations.database import explained, reach
from mainstay.operations.ending import NOW, Ending
from mainstay.operations.health import served
from mainstay.operations.logs import set_up_logging
from mainstay.operations.settings import Settings
from mainstay.operations.target import load, resolve
from mainstay.patterns.errors import PatternError
from mainstay.patterns.messages import Engine, Worker
from mainstay.patterns.messages.control import Control
from mainstay.patterns.schema import check

log = logging.getLogger("mainstay.worker")

BEAT = 1.0
"""Seconds between two reports to the supervisor."""


class Supervised(threading.Thread):
    """The line to the supervisor. When it is cut, the supervisor is gone and nobody would end this process."""

    def __init__(self, line: socket.socket, ending: Ending) -> None:
        super().__init__(name="mainstay supervised", daemon=True)
        self._line = line
        self._ending = ending

    def run(self) -> None:
        """Do as the supervisor says, or as it would have."""
        while True:
            try:
                heard = self._line.recv(16)
            except OSError:
                heard = b""
            if not heard:
                log.warning("the supervisor is gone: ending too")
            if NOW in heard:
                self._ending.hurry()
            else:
                self._ending.ask()
            if not heard:
                return

    def tell(self, report: Mapping[str, Any]) -> None:
        """Say how it goes, unless the supervisor does not listen: a worker never waits for it."""
        with suppress(OSError):
            self._line.send(json.dumps(report).encode() + b"\n", socket.MSG_DONTWAIT)


def work(settings: Settings, line: socket.socket | None = None) -> int:
    """Run one worker until it is told to end; the exit code.

    Args:
        line: to the supervisor, if there is one.

    Raises:
        MainstayError: it cannot start.
    """
    ending = Ending(settings.grace)
    supervised = None
    if line is not None:
        supervised = Supervised(line, ending)
        supervised.start()
    found = load(settings.app)
    set_up_logging(settings.log_level)
    asyncio.run(_work(settings, found, ending, supervised))
    return 0


async def _work(settings: Settings, found: Any, ending: Ending, supervised: Supervised | None) -> None:
    messages = await resolve(found, settings.app)
    async with messages.database:
        try:
            await reach(messages.database)
            await check(messages.database)
            await _check_queues(messages, settings.queues)
            worker = Worker(
                messages,
                queues=settings.queues or None,
                concurrency=settings.concurrency,
                lease=settings.lease,
                grace=settings.grace,
            )
        except (PatternError, DBAPIError, OSError) as error:
            raise explained(error) from error
        except ValueError as error:
            raise MainstayError(f"{error}.") from None
        ending.attach(worker)

        def report() -> tuple[bool, Mapping[str, Any]]:
            return worker.started.is_set(), {"name": worker.name, **worker.info()}

        async with served(settings.health if supervised is None else None, report):
            telling = asyncio.create_task(_tell(worker, supervised))
            try:
                await worker.run()
            except PatternError as error:
                raise explained(error) from error
            finally:
                telling.cancel()
        log.info("worker %s has ended: %d finished, %d failed", worker.name, worker.finished, worker.failed)


async def _tell(worker: Worker, supervised: Supervised | None) -> None:
    await worker.started.wait()
    log.info(
        "worker %s serves %s: %d kinds of messages, %d at once",
        worker.name,
        ", ".join(worker.queues),
        len(worker.handlers),
        worker.concurrency,
    )
    while supervised is not None:
        supervised.tell(worker.info())
        await asyncio.sleep(BEAT)


async def _check_queues(messages: Engine, queues: tuple[str, ...]) -> None:
    """A queue is known if a handler is for it, or the database has heard of it."""
    known = {handler.queue for handler in messages.handlers.values()}
    if not messages.handlers or known.issuperset(queues):
        return
    known |= {one["queue"] for one in await Control(messages.database).stats()}
    for queue in queues:
        if queue not in known:
            raise MainstayError(
                f"there is no queue {queue!r}{nearest(queue, known)}: no handler is for it, and it has no messages; "
                f"if it is named where messages are published, 'mainstay messages resume --new {queue}' makes it known."
            )


def main() -> int:
    """The program of a supervised child: ``worker_process SETTINGS FILE_NUMBER``; the exit code."""
    line = socket.socket(fileno=int(sys.argv[2]))
    line.set_inheritable(False)  # what handlers start must not hold the line
    try:
        return work(Settings.from_json(sys.argv[1]), line)
    except MainstayError as error:
        sys.stderr.write(error.details)
        return complain(str(error))


if __name__ == "__main__":
    sys.exit(main())
