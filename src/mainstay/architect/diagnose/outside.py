"""The outside world: a stub HTTP server that plays every other system the service talks to.

Each system has a name, and its base URL is ``http://127.0.0.1:PORT/<name>``. What is not scripted is answered
with 200 and ``{}``. Every call is recorded, and passes a gate like a statement does, so that a call can be
held too. In the texts of an answer ``${number}`` stands for the number of the call to its system in this
run, from 1, so that two charges can have two ids.

The server also takes requests in the form meant for a forward proxy (``GET http://host/path``), where the
host is the name; so ``HTTP_PROXY`` may point at it. It does not speak TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import h11

from mainstay.architect.diagnose.scenario import Host, Route
from mainstay.architect.errors import MainstayError

LONGEST_BODY = 1 << 20
"""Bytes of a request's body that are kept. The rest is read and dropped."""

CHOSEN_HEADERS = ("content-type", "authorization", "idempotency-key", "x-request-id", "x-mainstay-place")
"""Headers that are recorded: those that say what is asked, by whom, whether it is a repetition, and (from the probe)
by which line of code."""


@dataclass(slots=True, eq=False)
class OutsideCall:
    """One call that the service made to another system."""

    number: int
    """From 1, for each actor and run."""
    actor: str
    name: str
    """The system that was called."""
    method: str
    path: str
    """With the query."""
    headers: dict[str, str]
    """Those of `CHOSEN_HEADERS` that it had, names in lower case."""
    body: str
    at: float
    """`time.perf_counter()` when it had come in whole."""
    status: int | None = None
    """Status of the answer; None where there was none yet, or the server hung up."""
    effect: bool = True
    """Whether it counts as done: not so where the server hung up before the effect."""
    ended: float = 0.0


class OutsideGate(Protocol):
    """Decides when a call may have its effect, and hears when it was answered."""

    async def before_call(self, call: OutsideCall) -> None:
        """`call` has come in; it has its effect, and is answered, when this returns."""

    def after_call(self, call: OutsideCall) -> None:
        """`call` has been dealt with; its caller has not seen the answer yet."""


class Outside:
    """The stub server of one actor."""

    def __init__(self, actor: str, hosts: Mapping[str, Host]) -> None:
        """`hosts` are the systems by name, with their routes, as the scenario has them."""
        self.actor = actor
        self.gate: OutsideGate | None = None
        """None lets everything through."""
        self._routes = {
            name: [(_pattern(line), route) for line, route in host.routes.items()]
            for name, host in hosts.items()
        }
        self.calls: list[OutsideCall] = []
        """All calls of this run, in the order in which they came in."""
        self.port = 0
        self._numbers: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> int:
        """Listen on `port` of 127.0.0.1 (0: a free one) and return it. Raises `MainstayError` if it is in use."""
        try:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        except OSError as error:
            raise MainstayError(
                f"port {port} for the outside world cannot be had ({error.strerror}); "
                "stop what listens there or choose another."
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    def url(self, name: str) -> str:
        """The base URL of the system `name`, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def reset(self) -> None:
        """A new run begins: forget the calls, and count from 1 again."""
        self.calls = []
        self._numbers.clear()

    async def close(self) -> None:
        """Stop listening, and hang up on whoever is connected."""
        if self._server is not None:
            self._server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            await self._talk(reader, writer)
        except (OSError, h11.ProtocolError, asyncio.CancelledError):
            pass  # the caller left, or talks something else, or the laboratory closes
        finally:
            self._talks.discard(talk)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other on a connection."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 18)
        while True:
            request: h11.Request | None = None
            body = bytearray()
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    if connection.they_are_waiting_for_100_continue:
                        go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                        writer.write(connection.send(go_on) or b"")
                    connection.receive_data(await reader.read(1 << 16))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data[: LONGEST_BODY - len(body)]
                else:
                    break  # the end of the message, or of the connection
            if request is None:
                return
            answer = await self._answer(request, bytes(body))
            if answer is None:
                writer.transport.abort()
                return
            status, headers, content = answer
            writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
            if request.method != b"HEAD" and content:
                writer.write(connection.send(h11.Data(data=content)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()

    async def _answer(
        self, request: h11.Request, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """Status, headers and body of the answer; None to hang up."""
        method, target = request.method.decode("ascii"), request.target.decode("latin-1")
        if method == "CONNECT":
            text = b"Mainstay's outside world speaks plain http only; give the service a base URL with http://.\n"
            return 501, [("content-length", str(len(text))), ("connection", "close")], text
        name, path = _whom(target)
        call = OutsideCall(
            number=len(self.calls) + 1,
            actor=self.actor,
            name=name,
            method=method,
            path=path,
            headers={
                key.decode(): value.decode("latin-1")
                for key, value in request.headers
                if key.decode() in CHOSEN_HEADERS
            },
            body=body.decode("utf-8", "replace"),
            at=time.perf_counter(),
        )
        self.calls.append(call)
        self._numbers[name] += 1
        words = {"number": str(self._numbers[name])}
        asked = f"{method} {path.partition('?')[0]}"
        fitting = (route for pattern, route in self._routes.get(name, ()) if pattern.fullmatch(asked))
        route = next(fitting, Route())
        if self.gate is not None:
            await self.gate.before_call(call)
        call.effect = route.hang_up != "before"
        if route.delay:
            await asyncio.sleep(route.delay)
        call.status = None if route.hang_up else route.status
        call.ended = time.perf_counter()
        if self.gate is not None:
            self.gate.after_call(call)
        if route.hang_up:
            return None
        return route.status, *_content(route, words)


def _whom(target: str) -> tuple[str, str]:
    """The system and the path with query that a request target names."""
    if not target.startswith("/"):
        url = urlsplit(target)
        with contextlib.suppress(ValueError):
            if url.hostname and url.hostname not in ("127.0.0.1", "localhost"):
                query = f"?{url.query}" if url.query else ""
                return url.hostname, (url.path or "/") + query
        target = url.path + (f"?{url.query}" if url.query else "")
    path, mark, query = target.partition("?")
    name, _, rest = path.lstrip("/").partition("/")
    return name, f"/{rest}{mark}{query}"


def _pattern(line: str) -> re.Pattern[str]:
    """What ``GET /orders/*`` stands for: ``*`` is one segment of the path, ``**`` is anything."""
    parts = re.split(r"(\*\*|\*)", line)
    return re.compile("".join({"**": ".*", "*": "[^/]+"}.get(part, re.escape(part)) for part in parts))


def _content(route: Route, words: Mapping[str, str]) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of a route's answer."""
    if route.text is not None:
        content, kind = _fill(route.text, words).encode(), "text/plain; charset=utf-8"
    else:
        value = {} if route.content is None else _fill(route.content, words)
        content, kind = json.dumps(value, ensure_ascii=False).encode(), "application/json"
    if route.status in (204, 304):
        content = b""
    headers = {"content-type": kind, **{key.lower(): value for key, value in route.headers.items()}}
    headers["content-length"] = str(len(content))
    return list(headers.items()), content


def _fill(value: Any, words: Mapping[str, str]) -> Any:
    """`value` with ``${word}`` in its texts replaced by the words that are known."""
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda match: words.get(match[1], match[0]), value)
    if isinstance(value, Mapping):
        return {key: _fill(each, words) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_fill(each, words) for each in value]
    return value
