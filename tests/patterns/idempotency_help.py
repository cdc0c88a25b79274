"""A small service under idempotency keys, and how the tests talk to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from pattern_models import Account, Entry
from sqlalchemy import func, select, text
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mainstay.patterns import Database
from mainstay.patterns.idempotency import SHARED, IdempotencyKeys, IdempotencyMiddleware
from mainstay.patterns.schema import upgrade

Handler = Callable[[Request], Awaitable[Response]]

JSON = {"content-type": "application/json"}


async def prepare(db: Database) -> None:
    """Tables of Mainstay, no keys in them, and an account 1 to write entries for."""
    await upgrade(db)
    async with db.transaction() as tx:
        await tx.execute(text("TRUNCATE mainstay.idempotency_key CASCADE"))
        tx.add(Account(owner="ann"))


def entering(db: Database) -> Handler:
    """A handler that writes one entry and answers 201 with its id."""

    async def enter(request: Request) -> Response:
        async with db.transaction() as tx:
            entry = Entry(account_id=1, amount=(await request.json())["amount"])
            tx.add(entry)
        return JSONResponse({"entry": entry.id}, 201, {"location": f"/entries/{entry.id}"})

    return enter


def client(app: Any) -> httpx.AsyncClient:
    """A client of an application in this process; an exception is answered 500, as a server does."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://service")


def serving(keys: IdempotencyKeys, handler: Handler, *inner: Middleware, **options: Any) -> httpx.AsyncClient:
    """A client of a service whose only handler is this one, under every path."""
    route = Route("/{path:path}", handler, methods=["GET", "POST", "PATCH", "PUT"])
    keyed = Middleware(IdempotencyMiddleware, keys, **{"tenant": SHARED, **options})
    return client(Starlette(routes=[route], middleware=[keyed, *inner]))


async def entries(db: Database) -> int:
    """How often the effect has happened."""
    async with db.transaction() as tx:
        return await tx.scalar(select(func.count()).select_from(Entry)) or 0


async def stored(db: Database) -> int:
    """How many replies are stored."""
    async with db.transaction() as tx:
        return await tx.scalar(text("SELECT count(*) FROM mainstay.idempotency_key")) or 0
