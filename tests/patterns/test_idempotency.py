"""A keyed request takes effect once, and every repetition gets its reply; with both drivers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from idempotency_help import JSON, client, entering, entries, prepare, serving, stored
from pattern_models import Account, Entry
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import IntegrityError
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from mainstay.patterns import Database, HttpClient, Misuse, OutsideCallInTransaction
from mainstay.patterns.guards import open_scope
from mainstay.patterns.idempotency import (
    IdempotencyKey,
    IdempotencyKeys,
    IdempotencyMiddleware,
    ReplyTooLarge,
)
from mainstay.patterns.idempotency.exchange import Exchange


@pytest.fixture
async def keys(db: Database) -> IdempotencyKeys:
    """Keys that wait for nobody."""
    await prepare(db)
    return IdempotencyKeys(db, wait=0)


def keyed(key: str, **more: str) -> dict[str, str]:
    return {**JSON, "idempotency-key": f'"{key}"', **more}


# ---------------------------------------------------------------------------------------- the same again


async def test_a_repetition_gets_the_first_reply_and_has_no_effect(
    db: Database, keys: IdempotencyKeys
) -> None:
    """Status, headers and body are those of the first, and a header says that it is a replay."""
    async with serving(keys, entering(db)) as service:
        first = await service.post("/entries", json={"amount": 1}, headers=keyed("a"))
        again = await service.post("/entries", json={"amount": 1}, headers=keyed("a"))
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert again.headers["location"] == first.headers["location"] == "/entries/1"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert await entries(db) == await stored(db) == 1


async def test_one_commit_holds_effect_and_reply(db: Database, keys: IdempotencyKeys) -> None:
    """Besides the handler's INSERT, its limits and the COMMIT there are four statements; a replay has two."""
    sent: list[str] = []
    engine = db.engine.sync_engine
    event.listen(engine, "commit", lambda connection: sent.append("COMMIT"))
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(" ".join(args[2].split()[:3])))
    async with serving(keys, entering(db)) as service:
        await service.post("/entries", json={"amount": 1}, headers=keyed("a"))
        limits, claim, savepoint, effect, release, store, commit = sent
        assert limits.startswith("SELECT set_config") and claim == "SELECT * FROM"
        assert savepoint.startswith("SAVEPOINT") and release.startswith("RELEASE")
        assert (effect, store) == ("INSERT INTO entry", "INSERT INTO mainstay.idempotency_key")
        assert commit == "COMMIT"
        sent.clear()
        await service.post("/entries", json={"amount": 1}, headers=keyed("a"))
        assert sent == [limits, claim]


async def test_the_reply_leaves_after_the_commit(
    db: Database, other: Database, keys: IdempotencyKeys
) -> None:
    """When the first byte is sent, effect and reply are there for everybody and no transaction is open."""
    seen: list[Any] = []

    class Watch:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def watched(message: Any) -> None:
                seen.append(
                    (message["type"], open_scope() is None, await entries(other), await stored(other))
                )
                await send(message)

            await self.app(scope, receive, watched)

    inner = serving(keys, entering(db))._transport.app  # type: ignore[attr-defined]
    async with client(Watch(inner)) as service:
        await service.post("/entries", json={"amount": 1}, headers=keyed("a"))
    assert seen == [("http.response.start", True, 1, 1), ("http.response.body", True, 1, 1)]


async def test_without_a_key_each_request_has_its_effect(db: Database, keys: IdempotencyKeys) -> None:
    """Nothing is stored or compared where the client asks for nothing."""
    async with serving(keys, entering(db)) as service:
        for _ in range(2):
            assert (await service.post("/entries", json={"amount": 1})).status_code == 201
    assert (await entries(db), await stored(db)) == (2, 0)


async def test_methods_that_are_idempotent_anyway_pass(db: Database, keys: IdempotencyKeys) -> None:
    """A key on PUT is not looked at; `applies` leaves out what is not concerned."""
    async with serving(keys, entering(db), applies=lambda scope: scope["path"] != "/free") as service:
        for method, path in (("PUT", "/entries"), ("POST", "/free")):
            for _ in range(2):
                await service.request(method, path, json={"amount": 1}, headers=keyed("a"))
    assert (await entries(db), await stored(db)) == (4, 0)


