"""A worker with subscribers is killed at each point: nothing is lost, and what they write is written once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from events_lab import DRIVERS, Lab, Process, copy, template

from mainstay.patterns.events import Event


class Step(Event, key="chain"):
    chain: int
    number: int


@pytest.fixture(scope="module")
def blank(postgresql_url: str) -> Iterator[str]:
    """The database that tests copy."""
    with template(postgresql_url) as name:
        yield name


@pytest.fixture(params=DRIVERS[:1])
async def lab(postgresql_url: str, blank: str, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """A database of the test's own, once with each driver."""
    with copy(postgresql_url, blank) as address:
        lab = Lab(address, request.param)
        yield lab
        await lab.close()


@pytest.mark.parametrize(
    ("lab", "point"),
    [
        ("psycopg", "declared"),
        ("asyncpg", "handling"),
        ("psycopg", "written"),
        ("asyncpg", "completed"),
        ("psycopg", "committed"),
    ],
    indirect=["lab"],
)
async def test_a_worker_killed_here_leaves_nothing_lost_and_nothing_doubled(lab: Lab, point: str) -> None:
    """Chains of three events, each published by the handler of the one before, end whole under another worker."""
    await lab.publish(*(Step(chain=chain, number=1) for chain in range(3)))
    with Process(lab.url, point) as victim:
        await victim.says(point)
        victim.kill()
    with Process(lab.url, "none"):
        await lab.until(lambda: lab.look("SELECT count(*) FROM effect") == [18] and lab.left() == 0)
    everything = sorted(f"{chain}.{number}" for chain in range(3) for number in (1, 2, 3))
    for who in ("first", "second"):
        assert sorted(lab.look("SELECT what FROM effect WHERE who = %s", who)) == everything
        for chain in range(3):
            order = lab.look(
                "SELECT what FROM effect WHERE who = %s AND what LIKE %s ORDER BY id", who, f"{chain}.%"
            )
            assert order == [f"{chain}.{number}" for number in (1, 2, 3)]
    assert lab.look("SELECT count(*) FROM mainstay.message") == [0]


def test_a_publisher_killed_between_publishing_and_commit_has_published_nothing(lab: Lab) -> None:
    """A real process, SIGKILL."""
    program = (
        "import psycopg, sys, time\n"
        "from mainstay.patterns.events import Event\n"
        "from mainstay.patterns.messages import Messages\n"
        "from mainstay.patterns import Database\n"
        "class Step(Event): pass\n"
        "connection = psycopg.connect(sys.argv[1])\n"
        "connection.execute(\"INSERT INTO effect (what) VALUES ('half')\")\n"
        "Messages(Database(sys.argv[1])).publish_sync(connection, Step())\n"
        "print('published', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, lab.plain], stdout=subprocess.PIPE, text=True
    ) as publisher:
        assert publisher.stdout is not None and publisher.stdout.readline() == "published\n"
        os.kill(publisher.pid, signal.SIGKILL)
        publisher.wait()
    with psycopg.connect(lab.plain, autocommit=True) as server:
        server.execute("SET statement_timeout = '20s'")
        server.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE state LIKE 'idle in%'"
            " AND datname = current_database()"
        )
    assert lab.look("SELECT count(*) FROM mainstay.message") == [0]
    assert lab.look("SELECT count(*) FROM effect") == [0]
