"""Several worker processes: start them, start another for one that dies, end them together.

Each child holds one end of a line (a socket pair). The supervisor says on it when to end, the child tells how it
goes, and to either of them the end of the other is the end of the line: no child outlives its supervisor, whatever
killed that. Children are in process groups of their own, so that Ctrl-C reaches the supervisor only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mainstay.operations.ending import AFTER_GRACE, AT_ONCE, NOW, STOP, heeded
from mainstay.operations.health import served
from mainstay.operations.logs import set_up_logging
from mainstay.operations.settings import Settings

log = logging.getLogger("mainstay.supervisor")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before another process is started for one that died: twice as many each time, until one lived long."""
LIVED_LONG = 60.0
"""Seconds."""
SILENT = 30.0
"""Seconds without a report after which a process counts as not alive: a handler holds up its event loop."""


class Child:
    """One place for a process, and the process that has it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.line: asyncio.StreamWriter | None = None
        self.started = asyncio.Event()
        """Set once a process in this place has taken messages."""
        self.heard = 0.0
        """When its last report came, by the monotonic clock; 0 before the first."""
        self.info: Mapping[str, Any] = {}

    def say(self, word: bytes) -> None:
        """Tell the process something, if there is one."""
        if self.line is not None and not self.line.is_closing():
            self.line.write(word)

    def report(self) -> Mapping[str, Any]:
        """What is shown of it."""
        alive = self.heard > 0 and time.monotonic() - self.heard < SILENT
        pid = None if self.process is None else self.process.pid
        return {"pid": pid, "alive": alive, **self.info}


class Supervisor:
    """Keeps `processes` processes at work.

    Args:
        settings: for each of them.
        processes: how many.
    """

    def __init__(self, settings: Settings, processes: int) -> None:
        self._settings = settings
        self._children = [Child(number + 1) for number in range(processes)]
        self._stopping = asyncio.Event()
        self._asked = 0
        self._hurried = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Work until a signal comes.

        Returns:
            0 if every process has ended by itself; 1 if one had to be killed; 2 if the first could not start.
        """
        loop = asyncio.get_running_loop()
        for number in heeded():
            loop.add_signal_handler(number, self.stop)
        async with served(self._settings.health, self._report):
            # One by itself first: what is wrong with the app or the database is wrong for all, and said once.
            first, *others = self._children
            tasks = [asyncio.create_task(self._keep(first))]
            started = asyncio.create_task(first.started.wait())
            await asyncio.wait((tasks[0], started), return_when=asyncio.FIRST_COMPLETED)
            started.cancel()
            if not tasks[0].done():
                tasks += [asyncio.create_task(self._keep(child)) for child in others]
            await asyncio.gather(*tasks)
        return self._code

    def stop(self) -> None:
        """Have all of them end. Again: at once."""
        self._asked += 1
        if self._asked > 1:
            self._hurried.set()
        self._stopping.set()
        for child in self._children:
            child.say(STOP if self._asked == 1 else NOW)

    def _report(self) -> tuple[bool, Mapping[str, Any]]:
        told = [child.report() for child in self._children]
        return all(one["alive"] for one in told), {"processes": told}

    async def _keep(self, child: Child) -> None:
        """Have a process in this place until the end."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                code = await self._one(child)
                told = _told(code)
            except OSError as error:  # the machine is out of processes or memory
                code, told = 1, f"could not be started ({error})"
            if self._stopping.is_set():
                return
            if code == 2 and not child.started.is_set() and child is self._children[0]:
                self._code = 2
                return
            lived = time.monotonic() - begun
            if lived >= LIVED_LONG:
                pause = FIRST_PAUSE
            log.warning(
                "worker process %d %s after %.1f s; starting another in %.1f s",
                child.number,
                told,
                lived,
                pause,
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _one(self, child: Child) -> int:
        """One process, from start to end; its exit code."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mainstay.operations.worker_process",
                self._settings.to_json(),
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                process_group=0,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        child.process, child.line = process, writer
        if self._stopping.is_set():
            child.say(NOW if self._hurried.is_set() else STOP)
        listening = asyncio.create_task(_listen(child, reader))
        patience = asyncio.create_task(self._run_out_of_patience(child, process))
        try:
            return await process.wait()
        finally:
            listening.cancel()
            patience.cancel()
            writer.close()
            child.process, child.line, child.heard, child.info = None, None, 0.0, {}

    async def _run_out_of_patience(self, child: Child, process: asyncio.subprocess.Process) -> None:
        """A process that does not end by itself in the time that it was given is killed."""
        await self._stopping.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), self._settings.grace + AFTER_GRACE + 5.0)
            await asyncio.sleep(AT_ONCE + 5.0)
        log.warning("worker process %d does not end: killing it", child.number)
        self._code = 1
        process.kill()


async def _listen(child: Child, reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while True:
            with suppress(
                ValueError
            ):  # cut short while this process did not listen; a sign of life all the same
                line = await reader.readline()
                if not line:
                    return
                child.info = json.loads(line)
            child.heard = time.monotonic()
            child.started.set()


def _told(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal, which has no name
        return f"was ended by signal {-code}"


def supervise(settings: Settings, processes: int) -> int:
    """Keep so many processes at work until a signal comes; the exit code, as `Supervisor.run` tells."""
    set_up_logging(settings.log_level)
    return asyncio.run(_supervise(settings, processes))


async def _supervise(settings: Settings, processes: int) -> int:
    return await Supervisor(settings, processes).run()
