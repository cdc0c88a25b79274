"""A short campaign of random kills, and that its audit can find each fault it looks for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from audit import audit, audit_broker
from broker_server import BrokerServer
from campaign import CHANCES, TABLES, Campaign
from chaos_report import Result
from cluster import Cluster, binaries
from stub_provider import Asked

from mainstay.patterns import Database
from mainstay.patterns.brokers import CloudEvent, broker
from mainstay.patterns.schema import upgrade

pytestmark = pytest.mark.skipif(binaries() is None, reason="initdb is not installed")


async def test_a_short_campaign() -> None:
    """One strike of each kind and some more: nothing lost or doubled, and sagas end as they must."""
    seed = random.SystemRandom().randrange(10**6)
    result = await Campaign(16, seed, pace=0.3, pause=0.05, clock=True).run()
    assert not result.faults, f"seed {seed}: {result.faults}"
    assert result.published.total() >= 20 and result.sagas.total() >= 10
    assert set(result.kills) == set(CHANCES)


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


SAGA = """
INSERT INTO mainstay.saga (id, kind, queue, state, step, data, keep, error, ended_at) OVERRIDING SYSTEM VALUE
SELECT {0}, 'Payment', 'q', state, CASE WHEN ended_at IS NULL THEN 'deposit' END, '{{}}', '1 day', 'why', ended_at
FROM (SELECT '{1}'::mainstay.saga_state AS state, {2}::timestamptz AS ended_at) AS one;
"""
PAYMENT = "INSERT INTO saga_ledger VALUES ({0}, '{1}', 'p', 1, 2, 3);" + SAGA.replace("{2}", "{3}").replace(
    "{1}", "{2}"
)

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
    "sagas lost": "INSERT INTO saga_ledger VALUES (1, 'well', 'p', 1, 2, 3)",
    "nobody started": SAGA.format(1, "completed", "now()"),
    "with each effect once and in order": PAYMENT.format(1, "well", "completed", "now()")
    + "INSERT INTO saga_effect (saga, what) VALUES (1, 'withdraw'), (1, 'note'), (1, 'deposit'), (1, 'deposit')",
    "come to the end that they must": PAYMENT.format(1, "declined", "completed", "now()")
    + "INSERT INTO saga_effect (saga, what) VALUES (1, 'withdraw'), (1, 'note'), (1, 'deposit')",
    "without the reason": PAYMENT.format(1, "no way on", "finishing", "NULL"),
    "purses": "UPDATE purse SET balance = balance + 1 WHERE id = 1",
    "of one lock at work": PAYMENT.format(1, "well", "completed", "now()")
    + PAYMENT.format(2, "well", "completed", "now()")
    + "INSERT INTO saga_effect (saga, what) VALUES (1, 'withdraw'), (2, 'withdraw'), (1, 'note')",
    "effects outside are not what": PAYMENT.format(1, "well", "completed", "now()"),
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
        audit(connection, result, [Asked(key, "notify", about) for key, about in ("a1", "b1", "b2")])
    assert len(result.faults) == 2


RESERVED, REVOKED = Asked("a", "reserve", "1"), Asked("b", "revoke", "1", "a")
SENT = Asked("c", "send", "1")
STEPS = {"completed": ("withdraw", "note", "deposit"), "compensated": ("withdraw", "put back")}


@pytest.mark.parametrize(
    ("state", "asked", "right"),
    [
        ("completed", [RESERVED, SENT], True),
        ("completed", [RESERVED, RESERVED, SENT], True),
        ("completed", [RESERVED], False),
        ("completed", [RESERVED, SENT, REVOKED], False),
        ("completed", [RESERVED, RESERVED._replace(key="d"), SENT], False),
        ("completed", [RESERVED, SENT._replace(key="a")], False),
        ("compensated", [], True),
        ("compensated", [RESERVED, REVOKED], True),
        ("compensated", [RESERVED._replace(answer="no")], True),
        ("compensated", [RESERVED._replace(answer="lost")], False),
        ("compensated", [RESERVED, REVOKED, SENT], False),
    ],
)
def test_the_audit_of_what_a_saga_did_outside(
    connection: psycopg.Connection[Any], state: str, asked: list[Asked], right: bool
) -> None:
    """A payment that is right in the database; what the provider was asked decides."""
    result = Result(0)
    with connection.transaction(force_rollback=True):
        connection.execute(PAYMENT.format(1, "hurried", state, "now()"))
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO saga_effect (saga, what) VALUES (1, %s)", [(what,) for what in STEPS[state]]
            )
        if state == "completed":
            connection.execute(
                "UPDATE purse SET balance = balance + CASE id WHEN 1 THEN -3 ELSE 3 END WHERE id < 3"
            )
        audit(connection, result, asked)
    assert (not result.faults) == right, result.faults


@pytest.mark.parametrize(
    ("numbers", "told", "unacknowledged", "fault"),
    [
        ([1, 2, 2, 1, 3], 3, 0, None),
        ([1, 3, 2], 3, 0, "out of order"),
        ([1, 2], 3, 0, "2 different events"),
        ([1, 2, 3], 3, 1, "nobody has acknowledged"),
    ],
)
def test_the_audit_of_a_broker(numbers: list[int], told: int, unacknowledged: int, fault: str | None) -> None:
    """What it has twice is in order where it was first seen; what came late, or never, is found."""
    result = Result(0)
    kept = [
        CloudEvent(
            id=str(number),
            source="/test",
            type="told",
            data=b'{"number": %d}' % number,
            extensions={"partitionkey": "k"},
        )
        for number in numbers
    ]
    audit_broker(result, "nats", kept, told, unacknowledged)
    assert [fault in one for one in result.faults if fault] == [True] * bool(fault)
    assert bool(result.faults) == bool(fault)


@pytest.mark.parametrize("kind", ["nats", "redis"])
async def test_a_broker_keeps_what_it_confirmed_before_it_was_killed(kind: str) -> None:
    """What the campaign takes for granted of its brokers."""
    server = BrokerServer(kind)
    if not server.own:
        pytest.skip(f"{kind} is not installed")
    events = [CloudEvent(id=str(number), source="/test", type="told") for number in range(100)]
    try:
        server.start()
        await server.prepare()
        async with broker(server.address(), server.topic) as opened:
            await opened.publish(events)
        server.kill()
        server.start()
        async with broker(server.address(), server.topic) as opened, opened.consume("all") as deliveries:
            found = [(await anext(deliveries)).event().id for _ in events]
        assert sorted(found, key=int) == [event.id for event in events]
    finally:
        await server.close()
