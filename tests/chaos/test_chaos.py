"""A short campaign of random kills, and that its audit can find each fault it looks for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from audit import audit
from campaign import TABLES, Campaign, Result
from cluster import Cluster, binaries

from mainstay.patterns import Database
from mainstay.patterns.schema import upgrade

pytestmark = pytest.mark.skipif(binaries() is None, reason="initdb is not installed")


async def test_a_short_campaign() -> None:
    """Some strikes over workers, services, backends, connections, server and clock: nothing lost or doubled."""
    seed = random.SystemRandom().randrange(10**6)
    result = await Campaign(16, seed, pace=0.3, pause=0.05, clock=True).run()
    assert not result.faults, f"seed {seed}: {result.faults}"
    assert result.published.total() > 20


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection[Any]]:
    """Tables after a campaign without faults; what a test plants there is undone after it."""

    async def prepare(dsn: str) -> None:
        async with Database(dsn) as db:
            await upgrade(db)

    with Cluster() as cluster:
        asyncio.run(prepare(cluster.dsn))
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            connection.execute(TABLES)
            yield connection


PLANTED = {
    "lost": "INSERT INTO ledger VALUES ('t', 'transfer', 's')",
    "doubled": "INSERT INTO ledger VALUES ('t', 'limited', 's');"
    " INSERT INTO effect (token, kind) VALUES ('t', 'limited'), ('t', 'limited')",
    "never published": "INSERT INTO effect (token, kind) VALUES ('t', 'keyed')",
    "attempts that failed": "INSERT INTO ledger VALUES ('t', 'doomed', 's');"
    " INSERT INTO effect (token, kind) VALUES ('t', 'doomed')",
    "stuck": "INSERT INTO mainstay.message (kind, queue, payload, ready_at, rank)"
    " VALUES ('k', 'q', '{}', now(), now())",
    "given up": "INSERT INTO mainstay.message (kind, queue, payload, ready_at, rank, state, ended_at)"
    " VALUES ('k', 'q', '{}', now(), now(), 'dead', now())",
    "not there as dead": "INSERT INTO ledger VALUES ('t', 'doomed', 's')",
    "money": "UPDATE account SET balance = balance + 1 WHERE id = 1",
    "out of order": "INSERT INTO ledger SELECT n::text, 'keyed', 's' FROM generate_series(1, 2) AS n;"
    " INSERT INTO effect (token, kind, source, number) VALUES ('2', 'keyed', 's', 2), ('1', 'keyed', 's', 1)",
    "took no leave": "INSERT INTO mainstay.worker (name, alive_until) VALUES ('w', now() + interval '1 minute')",
    "never called outside": "INSERT INTO ledger VALUES ('t', 'outside', 's')",
}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_audit_finds(connection: psycopg.Connection[Any], fault: str) -> None:
    """Each fault, planted by hand; and nothing where there is none."""
    clean, result = Result(0), Result(0)
    audit(connection, clean, [])
    assert clean.faults == []
    with connection.transaction(force_rollback=True):
        connection.execute(PLANTED[fault])
        audit(connection, result, [])
    assert [one for one in result.faults if fault in one], result.faults


def test_the_audit_finds_inconsistent_keys(connection: psycopg.Connection[Any]) -> None:
    """Calls outside: several keys for one thing, and one key for several things."""
    result = Result(0)
    with connection.transaction(force_rollback=True):
        connection.execute(
            "INSERT INTO ledger SELECT n::text, 'outside', 's' FROM generate_series(1, 2) AS n"
        )
        audit(connection, result, [("key a", "1"), ("key b", "1"), ("key b", "2")])
    assert len(result.faults) == 2
