"""A FastAPI dependency that makes one route idempotent, with the caller known from another dependency.

`IdempotencyMiddleware` with ``tenant=BY_ROUTE`` must be there: it holds the reply back until the commit.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of the function made in here.

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.exceptions import RequestValidationError

from mainstay.patterns.errors import Misuse
from mainstay.patterns.idempotency.exchange import IN_SCOPE, Exchange
from mainstay.patterns.idempotency.key import IdempotencyKey
from mainstay.patterns.idempotency.middleware import BY_ROUTE, SHARED, Tenants, begin


def idempotency_key(
    *, tenant: Callable[..., Any] | Tenants, required: bool = False
) -> Callable[..., AsyncIterator[IdempotencyKey | None]]:
    """A dependency that takes the key of the request; the handler then runs inside its transaction.

        Key = Annotated[IdempotencyKey | None, Depends(idempotency_key(tenant=current_customer_id))]

    It gives the `IdempotencyKey`, or None where the request has none. What FastAPI's validation refuses (422)
    is not stored under the key.

    Args:
        tenant: a dependency that gives the id of whoever the request is made for (a string, an integer or a
            UUID), or `SHARED`.
        required: answer 400 to a request without a key.
    """
    if tenant is BY_ROUTE:
        raise ValueError(
            "tenant=BY_ROUTE is for the middleware; the route itself names a dependency, or SHARED"
        )

    async def nobody_in_particular() -> Tenants:
        return SHARED

    async def idempotency_key(
        request: Request,
        who: Annotated[Any, Depends(nobody_in_particular if isinstance(tenant, Tenants) else tenant)],
        header: Annotated[
            str | None,
            Header(
                alias="Idempotency-Key",
                description=(
                    ("Required. " if required else "")
                    + "A unique value for each operation, the same in every attempt at it."
                ),
            ),
        ] = None,
    ) -> AsyncIterator[IdempotencyKey | None]:
        exchange = request.scope.get(IN_SCOPE)
        if not isinstance(exchange, Exchange):
            raise Misuse(
                "this route takes an idempotency key, and nothing holds its reply back until the commit; add"
                " app.add_middleware(IdempotencyMiddleware, keys=keys, tenant=BY_ROUTE), with its methods among"
                " those of the middleware"
            )
        key = await begin(exchange, who, required=required)
        try:
            yield key
        except RequestValidationError:
            await exchange.undo()
            raise

    return idempotency_key
