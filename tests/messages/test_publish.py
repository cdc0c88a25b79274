"""Publishing: in the user's own transaction, on every kind of connection, with every option."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest
from engine_waiting import dsn
from sqlalchemy import URL, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from mainstay.patterns import Database
from mainstay.patterns.messages import Messages, NewMessage, PayloadTooLarge, Unserializable

ONE = NewMessage(kind="mail", payload='{"to": 1}')


class Undo(Exception):
    """Rolls back."""


async def test_publishing_joins_the_transaction(db: Database, messages: Messages, sql: Any) -> None:
    """What is published exists if and only if the transaction commits."""
    with pytest.raises(Undo):
        async with db.transaction() as tx:
            await tx.publish(ONE)
            raise Undo
    assert sql("SELECT count(*) FROM mainstay.message") == [(0,)]
    async with db.transaction() as tx:
        [id] = await tx.publish(ONE)
    assert sql("SELECT id, kind, queue, state::text, payload FROM mainstay.message") == [
        (id, "mail", "default", "waiting", {"to": 1})
    ]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("commit", [True, False])
async def test_async_session_and_connection(
    empty: URL, messages: Messages, sql: Any, driver: str, commit: bool
) -> None:
    """As the first statement of an AsyncSession or AsyncConnection, it commits and rolls back with it."""
    engine = create_async_engine(empty.set(drivername=f"postgresql+{driver}"))
    async with AsyncSession(engine) as session:
        await messages.publish(session, ONE, ONE)
        await (session.commit() if commit else session.rollback())
    async with engine.connect() as connection:
        await messages.publish(connection, ONE.but(priority=3))
        await (connection.commit() if commit else connection.rollback())
    await engine.dispose()
    assert sql("SELECT count(*) FROM mainstay.message") == [(3 if commit else 0,)]


@pytest.mark.parametrize("commit", [True, False])
async def test_sync_session_and_connection(empty: URL, messages: Messages, sql: Any, commit: bool) -> None:
    """The same from a sync Session and Connection."""
    engine = create_engine(empty)
    with Session(engine) as session:
        messages.publish_sync(session, ONE, ONE.but(delay=5))
        session.commit() if commit else session.rollback()
    with engine.connect() as connection:
        messages.publish_sync(connection, ONE)
        connection.commit() if commit else connection.rollback()
    engine.dispose()
    assert sql("SELECT count(*) FROM mainstay.message") == [(3 if commit else 0,)]


@pytest.mark.parametrize("commit", [True, False])
async def test_raw_drivers(empty: URL, messages: Messages, sql: Any, commit: bool) -> None:
    """The same from psycopg (sync and async) and asyncpg."""
    with psycopg.connect(dsn(empty)) as connection:
        messages.publish_sync(connection, ONE)
        connection.commit() if commit else connection.rollback()
    async with await psycopg.AsyncConnection.connect(dsn(empty)) as connection:
        await messages.publish(connection, ONE, ONE)
        await (connection.commit() if commit else connection.rollback())
    raw = await asyncpg.connect(dsn(empty))
    transaction = raw.transaction()
    await transaction.start()
    await messages.publish(raw, ONE)
    await (transaction.commit() if commit else transaction.rollback())
    await raw.close()
    assert sql("SELECT count(*) FROM mainstay.message") == [(4 if commit else 0,)]


async def test_psycopg_in_pipeline_mode(empty: URL, messages: Messages, sql: Any) -> None:
    """Its cursors know of no result until one asks: the ids come all the same, once."""
    with psycopg.connect(dsn(empty)) as connection, connection.pipeline():
        first = messages.publish_sync(connection, ONE)
        unique = messages.publish_sync(connection, ONE.but(unique="u"), ONE.but(unique="u"))
    async with await psycopg.AsyncConnection.connect(dsn(empty)) as other, other.pipeline():
        second = await messages.publish(other, ONE, ONE)
    assert sql("SELECT id FROM mainstay.message ORDER BY id") == [
        (id,) for id in (*first, unique[0], *second)
    ]
    assert unique[1] is None and len(second) == 2


async def test_the_wrong_kind_of_connection_is_named(empty: URL, messages: Messages) -> None:
    """A sync connection where an async one is needed, and the other way round, say which way to take."""
    with psycopg.connect(dsn(empty)) as connection, pytest.raises(TypeError, match="publish_sync"):
        await messages.publish(connection, ONE)
    raw = await asyncpg.connect(dsn(empty))
    with pytest.raises(TypeError, match="Session"):
        messages.publish_sync(raw, ONE)
    await raw.close()
    with pytest.raises(TypeError, match="nothing that can be published"):
        await messages.publish(None, "mail")  # type: ignore[arg-type]


async def test_options_are_stored(db: Database, messages: Messages, sql: Any) -> None:
    """Delay, priority, expiry, key and headers stand in the row; ids come back in order."""
    at = datetime.now(UTC) + timedelta(hours=1)
    async with db.transaction() as tx:
        ids = await tx.publish(
            ONE.but(delay=60),
            ONE.but(priority=9),
            ONE.but(expires=10, key="order 1", key_limit=3, headers={"tenant": "a"}),
            ONE.but(at=at),
            ONE,
        )
    assert ids == sorted(id for id in ids if id is not None)
    rows = sql(
        "SELECT state::text, round(extract(epoch FROM ready_at - published_at))::int, priority,"
        " round(extract(epoch FROM ready_at - rank))::int, round(extract(epoch FROM expires_at - published_at))::int,"
        " key, key_limit, headers FROM mainstay.message ORDER BY id"
    )
    assert rows[0] == ("scheduled", 60, 0, 0, None, None, None, None)
    assert rows[1] == ("waiting", 0, 9, 9 * 3600, None, None, None, None)
    assert rows[2] == ("waiting", 0, 0, 0, 10, "order 1", 3, {"tenant": "a"})
    assert rows[3][0] == "scheduled" and 3590 <= rows[3][1] <= 3600
    assert rows[4] == ("waiting", 0, 0, 0, None, None, None, None)


async def test_unique_while_pending(db: Database, messages: Messages, sql: Any) -> None:
    """A taken unique key publishes nothing, in the same statement and in a later one; the rest is published."""
    async with db.transaction() as tx:
        ids = await tx.publish(ONE.but(unique="a"), ONE, ONE.but(unique="a"), ONE.but(unique="b"))
    assert [id is None for id in ids] == [False, False, True, False]
    async with db.transaction() as tx:
        assert await tx.publish(ONE.but(unique="a")) == [None]
    assert sql("SELECT count(*) FROM mainstay.message") == [(3,)]


async def test_unique_within_a_window(db: Database, messages: Messages, sql: Any) -> None:
    """Within its window a unique key holds although its message has ended; after it, the key is free again."""
    async with db.transaction() as tx:
        [first] = await tx.publish(ONE.but(unique="a", unique_for=3600))
    sql(
        "UPDATE mainstay.message SET state = 'cancelled', ended_at = now(), keep_until = now() + interval '1 day'"
        " WHERE id = %s",
        first,
    )
    async with db.transaction() as tx:
        assert await tx.publish(ONE.but(unique="a", unique_for=3600)) == [None]
    sql("UPDATE mainstay.message SET unique_until = now() WHERE id = %s", first)
    async with db.transaction() as tx:
        [second] = await tx.publish(ONE.but(unique="a", unique_for=3600))
    assert second is not None and second != first


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": ""}, "kind of a message cannot be empty"),
        ({"priority": 10}, "priority is 0 to 9"),
        ({"key_limit": 0}, "key_limit is at least 1"),
        ({"delay": -1}, "delay is a number of seconds"),
        ({"delay": float("nan")}, "delay is a number of seconds"),
        ({"at": datetime(2026, 1, 1)}, "time zone"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], sentence: str) -> None:
    """Each wrong option is refused with one sentence, before any database is asked."""
    with pytest.raises(ValueError, match=sentence):
        ONE.but(**changes)


def test_payloads_that_cannot_be_stored() -> None:
    """What is too large, or holds NUL, is refused where it is made; a backslash before u0000 is no NUL."""
    with pytest.raises(PayloadTooLarge, match="1048577 bytes"):
        ONE.but(payload='"' + "x" * (1024 * 1024 - 1) + '"')
    with pytest.raises(Unserializable, match="NUL"):
        ONE.but(payload='"\\u0000"')
    with pytest.raises(Unserializable, match="surrogate"):
        ONE.but(payload='"\\uD800x"')
    assert ONE.but(payload='"\\ud83d\\ude00"').payload  # a whole pair
    for changes in ({"key": "a\x00"}, {"unique": "\ud800"}, {"headers": {"tenant": "\x00"}}):
        with pytest.raises(Unserializable, match="cannot store"):
            ONE.but(**changes)
    assert ONE.but(payload='"\\\\u0000"').payload == '"\\\\u0000"'


async def test_a_payload_that_is_no_json_fails_the_transaction(db: Database, messages: Messages) -> None:
    """The database refuses what is no JSON, and the publisher's transaction with it."""
    with pytest.raises(Exception, match="invalid input syntax for type json"):
        async with db.transaction() as tx:
            await tx.publish(ONE.but(payload="{"))