async def test_route_and_tenant_are_part_of_the_key(db: Database, keys: IdempotencyKeys) -> None:
    """The same key elsewhere, by another method or from another tenant is another key."""

    async def tenant(scope: Any) -> str:
        return dict(scope["headers"])[b"x-tenant"].decode()

    async with serving(keys, entering(db), tenant=tenant) as service:
        for method, path, who in (
            ("POST", "/a", "1"),
            ("POST", "/b", "1"),
            ("PATCH", "/a", "1"),
            ("POST", "/a", "2"),
        ):
            for replayed in (False, True):
                headers = keyed("k", **{"x-tenant": who})
                reply = await service.request(method, path, json={"amount": 1}, headers=headers)
                assert ("idempotency-replayed" in reply.headers) is replayed
    assert await entries(db) == await stored(db) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"content": b'{"amount":2}'},
        {"url": "/entries?x=1"},
        {"type": "text/json"},
        {"content": b'{"amount": 1}'},
    ],
    ids=["body", "query", "content type", "a space"],
)
async def test_another_request_under_the_key_is_refused(
    db: Database, keys: IdempotencyKeys, change: dict[str, Any]
) -> None:
    """422, for every byte of query, content type and body; the first reply stays."""
    async with serving(keys, entering(db)) as service:
        await service.post("/entries", content=b'{"amount":1}', headers=keyed("a"))
        headers = keyed("a") | {"content-type": change.get("type", JSON["content-type"])}
        content = change.get("content", b'{"amount":1}')
        reply = await service.post(change.get("url", "/entries"), content=content, headers=headers)
        assert reply.status_code == 422
        assert reply.headers["content-type"] == "application/problem+json"
        problem = reply.json()
        assert problem["code"] == "idempotency_key_reused" and problem["status"] == 422
        assert problem["type"] == "about:blank" and problem["title"] and problem["detail"]
        again = await service.post("/entries", content=b'{"amount":1}', headers=keyed("a"))
        assert again.status_code == 201
    assert await entries(db) == 1


async def test_a_key_is_required_where_that_is_said(db: Database, keys: IdempotencyKeys) -> None:
    """400 without one."""
    async with serving(keys, entering(db), required=True) as service:
        reply = await service.post("/entries", json={"amount": 1})
    assert (reply.status_code, reply.json()["code"]) == (400, "idempotency_key_missing")
    assert await entries(db) == 0


