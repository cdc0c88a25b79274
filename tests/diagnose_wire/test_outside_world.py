"""The outside world answers as scripted, records what it was asked, and can be held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from mainstay.architect.diagnose.outside import Outside, OutsideCall
from mainstay.architect.diagnose.scenario import Host
from mainstay.architect.errors import MainstayError

HOSTS = {
    "payments": Host.model_validate(
        {
            "routes": {
                "POST /charges": {"status": 201, "json": {"id": "ch_${number}", "paid": True}},
                "GET /charges/*": {"text": "charge", "headers": {"Content-Type": "text/csv"}},
                "DELETE /**": {"status": 204},
                "POST /slow": {"delay": 0.05},
                "POST /lost": {"hang_up": "before"},
                "POST /done": {"hang_up": "after"},
            }
        }
    ),
    "shipping": Host(),
}


@pytest_asyncio.fixture(loop_scope="session")
async def outside() -> AsyncIterator[Outside]:
    stub = Outside("alice", HOSTS)
    await stub.start()
    yield stub
    await stub.close()


async def test_answers_come_from_the_first_route_that_fits(outside: Outside) -> None:
    """Status, JSON, text and headers as scripted; 200 and {} for the rest; numbers count the calls to a system."""
    async with httpx.AsyncClient() as client:
        base = outside.url("payments")
        first = await client.post(f"{base}/charges", json={"amount": 5}, headers={"Idempotency-Key": "k1"})
        second = await client.post(f"{base}/charges?again=1")
        text = await client.get(f"{base}/charges/ch_1")
        gone = await client.delete(f"{base}/a/b/c")
        default = await client.get(outside.url("shipping") + "/labels/7/")
        unknown = await client.get(outside.url("nobody"))
    assert (first.status_code, first.json()) == (201, {"id": "ch_1", "paid": True})
    assert second.json()["id"] == "ch_2"
    assert (text.text, text.headers["content-type"]) == ("charge", "text/csv")
    assert (gone.status_code, gone.content) == (204, b"")
    assert default.json() == unknown.json() == {}
    assert [(c.number, c.name, c.method, c.path, c.status) for c in outside.calls] == [
        (1, "payments", "POST", "/charges", 201),
        (2, "payments", "POST", "/charges?again=1", 201),
        (3, "payments", "GET", "/charges/ch_1", 200),
        (4, "payments", "DELETE", "/a/b/c", 204),
        (5, "shipping", "GET", "/labels/7/", 200),
        (6, "nobody", "GET", "/", 200),
    ]
    assert outside.calls[0].body == '{"amount":5}'
    assert outside.calls[0].headers["idempotency-key"] == "k1"
    outside.reset()
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{base}/charges")).json()["id"] == "ch_1"


async def test_hanging_up_before_and_after_the_effect(outside: Outside) -> None:
    """In both cases the caller hears nothing; only in one has the call had its effect."""
    async with httpx.AsyncClient() as client:
        for path in ("/lost", "/done"):
            with pytest.raises(httpx.TransportError):
                await client.post(outside.url("payments") + path)
    assert [(c.path, c.status, c.effect) for c in outside.calls] == [
        ("/lost", None, False),
        ("/done", None, True),
    ]


async def test_a_call_waits_at_the_gate(outside: Outside) -> None:
    """`before_call` holds the call, `after_call` comes before the caller sees the answer."""
    heard: list[str] = []
    arrived, release = asyncio.Event(), asyncio.Event()

    class Hold:
        async def before_call(self, call: OutsideCall) -> None:
            heard.append(f"before {call.path} {call.body}")
            arrived.set()
            await release.wait()

        def after_call(self, call: OutsideCall) -> None:
            heard.append(f"after {call.status}")

    outside.gate = Hold()
    async with httpx.AsyncClient() as client:
        asking = asyncio.create_task(client.post(outside.url("payments") + "/slow", content=b"body"))
        await asyncio.wait_for(arrived.wait(), 30)
        assert heard == ["before /slow body"] and not asking.done()
        release.set()
        assert (await asking).status_code == 200
    assert heard == ["before /slow body", "after 200"]
    assert outside.calls[0].ended - outside.calls[0].at >= 0.05


async def test_it_serves_as_a_forward_proxy(outside: Outside) -> None:
    """A service whose HTTP_PROXY points here reaches systems by their host name; https is refused in words."""
    async with httpx.AsyncClient(proxy=f"http://127.0.0.1:{outside.port}") as client:
        assert (await client.post("http://payments/charges?x=1")).json()["id"] == "ch_1"
        with pytest.raises(httpx.ProxyError, match="501"):
            await client.get("https://payments/charges")
    assert [(c.name, c.path) for c in outside.calls] == [("payments", "/charges?x=1")]


async def test_connections_are_kept_and_large_chunked_bodies_are_read(outside: Outside) -> None:
    """A 4 MB body in chunks is read whole, its first megabyte kept, and the connection is used again."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as client:
        assert (await client.post(outside.url("shipping") + "/big", content=chunks())).status_code == 200
        assert (await client.head(outside.url("shipping") + "/small")).content == b""
        assert (await client.get(outside.url("shipping") + "/small")).json() == {}
    assert len(outside.calls[0].body) == 1 << 20


async def test_expect_100_continue(outside: Outside) -> None:
    """A client that asks first is told to go on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", outside.port)
    writer.write(
        b"POST /payments/charges HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"{}")
    assert b" 201 " in await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_rubbish_ends_the_connection_only(outside: Outside) -> None:
    """What is not HTTP is hung up on, and the next caller is served."""
    reader, writer = await asyncio.open_connection("127.0.0.1", outside.port)
    writer.write(b"\x16\x03\x01 this is TLS\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    async with httpx.AsyncClient() as client:
        assert (await client.get(outside.url("shipping"))).status_code == 200


async def test_a_port_in_use_is_said_in_a_sentence(outside: Outside) -> None:
    """No traceback: the port and what to do."""
    with pytest.raises(MainstayError, match=rf"port {outside.port} .* choose another"):
        await Outside("bob", {}).start(outside.port)
