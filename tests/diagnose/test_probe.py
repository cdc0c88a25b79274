"""The probe marks statements with their line, and a service never notices it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mainstay.architect.diagnose.laboratory import PROBE
from mainstay.architect.diagnose.scheduler import read_place
from mainstay.architect.findings import Location

SERVICE = """
import asyncio
import asyncpg, psycopg, sys
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

URL = sys.argv[1]
SEEN = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"

def in_psycopg():
    with psycopg.connect(URL) as connection:
        return connection.execute(SEEN).fetchone()[0]

async def in_asyncpg():
    connection = await asyncpg.connect(URL)
    try:
        return await connection.fetchval(SEEN)
    finally:
        await connection.close()

async def in_sqlalchemy(driver):
    engine = create_async_engine(URL.replace("postgresql:", f"postgresql+{driver}:"))

    def deep(connection):
        return connection.scalar(sa.text(SEEN))

    async with engine.connect() as connection:
        found = await connection.run_sync(deep)
    await engine.dispose()
    return found

print(in_psycopg())
print(asyncio.run(in_asyncpg()))
print(asyncio.run(in_sqlalchemy("psycopg")))
print(asyncio.run(in_sqlalchemy("asyncpg")))
"""


def run(folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROBE), "MAINSTAY_PROBE": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("place", ["checkout", "lib/site-packages/installed"])
def test_every_driver_tells_the_line(tmp_path: Path, postgresql_url: str, place: str) -> None:
    """psycopg, asyncpg, and SQLAlchemy on both, also from sync code under an async engine; checked out or installed."""
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "service.py").write_text(SERVICE)
    lines = run(folder, "service.py", postgresql_url).splitlines()
    functions = []
    for line in lines:
        sql, location, function = read_place(line)
        assert sql.startswith("SELECT query FROM") and location is not None
        assert "SEEN)" in SERVICE.splitlines()[location.line - 1]
        assert location.file == "service.py"
        functions.append(function)
    assert functions == [
        "in_psycopg",
        "in_asyncpg",
        "in_sqlalchemy.<locals>.deep",
        "in_sqlalchemy.<locals>.deep",
    ]


def test_a_sitecustomize_of_the_service_still_runs(tmp_path: Path) -> None:
    """The probe stands in its way, and calls it."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('mine')")
    path = os.pathsep.join([str(PROBE), str(tmp_path / "own")])
    assert run(tmp_path, "-c", "print('end')", PYTHONPATH=path) == "mine\nend\n"


def test_nothing_happens_without_the_variable(tmp_path: Path, postgresql_url: str) -> None:
    """The folder on the path alone changes nothing."""
    (tmp_path / "service.py").write_text(SERVICE)
    assert "mainstay" not in run(tmp_path, "service.py", postgresql_url, MAINSTAY_PROBE="")


def test_places_are_read_back() -> None:
    """The laboratory takes the comment away."""
    sql = "SELECT 1 /*mainstay:shop/orders.py:12:place_order*/"
    assert read_place(sql) == ("SELECT 1", Location("shop/orders.py", 12), "place_order")
    assert read_place("SELECT 1 /* mine */") == ("SELECT 1 /* mine */", None, "")
