"""Real drivers through the proxy: everything they do works as it does without it, and is seen."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from gates import Record, until
from psycopg.rows import namedtuple_row
from sqlalchemy.ext.asyncio import create_async_engine

from mainstay.architect.diagnose import wire
from mainstay.architect.diagnose.postgres import Database, Postgres
from mainstay.architect.diagnose.proxy import Proxy

Open = Callable[..., Awaitable[Proxy]]


# ------------------------------------------------------------------------------------------ psycopg


async def test_a_transaction_is_seen_statement_by_statement(proxy: Proxy, record: Record) -> None:
    """Number, SQL, parameters, row counts, tags and transaction state of each statement are recorded."""
    async with await psycopg.AsyncConnection.connect(proxy.url()) as client:
        await client.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
        await client.execute("INSERT INTO item VALUES (%s, %s), (2, NULL)", (1, "one"))
        await client.execute("UPDATE item SET name = 'two' WHERE id = 2")
        assert [t.statements[0].sql for t in proxy.in_transaction()] == ["BEGIN"]
        rows = await (await client.execute("SELECT id, name FROM item ORDER BY id")).fetchall()
    assert rows == [(1, "one"), (2, "two")]
    assert [(s.number, s.tag, s.rows, s.status_before, s.status_after) for s in record.seen] == [
        (1, "BEGIN", None, "I", "T"),
        (2, "CREATE TABLE", None, "T", "T"),
        (3, "INSERT 0 2", 2, "T", "T"),
        (4, "UPDATE 1", 1, "T", "T"),
        (5, "SELECT 2", 2, "T", "T"),
        (6, "COMMIT", None, "T", "I"),
    ]
    assert record.last("INSERT").parameters == ("1", "one")
    assert record.last("SELECT").first_row == ("1", "one")
    assert record.last("SELECT").columns == ("id", "name")
    assert proxy.in_transaction() == []
    assert all(0 < s.started <= s.ended for s in record.seen)


async def test_the_sync_driver_works_from_a_thread(proxy: Proxy, record: Record) -> None:
    """psycopg's synchronous connection, with prepared statements from the first execution on."""

    def work() -> list[int]:
        with psycopg.connect(proxy.url(), prepare_threshold=0) as client:
            return [client.execute("SELECT %s::int + 1", (n,)).fetchone()[0] for n in range(5)]  # type: ignore[index]

    assert await asyncio.to_thread(work) == [1, 2, 3, 4, 5]
    selects = [s for s in record.seen if s.sql.startswith("SELECT")]
    assert [s.parameters for s in selects] == [(str(n),) for n in range(5)]
    assert [s.first_row for s in selects] == [(str(n + 1),) for n in range(5)]


async def test_an_error_is_recorded_and_the_transaction_is_failed(proxy: Proxy, record: Record) -> None:
    """SQLSTATE, message and state ``E``, whether the error comes from Parse, Bind or Execute."""
    async with await psycopg.AsyncConnection.connect(proxy.url()) as client:
        for sql, parameters in (
            ("SELECT * FROM missing WHERE id = %s", (1,)),
            ("SELECT %s::text::int", ("not a number",)),
            ("SELECT 1 / %s::int", (0,)),
        ):
            with pytest.raises(psycopg.Error) as raised:
                await client.execute(sql, parameters)
            seen = record.seen[-1]
            assert (seen.sqlstate, seen.status_after) == (raised.value.sqlstate, "E")
            assert seen.error
            await client.rollback()
            assert record.seen[-1].status_before == "E"
        assert await (await client.execute("SELECT 1")).fetchone() == (1,)


