"""Workers forget expired replies and old events by themselves, a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from mainstay.patterns import Database
from mainstay.patterns.messages import Messages
from mainstay.patterns.messages.pruning import BATCH, Pruning
from mainstay.patterns.messages.worker import Worker
from mainstay.patterns.schema import upgrade

KEYS = """
    INSERT INTO mainstay.idempotency_key (id, tenant, route, key, fingerprint, status, headers, body, expires_at)
    SELECT gen_random_uuid(), '', 'POST /', n, sha256(''), 201, '[]', '', now() + interval '{due}'
    FROM generate_series(1, {number}) AS n
"""
EVENTS = """
    INSERT INTO mainstay.inbox (consumer, source, id, received_at)
    SELECT 'c', '{age}', n, now() - interval '{age}' FROM generate_series(1, {number}) AS n
"""


@pytest.fixture
async def messages(db: Database) -> AsyncIterator[Messages]:
    """An app with a job, on empty tables."""
    await upgrade(db)
    async with db.transaction() as tx:
        await tx.execute(text("TRUNCATE mainstay.idempotency_key, mainstay.inbox CASCADE"))
    messages = Messages(db)

    @messages.job(name="nothing")
    async def nothing() -> None: ...

    yield messages


@pytest.fixture
async def resting(messages: Messages) -> AsyncIterator[Worker]:
    """A worker that has not been started, but can be asked to do a duty."""
    worker = messages.worker()
    yield worker
    await worker.upkeep.link.drop()


async def fill(db: Database, keys: dict[str, int], events: dict[str, int]) -> None:
    """So many keys that expire after the interval, and events that came that long ago."""
    async with db.transaction() as tx:
        for due, number in keys.items():
            await tx.execute(text(KEYS.format(due=due, number=number)))
        for age, number in events.items():
            await tx.execute(text(EVENTS.format(age=age, number=number)))


async def left(db: Database) -> tuple[int, int]:
    """How many keys and how many events there are."""
    async with db.transaction() as tx:
        keys = await tx.scalar(text("SELECT count(*) FROM mainstay.idempotency_key"))
        events = await tx.scalar(text("SELECT count(*) FROM mainstay.inbox"))
    return int(keys or 0), int(events or 0)


async def test_a_running_worker_forgets_what_is_old(db: Database, messages: Messages) -> None:
    """More than one batch of it, and nothing that is young; nobody has asked for it."""
    await fill(db, {"-1 s": BATCH + 7, "1 hour": 3}, {"31 days": 2 * BATCH, "29 days": 4})
    async with messages.worker(), asyncio.timeout(60):
        while await left(db) != (3, 4):  # noqa: ASYNC110 - a worker does it in its own time
            await asyncio.sleep(0.02)


async def test_the_inbox_remembers_for_as_long_as_was_said(
    db: Database, messages: Messages, resting: Worker
) -> None:
    """Another time, or for ever."""
    await fill(db, {}, {"40 days": 1, "20 days": 1, "1 day": 1})
    for keep, remain in ((None, 3), (30 * 86_400.0, 2), (10 * 86_400.0, 1)):
        messages.keep_inbox = keep
        await Pruning()(resting)
        assert await left(db) == (0, remain)


async def test_a_round_is_short(db: Database, resting: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is too much to forget, the rest is left to the next round, which comes after a while."""
    monkeypatch.setattr("mainstay.patterns.messages.pruning.LONGEST", 0.0)
    await fill(db, {"-1 s": 5}, {"31 days": 5})
    await Pruning()(resting)
    assert await left(db) == (5, 5)
    monkeypatch.setattr("mainstay.patterns.messages.pruning.LONGEST", 5.0)
    pruning = Pruning()
    await pruning(resting)
    assert await left(db) == (0, 0)
    await fill(db, {"-1 s": 5}, {"31 days": 5})
    await pruning(resting)
    assert await left(db) == (5, 5)