@pytest.mark.parametrize(
    "headers", [[("idempotency-key", "a b")], [("idempotency-key", "a")] * 2], ids=["bad", "two"]
)
async def test_a_malformed_key_is_refused(db: Database, keys: IdempotencyKeys, headers: list[Any]) -> None:
    """400, and not "as if there were none": the client counts on it."""
    async with serving(keys, entering(db)) as service:
        reply = await service.post("/entries", json={"amount": 1}, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (400, "idempotency_key_malformed")
    assert await entries(db) == 0


@pytest.mark.parametrize(("tenant", "status"), [(None, 403), ("", 500), (True, 500), (b"x", 500)])
async def test_without_a_tenant_no_key_counts(
    db: Database, keys: IdempotencyKeys, tenant: Any, status: int
) -> None:
    """Nobody is answered 403; what is no id is a fault of the program. Never a key shared by accident."""
    async with serving(keys, entering(db), tenant=lambda scope: tenant) as service:
        reply = await service.post("/entries", json={"amount": 1}, headers=keyed("a"))
    assert reply.status_code == status
    assert (await entries(db), await stored(db)) == (0, 0)


def test_somebody_must_say_what_a_tenant_is() -> None:
    """There is no default: shared keys are asked for by name."""
    with pytest.raises(TypeError, match="tenant"):
        IdempotencyMiddleware(None, None)  # type: ignore[arg-type, call-arg]


@pytest.mark.parametrize(
    "bound",
    [{"wait": -1}, {"keep": 0}, {"part": 0}, {"attempts": 0}, {"retry_after": 0}, {"largest_reply": 9}],
)
def test_a_bound_out_of_range_is_refused(bound: dict[str, Any]) -> None:
    """At once, with its name."""
    with pytest.raises(ValueError, match=next(iter(bound))):
        IdempotencyKeys(None, **bound)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------- what is an outcome


async def test_an_exception_undoes_the_effect_and_is_not_stored(db: Database, keys: IdempotencyKeys) -> None:
    """Even what the handler had committed, as it thought. The next attempt runs anew."""
    enter, failing = entering(db), True

    async def handler(request: Request) -> Response:
        reply = await enter(request)
        if failing:
            raise OSError("the disk is full")
        return reply

    async with serving(keys, handler) as service:
        assert (await service.post("/e", json={"amount": 1}, headers=keyed("a"))).status_code == 500
        assert (await entries(db), await stored(db)) == (0, 0)
        failing = False
        again = await service.post("/e", json={"amount": 1}, headers=keyed("a"))
        assert again.status_code == 201 and "idempotency-replayed" not in again.headers
    assert await entries(db) == 1


@pytest.mark.parametrize(
    ("status", "kept"), [(500, 0), (503, 0), (429, 0), (401, 0), (402, 1), (409, 1), (302, 1)]
)
async def test_what_is_no_outcome_undoes_the_effect_and_is_not_stored(
    db: Database, keys: IdempotencyKeys, status: int, kept: int
) -> None:
    """A 5xx, or a reply that asks for another attempt; what judges the request stays with its effect."""
    enter = entering(db)

    async def handler(request: Request) -> Response:
        await enter(request)
        return PlainTextResponse("so it is", status)

    async with serving(keys, handler) as service:
        for replayed in (False, bool(kept)):
            reply = await service.post("/e", json={"amount": 1}, headers=keyed("a"))
            assert (reply.status_code, reply.text) == (status, "so it is")
            assert ("idempotency-replayed" in reply.headers) is replayed
    assert (await entries(db), await stored(db)) == (kept, kept)


async def test_the_handlers_own_rollback_stays_one(db: Database, keys: IdempotencyKeys) -> None:
    """An error that leaves the handler's block undoes the block; the 409 made of it is stored."""

    async def handler(request: Request) -> Response:
        try:
            async with db.transaction() as tx:
                tx.add(Entry(account_id=1, amount=1))
                await tx.flush()
                raise KeyError("sold out")
        except KeyError:
            return PlainTextResponse("sold out", 409)

    async with serving(keys, handler) as service:
        await service.post("/e", headers=keyed("a"))
        again = await service.post("/e", headers=keyed("a"))
        assert (again.status_code, again.headers["idempotency-replayed"]) == (409, "true")
    assert (await entries(db), await stored(db)) == (0, 1)


async def test_a_cancelled_request_leaves_nothing(db: Database, keys: IdempotencyKeys) -> None:
    """Its transaction is rolled back, and the key is free at once."""
    enter, begun = entering(db), asyncio.Event()

    async def handler(request: Request) -> Response:
        reply = await enter(request)
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return reply

    async with serving(keys, handler) as service:
        task = asyncio.create_task(service.post("/e", json={"amount": 1}, headers=keyed("a")))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await entries(db), await stored(db)) == (0, 0)
        assert (await service.post("/e", json={"amount": 1}, headers=keyed("a"))).status_code == 201
    assert await entries(db) == 1


async def test_an_application_without_a_whole_reply_leaves_nothing(
    db: Database, keys: IdempotencyKeys
) -> None:
    """It returned and had said nothing, or half: an error, and no effect."""

    async def half(scope: Any, receive: Any, send: Any) -> None:
        async with db.transaction() as tx:
            tx.add(Entry(account_id=1, amount=1))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ha", "more_body": True})

    app = IdempotencyMiddleware(half, keys, tenant=lambda scope: "t")
    async with client(app) as service:
        assert (await service.post("/e", headers=keyed("a"))).status_code == 500
    assert (await entries(db), await stored(db)) == (0, 0)


