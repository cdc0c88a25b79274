"""Idempotency keys where requests are strange or transactions are not where one would think."""

# No `from __future__ import annotations`: FastAPI reads the annotations of the functions in here.

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from idempotency_help import JSON, client, entering, entries, prepare, serving, stored
from pattern_models import Entry
from sqlalchemy import select, text
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from mainstay.patterns import Database, Transaction
from mainstay.patterns.idempotency import (
    BY_ROUTE,
    SHARED,
    IdempotencyKey,
    IdempotencyKeys,
    IdempotencyMiddleware,
)
from mainstay.patterns.idempotency.fastapi import idempotency_key
from mainstay.patterns.serialization_retry import lost_a_race


@pytest.fixture
async def keys(db: Database) -> IdempotencyKeys:
    """Keys that wait for nobody."""
    await prepare(db)
    return IdempotencyKeys(db, wait=0)


def keyed(key: str = "a") -> dict[str, str]:
    return {**JSON, "idempotency-key": f'"{key}"'}


async def test_a_path_or_tenant_that_no_text_column_takes(db: Database, keys: IdempotencyKeys) -> None:
    """``%00`` is a character of a path: the request is answered, kept and repeated, and is no other path's."""
    async with serving(keys, entering(db), tenant=lambda scope: "an\0n") as service:
        first = await service.post("/e/%00", json={"amount": 1}, headers=keyed())
        again = await service.post("/e/%00", json={"amount": 1}, headers=keyed())
        other = await service.post("/e/%EF%BF%BD", json={"amount": 1}, headers=keyed())
    assert first.status_code == again.status_code == other.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in other.headers
    assert await entries(db) == await stored(db) == 2


@pytest.mark.parametrize("stripping", [False, True])
async def test_applications_mounted_beside_each_other_have_keys_of_their_own(
    db: Database, keys: IdempotencyKeys, stripping: bool
) -> None:
    """One key on the same route of two: two effects. Some frameworks take the prefix off the path, some leave it."""
    route = Route("/entries", entering(db), methods=["POST"])
    inner = Starlette(routes=[route], middleware=[Middleware(IdempotencyMiddleware, keys, tenant=SHARED)])

    async def stripped(scope: Any, receive: Any, send: Any) -> None:
        prefix = scope["path"][:2]
        await inner({**scope, "path": scope["path"][2:], "root_path": prefix}, receive, send)

    app = stripped if stripping else Starlette(routes=[Mount("/a", inner), Mount("/b", inner)])
    async with client(app) as service:
        replies = [
            await service.post(path, json={"amount": 1}, headers={"idempotency-key": "k"})
            for path in ("/a/entries", "/b/entries", "/a/entries")
        ]
    assert [reply.status_code for reply in replies] == [201] * 3
    assert replies[0].json() == replies[2].json() != replies[1].json()
    assert await entries(db) == 2


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_snapshot_older_than_the_first_reply_is_a_lost_race(
    db: Database, other: Database, keys: IdempotencyKeys, isolation: Any
) -> None:
    """The claim does not see what was stored after its snapshot; storing then fails, and the request is run again."""
    key = IdempotencyKey("", "POST /e", "a")
    with pytest.raises(Exception, match="could not serialize") as caught:
        async with db.transaction(isolation=isolation) as tx:
            await tx.execute(select(Entry.id))  # the snapshot
            async with other.transaction() as first:
                assert await keys.claim(first, key, b"f" * 32) is None
                await keys.store(first, key, b"f" * 32, 201, [], b"first")
            assert await keys.claim(tx, key, b"f" * 32) is None
            tx.add(Entry(account_id=1, amount=1))
            await keys.store(tx, key, b"f" * 32, 201, [], b"second")
    assert lost_a_race(caught.value)
    async with db.transaction() as tx:
        reply = await keys.claim(tx, key, b"f" * 32)
    assert reply is not None and reply.body == b"first"
    assert await entries(db) == 0


async def test_a_transaction_from_before_the_key_is_refused(db: Database, keys: IdempotencyKeys) -> None:
    """It would commit after the reply has left, and take the stored reply with it if it failed."""
    app = FastAPI()
    app.add_middleware(IdempotencyMiddleware, keys=keys, tenant=BY_ROUTE)

    async def around() -> AsyncIterator[Transaction]:
        async with db.transaction() as tx:
            yield tx

    async def caller(tx: Annotated[Transaction, Depends(around)]) -> str:
        return str(await tx.scalar(text("SELECT 'ann'")))

    async def caller_alone() -> str:
        async with db.transaction() as tx:
            return str(await tx.scalar(text("SELECT 'ann'")))

    async def enter() -> int:
        async with db.transaction() as tx:
            tx.add(Entry(account_id=1, amount=1))
        return 1

    app.post("/early", dependencies=[Depends(idempotency_key(tenant=caller))])(enter)
    app.post("/right", dependencies=[Depends(idempotency_key(tenant=caller_alone))])(enter)
    async with client(app) as service:
        assert (await service.post("/early", headers=keyed())).status_code == 500
        assert (await entries(db), await stored(db)) == (0, 0)
        assert (await service.post("/right", headers=keyed())).status_code == 200
    assert (await entries(db), await stored(db)) == (1, 1)


async def test_a_transaction_around_the_whole_request_is_a_tests_own(
    db: Database, keys: IdempotencyKeys
) -> None:
    """As test suites have it that roll everything back: the key's transaction is a part of it."""
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            async with serving(keys, entering(db)) as service:
                first = await service.post("/e", json={"amount": 1}, headers=keyed())
                again = await service.post("/e", json={"amount": 1}, headers=keyed())
            assert first.status_code == 201 and again.headers["idempotency-replayed"] == "true"
            raise ZeroDivisionError
    assert (await entries(db), await stored(db)) == (0, 0)
