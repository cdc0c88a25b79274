"""What the benchmarks share: running a command and reading its seconds, CPU seconds and peak memory."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass
class Run:
    """One run of a command, all its children included."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    """Highest sum of the resident memory of all its processes, sampled every 20 ms; shared pages count in each."""
    code: int
    output: str


def run(command: Sequence[str | Path], *, limit: float = 1800, cwd: Path | None = None) -> Run:
    """Run a command to its end. `limit` in seconds ends it."""
    started, cpu_before = time.perf_counter(), _cpu_of_children()
    peak = 0.0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=cwd)
    watched = psutil.Process(process.pid)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            resident = 0
            with contextlib.suppress(psutil.Error):
                for one in (watched, *watched.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        resident += one.memory_info().rss
            peak = max(peak, resident / 1e6)
            done.wait(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    timer = threading.Timer(limit, process.kill)
    timer.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    done.set()
    timer.cancel()
    thread.join()
    return Run(seconds, _cpu_of_children() - cpu_before, peak, process.returncode, output)


def _cpu_of_children() -> float:
    """CPU seconds of all children that have ended and were waited for, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
