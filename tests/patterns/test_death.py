"""The process dies here, what happens next? Killed by SIGKILL before each message that it sends to PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mortal_programs
import psycopg
import pytest
from mortal_programs import MARKER, PROGRAMS, State
from sqlalchemy import URL

from mainstay.patterns import Database


class Wire:
    """Between a process and PostgreSQL: kills the process at one of the messages that it sends.

    Counted are those from the program's first BEGIN on. Before message `point` is passed on, the process is
    killed; or, with `answer_lost`, after the server has answered it and before the process hears of it.
    """

    def __init__(self, server: tuple[str, int], point: int, answer_lost: bool) -> None:
        self.server = server
        self.point = point
        self.answer_lost = answer_lost
        self.process: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.begun = self.marked = False
        self.sent = 0
        self.commits = 0
        self.last = b""
        """The message at which the process was killed."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self.server)
        back: asyncio.Task[None] | None = None
        try:
            back = asyncio.create_task(self.pump(from_server, writer))
            while data := await reader.read(65536):
                self.marked = self.marked or MARKER.encode() in data
                self.begun = self.begun or (self.marked and b"BEGIN" in data)
                self.sent += self.begun
                here = self.begun and self.sent == self.point
                if here:
                    self.last = data
                if here and not self.answer_lost:
                    await self.kill()
                    return
                self.commits += self.begun and is_commit(data)
                if here:
                    back.cancel()
                    await asyncio.wait([back])
                to_server.write(data)
                await to_server.drain()
                if here:
                    await from_server.read(1)
                    await self.kill()
                    return
        finally:
            if back is not None:
                back.cancel()
            to_server.close()
            writer.close()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()  # asyncpg waits for it when it says good-bye

    async def kill(self) -> None:
        os.kill(await self.process, signal.SIGKILL)


def is_commit(data: bytes) -> bool:
    """Not the level READ COMMITTED, which some begin with."""
    return re.search(rb"\bCOMMIT\b", data) is not None


class Provider:
    """The other system: remembers the idempotency keys of its calls."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        self.keys.append(next(line for line in head.splitlines() if line.startswith("idempotency-key")))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def provider() -> AsyncIterator[tuple[Provider, str]]:
    """A provider and its address."""
    calls = Provider()
    listener = await asyncio.start_server(calls.serve, "127.0.0.1", 0)
    yield calls, f"http://127.0.0.1:{port(listener)}"
    listener.close()


@pytest.fixture(scope="module")
def forks() -> Iterator[subprocess.Popen[str]]:
    """Whom to ask for processes."""
    with subprocess.Popen(
        [sys.executable, mortal_programs.__file__], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        yield server
        assert server.stdin is not None
        server.stdin.close()


def port(listener: asyncio.Server) -> int:
    number: int = listener.sockets[0].getsockname()[1]
    return number


def reset(connection: psycopg.Connection[Any]) -> None:
    connection.execute("TRUNCATE account, entry, document RESTART IDENTITY")
    connection.execute("INSERT INTO account (owner, balance) VALUES ('ann', 100)")
    connection.execute("INSERT INTO document (title, words) VALUES ('draft', 0)")


def until_alone(connection: psycopg.Connection[Any]) -> None:
    """PostgreSQL notices a closed connection in its own time."""
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    while connection.execute(others).fetchone() != (0,):
        pass


def look(connection: psycopg.Connection[Any]) -> State:
    """What is there; and no lock of the dead is left, or this fails at once."""
    locks = (
        "SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid()"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    assert connection.execute(locks).fetchone() == (0,)
    accounts = connection.execute(
        "SELECT owner, balance FROM account ORDER BY owner FOR UPDATE NOWAIT"
    ).fetchall()
    entries = connection.execute("SELECT amount FROM entry ORDER BY amount").fetchall()
    documents = connection.execute("SELECT title, version FROM document FOR UPDATE NOWAIT").fetchall()
    return tuple(accounts), tuple(amount for (amount,) in entries), tuple(documents)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("name", PROGRAMS)
async def test_killed_at_every_message(
    empty: URL, provider: tuple[Provider, str], forks: Any, name: str, driver: str
) -> None:
    """At whatever message: what is there is what the COMMITs that reached the server say, and no lock is left.

    Who was told that it is done finds it done. What is repeatable, repeated, ends as one undisturbed run does,
    and the provider has seen one key.
    """
    program, (calls, provider_url) = PROGRAMS[name], provider
    seen: list[tuple[int, bool]] = []
    with psycopg.connect(
        empty.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
    ) as connection:
        point, answer_lost, ended = 1, False, False
        while not ended:
            reset(connection)
            calls.keys.clear()
            wire = Wire((empty.host or "127.0.0.1", empty.port or 5432), point, answer_lost)
            listener = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
            url = empty.set(drivername=f"postgresql+{driver}", host="127.0.0.1", port=port(listener))
            life = (name, url.render_as_string(hide_password=False), provider_url)
            forks.stdin.write(json.dumps(life) + "\n")
            forks.stdin.flush()
            done = False
            while (words := (await asyncio.to_thread(forks.stdout.readline)).split())[0] != "ended":
                if words[0] == "process":
                    wire.process.set_result(int(words[1]))
                done = done or words == ["done"]
            listener.close()
            ended = words[1] == "0"
            assert ended or int(words[1]) == -signal.SIGKILL, f"{name} at {point}: {words[1]}"
            until_alone(connection)
            found = look(connection)
            assert found == program.states[wire.commits], (point, answer_lost, wire.last)
            if done:
                assert found == program.states[-1]
            seen.append((wire.commits, ended))
            if program.repeatable:
                os.environ["PROVIDER"] = provider_url
                async with Database(empty.set(drivername=f"postgresql+{driver}")) as db:
                    await program.run(db)
                until_alone(connection)
                assert look(connection) == program.states[-1], (point, answer_lost, wire.last)
                assert len(set(calls.keys)) <= 1
            # The state after an answer is that before the next message, save for COMMIT, on its way at that moment.
            if is_commit(wire.last) and not answer_lost:
                answer_lost = True
            else:
                point, answer_lost = point + 1, False
    assert point > 4 and {commits for commits, _ in seen} == set(range(len(program.states)))