async def test_a_pipeline_with_an_error_in_its_middle(proxy: Proxy, record: Record) -> None:
    """What follows the error up to the next Sync is not run; what follows the Sync is."""
    async with await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as client:
        await client.execute("CREATE TABLE item (id int PRIMARY KEY)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            async with client.pipeline() as pipeline:
                await client.execute("INSERT INTO item VALUES (1)")
                await pipeline.sync()
                await client.execute("INSERT INTO item VALUES (2)")
                await client.execute("INSERT INTO item VALUES (1)")
                await client.execute("INSERT INTO item VALUES (3)")
        async with client.pipeline():
            await client.execute("INSERT INTO item VALUES (4)")
        rows = await (await client.execute("SELECT id FROM item ORDER BY id")).fetchall()
    assert rows == [(1,), (4,)]
    inserts = [(s.sql[-3:], s.sqlstate) for s in record.seen if s.sql.startswith("INSERT")]
    assert inserts == [("(1)", ""), ("(2)", ""), ("(1)", "23505"), ("(4)", "")]


async def test_a_deferred_constraint_fails_the_commit(proxy: Proxy, record: Record) -> None:
    """An error that comes only with the end of the statement's own transaction belongs to the statement."""
    async with await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as client:
        await client.execute("CREATE TABLE item (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        await client.execute("INSERT INTO item VALUES (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await client.execute("INSERT INTO item VALUES (%s)", (1,))
    assert record.last("INSERT").sqlstate == "23505"
    assert record.last("INSERT").status_after == "I"


async def test_server_side_cursors(proxy: Proxy, record: Record) -> None:
    """DECLARE and FETCH of a named cursor are statements like any other."""
    async with (
        await psycopg.AsyncConnection.connect(proxy.url()) as client,
        client.cursor("numbers", row_factory=namedtuple_row) as cursor,
    ):
        cursor.itersize = 4
        await cursor.execute("SELECT n FROM generate_series(1, 10) AS n")
        assert [row.n async for row in cursor] == list(range(1, 11))
    assert [s.rows for s in record.seen if s.sql.startswith("FETCH")] == [4, 4, 2]


async def test_copy_in_and_out(proxy: Proxy, record: Record) -> None:
    """COPY passes in both directions and counts as one statement, also when it fails in its middle."""
    async with await psycopg.AsyncConnection.connect(proxy.url()) as client:
        await client.execute("CREATE TABLE item (id int, name text)")
        async with client.cursor() as cursor:
            async with cursor.copy("COPY item FROM STDIN") as copy:
                for n in range(1000):
                    await copy.write_row((n, f"item {n}"))
            lines = 0
            async with cursor.copy("COPY item TO STDOUT") as copy:
                async for block in copy:
                    lines += bytes(block).count(b"\n")
        assert lines == 1000
        assert [s.rows for s in record.seen if s.sql.startswith("COPY")] == [1000, 1000]
        await client.commit()
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            async with client.cursor() as cursor, cursor.copy("COPY item FROM STDIN") as copy:
                await copy.write("not a number\tname\n")
        await client.rollback()
        assert record.last("COPY").sqlstate == "22P02"
        assert await (await client.execute("SELECT count(*) FROM item")).fetchone() == (1000,)


async def test_cancel_reaches_the_backend(proxy: Proxy, record: Record) -> None:
    """A cancel request ends the statement that its connection runs, and no other."""
    async with await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as client:
        sleeping = asyncio.create_task(client.execute("SELECT pg_sleep(60)"))
        await until(lambda: proxy.connections[0].running)
        async with await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as other:
            await other.execute("SELECT 1")
            while not sleeping.done():  # PostgreSQL drops a cancel that comes before the statement has begun
                await client.cancel_safe()
            await other.execute("SELECT 2")
        with pytest.raises(psycopg.errors.QueryCanceled):
            await sleeping
    assert record.last("pg_sleep").sqlstate == "57014"


async def test_notifications_pass(proxy: Proxy) -> None:
    """A NOTIFY reaches a listening client without being asked for."""
    async with (
        await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as listener,
        await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as sender,
    ):
        await listener.execute("LISTEN orders")
        await sender.execute("NOTIFY orders, 'placed'")
        async for notification in listener.notifies(timeout=30, stop_after=1):
            assert (notification.channel, notification.payload) == ("orders", "placed")


async def test_large_objects_pass(proxy: Proxy) -> None:
    """FunctionCall, which libpq's large objects use, passes through."""
    message = wire.Startup({"user": "any"}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(message)
    while (await reader.readexactly(1)) != b"Z":
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)
    await reader.readexactly(5)
    # pg_backend_pid() has no arguments; its OID is 2026; the result is binary.
    body = (2026).to_bytes(4, "big") + bytes(2) + bytes(2) + (1).to_bytes(2, "big")
    writer.write(b"F" + (len(body) + 4).to_bytes(4, "big") + body)
    answer = await reader.readexactly(5 + 4 + 4 + 6)
    assert answer[:1] == b"V" and answer[-6:] == b"Z\0\0\0\5I"
    assert int.from_bytes(answer[9:13], "big") == proxy.connections[0].backend_pid
    writer.close()


async def test_tls_is_refused_cleanly(proxy: Proxy) -> None:
    """sslmode=prefer goes on in clear text; sslmode=require says that there is no SSL."""
    async with await psycopg.AsyncConnection.connect(proxy.url(), sslmode="prefer") as client:
        await client.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        await psycopg.AsyncConnection.connect(proxy.url(), sslmode="require")


async def test_who_speaks_something_else_is_told_so(proxy: Proxy) -> None:
    """An HTTP client gets a PostgreSQL error and a closed connection, not silence."""
    with socket.create_connection(("127.0.0.1", proxy.port)) as stranger:
        stranger.settimeout(10)
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = await asyncio.to_thread(stranger.recv, 1000)
    assert answer[:1] == b"E" and b"no PostgreSQL client" in answer


async def test_a_killed_backend_is_reported(
    proxy: Proxy, postgres: Postgres, database: Database, record: Record
) -> None:
    """When PostgreSQL ends the session, the client hears of it and the statement is over."""
    async with await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True) as client:
        with pytest.raises(psycopg.errors.AdminShutdown):
            await client.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert record.last("pg_terminate").sqlstate == "57P01"
    assert proxy.connections == []


async def test_a_connection_can_be_killed(proxy: Proxy) -> None:
    """`kill` looks to the client like a network fault."""
    client = await psycopg.AsyncConnection.connect(proxy.url(), autocommit=True)
    await client.execute("SELECT 1")
    proxy.connections[0].kill()
    with pytest.raises(psycopg.OperationalError):
        await client.execute("SELECT 2")


@pytest.mark.parametrize("megabytes", [10])
async def test_big_rows_pass_both_ways(proxy: Proxy, record: Record, megabytes: int) -> None:
    """A 10 MB parameter and a 10 MB row pass; what is kept of them is short."""
    text = "x" * (megabytes << 20)
    async with await psycopg.AsyncConnection.connect(proxy.url()) as client:
        row = await (await client.execute("SELECT %s::text", (text,))).fetchone()
    assert row == (text,)
    seen = record.last("::text")
    assert seen.parameters[0] is not None and len(seen.parameters[0]) < 5000
    assert seen.first_row is not None and len(seen.first_row[0] or "") < 5000


async def test_a_slow_reader_slows_the_server_down(proxy: Proxy) -> None:
    """While a client does not read, the proxy stops reading too, instead of keeping the result in memory."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1 << 16)
    writer.write(wire.Startup({"user": "any"}).encode())
    writer.write(wire.Query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)").encode())
    [connection] = proxy._connections  # looks inside: nothing outside shows that reading has stopped
    await until(lambda: connection._login)
    assert connection._login is not None
    transport = connection._login.stream.transport
    assert transport is not None
    await until(lambda: not transport.is_reading())
    assert connection._client.transport is not None
    assert connection._client.transport.get_write_buffer_size() < 4 << 20
    received = 0
    while received < 100_000_000:
        received += len(await reader.read(1 << 20))
    writer.close()


# ------------------------------------------------------------------------------------------ asyncpg


async def test_asyncpg_values_are_readable(proxy: Proxy, record: Record) -> None:
    """asyncpg sends everything in binary; parameters and first rows are recorded as text all the same."""
    client = await asyncpg.connect(proxy.url())
    await client.execute("CREATE TYPE mood AS ENUM ('happy', 'sad')")
    identifier = uuid.uuid4()
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    await client.fetch(
        "SELECT $1::int, $2::text, $3::bool, $4::uuid, $5::timestamptz, $6::numeric, $7::jsonb, $8::int[], $9::mood,"
        " $10::bytea, $11::text",
        *(
            7,
            "sieben",
            True,
            identifier,
            moment,
            Decimal("1.50"),
            '{"a": 1}',
            [1, 2],
            "happy",
            b"\0\xff",
            None,
        ),
    )
    wanted = (
        *(
            "7",
            "sieben",
            "t",
            str(identifier),
            "2026-01-02 03:04:05+00:00",
            "1.50",
            '{"a": 1}',
            "{1,2}",
            "happy",
        ),
        *("\\x00ff", None),
    )
    assert record.last("$1::int").parameters == wanted
    assert record.last("$1::int").first_row == wanted
    await client.close()


async def test_asyncpg_cursors_fetch_more_rows_of_one_query(proxy: Proxy, record: Record) -> None:
    """Further rows from an open portal are marked, so that they do not count as queries of their own."""
    client = await asyncpg.connect(proxy.url())
    async with client.transaction():
        rows = [
            row["n"] async for row in client.cursor("SELECT n FROM generate_series(1, 10) AS n", prefetch=4)
        ]
        cursor = await client.cursor("SELECT n FROM generate_series(1, 3) AS n")
        await cursor.forward(1)
        rows += [row["n"] for row in await cursor.fetch(2)]
    assert rows == [*range(1, 11), 2, 3]
    assert len([s for s in record.seen if "generate_series(1, 10)" in s.sql and not s.continues]) == 1
    await client.close()


async def test_asyncpg_executemany_and_copy(proxy: Proxy, record: Record) -> None:
    """executemany sends all its statements before one Sync; each is seen by itself."""
    client = await asyncpg.connect(proxy.url())
    await client.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
    await client.executemany("INSERT INTO item VALUES ($1, $2)", [(n, f"item {n}") for n in range(200)])
    inserts = [s for s in record.seen if s.sql.startswith("INSERT")]
    assert [s.parameters for s in inserts] == [(str(n), f"item {n}") for n in range(200)]
    assert {s.rows for s in inserts} == {1}
    with pytest.raises(asyncpg.UniqueViolationError):
        await client.executemany("INSERT INTO item VALUES ($1, $2)", [(n, "") for n in (1000, 1001, 5, 1002)])
    assert await client.fetchval("SELECT count(*) FROM item") == 200
    await client.copy_records_to_table("item", records=[(n, None) for n in range(1000, 3000)])
    assert await client.fetchval("SELECT count(*) FROM item") == 2200
    await client.close()


async def test_asyncpg_cancels_on_timeout(proxy: Proxy, record: Record) -> None:
    """A statement that takes longer than the client's timeout is cancelled, and the connection is good again."""
    client = await asyncpg.connect(proxy.url())
    with pytest.raises(TimeoutError):
        await client.fetch("SELECT pg_sleep(60)", timeout=0.2)
    assert await client.fetchval("SELECT 1") == 1
    assert record.last("pg_sleep").sqlstate == "57014"
    await client.close()


async def test_no_database_yet(postgres: Postgres) -> None:
    """A client that comes before the laboratory has attached a database is told so."""
    proxy = Proxy(postgres, "alice")
    await proxy.start()
    with pytest.raises(psycopg.OperationalError, match="not attached a database"):
        await psycopg.AsyncConnection.connect(proxy.url())
    await proxy.close()


# ------------------------------------------------------------------------------------------ SQLAlchemy


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg"])
async def test_sqlalchemy_pools_work(driver: str, proxy: Proxy, record: Record) -> None:
    """An engine with a pool, its transactions, and several connections at once."""
    engine = create_async_engine(proxy.url(driver), pool_size=3, max_overflow=0)
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE item (id int PRIMARY KEY, name text)"))
        await connection.execute(
            sa.text("INSERT INTO item VALUES (:id, :name)"), [{"id": n, "name": "x"} for n in range(3)]
        )

    async def count() -> int:
        async with engine.connect() as connection:
            return (await connection.execute(sa.text("SELECT count(*) FROM item"))).scalar_one()

    assert await asyncio.gather(*(count() for _ in range(6))) == [3] * 6
    assert {s.connection for s in record.seen} == {1, 2, 3}
    assert [s.parameters for s in record.seen if s.sql.startswith("INSERT")] == [
        (str(n), "x") for n in range(3)
    ]
    await engine.dispose()
