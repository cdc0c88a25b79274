"""ASGI middleware: keyed requests run once, in one transaction with their stored reply."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final
from uuid import UUID

from mainstay.patterns.errors import Misuse
from mainstay.patterns.idempotency.exchange import Answered, Exchange
from mainstay.patterns.idempotency.key import HEADER, BadKey, IdempotencyKey, parse_key
from mainstay.patterns.idempotency.keys import IdempotencyKeys
from mainstay.patterns.idempotency.reply import Application, Receive, Scope, Send, problem
from mainstay.patterns.serialization_retry import run_again


class Tenants(enum.Enum):
    """What stands in place of a function that tells the tenant."""

    SHARED = "shared"
    """Keys are shared by everyone who may call. Right only where nobody may not see another one's reply."""
    BY_ROUTE = "by route"
    """The routes take the key themselves, by the dependency of `mainstay.patterns.idempotency.fastapi`."""


SHARED: Final = Tenants.SHARED
BY_ROUTE: Final = Tenants.BY_ROUTE

Tenant = str | int | UUID
TellTenant = Callable[[Scope], Tenant | Awaitable[Tenant | None] | None]


class IdempotencyMiddleware:
    """Lets a request with an ``Idempotency-Key`` take effect once, and gives every repetition the same reply.

    Put it next to the application, inside of what signs in, compresses or sets CORS headers: these then treat a
    repeated reply as they treat any other. In Starlette and FastAPI that means to add it first.

    Args:
        app: the ASGI application.
        keys: where keys and replies are stored.
        tenant: tells from the ASGI scope (by a plain or an async function) on whose behalf the request is made,
            such as the id of the signed-in user or the account; None for nobody, which is answered 403. Or
            `SHARED`, or `BY_ROUTE`.
        required: answer 400 to a request without a key, instead of letting it through.
        methods: of the requests that this is about. GET, PUT and DELETE are idempotent by definition.
        applies: tells from the scope whether the request is concerned; all are, by default.

    Replies of its own, as ``application/problem+json`` with the member ``code``: 400 for a key that is missing
    (``idempotency_key_missing``) or malformed (``idempotency_key_malformed``), 403 without a tenant
    (``idempotency_tenant_unknown``), 409 with ``Retry-After`` while another request with the key is at work
    (``idempotency_key_in_use``), 413 (``idempotent_request_too_large``), and 422 where the key was used for
    another request (``idempotency_key_reused``).

    Source: draft-ietf-httpapi-idempotency-key-header-07, section 2.
    """

    def __init__(
        self,
        app: Application,
        keys: IdempotencyKeys,
        *,
        tenant: TellTenant | Tenants,
        required: bool = False,
        methods: Iterable[str] = ("POST", "PATCH"),
        applies: Callable[[Scope], bool] = lambda scope: True,
    ) -> None:
        self._app = app
        self._keys = keys
        self._tenant = tenant
        self._required = required
        self._methods = frozenset(methods)
        self._applies = applies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] not in self._methods or not self._applies(scope):
            await self._app(scope, receive, send)
            return
        body, whole = None, True
        if any(name == HEADER for name, _ in scope["headers"]):
            body, whole, gone = await _read(receive, self._keys.largest_request)
            if gone:
                return
        by_route = self._tenant is BY_ROUTE

        async def attempt() -> Exception | None:
            exchange = Exchange(self._keys, scope, receive, send, body, whole)
            try:
                lost = await exchange.run(self._app, None if by_route else self._begin)
            except Exception as error:
                return error  # beyond what another attempt may be made for
            if lost is not None:
                raise lost
            return None

        error = await run_again(attempt, attempts=self._keys.attempts, sleep=self._keys.sleep)
        if error is not None:
            raise error

    async def _begin(self, exchange: Exchange) -> None:
        scope = exchange.scope
        if isinstance(self._tenant, Tenants):
            await begin(exchange, self._tenant, required=self._required)
            return
        tenant = self._tenant(scope)
        await begin(
            exchange, await tenant if inspect.isawaitable(tenant) else tenant, required=self._required
        )


async def begin(
    exchange: Exchange, tenant: Tenant | Tenants | None, *, required: bool
) -> IdempotencyKey | None:
    """Take the key of this request; None where it has none and needs none.

    Raises:
        Answered: it is not to go on; the exchange has the answer.
        Misuse: the tenant is not one.
    """
    values = [value for name, value in exchange.scope["headers"] if name == HEADER]
    if not values:
        if required:
            raise exchange.answer(
                problem(
                    400,
                    "idempotency_key_missing",
                    "This operation needs an Idempotency-Key header: a new unique value for each operation, and"
                    " the same value in every attempt at it.",
                )
            )
        return None
    try:
        if len(values) > 1:
            raise BadKey(f"there are {len(values)} Idempotency-Key headers; send one")
        text = parse_key(values[0].decode("latin-1"))
    except BadKey as bad:
        raise exchange.answer(problem(400, "idempotency_key_malformed", f"Idempotency-Key: {bad}.")) from None
    if tenant is None:
        raise exchange.answer(
            problem(
                403,
                "idempotency_tenant_unknown",
                "An Idempotency-Key counts for one caller, and it is not known who calls; sign in first.",
            )
        )
    key = IdempotencyKey(_named(tenant), f"{exchange.scope['method']} {_whole_path(exchange.scope)}", text)
    await exchange.begin(key)
    return key


def _named(tenant: Any) -> str:
    if tenant is SHARED:
        return ""
    if isinstance(tenant, (str, int, UUID)) and not isinstance(tenant, bool) and str(tenant):
        return str(tenant)
    raise Misuse(
        "the tenant of an idempotency key is a string that is not empty, an integer or a UUID, not"
        f" {tenant!r}; return the caller's id, or None where nobody is known"
    )


def _whole_path(scope: Scope) -> str:
    """The path with where the application is mounted, which some frameworks leave out of it (ASGI has it in).

    Else two applications mounted beside each other would have one key for their routes of the same name.
    """
    path: str = scope["path"]
    mounted: str = (scope.get("root_path") or "").rstrip("/")
    return path if path == mounted or path.startswith(f"{mounted}/") else mounted + path


async def _read(receive: Receive, most: int) -> tuple[bytes, bool, bool]:
    """The body, up to about `most` bytes; whether that is all of it; whether the client has gone."""
    body, more = bytearray(), True
    while more and len(body) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"", False, True
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body), not more and len(body) <= most, False


__all__ = ["BY_ROUTE", "SHARED", "Answered", "IdempotencyMiddleware", "Tenants", "begin"]
