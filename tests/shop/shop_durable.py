"""The durable edition as the tests see it: all of its processes, and the audit of its books."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from shop_editions import SHOP

sys.path.insert(0, str(SHOP))
from operate import audit, books
from operate.chaos import Chaos
from operate.load import Clients
from operate.stack import Stack

__all__ = ["Chaos", "Clients", "DurableShop", "Stack", "audit", "books"]

Returned = TypeVar("Returned")
ENOUGH = 90.0
"""Seconds after which a wait has failed."""


@dataclass
class DurableShop:
    """A running shop whose every order is remembered, so that the books can be audited at any time."""

    stack: Stack
    runner: asyncio.Runner
    client: httpx.Client
    stock_before: dict[int, int]
    loads: list[Clients] = field(default_factory=list)

    def run(self, work: Awaitable[Returned]) -> Returned:
        """Do it on the stack's event loop."""

        async def wait() -> Returned:
            return await work

        return self.runner.run(wait())

    def faults(self, **faults: float) -> None:
        """Have the providers misbehave like this."""
        self.run(self.stack.set_faults(**{"delay": 0.0} | faults))

    def place(self, key: str, product: int = 1, quantity: int = 1, **options: Any) -> httpx.Response:
        """Order something; what is answered first is remembered."""
        reply = self.client.post(
            "/orders",
            json={"customer_id": 1, "lines": [{"product_id": product, "quantity": quantity}]},
            headers={"Idempotency-Key": f'"{key}"'},
            **options,
        )
        if not self.loads:
            self.loads.append(Clients("", 0))
        if reply.status_code == 201:
            self.loads[0].replies.setdefault(key, (201, reply.json()))
        return reply

    def progress(self, order: int, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Watch the order until it is so far."""

        async def watch() -> dict[str, Any]:
            async with (
                asyncio.timeout(ENOUGH),
                httpx.AsyncClient(base_url=self.stack.urls["service"]) as client,
            ):
                while True:
                    found: dict[str, Any] = (await client.get(f"/orders/{order}/progress")).json()
                    if until(found):
                        return found
                    await asyncio.sleep(0.05)

        return self.run(watch())

    def wait_for_entries(self, provider: str, order: int, count: int) -> list[Any]:
        """Watch a provider's ledger until it has so many entries of the order."""

        async def watch() -> list[Any]:
            async with asyncio.timeout(ENOUGH):
                while True:
                    entries = (await self.stack.ledgers())[provider]["entries"]
                    found = [one for one in entries if one["reference"] == f"order-{order}"]
                    if len(found) >= count:
                        return found
                    await asyncio.sleep(0.05)

        return self.run(watch())

    def storm(self, seed: int, seconds: float, every: float | None, **options: Any) -> tuple[Clients, Chaos]:
        """Load, with kills unless `every` is None."""
        load, chaos = self.run(
            audit.storm(self.stack, seconds=seconds, seed=seed, clients=4, every=every, **options)
        )
        self.loads.append(load)
        return load, chaos

    def examine(self) -> list[books.Finding]:
        """Let it settle, and audit."""
        assert self.run(audit.settle(self.stack, ENOUGH)) < ENOUGH, "it does not settle"
        return self.run(audit.examine(self.stack, self.stock_before, *self.loads))


def log_of(folder: Path) -> Path:
    """Where the processes write."""
    return folder / "shop.log"