async def test_background_work_starts_after_the_commit(
    db: Database, other: Database, keys: IdempotencyKeys
) -> None:
    """It sees the effect as everybody does, and is outside of the transaction."""
    enter = entering(db)
    seen: list[tuple[int, int, bool]] = []

    async def work() -> None:
        seen.append((await entries(other), await stored(other), open_scope() is None))

    async def handler(request: Request) -> Response:
        reply = await enter(request)
        reply.background = BackgroundTask(work)
        return reply

    async with serving(keys, handler) as service:
        for _ in range(2):
            await service.post("/e", json={"amount": 1}, headers=keyed("a"))
    assert seen == [(1, 1, True)]


async def test_a_lost_race_runs_the_request_again(
    db: Database, other: Database, keys: IdempotencyKeys
) -> None:
    """A serialization failure in the handler: nothing was sent, so the whole is run again from its beginning."""
    tries = 0

    async def handler(request: Request) -> Response:
        nonlocal tries
        tries += 1
        async with db.transaction() as tx:
            account = await tx.get(Account, 1)
            assert account is not None
            if tries == 1:
                async with asyncio.timeout(5):
                    await asyncio.create_task(raise_balance(), context=contextvars.Context())
            account.balance += 10
        return JSONResponse(await request.json())

    async def raise_balance() -> None:
        async with other.transaction() as tx:
            await tx.execute(text("UPDATE account SET balance = balance + 1"))

    async def no_time(seconds: float) -> None:
        pass

    keys = replace(keys, isolation="REPEATABLE READ", sleep=no_time)
    async with serving(keys, handler) as service:
        reply = await service.post("/e", json={"amount": 1}, headers=keyed("a"))
    assert (reply.status_code, reply.json(), tries) == (200, {"amount": 1}, 2)
    async with db.transaction() as tx:
        assert await tx.scalar(select(Account.balance)) == 11
    assert await stored(db) == 1


async def test_the_last_lost_race_is_told(db: Database, keys: IdempotencyKeys) -> None:
    """After so many attempts the error goes on, and nothing has happened."""
    tries = 0

    async def handler(request: Request) -> Response:
        nonlocal tries
        tries += 1
        async with db.transaction() as tx:
            tx.add(Entry(account_id=1, amount=1))
            await tx.flush()
            await tx.execute(text("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$"))
        return Response()

    async def no_time(seconds: float) -> None:
        pass

    async with serving(replace(keys, attempts=3, sleep=no_time), handler) as service:
        assert (await service.post("/e", headers=keyed("a"))).status_code == 500
    assert (tries, await entries(db), await stored(db)) == (3, 0, 0)


