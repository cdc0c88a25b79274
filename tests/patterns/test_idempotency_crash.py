"""Real processes, killed with SIGKILL at each point of a keyed request: one effect, and the right reply."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from idempotency_help import entering, entries, prepare, serving, stored
from sqlalchemy import text

from mainstay.patterns import Database
from mainstay.patterns.idempotency import IdempotencyKeys

POINTS = [
    "before the effect",
    "after the effect",
    "before the record",
    "after the record",
    "before COMMIT",
    "after COMMIT",
    "after the first byte",
]
HOLDERS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
KEY_IS_HELD = f"SELECT EXISTS ({HOLDERS})"
SOMEONE_FOUND_IT_HELD = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
    " AND state = 'idle' AND query LIKE 'ROLLBACK%')"
)
PATIENCE = 30.0  # seconds, for what takes a moment; whatever takes longer has failed


@pytest.fixture
async def ready(db: Database) -> AsyncIterator[Database]:
    """The database with Mainstay's tables and no keys."""
    await prepare(db)
    yield db


@contextmanager
def service(
    db: Database, *, die: str = "", hold: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real server process; its address, and the process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = os.environ | {
            "MAINSTAY_TEST_URL": db.engine.url.render_as_string(hide_password=False),
            "MAINSTAY_TEST_DIE": die,
            "MAINSTAY_TEST_HOLD": str(hold or ""),
        }
        command = [sys.executable, "idempotency_service.py", str(listener.fileno())]
        process = subprocess.Popen(
            command, cwd=Path(__file__).parent, env=environment, pass_fds=[listener.fileno()]
        )
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    # From here on the socket is the child's alone, so that a killed one refuses at once.
    try:
        yield address, process
    finally:
        process.kill()
        process.wait()


def there(address: str) -> httpx.AsyncClient:
    """A client of a server process."""
    return httpx.AsyncClient(base_url=address, timeout=PATIENCE)


def here(db: Database) -> httpx.AsyncClient:
    """A client of the same service in this process."""
    return serving(IdempotencyKeys(db, wait=PATIENCE), entering(db), tenant=lambda scope: "ann")


async def order(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/entries", json={"amount": 5}, headers={"idempotency-key": '"k"'})


async def until(db: Database, query: str) -> None:
    """Wait until the query says true."""
    deadline = time.monotonic() + PATIENCE
    async with db.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not await connection.scalar(text(query)):
            assert time.monotonic() < deadline, query


@pytest.mark.parametrize(
    ("db", "point"),
    [*(("psycopg", point) for point in POINTS), ("asyncpg", "before COMMIT"), ("asyncpg", "after COMMIT")],
    indirect=["db"],
)
async def test_one_effect_wherever_the_process_dies(ready: Database, point: str) -> None:
    """The client sees a broken line; its next attempt gets the one reply, and so does every further one."""
    with service(ready, die=point) as (address, process):
        with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
            async with there(address) as client:
                await order(client)
        assert process.wait(PATIENCE) == -signal.SIGKILL
    happened = int(point in POINTS[5:])
    assert (await entries(ready), await stored(ready)) == (happened, happened)
    async with here(ready) as client:
        second, third = await order(client), await order(client)
    assert second.status_code == third.status_code == 201
    assert second.json()["entry"] >= 1 and second.content == third.content
    assert ("idempotency-replayed" in second.headers) is bool(happened)
    assert third.headers["idempotency-replayed"] == "true"
    assert (await entries(ready), await stored(ready)) == (1, 1)


@pytest.mark.parametrize("db", ["psycopg"], indirect=True)
async def test_a_killed_holder_frees_the_key_at_once(ready: Database, tmp_path: Path) -> None:
    """A duplicate that waits in another process goes on as soon as the first process is killed."""
    with service(ready, hold=tmp_path / "never") as (address, process):
        async with there(address) as one, here(ready) as two:
            first = asyncio.create_task(order(one))
            await until(ready, KEY_IS_HELD)
            second = asyncio.create_task(order(two))
            await until(ready, SOMEONE_FOUND_IT_HELD)
            assert not second.done()
            process.send_signal(signal.SIGKILL)
            with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
                await first
            reply = await second
    assert reply.status_code == 201 and "idempotency-replayed" not in reply.headers
    assert (await entries(ready), await stored(ready)) == (1, 1)


@pytest.mark.parametrize("db", ["asyncpg"], indirect=True)
async def test_two_processes_have_one_effect(ready: Database, tmp_path: Path) -> None:
    """Ten requests with one key over two processes: one has the effect, nine get its reply."""
    hold = tmp_path / "go"
    with service(ready, hold=hold) as (address, _):
        async with there(address) as one, here(ready) as two:
            requests = [asyncio.create_task(order(one))]
            await until(ready, KEY_IS_HELD)
            requests += [asyncio.create_task(order(client)) for client in (one, two, two) * 3]
            await until(ready, SOMEONE_FOUND_IT_HELD)
            hold.touch()
            replies = await asyncio.gather(*requests)
    assert {reply.status_code for reply in replies} == {201} and len(
        {reply.content for reply in replies}
    ) == 1
    assert sum("idempotency-replayed" in reply.headers for reply in replies) == 9
    assert (await entries(ready), await stored(ready)) == (1, 1)


async def test_a_backend_that_is_ended_at_work_leaves_nothing(ready: Database, tmp_path: Path) -> None:
    """pg_terminate_backend in the handler: 500, no effect, and the next attempt runs."""
    hold = tmp_path / "go"
    with service(ready, hold=hold) as (address, _):
        async with there(address) as client:
            first = asyncio.create_task(order(client))
            await until(ready, KEY_IS_HELD)
            await until(ready, f"SELECT bool_or(pg_terminate_backend(pid)) FROM ({HOLDERS}) AS holder")
            hold.touch()
            assert (await first).status_code == 500
            assert (await entries(ready), await stored(ready)) == (0, 0)
            assert (await order(client)).status_code == 201
    assert await entries(ready) == 1
