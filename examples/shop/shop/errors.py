"""What can go wrong in the shop, and how it is answered over HTTP."""

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse


class ShopError(Exception):
    """The request cannot be done. The message is for the client."""

    status = 400


class NotFound(ShopError):
    """There is no such row."""

    status = 404


class Conflict(ShopError):
    """The state of the shop does not allow it."""

    status = 409


class OutOfStock(Conflict):
    """Fewer pieces are left than were ordered."""


class CardDeclined(ShopError):
    """The payment provider refused the charge."""

    status = 402


def answer_errors(app: FastAPI) -> None:
    """Answer the shop's own errors with their status, and a provider's failure with 502."""

    @app.exception_handler(ShopError)
    async def shop_error(request: Request, error: ShopError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=error.status)

    @app.exception_handler(httpx.HTTPError)
    async def provider_failed(request: Request, error: httpx.HTTPError) -> JSONResponse:
        return JSONResponse({"detail": "a provider did not answer as expected"}, status_code=502)
