"""Deploys with an older build of this repository as it really was: beside the present one, and on either schema."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from mainstay.patterns.schema import migrations

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("deploy_program.py")
MAINSTAY = Path(sys.executable).parent / "mainstay"
APP = """
import os
from mainstay.patterns import Database
from mainstay.patterns.messages import Handler, Messages

messages = Messages(Database(os.environ["DATABASE_URL"]))

async def effect(message):
    pass

messages.handle(Handler(kind="known", call=effect))
"""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked, the sources as they were just before the newest migration came."""

    def git(*arguments: str) -> bytes:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, check=False, timeout=60
        )
        return done.stdout if done.returncode == 0 else b""

    added = git("log", "-1", "--diff-filter=A", "--format=%H", "--", "src/mainstay/patterns/schema/*.sql")
    before = (
        git("rev-parse", "--verify", "--quiet", f"{added.decode().strip()}^{{commit}}~1") if added else b""
    )
    if not before:
        pytest.skip("the commit before the newest migration is not in this clone")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=BytesIO(git("archive", before.decode().strip(), "src/mainstay"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


@pytest.fixture
def url(postgresql_url: str) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"mainstay_deploys_{os.getpid()}"
    with psycopg.connect(postgresql_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        found = make_url(postgresql_url).set(database=name).render_as_string(hide_password=False)
        try:
            with psycopg.connect(found, autocommit=True) as connection:
                connection.execute("CREATE TABLE effect (message bigint, kind text, build text)")
            yield found
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Builds:
    """Both builds, to be started on one database."""

    def __init__(self, older: Path, url: str) -> None:
        self._sources = {"old": older, "new": ROOT / "src"}
        self._url = url
        self._looking = psycopg.connect(url, autocommit=True)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, build: str, *arguments: str) -> subprocess.Popen[str]:
        """The program of deploys, by that build."""
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), self._url, build, *arguments],
            env={**os.environ, "PYTHONPATH": str(self._sources[build])},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, build: str, *arguments: str) -> str:
        """The same to its end; what it printed."""
        process = self.start(build, *arguments)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return said

    def close(self) -> None:
        """End what still runs."""
        for process in self._started:
            process.kill()
            process.communicate()
        self._looking.close()

    def look(self, sql: str) -> list[Any]:
        """Rows."""
        return self._looking.execute(sql).fetchall()

    def until(self, condition: Callable[[], object], seconds: float = 120.0) -> None:
        """Wait for a condition, with a bound."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.look(
                "SELECT kind, state, attempts, count(*) FROM mainstay.message GROUP BY 1, 2, 3"
            )
            time.sleep(0.03)

    def done_by(self, build: str) -> int:
        """How many effects that build has had."""
        count: int = self.look(f"SELECT count(*) FROM effect WHERE build = '{build}'")[0][0]
        return count


@pytest.fixture
def builds(older: Path, url: str) -> Iterator[Builds]:
    """Both, ended afterwards."""
    found = Builds(older, url)
    yield found
    found.close()


def mainstay(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The present command line."""
    return subprocess.run(
        [MAINSTAY, *arguments],
        cwd=folder,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_rolling_deploy_and_a_way_back(builds: Builds, url: str, tmp_path: Path) -> None:
    """Old schema with both builds, the upgrade under load, both side by side, and the old one alone again."""
    assert int(builds.run("old", "upgrade")) == len(migrations()) - 1
    (tmp_path / "app.py").write_text(APP)

    # A new worker that comes before the schema says what to run, and takes nothing.
    early = mainstay(url, tmp_path, "worker", "app:messages")
    (newest,) = [one for one in migrations() if one.number not in applied(builds)]
    assert early.returncode == 2
    assert f"{newest.number} ({newest.name}): run `mainstay db upgrade`" in early.stderr
    assert early.stderr.count("\n") == 1

    # The schema goes first, while an old worker and an old publisher are at work.
    old = builds.start("old", "work", "known")
    builds.run("old", "publish", "known", "500")
    builds.until(lambda: builds.done_by("old") > 0)
    upgraded = mainstay(url, tmp_path, "db", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    assert applied(builds) == {one.number for one in migrations()}
    builds.run("old", "publish", "known", "200")
    builds.until(lambda: builds.done_by("old") == 700)

    # What only new code knows waits for it: untouched, not failed.
    builds.run("new", "publish", "novel", "30")
    builds.run("new", "publish", "known", "50")
    builds.until(lambda: builds.done_by("old") == 750)
    assert builds.look("SELECT DISTINCT kind, state::text, attempts, errors::text FROM mainstay.message") == [
        ("novel", "waiting", 0, "[]")
    ]

    # Side by side on one queue.
    new = builds.start("new", "work", "known", "novel")
    builds.until(lambda: builds.look("SELECT count(*) FROM effect WHERE kind = 'novel'") == [(30,)])
    had_old, had_new = builds.done_by("old"), builds.done_by("new")
    published = 0
    while builds.done_by("old") < had_old + 20 or builds.done_by("new") < had_new + 20:
        assert published < 20_000, "one of the two gets nothing"
        builds.run("old" if published % 1000 else "new", "publish", "known", "500")
        published += 500

    # The old one is killed in the middle: the new one takes over.
    builds.run("new", "publish", "known", "2000")
    old.kill()
    builds.until(lambda: builds.look("SELECT count(*) FROM mainstay.message") == [(0,)])

    # The way back: the schema stays, and an old worker begins on it.
    new.send_signal(signal.SIGTERM)
    assert new.wait(60) == 0
    before = builds.done_by("old")
    builds.start("old", "work", "known")
    builds.run("old", "publish", "known", "20")
    builds.until(lambda: builds.done_by("old") == before + 20)
    total = 750 + 30 + published + 2000 + 20
    assert builds.look("SELECT count(*), count(DISTINCT message) FROM effect") == [(total, total)]
    assert builds.look("SELECT DISTINCT build FROM effect WHERE kind = 'novel'") == [("new",)]


def applied(builds: Builds) -> set[int]:
    """The numbers of the migrations that the database has."""
    return {number for (number,) in builds.look("SELECT number FROM mainstay.migration")}
