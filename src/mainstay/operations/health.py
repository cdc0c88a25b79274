"""One address that tells an orchestrator whether a worker is alive: 200 or 503, with a few counts as JSON.

Alive means that every process answers, not that the database does: workers wait for a database that is away, and
restarting them would not bring it back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mainstay.errors import MainstayError

Report = Callable[[], tuple[bool, Mapping[str, Any]]]


@asynccontextmanager
async def served(address: str | None, report: Report) -> AsyncIterator[None]:
    """Answer any HTTP request at ``port`` (on loopback) or ``host:port`` while the block runs.

    Raises:
        MainstayError: the address cannot be read or is taken.
    """
    if address is None:
        yield
        return
    host, _, port = address.rpartition(":")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                alive, told = report()
                body = json.dumps(told).encode()
                status = b"200 OK" if alive else b"503 Service Unavailable"
                head = b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close" % len(
                    body
                )
                writer.write(b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, head, body))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, host.strip("[]") or "127.0.0.1", int(port))
    except ValueError:
        raise MainstayError(f"--health takes PORT or HOST:PORT, not {address!r}.") from None
    except (OSError, OverflowError) as error:
        raise MainstayError(f"--health cannot listen on {address}: {error}.") from error
    try:
        yield
    finally:
        server.close()
