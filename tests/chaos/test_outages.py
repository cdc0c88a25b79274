"""Outages as they really are: a streaming standby and a failover to it, a full disk, a database that stays away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cluster import Cluster, binaries
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from standby import Standby, either

from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import Handler, Message, Messages, NewMessage, ReadOnlyDatabase, Retry
from mainstay.patterns.schema import upgrade
from mainstay.patterns.serialization_retry import sqlstate

pytestmark = pytest.mark.skipif(binaries() is None, reason="initdb is not installed")
DRIVERS = ("psycopg", "asyncpg")
MAINSTAY = Path(sys.executable).parent / "mainstay"

APP = """
import json, os
from sqlalchemy import text
from mainstay.patterns import Database
from mainstay.patterns.messages import Handler, Messages

messages = Messages(Database(os.environ["DATABASE_URL"]))

async def effect(message, tx):
    number = json.loads(message.payload)
    await tx.execute(text("INSERT INTO effect VALUES (:number)"), {"number": number})

messages.handle(Handler(kind="effect", call=effect, transactional=True))
"""


def numbered(number: int, more: str = "") -> NewMessage:
    """One message whose effect shows by its number."""
    return NewMessage(kind="effect", payload=json.dumps(number), headers={"more": more} if more else {})


def handled(db: Database) -> Messages:
    """One handler, which writes through its transaction."""

    async def effect(message: Message, tx: Transaction) -> None:
        number = json.loads(message.payload)
        await tx.execute(text("INSERT INTO effect VALUES (:number)"), {"number": number})

    messages = Messages(db)
    retry = Retry(attempts=1000, first=0.05, most=0.2)
    messages.handle(Handler(kind="effect", call=effect, transactional=True, retry=retry))
    return messages


async def tables(db: Database) -> None:
    """Those of Mainstay, and one for effects, which nothing keeps from being doubled."""
    await upgrade(db)
    async with db.transaction() as tx:
        await tx.execute(text("CREATE TABLE effect (number integer)"))


def query(cluster: Cluster, sql: str) -> list[Any]:
    """Rows, on a connection of its own."""
    with psycopg.connect(cluster.dsn, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition, with a bound; a database that is away is one that does not hold yet."""
    end = time.monotonic() + seconds
    while True:
        with suppress(psycopg.OperationalError):
            if condition():
                return
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.05)


def nothing_left(cluster: Cluster) -> bool:
    """Whether all messages are done."""
    return query(cluster, "SELECT count(*) FROM mainstay.message") == [(0,)]


class Publisher:
    """A service that publishes one after the other, whatever happens, and knows what was accepted."""

    def __init__(self, db: Database, more: str = "") -> None:
        self._db = db
        self._more = more
        self.accepted: list[int] = []
        self.errors: list[Exception] = []
        self.tried = 0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Publish while the block runs."""
        task = asyncio.create_task(self._publish())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _publish(self) -> None:
        while True:
            self.tried += 1
            try:
                async with self._db.transaction() as tx:
                    await tx.publish(numbered(self.tried, self._more))
            except Exception as error:
                self.errors.append(error)
                await asyncio.sleep(0.05)
            else:
                self.accepted.append(self.tried)
            await asyncio.sleep(0)

    def audit(self, cluster: Cluster) -> None:
        """What was accepted has happened, once; of the rest nobody knows, but none twice."""
        effects = [number for (number,) in query(cluster, "SELECT number FROM effect")]
        assert len(effects) == len(set(effects)), "an effect was doubled"
        assert set(self.accepted) <= set(effects) <= set(range(1, self.tried + 1))


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Cluster, Standby]]:
    """A primary and its standby, which stay what they are."""
    with Cluster() as primary, Standby(primary) as standby:
        standby.confirm_commits()
        asyncio.run(_prepare(primary))
        wait_for(standby, "SELECT 1 FROM pg_class WHERE relname = 'effect'")
        yield primary, standby


async def _prepare(primary: Cluster) -> None:
    async with Database(primary.dsn) as db:
        await tables(db)


def wait_for(cluster: Cluster, sql: str) -> None:
    """Wait until the query has rows: a standby replays a moment later."""
    end = time.monotonic() + 30
    while not query(cluster, sql):
        assert time.monotonic() < end, sql
        time.sleep(0.02)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_standby_takes_no_messages_and_no_worker(pair: tuple[Cluster, Standby], driver: str) -> None:
    """Publishing is refused in PostgreSQL's words; a worker does not begin, and says what to give it instead."""
    _, standby = pair
    async with Database(standby.dsn.replace("postgresql:", f"postgresql+{driver}:")) as db:
        messages = handled(db)
        with pytest.raises(DBAPIError, match="read-only transaction") as error:
            async with db.transaction() as tx:
                await tx.publish(numbered(1))
        assert sqlstate(error.value) == "25006"
        with pytest.raises(ReadOnlyDatabase, match=r"standby.*URL of the primary"):
            await messages.worker().run()


