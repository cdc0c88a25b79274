"""Any sequence of attempts, repetitions, failures and expiries, compared with a model of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from idempotency_help import prepare, serving
from pattern_models import Entry
from sqlalchemy import URL, func, select, text
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mainstay.patterns import Database
from mainstay.patterns.idempotency import IdempotencyKeys

few_keys = st.sampled_from(["k", "l"])
few_users = st.sampled_from(["ann", "bob"])
bodies = st.sampled_from([b"1", b"2"])
# How the handler ends: a status, an error, a stream of so many bytes, or a stream that breaks.
endings = st.sampled_from([200, 201, 409, 422, 429, 500, "raise", "stream", "break"])


class Attempts(RuleBasedStateMachine):
    """The model: which reply stands under which key, and how many effects there are."""

    url: URL

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.db = Database(self.url.set(drivername="postgresql+asyncpg"))
        self.serial = 0
        self.stored: dict[tuple[str, str], tuple[bytes, int, bytes]] = {}
        self.effects = 0
        with psycopg.connect(self.url.set(drivername="postgresql").render_as_string(False)) as connection:
            connection.execute("TRUNCATE entry, account RESTART IDENTITY")
        self.loop.run(prepare(self.db))
        self.service = serving(
            IdempotencyKeys(self.db, wait=0, part=1000),
            self.handler,
            tenant=lambda scope: dict(scope["headers"])[b"x-user"].decode(),
        )

    async def handler(self, request: Request) -> Response:
        async with self.db.transaction() as tx:
            tx.add(Entry(account_id=1, amount=1))
        ending, text = self.ending, b"%d" % self.serial
        if ending == "raise":
            raise OSError
        if isinstance(ending, int):
            return Response(text, ending)

        async def stream() -> Any:
            for _ in range(5):
                yield text * 300
            if ending == "break":
                raise OSError

        return StreamingResponse(stream())

    @rule(key=few_keys, user=few_users, body=bodies, ending=endings)
    def attempt(self, key: str, user: str, body: bytes, ending: Any) -> None:
        """A request; the handler, if it runs, ends like this."""
        self.ending, self.serial = ending, self.serial + 1
        reply = self.loop.run(
            self.service.post("/e", content=body, headers={"idempotency-key": key, "x-user": user})
        )
        said = (reply.status_code, reply.content, "idempotency-replayed" in reply.headers)
        before = self.stored.get((user, key))
        if before is not None:
            if before[0] == body:
                assert said == (before[1], before[2], True)
            else:
                assert said[0] == 422 and reply.json()["code"] == "idempotency_key_reused"
            return
        number = b"%d" % self.serial
        if ending in ("raise", "break"):
            assert said[0] == 500
        elif ending in (429, 500):
            assert said == (ending, number, False)
        else:
            status, content = (200, number * 1500) if ending == "stream" else (ending, number)
            assert said == (status, content, False)
            self.stored[user, key] = (body, status, content)
            self.effects += 1

    @rule(key=few_keys, user=few_users)
    def expire(self, key: str, user: str) -> None:
        """A key's time has passed."""
        query = text(
            "UPDATE mainstay.idempotency_key SET expires_at = now() WHERE tenant = :user AND key = :key"
        )
        self.loop.run(self.change(query, {"user": user, "key": key}))
        self.stored.pop((user, key), None)

    @rule()
    def prune(self) -> None:
        """What has expired is deleted, and nothing else."""
        self.loop.run(IdempotencyKeys(self.db).prune(batch=1))
        assert self.loop.run(self.count(text("SELECT count(*) FROM mainstay.idempotency_key"))) == len(
            self.stored
        )

    @invariant()
    def effects_are_those_of_the_outcomes(self) -> None:
        """Each stored reply has had its effect once; nothing else has had any."""
        assert self.loop.run(self.count(select(func.count()).select_from(Entry))) == self.effects

    async def change(self, query: Any, values: dict[str, str]) -> None:
        async with self.db.transaction() as tx:
            await tx.execute(query, values)

    async def count(self, query: Any) -> int:
        async with self.db.transaction() as tx:
            return await tx.scalar(query) or 0

    def teardown(self) -> None:
        self.loop.run(self.service.aclose())
        self.loop.run(self.db.close())
        self.loop.close()


@pytest.fixture
def machine(empty: URL) -> Iterator[type[Attempts]]:
    """The machine on the database of the tests."""
    Attempts.url = empty
    yield Attempts


def test_any_sequence_is_as_in_the_model(machine: type[Attempts]) -> None:
    """Replies, replays, refusals and effects, whatever came before."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
