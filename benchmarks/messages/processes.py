"""A peer's processes as seen from outside: its client, its workers, their CPU seconds and their memory."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environments
import psutil
from handler import Progress
from servers import cpu_of

HERE = Path(__file__).parent


class Failed(Exception):
    """A peer did not do what was asked of it, or not in time; the rest of the run goes on."""


@dataclass(frozen=True)
class Row:
    """A peer as one row of the table: the file that speaks for it, where it runs, and its settings."""

    name: str
    module: str
    environment: str
    server: str
    """`postgresql` or `redis`."""
    settings: dict[str, str] = field(default_factory=dict)
    enqueues: bool = True
    """False where another row of the same peer already measures the enqueueing."""
    count: int = 10_000
    """Jobs at most; fewer where a peer would take minutes."""
    gap: float = 0.05
    """Most seconds between two single jobs when start latency is measured: more than its poll takes to come round."""


class Peer:
    """A row at work on one database: gives clients and workers, and ends them all."""

    def __init__(self, row: Row, url: str, kind: str = "noop") -> None:
        self.row = row
        self.record = Path(tempfile.mkdtemp(prefix="mainstay-bench-", dir="/dev/shm"))
        self.progress = Progress(self.record)
        self._python = environments.python(row.environment)
        self._environment = {
            **os.environ,
            **{f"BENCH_{name.upper()}": value for name, value in row.settings.items()},
            "BENCH_URL": url,
            "BENCH_KIND": kind,
            "BENCH_RECORD": str(self.record),
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._errors = (self.record / "errors").open("wb")
        self._client: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            kill(process)
        self._errors.close()
        shutil.rmtree(self.record, ignore_errors=True)

    def errors(self) -> str:
        """The last words of its processes."""
        text = (self.record / "errors").read_text(errors="replace")
        return text[-2000:]

    def _start(self, what: str, **more: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [self._python, HERE / "client.py", self.row.module, what],
            env=self._environment,
            stderr=self._errors,
            start_new_session=True,
            **more,
        )
        self._processes.append(process)
        return process

    def ask(self, *question: Any, limit: float = 120) -> Any:
        """Have the client do something; gives its answer. Raises `Failed` after `limit` seconds."""
        if self._client is None:
            self._client = self._start("client", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._client.stdin is not None and self._client.stdout is not None
        try:
            self._client.stdin.write(json.dumps(question).encode() + b"\n")
            self._client.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.row.name}: the client ended\n{self.errors()}") from None
        ready, _, _ = select.select([self._client.stdout], [], [], limit)
        line = self._client.stdout.readline() if ready else b""
        if not line:
            raise Failed(f"{self.row.name}: no answer to {question[0]!r} in {limit} s\n{self.errors()}")
        return json.loads(line)

    def set(self, settings: dict[str, str]) -> None:
        """Other settings for what is started from now on."""
        self._environment |= {f"BENCH_{name.upper()}": value for name, value in settings.items()}

    def worker(self) -> Worker:
        """Start a worker; it is ready when it has done something."""
        output = subprocess.DEVNULL
        return Worker(self._start("worker", stdin=subprocess.DEVNULL, stdout=output))

    def wait(self, count: int, limit: float) -> None:
        """Wait until so many jobs have begun; raises `Failed` after `limit` seconds."""
        deadline = time.monotonic() + limit
        while (seen := self.progress.count()) < count:
            if time.monotonic() > deadline:
                raise Failed(f"{self.row.name}: {seen} of {count} jobs in {limit:.0f} s\n{self.errors()}")
            time.sleep(0.001)

    def wait_empty(self, limit: float) -> None:
        """Wait until every job's completion is stored; raises `Failed` after `limit` seconds."""
        deadline = time.monotonic() + limit
        while left := self.ask("remaining"):
            if time.monotonic() > deadline:
                raise Failed(f"{self.row.name}: {left} jobs still there after {limit:.0f} s\n{self.errors()}")
            time.sleep(0.001)


class Worker:
    """A worker with the processes it started itself."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def pids(self) -> list[int]:
        with contextlib.suppress(psutil.Error):
            watched = psutil.Process(self._process.pid)
            return [watched.pid, *(one.pid for one in watched.children(recursive=True))]
        return []

    def stop(self) -> None:
        """SIGSTOP: it finds what is enqueued meanwhile all at once."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        kill(self._process)


def cpu_seconds(pids: Sequence[int]) -> float:
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += cpu_of(pid)
    return total


def peak_mb(pids: Sequence[int]) -> float:
    """Highest resident memory so far, the kernel's own mark behind ru_maxrss, added up over the processes."""
    kilobytes = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    kilobytes += int(line.split()[1])
    return kilobytes / 1024


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and to those it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
