"""A TCP proxy that cuts connections in the middle, as a network does: with a reset, without a good-bye."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress


class CuttingProxy:
    """Listens on loopback and passes everything on to a port there."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.forbidden: bytes | None = None
        """What the server must not say: the connection on which it does is cut instead, and this is None again."""

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self.cut(random.Random(0), everything=True)
        if self._serving:
            await asyncio.wait(self._serving, timeout=5)

    def cut(self, random: random.Random, *, everything: bool = False) -> int:
        """Cut one connection, or all; how many."""
        pairs = list(self._pairs)
        chosen = pairs if everything else random.sample(pairs, min(1, len(pairs)))
        for pair in chosen:
            for writer in pair:
                raw = writer.get_extra_info("socket")
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        return len(chosen)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, onward)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pass(reader, onward), self._pass(there, writer, self._allowed))
        finally:
            self._pairs.discard(pair)
            for one in pair:
                one.close()

    def _allowed(self, data: bytes) -> bool:
        if self.forbidden is None or self.forbidden not in data:
            return True
        self.forbidden = None
        return False

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        allowed: Callable[[bytes], bool] = lambda data: True,
    ) -> None:
        with suppress(OSError):
            while (data := await reader.read(65536)) and allowed(data):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
