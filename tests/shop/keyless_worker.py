"""The shop's worker with one thing broken: it sends no idempotency keys to the providers."""

from typing import Any

from durable.worker import messages
from mainstay.patterns import HttpClient

__all__ = ["messages"]

request = HttpClient.request


async def without_key(
    self: HttpClient, *address: str, idempotency_key: str | None = None, **options: Any
) -> Any:
    return await request(self, *address, **options)


HttpClient.request = without_key  # type: ignore[method-assign]