async def db_with_late_table(db: Database) -> None:
    """A table whose constraint is checked at COMMIT."""
    async with db.engine.begin() as connection:
        await connection.execute(text("DROP TABLE IF EXISTS late"))
        await connection.execute(text("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))


async def test_a_commit_that_is_refused_sends_no_reply(db: Database, keys: IdempotencyKeys) -> None:
    """A constraint that is checked at COMMIT: the handler's 201 never leaves, and the next attempt runs anew."""
    await db_with_late_table(db)
    ran: list[str] = []

    async def handler(request: Request) -> Response:
        async with db.transaction() as tx:
            await tx.execute(
                text("INSERT INTO late VALUES (1), (:n)"), {"n": (await request.json())["amount"]}
            )
        return Response(status_code=201, background=BackgroundTask(lambda: ran.append("background")))

    async with serving(keys, handler) as service:
        reply = await service.post("/e", json={"amount": 1}, headers=keyed("a"))
        assert (reply.status_code, await stored(db), ran) == (500, 0, [])
        assert (await service.post("/e", json={"amount": 2}, headers=keyed("a"))).status_code == 201
    assert ran == ["background"]


async def test_an_application_that_swallows_the_refusal_changes_nothing(
    db: Database, keys: IdempotencyKeys
) -> None:
    """Its reply was not committed and does not leave; the error comes out all the same."""
    await db_with_late_table(db)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with db.transaction() as tx:
            await tx.execute(text("INSERT INTO late VALUES (1), (1)"))
        with contextlib.suppress(OSError):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

    raised: list[BaseException] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        try:
            await IdempotencyMiddleware(app, keys, tenant=lambda scope: "t")(scope, receive, send)
        except Exception as error:
            raised.append(error)
            raise

    async with client(watched) as service:
        assert (await service.post("/e", headers=keyed("a"))).status_code == 500
    assert isinstance(raised[0], IntegrityError)
    assert await stored(db) == 0


# ------------------------------------------------------------------------------------------ duplicates


async def test_a_concurrent_duplicate_waits_for_the_first(db: Database, keys: IdempotencyKeys) -> None:
    """It holds no connection while it waits, and gets the first one's reply."""
    enter, at_work, go_on, first_done = entering(db), asyncio.Event(), asyncio.Event(), asyncio.Event()
    out: list[int] = []

    async def handler(request: Request) -> Response:
        at_work.set()
        await go_on.wait()
        return await enter(request)

    async def sleep(seconds: float) -> None:
        out.append(db.engine.pool.checkedout())  # type: ignore[attr-defined]
        go_on.set()
        await first_done.wait()

    async with serving(replace(keys, wait=5, sleep=sleep), handler) as service:
        first = asyncio.create_task(service.post("/e", json={"amount": 1}, headers=keyed("a")))
        first.add_done_callback(lambda task: first_done.set())
        await at_work.wait()
        second = await service.post("/e", json={"amount": 1}, headers=keyed("a"))
        assert second.content == (await first).content
        assert second.headers["idempotency-replayed"] == "true"
    assert out == [1]
    assert await entries(db) == 1


async def test_a_concurrent_duplicate_takes_over_where_the_first_fails(
    db: Database, keys: IdempotencyKeys
) -> None:
    """The first is undone, so the second is the one that has the effect."""
    enter, at_work, go_on, first_done = entering(db), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        reply = await enter(request)
        if not at_work.is_set():
            at_work.set()
            await go_on.wait()
            raise OSError
        return reply

    async def sleep(seconds: float) -> None:
        go_on.set()
        await first_done.wait()

    async with serving(replace(keys, wait=5, sleep=sleep), handler) as service:
        first = asyncio.create_task(service.post("/e", json={"amount": 1}, headers=keyed("a")))
        first.add_done_callback(lambda task: first_done.set())
        await at_work.wait()
        second = await service.post("/e", json={"amount": 1}, headers=keyed("a"))
        assert ((await first).status_code, second.status_code) == (500, 201)
        assert "idempotency-replayed" not in second.headers
    assert await entries(db) == 1


@pytest.mark.parametrize("wait", [0, 3.0])
async def test_a_duplicate_waits_no_longer_than_was_said(
    db: Database, keys: IdempotencyKeys, wait: float
) -> None:
    """409 with Retry-After: at once with 0, else after that time; and its own key is not disturbed by it."""
    enter, at_work, go_on, now = entering(db), asyncio.Event(), asyncio.Event(), 100.0

    async def handler(request: Request) -> Response:
        at_work.set()
        await go_on.wait()
        return await enter(request)

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    keys = replace(keys, wait=wait, retry_after=7, sleep=sleep, clock=lambda: now)
    async with serving(keys, handler) as service:
        first = asyncio.create_task(service.post("/e", json={"amount": 1}, headers=keyed("a")))
        await at_work.wait()
        second = await service.post("/e", json={"amount": 1}, headers=keyed("a"))
        assert (second.status_code, second.headers["retry-after"]) == (409, "7")
        assert second.json()["code"] == "idempotency_key_in_use"
        assert now - 100 == pytest.approx(wait)
        go_on.set()
        assert (await first).status_code == 201
        assert (await service.post("/e", json={"amount": 1}, headers=keyed("a"))).status_code == 201
    assert await entries(db) == 1


async def test_a_burst_of_one_key_has_one_effect(db: Database, keys: IdempotencyKeys) -> None:
    """Twenty at once, four connections: one effect, one first reply, nineteen replays."""
    keys = replace(keys, wait=30)
    async with serving(keys, entering(db)) as service:
        replies = await asyncio.gather(
            *(service.post("/e", json={"amount": 1}, headers=keyed("a")) for _ in range(20))
        )
    assert {reply.status_code for reply in replies} == {201} and len(
        {reply.content for reply in replies}
    ) == 1
    assert sum("idempotency-replayed" in reply.headers for reply in replies) == 19
    assert await entries(db) == 1


async def test_a_snapshot_from_before_the_lock_does_no_harm(db: Database, keys: IdempotencyKeys) -> None:
    """Under SERIALIZABLE the claim may not see the reply that was just stored; the key's row then stops it."""
    keys = replace(keys, wait=30, isolation="SERIALIZABLE", attempts=50)
    async with serving(keys, entering(db)) as service:
        replies = await asyncio.gather(
            *(service.post("/e", json={"amount": 1}, headers=keyed("a")) for _ in range(8))
        )
    assert {reply.status_code for reply in replies} == {201} and len(
        {reply.content for reply in replies}
    ) == 1
    assert await entries(db) == 1


# -------------------------------------------------------------------------------------- large replies


def streaming(db: Database, pieces: int, size: int = 1000) -> Any:
    """A handler that writes one entry before its reply and one with each piece of it."""

    async def handler(request: Request) -> Response:
        async with db.transaction() as tx:
            tx.add(Entry(account_id=1, amount=0))

        async def body() -> AsyncIterator[bytes]:
            for number in range(pieces):
                async with db.transaction() as tx:
                    tx.add(Entry(account_id=1, amount=number))
                yield bytes([65 + number % 26]) * size

        return StreamingResponse(body(), headers={"x-pieces": str(pieces)})

    return handler


@pytest.mark.parametrize(
    ("pieces", "size"), [(1, 10_000), (9, 1000), (10, 1000), (11, 1000), (3, 4096), (0, 0)]
)
async def test_a_large_or_streamed_reply_is_stored_in_parts(
    db: Database, keys: IdempotencyKeys, pieces: int, size: int
) -> None:
    """Whole, in parts of the size that may be in memory, with what the stream itself has written."""
    async with serving(replace(keys, part=4096), streaming(db, pieces, size)) as service:
        first = await service.post("/e", headers=keyed("a"))
        again = await service.post("/e", headers=keyed("a"))
    assert first.content == again.content and len(first.content) == pieces * size
    assert again.headers["x-pieces"] == str(pieces) and again.headers["idempotency-replayed"] == "true"
    assert await entries(db) == pieces + 1
    async with db.transaction() as tx:
        longest = await tx.scalar(text("SELECT max(length(body)) FROM mainstay.idempotency_key_part"))
        assert (longest or 0) <= 4096
        parts = await tx.scalar(text("SELECT count(*) FROM mainstay.idempotency_key_part"))
        assert parts == max(0, -(-pieces * size // 4096) - 1)


async def test_a_stream_that_breaks_leaves_nothing(db: Database, keys: IdempotencyKeys) -> None:
    """After ten pieces: the client gets an error instead of half a reply, and no piece's effect stays."""

    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(10):
                async with db.transaction() as tx:
                    tx.add(Entry(account_id=1, amount=1))
                yield b"x" * 1000
            raise OSError("the other side has gone")

        return StreamingResponse(body())

    async with serving(replace(keys, part=4096), handler) as service:
        assert (await service.post("/e", headers=keyed("a"))).status_code == 500
    assert (await entries(db), await stored(db)) == (0, 0)


async def test_a_reply_beyond_the_bound_undoes_the_effect(db: Database, keys: IdempotencyKeys) -> None:
    """It says so to the program; there is no effect whose reply could not be given again."""
    raised: list[BaseException] = []
    app = serving(replace(keys, part=2000, largest_reply=5000), streaming(db, 6))._transport.app  # type: ignore[attr-defined]

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            raised.append(error)
            raise

    async with client(watched) as service:
        assert (await service.post("/e", headers=keyed("a"))).status_code == 500
    assert isinstance(raised[0], ReplyTooLarge)
    assert (await entries(db), await stored(db)) == (0, 0)


async def test_a_file_is_stored_like_any_reply(db: Database, keys: IdempotencyKeys, tmp_path: Any) -> None:
    """Also where the server could send it by its path (the ASGI extension pathsend)."""
    (tmp_path / "file").write_bytes(b"z" * 5000)

    async def handler(request: Request) -> Response:
        return FileResponse(tmp_path / "file")

    async def server(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"] = {"http.response.pathsend": {}}
        await app(scope, receive, send)

    app = serving(replace(keys, part=2048), handler)._transport.app  # type: ignore[attr-defined]
    async with client(server) as service:
        for _ in range(2):
            assert (await service.post("/e", headers=keyed("a"))).content == b"z" * 5000


async def test_a_body_beyond_the_bound_is_refused(db: Database, keys: IdempotencyKeys) -> None:
    """413 before the handler; without a key there is no bound."""

    async def handler(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async with serving(replace(keys, largest_request=100), handler) as service:
        assert (await service.post("/e", content=b"x" * 100, headers=keyed("a"))).text == "100"
        reply = await service.post("/e", content=b"x" * 101, headers=keyed("b"))
        assert (reply.status_code, reply.json()["code"]) == (413, "idempotent_request_too_large")
        assert (await service.post("/e", content=b"x" * 101)).text == "101"


async def test_a_client_that_goes_away_does_not_stop_the_work(db: Database, keys: IdempotencyKeys) -> None:
    """The handler is not told; its effect and reply are there when the client asks again."""
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        listening = asyncio.create_task(receive())
        async with db.transaction() as tx:
            tx.add(Entry(account_id=1, amount=1))
        told.extend(["told"] if listening.done() else [])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
        assert (await listening)["type"] == "http.disconnect"

    async def gone(message: Any) -> None:
        raise OSError("the client has gone")

    messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "path": "/e", "headers": [(b"idempotency-key", b"a")]}
    middleware = IdempotencyMiddleware(app, keys, tenant=lambda scope: "t")
    with pytest.raises(OSError, match="the client has gone"):
        await middleware(scope, receive, gone)
    assert (told, await entries(db), await stored(db)) == ([], 1, 1)


async def test_a_client_that_goes_away_while_it_sends_has_no_effect(
    db: Database, keys: IdempotencyKeys
) -> None:
    """Half a body is no request."""
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def never(*_: Any) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "POST", "path": "/e", "headers": [(b"idempotency-key", b"a")]}
    await IdempotencyMiddleware(never, keys, tenant=lambda scope: "t")(scope, receive, never)
    assert await stored(db) == 0


# -------------------------------------------------------------------------------------- expiry, misuse


async def test_an_expired_key_is_as_one_never_seen(db: Database, keys: IdempotencyKeys) -> None:
    """Whether or not it was pruned: it runs anew, also with another body, and is kept again."""
    async with serving(keys, streaming(db, 2)) as service:
        await service.post("/e", headers=keyed("a"))
        async with db.transaction() as tx:
            kept = await tx.scalar(text("SELECT expires_at - created_at FROM mainstay.idempotency_key"))
            assert 24 * 3600 <= kept.total_seconds() < 24 * 3600 + 5
            await tx.execute(text("UPDATE mainstay.idempotency_key SET expires_at = now()"))
        for replayed in (False, True):
            reply = await service.post("/e", content=b"other", headers=keyed("a"))
            assert ("idempotency-replayed" in reply.headers) is replayed
    assert (await entries(db), await stored(db)) == (6, 1)


async def test_pruning_deletes_what_has_expired_in_batches(
    db: Database, other: Database, keys: IdempotencyKeys
) -> None:
    """Parts too; each batch commits by itself, and what another one is pruning is left to it."""
    commits: list[str] = []
    event.listen(db.engine.sync_engine, "commit", lambda connection: commits.append("COMMIT"))
    async with serving(replace(keys, part=500), streaming(db, 1)) as service:
        for number in range(8):
            await service.post("/e", headers=keyed(str(number)))
    async with db.transaction() as tx:
        await tx.execute(text("UPDATE mainstay.idempotency_key SET expires_at = now() WHERE key <> '0'"))
    async with other.transaction() as tx:
        await tx.execute(text("SELECT 1 FROM mainstay.idempotency_key WHERE key = '1' FOR UPDATE"))
        commits.clear()
        assert await keys.prune(batch=3) == 6
        assert len(commits) == 3
    assert await keys.prune(batch=3) == 1
    async with db.transaction() as tx:
        left = (await tx.execute(text("SELECT key FROM mainstay.idempotency_key"))).scalars().all()
        assert left == ["0"]
        assert await tx.scalar(text("SELECT count(*) FROM mainstay.idempotency_key_part")) == 1
    with pytest.raises(ValueError, match="batch"):
        await keys.prune(batch=0)


async def test_a_call_to_another_system_is_refused_under_a_key(db: Database, keys: IdempotencyKeys) -> None:
    """The handler is inside a transaction from its first line, so the guard speaks, and nothing stays."""
    raised: list[BaseException] = []

    async def handler(request: Request) -> Response:
        async with HttpClient("http://127.0.0.1:9") as provider:
            try:
                await provider.post("/charges")
            except OutsideCallInTransaction as error:
                raised.append(error)
                raise
        return Response()

    async with serving(keys, handler) as service:
        assert (await service.post("/e", headers=keyed("a"))).status_code == 500
    assert len(raised) == 1 and await stored(db) == 0


async def test_a_handler_in_another_task_is_told(db: Database, keys: IdempotencyKeys) -> None:
    """Starlette's BaseHTTPMiddleware, put inside, runs the handler in a task of its own: refused, not half kept."""
    seen: list[BaseException] = []

    async def between(request: Request, call_next: Any) -> Response:
        try:
            return await call_next(request)  # type: ignore[no-any-return]
        except Exception as error:
            seen.append(error)
            raise

    async with serving(keys, entering(db), Middleware(BaseHTTPMiddleware, dispatch=between)) as service:
        assert (await service.post("/e", json={"amount": 1}, headers=keyed("a"))).status_code == 500
    assert isinstance(seen[0], Misuse) and "another task" in str(seen[0])
    assert (await entries(db), await stored(db)) == (0, 0)


async def test_a_request_takes_one_key(keys: IdempotencyKeys) -> None:
    """Twice in one request is a fault of the program."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange: Exchange = scope["mainstay.idempotency"]
        await exchange.begin(IdempotencyKey("t", "r", "k"))

    async with client(IdempotencyMiddleware(app, keys, tenant=lambda scope: "t")) as service:
        assert (await service.post("/e", headers=keyed("a"))).status_code == 500


async def test_a_reply_can_be_read_in_the_table(db: Database, keys: IdempotencyKeys) -> None:
    """Who, what, which key, which answer: for a person with psql."""
    async with serving(keys, entering(db), tenant=lambda scope: 7) as service:
        await service.post("/entries", json={"amount": 1}, headers=keyed("a"))
    async with db.transaction() as tx:
        columns = "tenant, route, key, status, headers ->> 0 AS header, convert_from(body, 'UTF8') AS body"
        row = (await tx.execute(text(f"SELECT {columns} FROM mainstay.idempotency_key"))).one()
        assert tuple(row)[:4] == ("7", "POST /entries", "a", 201)
        assert json.loads(row.header) == ["location", "/entries/1"] and json.loads(row.body) == {"entry": 1}
        assert await tx.scalar(select(func.count()).select_from(Entry)) == 1
