"""None of the faults seen in other libraries for idempotency keys over HTTP; each test is named after one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from idempotency_help import entering, entries, prepare, serving, stored
from pattern_models import Entry
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mainstay.patterns import Database
from mainstay.patterns.idempotency import IdempotencyKeys


def user(scope: Any) -> str | None:
    """Whoever the header says it is."""
    name = dict(scope["headers"]).get(b"authorization")
    return None if name is None else name.decode()


@pytest.fixture
async def service(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose keys count for one user."""
    await prepare(db)
    async with serving(IdempotencyKeys(db, wait=0), entering(db), tenant=user) as client:
        yield client


async def post(
    service: httpx.AsyncClient, amount: int = 1, key: str | None = "k", who: str = "ann"
) -> httpx.Response:
    headers = {"authorization": who} | ({} if key is None else {"idempotency-key": key})
    return await service.post("/entries", json={"amount": amount}, headers=headers)


async def test_another_user_with_the_same_key_does_not_get_the_first_ones_answer(
    db: Database, service: httpx.AsyncClient
) -> None:
    """Same key, same request: two users, two effects, two answers."""
    ann, bob = await post(service, who="ann"), await post(service, who="bob")
    assert ann.json() != bob.json() and "idempotency-replayed" not in bob.headers
    assert (await post(service, who="bob")).json() == bob.json()
    assert await entries(db) == 2


async def test_without_a_key_an_equal_body_of_another_user_is_another_request(
    db: Database, service: httpx.AsyncClient
) -> None:
    """Nothing is taken for a repetition that does not say so."""
    ann, bob = await post(service, key=None, who="ann"), await post(service, key=None, who="bob")
    assert ann.json() != bob.json()
    assert (await entries(db), await stored(db)) == (2, 0)


async def test_another_body_under_the_same_key_does_not_get_the_old_answer(
    db: Database, service: httpx.AsyncClient
) -> None:
    """It is told that the key was used."""
    await post(service, amount=1)
    assert (await post(service, amount=2)).status_code == 422
    assert await entries(db) == 1


async def test_no_409_for_ever_after_an_exception(db: Database) -> None:
    """The next attempt runs, and so would every other one."""
    await prepare(db)
    fails = [True, True, False]
    enter = entering(db)

    async def handler(request: Request) -> Response:
        if fails.pop(0):
            raise RuntimeError
        return await enter(request)

    async with serving(IdempotencyKeys(db, wait=0), handler, tenant=user) as service:
        assert [(await post(service)).status_code for _ in range(4)] == [500, 500, 201, 201]
    assert await entries(db) == 1


async def test_no_409_for_ever_after_the_key_has_expired(db: Database, service: httpx.AsyncClient) -> None:
    """An expired key is a new one."""
    await post(service)
    async with db.transaction() as tx:
        await tx.execute(text("UPDATE mainstay.idempotency_key SET expires_at = now()"))
    reply = await post(service)
    assert reply.status_code == 201 and "idempotency-replayed" not in reply.headers


async def test_a_500_is_not_stored(db: Database) -> None:
    """Nor is its effect: it was an accident, and the next attempt may do better."""
    await prepare(db)
    statuses = [500, 503, 201]

    async def handler(request: Request) -> Response:
        async with db.transaction() as tx:
            tx.add(Entry(account_id=1, amount=1))
        return PlainTextResponse("", statuses.pop(0))

    async with serving(IdempotencyKeys(db, wait=0), handler, tenant=user) as service:
        assert [(await post(service)).status_code for _ in range(4)] == [500, 503, 201, 201]
    assert (await entries(db), await stored(db)) == (1, 1)


async def test_headers_are_not_dropped(db: Database) -> None:
    """Media type, location, links given twice, an ETag: all as in the first reply."""
    await prepare(db)

    async def handler(request: Request) -> Response:
        reply = Response(b"\x00\xff<a/>", 201, {"location": "/1", "etag": '"7"'}, "application/atom+xml")
        reply.headers.append("link", "</1>; rel=self")
        reply.headers.append("link", "</2>; rel=next")
        return reply

    async with serving(IdempotencyKeys(db, wait=0), handler, tenant=user) as service:
        first, again = await post(service), await post(service)
    assert first.content == again.content == b"\x00\xff<a/>"
    assert [*first.headers.multi_items(), ("idempotency-replayed", "true")] == again.headers.multi_items()


# A crash between effect and record, which loses one of the two elsewhere: test_idempotency_crash.py.
