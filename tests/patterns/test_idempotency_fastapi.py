"""Idempotent routes in FastAPI: the caller comes from a dependency, and the handler stays as it was."""

# No `from __future__ import annotations`: FastAPI reads the annotations of the functions in `application`.

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from idempotency_help import client, entries, prepare, stored
from pattern_models import Entry
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware

from mainstay.patterns import AnswerErrors, Database, NotFound, Transaction
from mainstay.patterns.idempotency import (
    BY_ROUTE,
    SHARED,
    IdempotencyKey,
    IdempotencyKeys,
    IdempotencyMiddleware,
)
from mainstay.patterns.idempotency.fastapi import idempotency_key


class NewEntry(BaseModel):
    """What a client sends."""

    amount: int


async def caller(authorization: Annotated[str | None, Header()] = None) -> str:
    """Who signs in."""
    if authorization is None:
        raise HTTPException(401, headers={"www-authenticate": "Bearer"})
    return authorization


def application(db: Database, *, middleware: bool = True) -> FastAPI:
    """A service with idempotent routes."""
    app = FastAPI()
    if middleware:
        app.add_middleware(IdempotencyMiddleware, keys=IdempotencyKeys(db, wait=0), tenant=BY_ROUTE)
        app.add_middleware(AnswerErrors)
    once = idempotency_key(tenant=caller)
    router = APIRouter(prefix="/v1")

    @router.post("/entries", status_code=201)
    async def enter(new: NewEntry, key: Annotated[IdempotencyKey | None, Depends(once)]) -> dict[str, Any]:
        async with db.transaction() as tx:
            entry = Entry(account_id=1, amount=new.amount)
            tx.add(entry)
            await tx.flush()
            if new.amount == 409:
                raise HTTPException(409, "sold out")
            if new.amount == 404:
                raise NotFound(Entry, 7)
        return {"entry": entry.id, "key": None if key is None else str(key.id)}

    @router.post("/strict", dependencies=[Depends(idempotency_key(tenant=SHARED, required=True))])
    async def strict() -> str:
        return "done"

    @router.post("/free")
    async def free(new: NewEntry) -> int:
        async with db.transaction() as tx:
            tx.add(Entry(account_id=1, amount=new.amount))
        return new.amount

    async def around() -> AsyncIterator[Transaction]:
        async with db.transaction() as tx:
            yield tx

    @router.post("/late", dependencies=[Depends(once)])
    async def late(tx: Annotated[Transaction, Depends(around)]) -> None:
        tx.add(Entry(account_id=1, amount=1))

    @router.post("/early", dependencies=[Depends(once)])
    async def early(tx: Annotated[Transaction, Depends(around, scope="function")]) -> None:
        tx.add(Entry(account_id=1, amount=1))

    app.include_router(router)
    return app


