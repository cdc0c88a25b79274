"""Processes that die, stop or hang at any statement; connections that are cut: nothing lost, no effect doubled."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_waiting import until
from sqlalchemy import URL

from mainstay.patterns import Database
from mainstay.patterns.messages import Messages, NewMessage

Start = Callable[..., "subprocess.Popen[str]"]
SCRIPT = Path(__file__).with_name("crash_worker.py")
ONE = NewMessage(kind="effect", payload="{}")


@pytest.fixture
def start(empty: URL) -> Iterator[Start]:
    """Start a worker process; what is still there at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(driver: str = "asyncpg", kill_at: int = 0, lease: float = 1.0) -> subprocess.Popen[str]:
        url = empty.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), url, str(kill_at), str(lease)], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


async def publish(url: URL, *new: NewMessage) -> list[int]:
    """Publish in a transaction of its own."""
    async with Database(url) as db:
        Messages(db)
        async with db.transaction() as tx:
            return [id for id in await tx.publish(*new) if id is not None]


async def begun(process: subprocess.Popen[str], count: int) -> None:
    """Wait until so many handlers have said that they have begun."""
    assert process.stdout is not None
    for _ in range(count):
        await asyncio.to_thread(process.stdout.readline)


def once(sql: Any, count: int) -> bool:
    """Whether all messages are gone and each has had its two effects once."""
    assert sql("SELECT message, what FROM effect GROUP BY 1, 2 HAVING count(*) > 1") == []
    return bool(sql("SELECT count(*) FROM mainstay.message") == [(0,)]) and bool(
        sql("SELECT count(*) FROM effect") == [(2 * count,)]
    )


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_killed_at_any_statement(empty: URL, start: Start, sql: Any, driver: str) -> None:
    """Workers die one after the other, each at a later statement than the one before; then one lives."""
    await publish(empty, *[ONE] * 12)
    for kill_at in (11, 16, 21, 26, 31, 36, 47, 60):
        process = start(driver, kill_at, 0.5)
        await until(lambda: process.poll() is not None or once(sql, 12), seconds=60)  # noqa: B023
        if process.poll() is None:
            process.kill()
    start(driver)
    await until(lambda: once(sql, 12), seconds=60)


async def test_taken_over_within_the_lease(empty: URL, start: Start, sql: Any) -> None:
    """What a killed worker held is begun by another within the lease, and both attempts are on record."""
    await publish(empty, *[ONE.but(kind="slow", payload="60")] * 4)
    first = start()
    await begun(first, 4)
    second = start()
    await until(lambda: sql("SELECT count(*) FROM mainstay.worker") == [(2,)], seconds=60)
    first.kill()
    killed = time.monotonic()
    await begun(second, 4)
    # The lease of a second, and a busy machine; far less than the 30 s of a lease that is not said.
    assert time.monotonic() - killed < 20
    assert [row[0] for row in sql("SELECT attempts FROM mainstay.message")] == [2] * 4
    assert "went away" in sql("SELECT errors ->> 0 FROM mainstay.message LIMIT 1")[0][0]


async def test_a_stopped_worker_that_comes_back_cannot_complete(empty: URL, start: Start, sql: Any) -> None:
    """A worker stopped by SIGSTOP past its lease, with its transaction open, adds nothing when it goes on."""
    await publish(empty, ONE.but(kind="block"))
    first = start()
    await begun(first, 1)
    first.send_signal(signal.SIGSTOP)
    second = start()
    await begun(second, 1)
    first.send_signal(signal.SIGCONT)
    await until(lambda: once(sql, 1), seconds=60)
    # The first has noticed by itself, and works again under a new lease.
    await publish(empty, *[ONE] * 3)
    second.kill()
    await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)], seconds=60)
    assert sql("SELECT message, what FROM effect GROUP BY 1, 2 HAVING count(*) > 1") == []


async def test_a_blocked_event_loop_loses_its_lease_and_doubles_nothing(
    empty: URL, start: Start, sql: Any
) -> None:
    """A handler that blocks its loop for three leases: another worker may take over, one of them counts."""
    await publish(empty, ONE.but(kind="block"), *[ONE] * 5)
    start()
    start()
    await until(lambda: once(sql, 6), seconds=60)


async def test_sigterm_finishes_and_takes_leave(empty: URL, start: Start, sql: Any) -> None:
    """After SIGTERM the handlers at work finish, nothing more is begun, and no lease is left."""
    await publish(empty, *[ONE.but(kind="slow", payload="3")] * 6)
    process = start(lease=30)
    await begun(process, 4)
    process.terminate()
    assert await asyncio.to_thread(process.wait, 60) == 0
    assert sql("SELECT state::text, attempts FROM mainstay.message") == [("waiting", 0)] * 2
    assert sql("SELECT count(*) FROM mainstay.worker") == [(0,)]


async def test_connections_cut_again_and_again(empty: URL, start: Start, sql: Any) -> None:
    """Every connection of the worker is ended by the server, twenty times; all is done, once."""
    start(lease=30)
    for _ in range(20):
        await publish(empty, *[ONE] * 10)
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await until(lambda: once(sql, 200), seconds=60)


async def test_killed_after_the_handler_and_before_its_completion(empty: URL, start: Start, sql: Any) -> None:
    """What a handler did elsewhere is done again, under the idempotency key of the first time."""
    await publish(empty, ONE.but(kind="tell"))
    first = start(kill_at=-1)
    await until(lambda: first.poll() is not None, seconds=60)
    assert sql("SELECT count(*), count(DISTINCT what) FROM effect") == [(1, 1)]
    assert sql("SELECT state::text FROM mainstay.message") == [("running",)]
    start()
    await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)], seconds=60)
    assert sql("SELECT count(*), count(DISTINCT what) FROM effect") == [(2, 1)]
