"""Bounded calls, never inside a transaction; against a real server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from mainstay.patterns import Database, HttpClient, OutsideCallInTransaction, refuse_in_transaction


class Server:
    """A server on loopback that keeps the requests it got and does as `path` says."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(head)
                if " /silent " in head:
                    await reader.read()
                    return
                if " /trickle" in head:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                    while True:
                        writer.write(b".")
                        await writer.drain()
                        await asyncio.sleep(0.01)
                status = b"503 Unavailable" if " /down " in head else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    behaviour = Server()
    listener = await asyncio.start_server(behaviour.serve, "127.0.0.1", 0)
    yield behaviour, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    listener.close()


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
async def test_methods(server: tuple[Server, str], method: str) -> None:
    """Each method sends one request, relative to the base URL, and returns the reply."""
    behaviour, url = server
    async with HttpClient(url) as http:
        reply = await getattr(http, method)("/x", headers={"X-Mine": "1"})
    assert (reply.status_code, reply.text) == (200, "ok")
    assert behaviour.requests[0].startswith(f"{method.upper()} /x HTTP/1.1")
    assert "x-mine: 1" in behaviour.requests[0].lower()


async def test_a_status_is_not_an_exception(server: tuple[Server, str]) -> None:
    """What a status means is the caller's to say."""
    async with HttpClient(server[1]) as http:
        assert (await http.get("/down")).status_code == 503


async def test_idempotency_key(server: tuple[Server, str]) -> None:
    """It travels as the header of that name."""
    behaviour, url = server
    async with HttpClient(url) as http:
        await http.post("/pay", json={"amount": 1}, idempotency_key="order-7-payment")
        for bad in ("", "a b", "a\r\nX: y", "é", "x" * 256):
            with pytest.raises(ValueError, match="idempotency key"):
                await http.post("/pay", idempotency_key=bad)
    assert len(behaviour.requests) == 1
    assert "Idempotency-Key: order-7-payment\r\n" in behaviour.requests[0]


# -------------------------------------------------------------------------------------- time limits


async def test_the_defaults(server: tuple[Server, str]) -> None:
    """2 s to connect, 5 s to read and write, 2 s for a connection of the pool."""
    seen: list[dict[str, Any]] = []

    class Recorder(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request.extensions["timeout"])
            return httpx.Response(200)

    async with HttpClient("http://x", transport=Recorder()) as http:
        await http.get("/")
        await http.get("/", timeout=0.5)
        await http.get("/", timeout=httpx.Timeout(1.0, connect=0.1))
    assert seen == [
        {"connect": 2.0, "read": 5.0, "write": 5.0, "pool": 2.0},
        {"connect": 0.5, "read": 0.5, "write": 0.5, "pool": 0.5},
        {"connect": 0.1, "read": 1.0, "write": 1.0, "pool": 1.0},
    ]


async def test_a_silent_server(server: tuple[Server, str]) -> None:
    """The read timeout ends the call."""
    async with HttpClient(server[1]) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/silent", timeout=httpx.Timeout(5.0, read=0.05))


async def test_a_reply_that_trickles(server: tuple[Server, str]) -> None:
    """No pause is longer than the read timeout, so only the deadline ends the call."""
    async with HttpClient(server[1], timeout=5.0, deadline=0.1) as http:
        with pytest.raises(httpx.ReadTimeout, match=r"within 0\.1 s"):
            await http.get("/trickle")
        with pytest.raises(httpx.ReadTimeout, match=r"within 0\.05 s"):
            await http.get("/trickle", deadline=0.05)


async def test_the_timeout_of_a_caller_stays_the_callers(server: tuple[Server, str]) -> None:
    """A limit around the call comes out as `TimeoutError`, as for anything else."""
    async with HttpClient(server[1]) as http:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await http.get("/trickle")


