"""Brokers that a test may take away: processes of its own, and RabbitMQ behind a proxy that refuses."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from broker_places import Place, bound
from broker_proxy import Proxy
from cluster import free_port

COMMANDS = {
    "nats": ["nats-server", "-a", "127.0.0.1", "-p", "{port}", "-js", "-sd", "{folder}"],
    "redis": [
        "redis-server", "--bind", "127.0.0.1", "--port", "{port}", "--dir", "{folder}", "--save", "",
        "--appendonly", "yes", "--appendfsync", "always",
    ],
}  # fmt: skip
"""What keeps every event that it has confirmed, also over a kill."""


class Removable(Protocol):
    """A broker that goes away and comes back with all that it had confirmed."""

    async def away(self) -> None:
        """Be gone: connections break, and new ones are refused."""

    async def open(self) -> None:
        """Be there again, on the same port."""


class OwnBroker:
    """A process of NATS or Redis."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.port = free_port()
        self._command = [part.format(port=self.port, folder=folder) for part in COMMANDS[kind]]
        self._process: subprocess.Popen[bytes] | None = None

    async def open(self) -> None:
        """Start, and wait until it listens."""
        self._process = subprocess.Popen(  # noqa: ASYNC220 (it returns at once)
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    assert self._process.poll() is None, f"{self._command[0]} does not start"
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def away(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@asynccontextmanager
async def removable(kind: str) -> AsyncIterator[tuple[Place, Removable]]:
    """A topic at a broker of this kind that can be taken away, with the consumer ``first``.

    Raises:
        FileNotFoundError: its server is not installed.
    """
    topic = f"mainstay-outage-{uuid4().hex[:12]}"
    async with AsyncExitStack() as stack:
        if kind == "amqp":
            proxy = await stack.enter_async_context(Proxy("127.0.0.1", 5672))
            straight = Place(kind, "127.0.0.1", 5672, topic, {})
            await _exchange(straight, stack)
            await bound(straight, "first")
            yield Place(kind, "127.0.0.1", proxy.port, topic, {}), proxy
            return
        if shutil.which(COMMANDS[kind][0]) is None:
            raise FileNotFoundError(COMMANDS[kind][0])
        folder = Path(tempfile.mkdtemp(prefix="mainstay_broker_"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        own = OwnBroker(kind, folder)
        stack.push_async_callback(own.away)
        await own.open()
        place = Place(kind, "127.0.0.1", own.port, topic, {"redeliver_after": 2.0})
        if kind == "nats":
            import nats

            client = await nats.connect(place.address())
            await client.jetstream().add_stream(name=topic, subjects=[f"{topic}.>"])
            await client.close()
        yield place, own


async def _exchange(place: Place, stack: AsyncExitStack) -> None:
    """An exchange of the test's own, deleted with its queue in the end."""
    import aio_pika

    connection = await aio_pika.connect(place.address())
    stack.push_async_callback(connection.close)
    channel = await connection.channel()
    exchange = await channel.declare_exchange(place.topic, "topic", durable=True)
    stack.push_async_callback(exchange.delete, if_unused=False)
    stack.push_async_callback(channel.queue_delete, f"{place.topic}.first")
