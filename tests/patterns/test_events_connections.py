"""An event joins whatever transaction its publisher is in, as its first statement too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from events_lab import Lab, copy, template
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from mainstay.patterns import Misuse
from mainstay.patterns.events import Event
from mainstay.patterns.messages import Messages, NewMessage


class Said(Event, key="what"):
    what: str


@pytest.fixture(scope="module")
def blank(postgresql_url: str) -> Iterator[str]:
    """The database that tests copy."""
    with template(postgresql_url) as name:
        yield name


@pytest.fixture(scope="module")
def address(postgresql_url: str, blank: str) -> Iterator[str]:
    """One database for all of these tests; its address without a driver."""
    with copy(postgresql_url, blank) as found:
        yield found.render_as_string(hide_password=False)


@pytest.fixture
async def lab(address: str) -> AsyncIterator[Lab]:
    """The database, with no messages and two subscribers that some other process has."""
    lab = Lab(make_url(address), "psycopg")
    lab.change("TRUNCATE mainstay.message, mainstay.subscription")
    lab.change(
        "INSERT INTO mainstay.subscription (subscriber, event, queue, state)"
        " VALUES ('one', 'Said', 'q', 'open'), ('two', 'Said', 'q', 'open')"
    )
    yield lab
    await lab.close()


Publish = Callable[[Messages, str, bool], Awaitable[list[int | None]]]
EVENTS = (Said(what="a % b"), Said(what='ü "quoted" \\'))


def session(driver: str) -> Publish:
    """An AsyncSession of SQLAlchemy."""

    async def publish(messages: Messages, address: str, commit: bool) -> list[int | None]:
        engine = create_async_engine(make_url(address).set(drivername=f"postgresql+{driver}"))
        async with AsyncSession(engine) as session:
            ids = await messages.publish(session, *EVENTS)
            await (session.commit() if commit else session.rollback())
        await engine.dispose()
        return ids

    return publish


def connection(driver: str) -> Publish:
    """An AsyncConnection of SQLAlchemy."""

    async def publish(messages: Messages, address: str, commit: bool) -> list[int | None]:
        engine = create_async_engine(make_url(address).set(drivername=f"postgresql+{driver}"))
        async with engine.connect() as connection:
            ids = await messages.publish(connection, *EVENTS)
            await (connection.commit() if commit else connection.rollback())
        await engine.dispose()
        return ids

    return publish


async def sync_session(messages: Messages, address: str, commit: bool) -> list[int | None]:
    """A Session of SQLAlchemy."""
    engine = create_engine(make_url(address).set(drivername="postgresql+psycopg"))
    with Session(engine) as session:
        ids = messages.publish_sync(session, *EVENTS)
        session.commit() if commit else session.rollback()
    engine.dispose()
    return ids


async def sync_psycopg(messages: Messages, address: str, commit: bool) -> list[int | None]:
    """A connection of psycopg."""
    with psycopg.connect(address) as raw:
        ids = messages.publish_sync(raw, *EVENTS)
        raw.commit() if commit else raw.rollback()
    return ids


async def async_psycopg(messages: Messages, address: str, commit: bool) -> list[int | None]:
    """An async connection of psycopg."""
    async with await psycopg.AsyncConnection.connect(address) as raw:
        ids = await messages.publish(raw, *EVENTS)
        await (raw.commit() if commit else raw.rollback())
    return ids


async def raw_asyncpg(messages: Messages, address: str, commit: bool) -> list[int | None]:
    """A connection of asyncpg."""
    raw = await asyncpg.connect(address)
    transaction = raw.transaction()
    await transaction.start()
    ids = await messages.publish(raw, *EVENTS)
    await (transaction.commit() if commit else transaction.rollback())
    await raw.close()
    return ids


async def django(messages: Messages, address: str, commit: bool) -> list[int | None]:
    """Django's connection, in its own atomic block."""
    import asyncio

    return await asyncio.to_thread(_django, messages, address, commit)


def _django(messages: Messages, address: str, commit: bool) -> list[int | None]:
    from django import setup
    from django.conf import settings
    from django.db import connections, transaction
    from django.db.utils import ConnectionHandler

    url = make_url(address)
    database: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql", "NAME": url.database, "USER": url.username,
        "PASSWORD": url.password or "", "HOST": url.host, "PORT": url.port,
    }  # fmt: skip
    if not settings.configured:
        settings.configure(DATABASES={"default": database}, USE_TZ=True)
        setup()
    alias = f"events_{url.database}"
    assert isinstance(connections, ConnectionHandler)
    connections.databases[alias] = {**connections.databases["default"], **database}
    try:
        with transaction.atomic(using=alias):
            ids = messages.publish_sync(connections[alias], *EVENTS)
            transaction.set_rollback(not commit, using=alias)
    finally:
        connections[alias].close()
        del connections.databases[alias]
    return ids


