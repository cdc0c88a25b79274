"""However a laboratory ends, it leaves no process, no folder and no database."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from gates import until
from test_postgres_server import _names, url_of

from mainstay.architect.diagnose.leftovers import sweep
from mainstay.architect.diagnose.postgres import Postgres

LABORATORY = Path(__file__).with_name("lonely_laboratory.py")


class Lonely:
    """The laboratory of `lonely_laboratory.py`, ready, and all that runs because of it."""

    def __init__(
        self, process: asyncio.subprocess.Process, service: int, folder: str, embedded: bool
    ) -> None:
        self.process = process
        self.family = psutil.Process(process.pid).children(recursive=True)
        self.folder = Path(folder)
        if embedded:
            server = psutil.Process(int((self.folder / "postmaster.pid").read_text().split()[0]))
            self.family += [server, *server.children(recursive=True)]
        assert service in [member.pid for member in self.family]

    async def end(self, number: signal.Signals) -> int:
        """Send it a signal; return its exit code."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)

    @property
    def alive(self) -> list[psutil.Process]:
        return [m for m in self.family if m.is_running() and m.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place for lairs where only these laboratories look: any other that starts meanwhile sweeps the usual ones."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="m", dir=memory if os.access(memory, os.W_OK) else None
    ) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


async def lonely(url: str) -> Lonely:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(LABORATORY), url, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    word, pid, folder = (await asyncio.wait_for(process.stdout.readline(), 90)).decode().split()
    assert word == "ready"
    return Lonely(process, int(pid), folder, embedded=not url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_laboratory_cleans_up(number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the service and the embedded server, and remove their folder."""
    laboratory = await lonely("")
    assert await laboratory.end(number) == 130
    assert laboratory.alive == []
    assert not laboratory.folder.parent.exists()


async def test_an_interrupted_laboratory_drops_its_databases(postgres: Postgres) -> None:
    """On a server of the user's, too."""
    before = await _names(postgres)
    laboratory = await lonely(url_of(postgres))
    assert len(await _names(postgres) - before) == 2
    assert await laboratory.end(signal.SIGINT) == 130
    assert await _names(postgres) == before


async def test_what_a_killed_laboratory_left_the_next_one_removes() -> None:
    """After SIGKILL nothing was cleaned up; the next start stops the processes and removes the folder."""
    laboratory = await lonely("")
    assert await laboratory.end(signal.SIGKILL) == -9
    assert laboratory.alive and laboratory.folder.exists()
    await asyncio.to_thread(sweep)
    await until(lambda: not laboratory.alive)
    assert not laboratory.folder.parent.exists()


async def test_databases_of_a_killed_laboratory_are_dropped_by_the_next_one(postgres: Postgres) -> None:
    """The next laboratory on the same server drops them, and leaves those of the living alone."""
    before = await _names(postgres)
    living, killed = await lonely(url_of(postgres)), await lonely(url_of(postgres))
    assert len(await _names(postgres) - before) == 4
    await killed.end(signal.SIGKILL)

    async def gone() -> bool:
        async with await Postgres.at(url_of(postgres)):
            return len(await _names(postgres) - before) == 2

    for _ in range(100):  # PostgreSQL notices within moments that the dead laboratory's sessions have gone
        if await gone():
            break
    else:
        pytest.fail("the databases of the killed laboratory are still there")
    await until(lambda: not killed.alive)
    assert living.alive
    await living.end(signal.SIGINT)
    assert await _names(postgres) == before