async def test_many_are_one_statement(db: Database, messages: Messages, sql: Any) -> None:
    """A thousand messages are one INSERT, and their ids are in order; of one kind and queue, or of several."""
    async with db.transaction() as tx:
        await tx.execute(text("SELECT 1"))
        ids = await tx.publish(*[ONE.but(payload=str(n)) for n in range(500)])
        ids += await tx.publish(*[ONE.but(payload=str(n), queue=f"q{n % 3}") for n in range(500, 1000)])
    assert [row[0] for row in sql("SELECT payload FROM mainstay.message ORDER BY id")] == list(range(1000))
    assert ids == [row[0] for row in sql("SELECT id FROM mainstay.message ORDER BY id")]
    assert sql(
        "SELECT queue, count(*) FROM mainstay.message WHERE id >= %s GROUP BY 1 ORDER BY 1", ids[500]
    ) == [
        ("q0", 167),
        ("q1", 166),
        ("q2", 167),
    ]


async def test_a_window_that_has_passed_is_no_bar_to_those_without(
    db: Database, messages: Messages, sql: Any
) -> None:
    """A dead message keeps its unique key for its window, and not a day longer, whoever comes next."""
    async with db.transaction() as tx:
        [first] = await messages.publish(tx, ONE.but(unique="u", unique_for=100))
    sql(
        "UPDATE mainstay.message SET state = 'running', leased_by = 1; UPDATE mainstay.message SET state = 'dead',"
        " leased_by = NULL, ended_at = now()"
    )
    async with db.transaction() as tx:
        assert await messages.publish(tx, ONE.but(unique="u")) == [None]
    sql("UPDATE mainstay.message SET unique_until = now() - interval '1 second'")
    async with db.transaction() as tx:
        [second] = await messages.publish(tx, ONE.but(unique="u"))
    assert first is not None and second is not None
