"""Call other systems over HTTP: always with time limits, never inside an open transaction."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Any, Self

import httpx

from mainstay.patterns.guards import open_scope, refuse_in_transaction

TIMEOUT = httpx.Timeout(connect=2.0, read=5.0, write=5.0, pool=2.0)
"""Seconds to connect, between two pieces of the reply, between two pieces sent, to get a connection."""
DEADLINE = 15.0
"""Seconds for one call from beginning to end; a reply that trickles never breaks the read timeout."""


class HttpClient:
    """An `httpx.AsyncClient` whose calls end in bounded time and are refused while a transaction is open.

    Make one per other system, keep it as long as the process lives, and close it at the end (or use it as
    an async context manager).

    Args:
        base_url: put before relative addresses.
        timeout: seconds for each of connect, read, write and pool, or an `httpx.Timeout` with all four;
            default 2, 5, 5 and 2.
        deadline: seconds for a whole call, default 15.
        options: further options of `httpx.AsyncClient`, such as `headers`, `auth`, `limits`, `transport`.

    Raises:
        ValueError: a time limit is missing or not positive.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        timeout: float | httpx.Timeout = TIMEOUT,
        deadline: float = DEADLINE,
        **options: Any,
    ) -> None:
        self._deadline = _positive(deadline, "deadline")
        self._client = httpx.AsyncClient(base_url=base_url, timeout=_limited(timeout), **options)

    async def request(
        self,
        method: str,
        url: str,
        *,
        idempotency_key: str | None = None,
        timeout: float | httpx.Timeout | None = None,  # noqa: ASYNC109 (httpx's limits for each phase)
        deadline: float | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Send one request and read its whole reply; whatever its status, it is returned.

        Args:
            idempotency_key: sent as the header ``Idempotency-Key``, as it is. Make it once per intended
                effect and keep it with your own row, so that a repeated call carries the same key.
            timeout, deadline: seconds for this call; None takes those of the client.
            options: further options of `httpx.AsyncClient.request`, such as `json`, `params`, `headers`.

        Raises:
            OutsideCallInTransaction: a transaction is open; nothing was sent.
            httpx.TimeoutException: a time limit passed; the other side may have done it all the same.
            httpx.TransportError: the connection failed in another way.
            ValueError: a time limit is not positive, or the key is not 1 to 255 visible ASCII characters.
        """
        if open_scope() is not None:
            refuse_in_transaction(self._shown(method, url))
        headers = httpx.Headers(options.pop("headers", None))
        if idempotency_key is not None:
            if not re.fullmatch(r"[!-~]{1,255}", idempotency_key):
                raise ValueError("an idempotency key has 1 to 255 visible ASCII characters")
            headers["Idempotency-Key"] = idempotency_key
        if timeout is not None:
            options["timeout"] = _limited(timeout)
        most = self._deadline if deadline is None else _positive(deadline, "deadline")
        limit = asyncio.timeout(most)
        try:
            async with limit:
                return await self._client.request(method, url, headers=headers, **options)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise httpx.ReadTimeout(
                f"no whole reply to {self._shown(method, url)} within {most:g} s"
            ) from error

    def _shown(self, method: str, url: str) -> str:
        """The call as messages name it: without what may be secret."""
        address = self._client.build_request(method, url).url
        return f"{method} {address.copy_with(userinfo=b'', query=None, fragment=None)}"

    async def get(self, url: str, **options: Any) -> httpx.Response:
        """`request` with GET."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        """`request` with POST."""
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> httpx.Response:
        """`request` with PUT."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Any) -> httpx.Response:
        """`request` with PATCH."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Any) -> httpx.Response:
        """`request` with DELETE."""
        return await self.request("DELETE", url, **options)

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _limited(timeout: float | httpx.Timeout) -> httpx.Timeout:
    limits = timeout if isinstance(timeout, httpx.Timeout) else httpx.Timeout(timeout)
    for name, seconds in limits.as_dict().items():
        _positive(seconds, f"{name} timeout")
    return limits


def _positive(seconds: float | None, name: str) -> float:
    if seconds is None or not 0 < seconds < float("inf"):
        raise ValueError(f"the {name} must be a positive number of seconds, not {seconds}")
    return seconds
