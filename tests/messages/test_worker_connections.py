"""What a worker's own connections must bear: answers that get lost, a dead network, a database with odd settings."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cutting_proxy import CuttingProxy
from engine_waiting import dsn, until
from held_proxy import HeldProxy
from sqlalchemy import URL

from mainstay.patterns import Database, schema
from mainstay.patterns.messages import (
    GiveUp,
    Handler,
    Message,
    Messages,
    NewMessage,
    NotNow,
    PooledByTransaction,
    Retry,
    driver,
)
from mainstay.patterns.messages.driver import Link, transaction
from mainstay.patterns.schema import upgrade

DRIVERS = pytest.mark.parametrize("name", ["psycopg", "asyncpg"])


def through(empty: URL, name: str, port: int, **options: Any) -> Database:
    """The database by way of a proxy."""
    address = empty.set(drivername=f"postgresql+{name}", host="127.0.0.1", port=port)
    return Database(address, pool_size=6, **options)


# ------------------------------------------------------------------------------------------------ network


@pytest.mark.parametrize("key", [None, "a"])
async def test_a_lease_whose_answer_is_lost_is_given_back(
    db: Database, messages: Messages, sql: Any, empty: URL, key: str | None
) -> None:
    """PostgreSQL has leased them to a worker that never heard of it, and lives on: they are not its prisoners."""
    ran: list[tuple[str, int]] = []

    async def work(message: Message) -> None:
        ran.append((message.payload, message.attempt))

    proxy = CuttingProxy(empty.port or 5432)
    await proxy.start()
    proxy.forbidden = b"pineapple"
    try:
        async with through(empty, db.engine.driver, proxy.port) as distant:
            away = Messages(distant)
            away.handle(Handler(kind="work", call=work))
            async with db.transaction() as tx:
                for payload in ('"pineapple"', '"pear"'):
                    await tx.publish(NewMessage(kind="work", payload=payload, key=key))
            async with away.worker(lease=3600.0):
                await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)])
            assert proxy.forbidden is None  # the answer was lost
            assert ran == [('"pineapple"', 1), ('"pear"', 1)]
    finally:
        await proxy.close()


async def test_what_a_worker_knows_of_is_not_given_back(
    db: Database, messages: Messages, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for its turn, at work, or done and not yet written down: each is known, however often it is looked."""
    monkeypatch.setattr("mainstay.patterns.messages.leasing.RECOUNT", 0.0)
    monkeypatch.setattr("mainstay.patterns.messages.leasing.SIP", 0.0)
    ran: list[int] = []

    async def work(message: Message) -> None:
        await asyncio.sleep(0)
        ran.append(message.id)

    messages.handle(Handler(kind="work", call=work))
    async with db.transaction() as tx:
        await tx.publish(*(NewMessage(kind="work", payload="{}") for _ in range(300)))
    async with messages.worker(concurrency=7):
        await until(lambda: sql("SELECT count(*) FROM mainstay.message") == [(0,)])
    assert sorted(ran) == sorted(set(ran))
    assert len(ran) == 300


async def test_a_dead_network_is_noticed_as_a_transaction_ends(
    empty: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COMMIT waits for its answer no longer than any statement; by asyncpg, for psycopg takes 10 s to give up."""
    async with HeldProxy(empty.port or 5432) as proxy, through(empty, "asyncpg", proxy.port) as distant:
        link = Link(distant, "test")
        await link.driver()
        monkeypatch.setattr(driver, "PATIENCE", 0.2)

        async def cut() -> None:
            async with transaction(link):
                proxy.hold()

        async with asyncio.timeout(10) as longest:
            with pytest.raises(TimeoutError):
                await cut()
        assert not longest.expired()
        proxy.let_go()
        monkeypatch.undo()
        async with transaction(link):  # by a new connection
            pass


# ------------------------------------------------------------------------------------------------ poolers


@pytest.fixture
def pooler(empty: URL) -> Iterator[Callable[[str], int]]:
    """Start PgBouncer in front of the database; its port."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    started: list[subprocess.Popen[bytes]] = []
    folder = Path(tempfile.mkdtemp(prefix="mainstay-pgbouncer-"))

    def start(mode: str) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        file = folder / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host=127.0.0.1 port={empty.port or 5432} user={empty.username or 'postgres'}"
            + (f" password={empty.password}" if empty.password else "")
            + f"\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"auth_type = any\npool_mode = {mode}\nunix_socket_dir =\n"
        )
        as_nobody: dict[str, Any] = {}
        if os.geteuid() == 0:  # as which it refuses to run
            as_nobody = {"user": "nobody", "group": "nogroup", "extra_groups": ()}
            folder.chmod(0o755)
        started.append(subprocess.Popen([program, "-q", str(file)], stderr=subprocess.DEVNULL, **as_nobody))
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return port
            except OSError:
                assert time.monotonic() < end, "PgBouncer does not listen"
                time.sleep(0.02)

    yield start
    for process in started:
        process.kill()
        process.wait()
    shutil.rmtree(folder)


