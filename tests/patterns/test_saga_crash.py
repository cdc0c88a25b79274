"""The process dies here, what next? Workers killed at every statement of a saga, and stopped in a call."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator

import pytest
from saga_mortal import LONG, live
from saga_shop import ALL, Shop, declare, prepare, start, until, until_ended

from mainstay.patterns import Database
from mainstay.patterns.messages import Messages
from mainstay.patterns.saga import show

processes = multiprocessing.get_context("forkserver")
# Only what is installed: the server of Python 3.11 does not know the path of the tests, and says nothing.
processes.set_forkserver_preload(
    [
        "mainstay.patterns.saga.runner",
        "sqlalchemy.dialects.postgresql.psycopg",
        "sqlalchemy.dialects.postgresql.asyncpg",
        "psycopg",
        "asyncpg",
        "pytest",
    ]
)

AT_ONCE = 4
"""Processes that die at the same time, each with a saga and a queue of its own."""


@pytest.fixture
async def shop(db: Database) -> AsyncIterator[Shop]:
    """Empty tables, and the places where effects are."""
    await prepare(db)
    shop = Shop(db.engine.url)
    yield shop
    shop.close()


def begin(
    db: Database, at: int, signal: int, saga: int, script: dict[str, list[str]]
) -> multiprocessing.process.BaseProcess:
    """A process that serves the saga's queue, and has the signal at that place."""
    url = db.engine.url.render_as_string(hide_password=False)
    process = processes.Process(target=live, args=(url, f"q{at}", script, at, signal, saga))
    process.start()
    return process


async def start_at(db: Database, shop: Shop, at: int) -> int:
    """A saga in a queue of its own."""
    saga = declare(Messages(db), shop, timeout=LONG, queue=f"q{at}")()
    return await start(db, saga) or 0


async def finish(db: Database, shop: Shop, ids: dict[int, int]) -> list[str]:
    """Declare the dead gone, have another worker end their sagas; their states."""
    shop.sql("UPDATE mainstay.worker SET alive_until = now() - interval '1 second'")
    messages = Messages(db)
    declare(messages, shop, timeout=LONG)
    async with messages.worker(queues=[f"q{at}" for at in ids]):
        return await until_ended(db, *ids.values(), seconds=60)


@pytest.mark.parametrize(
    ("db", "script", "end", "places"),
    [
        ("psycopg", {}, "completed", 25),
        ("asyncpg", {"capture": ["refused"]}, "compensated", 30),
        ("psycopg", {"authorize": ["lost"]}, "compensated", 25),
    ],
    indirect=["db"],
)
async def test_killed_at_every_place(
    db: Database, shop: Shop, script: dict[str, list[str]], end: str, places: int
) -> None:
    """Whoever goes on ends the saga as if nothing had happened: inside once, outside by one key, or all undone."""
    forever = {what: doing * 99 for what, doing in script.items()}
    at, survived = 0, False
    while not survived:
        ids = {number: await start_at(db, shop, number) for number in range(at + 1, at + 1 + AT_ONCE)}
        running = [begin(db, number, signal.SIGKILL, id, forever) for number, id in ids.items()]
        for process in running:
            await asyncio.to_thread(process.join, 60)
            assert process.exitcode in (0, -signal.SIGKILL)
        survived = running[0].exitcode == 0
        shop.script = {what: list(doing) for what, doing in forever.items()}
        states = await finish(db, shop, ids)
        assert states == [end] * len(ids), ids
        for number, id in ids.items():
            assert shop.there(id) == (ALL if end == "completed" else set()), number
        at += AT_ONCE
    assert at - AT_ONCE >= places, "places were counted"


async def test_stopped_in_a_call_and_come_back(db: Database, shop: Shop) -> None:
    """SIGSTOP after the effect outside: another worker takes over and ends the saga; the first adds nothing."""
    id = await start_at(db, shop, 0)
    url = db.engine.url.render_as_string(hide_password=False)
    # The places of the first step, then lock, read and mark of the second, its COMMIT, before and after the effect.
    process = processes.Process(target=live, args=(url, "q0", {}, 16, signal.SIGSTOP, id))
    process.start()
    assert process.pid is not None

    async def called() -> bool:
        return shop.sql("SELECT count(*) FROM outside") == [(1,)] and stopped(process.pid or 0)

    await until(called)
    assert await finish(db, shop, {0: id}) == ["completed"]
    before = await show(db, id)
    os.kill(process.pid, signal.SIGCONT)
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode == 0
    assert await show(db, id) == before and shop.there(id) == ALL
    assert shop.sql("SELECT what, count(*) FROM outside GROUP BY 1 ORDER BY 1") == [
        ("authorize", 2),
        ("capture", 1),
    ]


def stopped(pid: int) -> bool:
    """Whether a process has been stopped by a signal."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] == "T"