@pytest.mark.parametrize(
    "limit", [None, 0, -1, float("inf"), float("nan"), httpx.Timeout(None), httpx.Timeout(5.0, read=None)]
)
async def test_no_limit_is_refused(limit: Any) -> None:
    """Neither at the client nor, where it can be said, at a call."""
    with pytest.raises(ValueError, match="positive number of seconds"):
        HttpClient(timeout=limit)
    if not isinstance(limit, httpx.Timeout):
        with pytest.raises(ValueError, match="deadline"):
            HttpClient(deadline=limit)
    if limit is not None:
        async with HttpClient("http://127.0.0.1:9") as http:
            with pytest.raises(ValueError, match="positive number of seconds"):
                await http.get("/", timeout=limit)


# -------------------------------------------------------------------------------- open transactions


async def test_refused_inside_a_transaction(db: Database, server: tuple[Server, str]) -> None:
    """Directly, in awaited tasks, and in a nested function; nothing is sent."""
    behaviour, url = server
    async with HttpClient(url) as http:
        async with db.transaction() as tx:
            with pytest.raises(OutsideCallInTransaction, match=f"POST {url}/pay inside an open transaction"):
                await http.post("/pay")
            async with tx.savepoint():
                with pytest.raises(OutsideCallInTransaction):
                    await asyncio.wait_for(http.get("/x"), 5)
            refused = await asyncio.gather(http.get("/x"), http.get("/y"), return_exceptions=True)
            assert [type(error) for error in refused] == [OutsideCallInTransaction] * 2
        assert behaviour.requests == []
        assert (await http.get("/x")).status_code == 200


async def test_messages_show_no_secrets(db: Database, server: tuple[Server, str]) -> None:
    """They name the address that would be called, without its user, password and query."""
    _, url = server
    async with HttpClient(url.replace("http://", "http://me:secret@") + "/trickle", deadline=0.05) as http:
        with pytest.raises(httpx.ReadTimeout) as late:
            await http.get("?key=secret")
        async with db.transaction():
            with pytest.raises(OutsideCallInTransaction) as refused:
                await http.get("/deep?key=secret")
    assert f"GET {url}/trickle" in str(late.value)
    assert f"GET {url}/trickle/deep inside" in str(refused.value)
    assert "secret" not in f"{late.value} {refused.value}"


async def test_allowed_after_a_rollback_and_in_hooks(db: Database, server: tuple[Server, str]) -> None:
    """The guard ends with the transaction, however it ends."""
    behaviour, url = server
    async with HttpClient(url) as http:
        with pytest.raises(KeyError):
            async with db.transaction() as tx:
                tx.after_rollback(lambda: http.get("/rolled-back"))
                raise KeyError
        async with db.transaction() as tx:
            tx.after_commit(lambda: http.get("/committed"))
        await http.get("/last")
    assert [head.split()[1] for head in behaviour.requests] == ["/rolled-back", "/committed", "/last"]


async def test_other_tasks_are_not_concerned(db: Database, server: tuple[Server, str]) -> None:
    """A task that was there before calls out while another one has a transaction open."""
    _, url = server
    inside, done = asyncio.Event(), asyncio.Event()

    async def transact() -> None:
        async with db.transaction():
            inside.set()
            await done.wait()

    task = asyncio.create_task(transact())
    await inside.wait()
    async with HttpClient(url) as http:
        assert (await http.get("/x")).status_code == 200
    done.set()
    await task


async def test_a_task_that_outlives_the_transaction(db: Database, server: tuple[Server, str]) -> None:
    """It is refused as long as the transaction is open, and not for ever."""
    over = asyncio.Event()
    async with HttpClient(server[1]) as http:

        async def later() -> int:
            with pytest.raises(OutsideCallInTransaction):
                await http.get("/x")
            refused.set()
            await over.wait()
            return (await http.get("/x")).status_code

        refused = asyncio.Event()
        async with db.transaction():
            task = asyncio.create_task(later())
            await refused.wait()
        over.set()
        assert await task == 200


async def test_a_guard_for_other_clients(db: Database) -> None:
    """`refuse_in_transaction` does the same for what is no `HttpClient`, across two databases."""
    async with Database(db.engine.url) as second, db.transaction():
        async with second.transaction():
            with pytest.raises(OutsideCallInTransaction, match="upload inside"):
                refuse_in_transaction("upload")
        with pytest.raises(OutsideCallInTransaction):
            refuse_in_transaction("upload")
    refuse_in_transaction("upload")
