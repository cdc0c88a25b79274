"""How a process that works comes to its end: the signals that ask for it, the time that it is given.

Light enough for a supervisor, which runs no handlers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from mainstay.errors import complain

if TYPE_CHECKING:
    from mainstay.patterns.messages import Worker

log = logging.getLogger("mainstay.worker")

AFTER_GRACE = 25.0
"""Seconds after the grace for handing back and closing; then the process is cut off."""
AT_ONCE = 5.0
"""The same after the second word."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that ask a process to end; the last one comes as its terminal is closed."""
STOP, NOW = b"s", b"n"
"""What a supervisor says."""


def heeded() -> list[signal.Signals]:
    """Of the signals that ask to end, those that count: `nohup` has a closed terminal mean nothing."""
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]


class Ending:
    """How this process comes to its end."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._asked = False
        self._signals = 0
        self._hurried = False
        self._stop: Callable[[], object] | None = None
        self.listen()

    def listen(self) -> None:
        """Take the signals; again after the app was imported, which may have taken them for itself."""
        for number in heeded():
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGALRM, self._cut_off)

    def attach(self, worker: Worker) -> None:
        """From now on there is a worker to be stopped."""
        self.listen()
        loop = asyncio.get_running_loop()

        def end() -> None:
            worker.stop()
            if self._hurried:
                log.info("worker %s was told to end at once: it hands back what is at work", worker.name)
            else:
                log.info(
                    "worker %s was asked to end: it begins nothing more, and waits up to %g s for what is at work (%d)",
                    worker.name,
                    self._grace,
                    len(worker.running),
                )

        def stop() -> None:
            with suppress(RuntimeError):  # the loop has ended, and so has the worker
                loop.call_soon_threadsafe(end)

        self._stop = stop
        if self._asked:
            stop()

    def ask(self) -> None:
        """Finish within the grace. Without effect if it was asked before."""
        if self._asked:
            return
        self._asked = True
        # setitimer, because a thread cannot be started in a signal handler, nor trusted while the loop is held up
        signal.setitimer(signal.ITIMER_REAL, self._grace + AFTER_GRACE)
        if self._stop is not None:
            self._stop()

    def hurry(self) -> None:
        """Hand everything back at once."""
        self.ask()
        if self._hurried:
            return
        self._hurried = True
        signal.setitimer(signal.ITIMER_REAL, AT_ONCE)
        if self._stop is not None:
            self._stop()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._stop is None:
            os._exit(0)  # nothing was leased yet
        # Whoever signals all processes at once also has the supervisor say it, perhaps before the signal comes.
        self._signals += 1
        if self._signals > 1:
            self.hurry()
        else:
            self.ask()

    def _cut_off(self, number: int, frame: FrameType | None) -> None:
        complain(
            "a handler did not end in time, so its process is cut off; what it still had leased is due again when "
            "the lease has run out."
        )
        os._exit(1)
