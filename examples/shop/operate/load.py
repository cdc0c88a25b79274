"""Clients as they are: each order under a key of its own, sent again until it is answered, now and then too often."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import httpx

PATIENCE = 4.0
"""Seconds that a client waits for a reply before it tries again."""
PAUSE = 0.3
"""Seconds between two attempts."""
CANCELS = 0.15
"""The part of orders that the customer cancels again."""
AGAIN = 0.1
"""The part of requests that are repeated although they were answered."""


@dataclass
class Clients:
    """Several clients at once, and what they were told.

    Args:
        url: of the shop.
        seed: of what they order, and of how often they repeat themselves.
        products: ids to order from.
    """

    url: str
    seed: int
    products: int = 4
    replies: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """The answer to each request, by its key."""
    attempts: int = 0
    differing: list[str] = field(default_factory=list)
    """Requests that were answered differently when they were repeated."""
    cancels: int = 0
    """Cancellations that the shop accepted."""

    async def run(self, seconds: float, clients: int, patience: float = 60.0) -> None:
        """Order for so long; then wait until every request is answered, at most `patience` seconds more."""
        end = asyncio.get_running_loop().time() + seconds
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as http,
            asyncio.TaskGroup() as group,
        ):
            for number in range(clients):
                group.create_task(self._client(http, number, end, patience))

    async def _client(self, http: httpx.AsyncClient, number: int, end: float, patience: float) -> None:
        chance, now, count = random.Random(f"{self.seed} {number}"), asyncio.get_running_loop().time, 0
        while now() < end:
            count += 1
            key = f"{self.seed}-{number}-{count}"
            wanted = chance.sample(range(1, self.products + 1), chance.randint(1, 2))
            body = {
                "customer_id": chance.randint(1, 3),
                "lines": [{"product_id": product, "quantity": chance.randint(1, 3)} for product in wanted],
            }
            self.replies[key] = await self._order(http, key, body, end + patience)
            if chance.random() < AGAIN:
                again = await self._order(http, key, body, end + patience)
                if again != self.replies[key]:
                    self.differing.append(key)
            if chance.random() < CANCELS and self.replies[key][0] == 201:
                await self._cancel(http, self.replies[key][1]["id"])
            await asyncio.sleep(chance.random() * 0.5)

    async def _order(
        self, http: httpx.AsyncClient, key: str, body: dict[str, Any], until: float
    ) -> tuple[int, Any]:
        """Send it until there is an answer; (0, reason) where there is none in time."""
        why = ""
        while asyncio.get_running_loop().time() < until:
            self.attempts += 1
            try:
                reply = await http.post("/orders", json=body, headers={"Idempotency-Key": f'"{key}"'})
            except httpx.HTTPError as error:
                why = repr(error)
            else:
                if reply.status_code < 500 and "Retry-After" not in reply.headers:
                    return reply.status_code, reply.json()
                why = f"{reply.status_code} {reply.text}"
            await asyncio.sleep(PAUSE)
        return 0, why

    async def _cancel(self, http: httpx.AsyncClient, order: int) -> None:
        """As soon as it is being paid, which is the worst moment; it may be too late, or the service away."""
        for _ in range(30):
            await asyncio.sleep(PAUSE / 3)
            try:
                if (await http.get(f"/orders/{order}")).json().get("status") != "placed":
                    self.cancels += (await http.post(f"/orders/{order}/cancel")).status_code == 202
                    return
            except (httpx.HTTPError, ValueError):
                pass