@pytest.fixture
def app(tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """``mainstay worker`` in a folder with an app, on the database of a URL."""
    (tmp_path / "app.py").write_text(APP)

    def start(url: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [MAINSTAY, "worker", "app:messages", "--lease", "1"],
            cwd=tmp_path,
            env={**os.environ, "DATABASE_URL": url},
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def refusal(process: subprocess.Popen[str]) -> str:
    """The one line that a worker process ended with."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert said.startswith("mainstay: ") and said.count("\n") == 1, said
    return said


def test_mainstay_worker_on_a_standby(
    pair: tuple[Cluster, Standby], app: Callable[[str], subprocess.Popen[str]]
) -> None:
    """The same from the command line: exit code 2 and one sentence."""
    _, standby = pair
    assert "read-only (a standby?)" in refusal(app(standby.dsn))


@pytest.mark.parametrize("driver", DRIVERS)
async def test_failover_under_load(driver: str) -> None:
    """The primary dies, the standby is promoted: publishers and workers go on there by themselves, nothing is lost."""
    with Cluster() as primary, Standby(primary) as standby:
        standby.confirm_commits()
        async with Database(either(driver, primary, standby)) as db:
            await tables(db)
            messages, publisher = handled(db), Publisher(db)
            async with messages.worker(lease=1.0, concurrency=5), publisher.at_work():
                await until(lambda: len(publisher.accepted) >= 100)
                await asyncio.to_thread(primary.stop, "immediate")
                await until(lambda: len(publisher.errors) >= 3)
                before = len(publisher.accepted)
                await asyncio.to_thread(standby.promote)
                await until(lambda: len(publisher.accepted) >= before + 100)
            async with messages.worker(lease=1.0):
                await until(lambda: nothing_left(standby))
            publisher.audit(standby)


async def test_a_worker_that_is_restarted_in_a_failover(app: Callable[[str], subprocess.Popen[str]]) -> None:
    """Killed with the primary; refused by the standby, as a process manager sees it; at work once that is promoted."""
    with Cluster() as primary, Standby(primary) as standby:
        standby.confirm_commits()
        async with Database(primary.dsn) as db:
            await tables(db)
            Messages(db)
            worker = app(primary.dsn)
            try:
                async with db.transaction() as tx:
                    await tx.publish(*(numbered(number) for number in range(1000)))
                await until(lambda: query(primary, "SELECT 1 FROM effect LIMIT 1"))
                await asyncio.to_thread(primary.stop, "immediate")
            finally:
                worker.kill()
                worker.communicate()
        assert "read-only" in refusal(app(either("psycopg", primary, standby)))
        standby.promote()
        worker = app(either("psycopg", primary, standby))
        try:
            await until(lambda: nothing_left(standby))
        finally:
            worker.terminate()
            worker.communicate(timeout=60)
        assert query(standby, "SELECT count(*), count(DISTINCT number) FROM effect") == [(1000, 1000)]


async def test_a_standby_that_lagged_gives_ids_out_again_unless_they_are_moved_on() -> None:
    """What it never had is lost, as PostgreSQL says; and its sequence begins before the ids that the lost ones had."""
    with Cluster() as primary, Standby(primary) as standby:
        async with Database(primary.dsn) as db:
            await tables(db)
            wait_for(standby, "SELECT 1 FROM pg_class WHERE relname = 'effect'")
            await asyncio.to_thread(standby.stop_streaming)
            Messages(db)
            async with db.transaction() as tx:
                lost = await tx.publish(*(numbered(number) for number in range(200)))
        primary.stop("immediate")
        standby.promote()
        async with Database(standby.dsn) as db:
            Messages(db)
            async with db.transaction() as tx:
                (again,) = await tx.publish(numbered(1000))
            assert again in lost
            # The remedy of docs/outages.md.
            query(
                standby,
                "SELECT setval(pg_get_serial_sequence('mainstay.message', 'id'),"
                " (SELECT last_value FROM mainstay.message_id_seq) + 1000000)",
            )
            async with db.transaction() as tx:
                (fresh,) = await tx.publish(numbered(1001))
            assert fresh is not None and fresh > max(id for id in lost if id is not None)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of 160 megabytes, for a whole server."""
    place = Path(tempfile.mkdtemp(prefix="mainstay_disk_"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m,mode=0777", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        place.rmdir()
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
        place.rmdir()


@pytest.mark.parametrize(("driver", "log_too"), [("psycopg", False), ("asyncpg", True)])
async def test_the_disk_of_the_whole_server_is_full(disk: Path, driver: str, log_too: bool) -> None:
    """No room for tables, nor for the log, which may stop the server; with room again all that was accepted is done."""
    settings = {"max_wal_size": "32MB", "min_wal_size": "32MB"}
    with Cluster(parent=str(disk), settings=settings) as server:
        async with Database(server.dsn.replace("postgresql:", f"postgresql+{driver}:")) as db:
            await tables(db)
            messages, publisher = handled(db), Publisher(db, more="x" * 4000)
            async with messages.worker(lease=1.0, concurrency=5):
                async with publisher.at_work():
                    await until(lambda: len(publisher.accepted) >= 100)
                    fill(disk / "ballast")
                    await until(lambda: len(publisher.errors) >= 20)
                    told = {
                        (sqlstate(error), "No space left on device" in str(error))
                        for error in publisher.errors
                    }
                    assert told == {("53100", True)}
                    if log_too:
                        await asyncio.to_thread(fill_log, server)
                    # The wait is the outage itself: two leases run out in it.
                    await asyncio.sleep(2.5)
                    before = len(publisher.accepted)
                    (disk / "ballast").unlink()
                    await asyncio.to_thread(up_again, server)
                    await until(lambda: len(publisher.accepted) >= before + 100)
                await until(lambda: nothing_left(server))
            publisher.audit(server)


def fill(ballast: Path) -> None:
    """Write until the disk takes no more."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(65536)):
            pass


def fill_log(server: Cluster) -> None:
    """Have it begin new files of its log until there is no room for one: then it refuses, or stops as in a crash."""
    with pytest.raises(psycopg.OperationalError) as error:
        for _ in range(50):
            query(server, "SELECT pg_logical_emit_message(true, 'full', 'x'), pg_switch_wal()")
    assert "pg_wal" in str(error.value) or sqlstate(error.value) is None, error.value


def up_again(server: Cluster) -> None:
    """A server that stopped because it could not write its log is started again by people."""
    end = time.monotonic() + 4
    while time.monotonic() < end:
        with suppress(psycopg.OperationalError):
            query(server, "SELECT 1")
            return
        time.sleep(0.2)
    server.stop("immediate", check=False)
    server.start()


async def test_a_worker_waits_for_its_database_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a day of failed tries: the pauses double from 0.1 s to 5 s, and no number of them makes it give up."""
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    async with Database("postgresql://postgres@127.0.0.1:1/none") as db:
        worker = handled(db).worker()
        until_stopped = asyncio.Event()

        async def fails() -> None:
            if sum(waits) > 12 * 3600:
                until_stopped.set()
                return
            raise psycopg.OperationalError("connection refused")

        monkeypatch.setattr(asyncio, "sleep", wait)
        await worker._forever(fails, until_stopped)
        monkeypatch.undo()
    assert waits[:7] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
    assert set(waits[7:]) == {5.0}


async def test_several_hosts_in_one_url() -> None:
    """Written as libpq has it, the sentence says how it is written here; written so, it is taken."""
    with pytest.raises(ValueError, match=r"several hosts as.*host=one:5432&host=two:5432"):
        Database("postgresql://app@one:5432,two:5432/shop")
    for driver in DRIVERS:
        async with Database(f"postgresql+{driver}://app@/shop?host=one:5432&host=two:5432") as db:
            _, arguments = db.engine.dialect.create_connect_args(db.engine.url)
            assert "one" in arguments["host"] and "two" in arguments["host"]