WAYS: dict[str, Publish] = {
    "AsyncSession-psycopg": session("psycopg"),
    "AsyncSession-asyncpg": session("asyncpg"),
    "AsyncConnection-psycopg": connection("psycopg"),
    "AsyncConnection-asyncpg": connection("asyncpg"),
    "Session": sync_session,
    "psycopg": sync_psycopg,
    "psycopg-async": async_psycopg,
    "asyncpg": raw_asyncpg,
    "Django": django,
}


@pytest.mark.parametrize("way", WAYS)
async def test_publishing_first_thing_and_then_rolling_back_leaves_nothing(lab: Lab, way: str) -> None:
    """The statement is in the publisher's transaction even where that has not begun yet."""
    ids = await WAYS[way](lab.messages, lab.plain, False)
    assert len(ids) == 4
    assert lab.look("SELECT count(*) FROM mainstay.message") == [0]


@pytest.mark.parametrize("way", WAYS)
async def test_a_commit_publishes_one_message_for_each_subscriber(lab: Lab, way: str) -> None:
    """In the order given, with the payload as it was."""
    ids = await WAYS[way](lab.messages, lab.plain, True)
    assert lab.look("SELECT id, kind, key, payload ->> 'what' FROM mainstay.message ORDER BY id") == [
        (id, who, f"{who} {event.what}", event.what)
        for id, (event, who) in zip(ids, ((e, w) for e in EVENTS for w in ("one", "two")), strict=True)
    ]
    assert lab.look("SELECT count(DISTINCT headers ->> 'id') FROM mainstay.message") == [2]


MIXED = (EVENTS[0], NewMessage(kind="mail", payload="{}"))


async def test_several_statements_in_autocommit_are_refused(lab: Lab, address: str) -> None:
    """Events and messages in one call would commit one after the other, and a process may die in between."""
    messages, url = lab.messages, make_url(address)
    with (
        psycopg.connect(address, autocommit=True) as plain,
        pytest.raises(Misuse, match="without a transaction"),
    ):
        messages.publish_sync(plain, *MIXED)
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as other:
        with pytest.raises(Misuse, match="without a transaction"):
            await messages.publish(other, *MIXED)
    raw = await asyncpg.connect(address)
    with pytest.raises(Misuse, match="without a transaction"):
        await messages.publish(raw, *MIXED)
    engine = create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with Session(engine) as session, pytest.raises(Misuse, match="without a transaction"):
        messages.publish_sync(session, *MIXED)
    engine.dispose()
    for driver in ("psycopg", "asyncpg"):
        asynchronous = create_async_engine(
            url.set(drivername=f"postgresql+{driver}"), isolation_level="AUTOCOMMIT"
        )
        async with AsyncSession(asynchronous) as session:
            with pytest.raises(Misuse, match="without a transaction"):
                await messages.publish(session, *MIXED)
        await asynchronous.dispose()
    assert lab.look("SELECT count(*) FROM mainstay.message") == [0]
    assert len(await messages.publish(raw, *EVENTS)) == 4  # one statement is whole by itself
    await raw.close()


async def test_events_and_messages_in_one_transaction(lab: Lab, address: str) -> None:
    """Whichever connection it is on; also in a transaction that is begun on one in autocommit."""
    messages, url = lab.messages, make_url(address)
    with psycopg.connect(address, autocommit=True) as plain, plain.transaction():
        messages.publish_sync(plain, *MIXED)
    async with await psycopg.AsyncConnection.connect(address) as other:
        await messages.publish(other, *MIXED)
    raw = await asyncpg.connect(address)
    async with raw.transaction():
        await messages.publish(raw, *MIXED)
    await raw.close()
    engine = create_engine(url.set(drivername="postgresql+psycopg"))
    with Session(engine) as session, session.begin():
        messages.publish_sync(session, *MIXED)
    engine.dispose()
    for driver in ("psycopg", "asyncpg"):
        asynchronous = create_async_engine(url.set(drivername=f"postgresql+{driver}"))
        async with asynchronous.begin() as connection:
            await messages.publish(connection, *MIXED)
        await asynchronous.dispose()
    await lab.publish(*MIXED)
    assert lab.look("SELECT count(*) FROM mainstay.message") == [7 * 3]