@pytest.fixture
async def service(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    await prepare(db)
    async with client(application(db)) as service:
        yield service


async def post(
    service: httpx.AsyncClient,
    path: str,
    amount: Any = 1,
    *,
    key: str | None = '"k"',
    who: str | None = "ann",
) -> httpx.Response:
    headers = {"idempotency-key": key, "authorization": who}
    given = {name: value for name, value in headers.items() if value is not None}
    return await service.post(path, json={"amount": amount}, headers=given)


async def test_a_route_that_takes_the_key_has_its_effect_once(
    db: Database, service: httpx.AsyncClient
) -> None:
    """Per caller, who comes from a dependency; the handler gets the key, whose id is the same for each attempt."""
    first, again = await post(service, "/v1/entries"), await post(service, "/v1/entries")
    assert first.status_code == 201 and first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json()["key"] == str(IdempotencyKey("ann", "POST /v1/entries", "k").id)
    other = await post(service, "/v1/entries", who="bob")
    assert other.json()["entry"] != first.json()["entry"] and "idempotency-replayed" not in other.headers
    assert await entries(db) == await stored(db) == 2
    assert (await post(service, "/v1/entries", 2)).json()["code"] == "idempotency_key_reused"


async def test_the_same_handler_works_without_a_key(db: Database, service: httpx.AsyncClient) -> None:
    """Each request is one then."""
    for _ in range(2):
        assert (await post(service, "/v1/entries", key=None)).json()["key"] is None
    assert (await entries(db), await stored(db)) == (2, 0)


async def test_routes_that_take_no_key_are_untouched(db: Database, service: httpx.AsyncClient) -> None:
    """Whatever header comes: the dependency makes a route idempotent, not the client."""
    for _ in range(2):
        assert (await post(service, "/v1/free", key="not a key")).json() == 1
    assert (await entries(db), await stored(db)) == (2, 0)


async def test_what_validation_refuses_is_not_stored(db: Database, service: httpx.AsyncClient) -> None:
    """The operation never began; the corrected request may use the key."""
    assert (await post(service, "/v1/entries", "much")).status_code == 422
    assert await stored(db) == 0
    assert (await post(service, "/v1/entries", 1)).status_code == 201


async def test_a_refusal_of_the_handler_is_stored_without_effect(
    db: Database, service: httpx.AsyncClient
) -> None:
    """HTTPException leaves the handler's block, which undoes it, and is the outcome."""
    for replayed in (False, True):
        reply = await post(service, "/v1/entries", 409)
        assert (reply.status_code, reply.json()) == (409, {"detail": "sold out"})
        assert ("idempotency-replayed" in reply.headers) is replayed
    assert (await entries(db), await stored(db)) == (0, 1)


async def test_an_error_that_is_answered_further_out_is_not_stored(
    db: Database, service: httpx.AsyncClient
) -> None:
    """`AnswerErrors` around it makes a 404 of the exception; nothing stays."""
    assert (await post(service, "/v1/entries", 404)).status_code == 404
    assert (await entries(db), await stored(db)) == (0, 0)


async def test_who_is_not_signed_in_leaves_nothing(db: Database, service: httpx.AsyncClient) -> None:
    """The dependency that tells the caller answers first."""
    assert (await post(service, "/v1/entries", who=None)).status_code == 401
    assert (await entries(db), await stored(db)) == (0, 0)


async def test_a_key_that_is_required_or_malformed(db: Database, service: httpx.AsyncClient) -> None:
    """400, as a problem; a shared key counts for everyone."""
    assert (await post(service, "/v1/strict", key=None)).json()["code"] == "idempotency_key_missing"
    assert (await post(service, "/v1/strict", key="a b")).json()["code"] == "idempotency_key_malformed"
    await post(service, "/v1/strict", who="ann")
    assert (await post(service, "/v1/strict", who="bob")).headers["idempotency-replayed"] == "true"


async def test_a_dependency_that_commits_after_the_reply_is_told(
    db: Database, service: httpx.AsyncClient
) -> None:
    """Its end could not change the reply any more: nothing stays. With scope="function" it is right."""
    assert (await post(service, "/v1/late")).status_code == 500
    assert (await entries(db), await stored(db)) == (0, 0)
    for _ in range(2):
        assert (await post(service, "/v1/early")).status_code == 200
    assert (await entries(db), await stored(db)) == (1, 1)


async def test_without_the_middleware_the_route_is_told(db: Database) -> None:
    """It could not hold its reply back until the commit."""
    await prepare(db)
    async with client(application(db, middleware=False)) as service:
        assert (await post(service, "/v1/entries")).status_code == 500
    assert await entries(db) == 0


async def test_a_task_between_middleware_and_route_does_no_harm(db: Database) -> None:
    """Taken by the route, the key is in the handler's task, whatever BaseHTTPMiddleware does further out."""
    await prepare(db)
    inner = application(db, middleware=False)

    async def between(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    keys = IdempotencyKeys(db, wait=0)
    app = IdempotencyMiddleware(BaseHTTPMiddleware(inner, dispatch=between), keys, tenant=BY_ROUTE)
    async with client(app) as service:
        first, again = await post(service, "/v1/entries"), await post(service, "/v1/entries")
    assert first.status_code == 201 and first.content == again.content
    assert (await entries(db), await stored(db)) == (1, 1)


async def test_the_header_is_in_the_schema(db: Database) -> None:
    """OpenAPI names it."""
    parameters = application(db).openapi()["paths"]["/v1/entries"]["post"]["parameters"]
    assert "Idempotency-Key" in [parameter["name"] for parameter in parameters]


def test_by_route_is_no_tenant_of_a_route() -> None:
    """The route names a dependency, or says that keys are shared."""
    with pytest.raises(ValueError, match="BY_ROUTE"):
        idempotency_key(tenant=BY_ROUTE)


def test_the_core_needs_no_framework() -> None:
    """Importing the middleware imports neither Starlette nor FastAPI."""
    code = "import sys, mainstay.patterns.idempotency; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"starlette", "fastapi", "pydantic"} & set(loaded)