@DRIVERS
async def test_a_pooler_that_gives_each_transaction_another_connection(
    empty: URL, name: str, pooler: Callable[[str], int]
) -> None:
    """Publishing goes through it; a worker refuses it, and leaves no setting on a connection that others get."""
    port = pooler("transaction")
    options = {"connect_args": {"prepare_threshold": None}} if name == "psycopg" else {}
    async with through(empty, name, port, **options) as pooled:
        messages = Messages(pooled)
        messages.handle(Handler(kind="work", call=print))
        if name == "psycopg":  # asyncpg does not bear such a pooler at its defaults
            async with pooled.transaction() as tx:
                assert await tx.publish(NewMessage(kind="work", payload="{}")) == [1]
        with pytest.raises(Exception, match="pool_mode") as refused:
            await driver.connect(pooled, "test")
        assert name == "asyncpg" or refused.type is PooledByTransaction  # asyncpg may have told before
        with psycopg.connect(dsn(empty.set(host="127.0.0.1", port=port))) as user:
            for setting, usual in (("synchronous_commit", "on"), ("enable_seqscan", "on")):
                row = user.execute("SELECT current_setting(%s)", (setting,)).fetchone()
                assert row == (usual,)


@DRIVERS
async def test_a_pooler_by_session(empty: URL, sql: Any, name: str, pooler: Callable[[str], int]) -> None:
    """It keeps each connection apart: a worker works through it, woken by notifications."""
    ran = asyncio.Event()

    async def work(message: Message) -> None:
        ran.set()

    async with through(empty, name, pooler("session")) as pooled:
        messages = Messages(pooled)
        messages.handle(Handler(kind="work", call=work))
        async with messages.worker(poll=60.0):
            await until(lambda: sql("SELECT idle FROM mainstay.worker") == [(True,)])
            async with pooled.transaction() as tx:
                await tx.publish(NewMessage(kind="work", payload="{}"))
            await asyncio.wait_for(ran.wait(), 10)


# ----------------------------------------------------------------------------------------------- settings


@asynccontextmanager
async def odd_database(address: URL, name: str, what: str, encoding: str = "UTF8") -> AsyncIterator[Database]:
    """A database of its own whose users have settings that a worker must not inherit."""
    created = f"mainstay_odd_{os.getpid()}"
    with psycopg.connect(dsn(address), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {created} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")  # type: ignore[arg-type]
        server.execute(f"ALTER DATABASE {created} {what}")  # type: ignore[arg-type]
        try:
            async with Database(address.set(drivername=f"postgresql+{name}", database=created)) as database:
                await upgrade(database)
                yield database
        finally:
            server.execute(f"DROP DATABASE {created} WITH (FORCE)")  # type: ignore[arg-type]


@DRIVERS
@pytest.mark.parametrize(
    "what",
    [
        "SET datestyle = 'German'",
        "SET default_transaction_isolation = 'serializable'",
        "SET idle_session_timeout = '300ms'",
    ],
)
async def test_a_database_with_settings_of_its_own(
    address: URL, name: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is set there for its users is not for the worker's statements: all is done, and nothing said in the log."""
    ran: list[str] = []
    async with odd_database(address, name, what) as database:
        messages = Messages(database)

        async def work(message: Message) -> None:
            ran.append(message.payload)
            await asyncio.sleep(0.4 if message.payload == "0" else 0)

        messages.handle(Handler(kind="work", call=work))
        async with database.transaction() as tx:
            await tx.publish(
                *(NewMessage(kind="work", payload=str(number), key=str(number % 20)) for number in range(100))
            )
        async with messages.worker(name="one"), messages.worker(name="two"):
            await until(lambda: len(ran) >= 100)
    assert sorted(map(int, ran)) == list(range(100))
    assert [record.message for record in caplog.records if record.name.startswith("mainstay")] == []


@DRIVERS
async def test_what_the_encoding_of_the_database_lacks(address: URL, name: str) -> None:
    """An error or reason that cannot be written down is told of in its place, and decides nothing."""
    ran: list[str] = []
    async with odd_database(address, name, "SET datestyle = 'ISO'", "LATIN1") as database:
        messages = Messages(database)

        async def work(message: Message) -> Any:
            ran.append(message.payload)
            match message.payload, ran.count(message.payload):
                case '"again"', 1:
                    raise ValueError("\N{SNOWMAN}")
                case '"later"', 1:
                    raise NotNow("\N{SNOWMAN}", after=0.01)
                case '"never"', _:
                    raise GiveUp("\N{SNOWMAN}")

        messages.handle(Handler(kind="work", call=work, retry=Retry(first=0.01)))
        async with database.transaction() as tx:
            await tx.publish(
                *(
                    NewMessage(kind="work", payload=f'"{what}"')
                    for what in ("again", "later", "never", "well")
                )
            )

        def left() -> list[Any]:
            with psycopg.connect(dsn(address.set(database=database.engine.url.database))) as connection:
                return connection.execute(
                    "SELECT payload #>> '{}', state::text, errors -> -1 ->> 'error' FROM mainstay.message"
                ).fetchall()

        async with messages.worker():
            await until(lambda: len(left()) == 1)
        [(payload, state, error)] = left()
        assert (payload, state) == ("never", "dead")
        assert error.startswith("what became of it could not be stored: Untranslatable")
    assert sorted(ran) == ['"again"', '"again"', '"later"', '"later"', '"never"', '"well"']


def test_migrations_can_be_applied_in_every_encoding() -> None:
    """PostgreSQL translates a script to the encoding of the database, comments and all."""
    for file in resources.files(schema).iterdir():
        if file.name.endswith(".sql"):
            file.read_bytes().decode("ascii")
