"""The outside world: a provider that is never killed, and writes down which idempotency keys it was asked under.

One line of JSON there, one word back. The caller says how it wants to be answered, so that a test's script stands in
one place. What has been revoked by its key stays so: a request with that key that arrives later is refused, as a
provider must that is asked by processes which may have been paused in the middle of a call.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Literal, NamedTuple

Answer = Literal["ok", "no", "lost"]
"""``no``: refused, without effect. ``lost``: done, and the connection ends without an answer."""


class Asked(NamedTuple):
    """One request that arrived. `about` is a token or the number of a saga; `undoes` the key of what it revokes."""

    key: str
    what: str
    about: str
    undoes: str | None = None
    answer: Answer = "ok"


class Provider:
    """Listens on loopback."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.late = 0
        """Requests refused because they came after their revocation."""
        self._revoked: set[str] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):  # half a line: its sender was killed
            asked = Asked(**json.loads(await reader.readline()))
            if asked.key in self._revoked:
                self.late += 1
                asked = asked._replace(answer="no")
            self.asked.append(asked)
            if asked.undoes is not None and asked.answer != "no":
                self._revoked.add(asked.undoes)
            if asked.answer != "lost":
                writer.write(f"{asked.answer}\n".encode())
                await writer.drain()
        writer.close()


async def ask(port: int, request: Asked) -> bool:
    """Ask the provider; whether it did it.

    Raises:
        ConnectionError: no answer came, and it may have happened.
        OSError: it cannot be reached.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(json.dumps(request._asdict()).encode() + b"\n")
        await writer.drain()
        answer = await reader.readline()
    finally:
        writer.close()
    if answer not in (b"ok\n", b"no\n"):
        raise ConnectionError("the provider did not answer")
    return answer == b"ok\n"
