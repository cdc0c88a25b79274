"""What goes wrong between the shop and a provider, by chance but from a seed.

`PUT /faults` changes it while the stub runs; each number is a probability, `delay` the mean delay in seconds.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Chance = Field(default=0.0, ge=0.0, le=1.0)
Effect = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]


class Faults(BaseModel):
    """How a provider misbehaves."""

    delay: float = Field(default=0.05, ge=0.0)
    fail: float = Chance
    """It answers 500 and has done nothing."""
    lose: float = Chance
    """It does it, and the answer comes after the caller's patience has ended."""
    late: float = Chance
    """It does it only after the caller's patience has ended, perhaps after a second attempt, or after the undo."""
    twice: float = Chance
    """The request arrives a second time, as from a proxy that repeats; the caller gets the second answer."""
    refuse: float = Chance
    """It refuses for good (only payments can be refused)."""
    patience: float = 2.0
    """Seconds after which the caller no longer listens."""


class Desk:
    """Takes requests, each with its faults, and keeps the first answer to each key.

    Args:
        effects: by path: what a POST there does.
    """

    def __init__(self, **effects: Effect) -> None:
        self.faults = Faults.model_validate_json(os.environ.get("FAULTS", "{}"))
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.entries: list[dict[str, Any]] = []
        """The ledger: all that was ever done."""
        self.requests = 0
        self.underway = 0
        self.chance = random.Random(os.environ.get("SEED", "1"))
        self.app = Starlette(
            routes=[
                Route("/faults", self._set_faults, methods=["PUT"]),
                Route("/ledger", self._show_ledger),
                *(
                    Route(f"/{path}", self._serving(effect), methods=["POST"])
                    for path, effect in effects.items()
                ),
            ]
        )

    async def _set_faults(self, request: Request) -> Response:
        try:
            self.faults = Faults.model_validate_json(await request.body())
        except ValidationError as error:
            return Response(error.json(), 422, media_type="application/json")
        return JSONResponse(self.faults.model_dump())

    async def _show_ledger(self, request: Request) -> JSONResponse:
        return JSONResponse({"requests": self.requests, "underway": self.underway, "entries": self.entries})

    def _serving(self, effect: Effect) -> Callable[[Request], Awaitable[JSONResponse]]:
        async def serve(request: Request) -> JSONResponse:
            body = await request.json()
            self.requests += 1
            self.underway += 1
            try:
                return await self._serve(request.headers.get("Idempotency-Key", ""), body, effect)
            finally:
                self.underway -= 1

        return serve

    async def _serve(self, key: str, body: dict[str, Any], effect: Effect) -> JSONResponse:
        faults, lot = self.faults, self.chance.random()
        await asyncio.sleep(self.chance.expovariate(1 / faults.delay) if faults.delay else 0)
        if (lot := lot - faults.fail) < 0:
            return JSONResponse({"reason": "out of order"}, 500)
        if (lot := lot - faults.lose) < 0:
            answer = self._once(key, body, effect)
            await asyncio.sleep(faults.patience * 1.2)
        elif (lot := lot - faults.late) < 0:
            await asyncio.sleep(faults.patience * (1.2 + self.chance.random()))
            answer = self._once(key, body, effect)
        else:
            answer = self._once(key, body, effect)
            if lot - faults.twice < 0:
                answer = self._once(key, body, effect)
        return JSONResponse(answer[1], answer[0])

    def _once(self, key: str, body: dict[str, Any], effect: Effect) -> tuple[int, dict[str, Any]]:
        if not key:  # nothing to tell a repetition by: it is done again
            return effect(key, body)
        if key not in self.answers:
            self.answers[key] = effect(key, body)
        return self.answers[key]
