"""A TCP proxy between a client and a broker that can cut what is open and refuse what comes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from cluster import free_port


class Proxy:
    """Listens on a port of its own on loopback and passes bytes on to `host`:`port`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = free_port()
        self.silent = False
        """Swallow what the broker answers, as a network that loses packets one way."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.away()

    async def open(self) -> None:
        """Listen (again, on the same port)."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def away(self) -> None:
        """Cut everything and refuse connections."""
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut what is open, without a goodbye; new connections are served."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, up = await asyncio.open_connection(*self._target)
        self._writers |= {writer, up}

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
            try:
                while data := await source.read(65536):
                    if not (answers and self.silent):
                        sink.write(data)
                        await sink.drain()
            except OSError:
                pass
            finally:
                sink.transport.abort()

        both = [
            asyncio.create_task(pass_on(reader, up, answers=False)),
            asyncio.create_task(pass_on(upstream, writer, answers=True)),
        ]
        self._tasks |= set(both)
        await asyncio.gather(*both)
        self._writers -= {writer, up}
        self._tasks -= set(both)
