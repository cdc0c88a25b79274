"""What the tests of the command line share: the app that workers run, and programs as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MAINSTAY = Path(sys.executable).parent / "mainstay"

APP = """
import asyncio
import os
import time

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import Messages, Retry

messages = Messages(Database(os.environ["DATABASE_URL"], pool_size=3))
number = 7


def make():
    return messages


async def make_later():
    return messages


def make_nothing():
    return 7


def fail():
    raise RuntimeError("no settings here")


@messages.job(name="quick", keep=3600)
async def quick(tx: Transaction) -> int:
    return os.getpid()


@messages.job(name="fail", queue="mail", retry=Retry(attempts=1))
async def failing() -> None:
    raise ValueError("no such address\\nsecond line")


@messages.job(name="long", keep=3600)
async def long(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()


@messages.job(name="held", keep=3600)
async def held() -> int:
    while not os.path.exists("go"):
        await asyncio.sleep(0.02)
    return os.getpid()


@messages.job(name="hold", retry=Retry(attempts=100, first=0.0, most=0.0))
async def hold(seconds: float) -> None:
    time.sleep(seconds)  # holds up the event loop
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, which must be one JSON document."""
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The one line that a refusal consists of."""
        assert self.code == 2, self
        assert self.out == "", self
        assert self.err.count("\n") == 1 and self.err.startswith("mainstay: "), self
        return self.err


def until(condition: Callable[[], object], seconds: float = 90.0) -> None:
    """Wait for a condition, at most so long; fail then."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


class Program:
    """``mainstay …`` as a process of its own. Its lines on stderr go to a file, so that nothing ever blocks."""

    def __init__(self, folder: Path, database: str, *arguments: str) -> None:
        self.log = folder / f"log-{time.monotonic_ns()}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [MAINSTAY, *arguments],
                cwd=folder,
                env={**os.environ, "DATABASE_URL": database},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.seen: set[psutil.Process] = {psutil.Process(self.process.pid)}

    @property
    def said(self) -> str:
        """What it has written to stderr by now."""
        return self.log.read_text()

    def let_go(self) -> None:
        """Let the jobs ``held`` come to their end."""
        (self.log.parent / "go").touch()

    def children(self) -> list[psutil.Process]:
        """Its processes that are alive."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self.seen.update(found)
        return found

    def wait(self, seconds: float = 90.0) -> Ended:
        """Wait for its end."""
        out, _ = self.process.communicate(timeout=seconds)
        return Ended(self.process.returncode, out, self.said)

    def clear_away(self) -> None:
        """End all that it started and that is still there."""
        self.children()
        for one in self.seen:
            if one.is_running():
                one.kill()
        self.process.communicate(timeout=10)
