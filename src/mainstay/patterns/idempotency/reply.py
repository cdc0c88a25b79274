"""Replies: which are kept, what of them is kept, and how one is sent, again or for the first time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

REPLAYED = (b"idempotency-replayed", b"true")
"""The header that marks a reply that was given before."""

# The request was not judged: who asks is unknown or not let in, or it should come again later.
_NOT_JUDGED = frozenset({401, 403, 407, 408, 425, 429})

# About this connection (RFC 9110, section 7.6.1), set anew by the server, or a secret with a life of its own.
_NOT_KEPT = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade date server set-cookie".split()
)


def is_outcome(status: int, headers: Headers) -> bool:
    """Whether a reply says what became of the request for good, so that it is kept and its effect commits.

    That is every status below 500, except 401, 403, 407, 408, 425, 429 and a 4xx with ``Retry-After``: these ask
    for another attempt, which then runs anew. A 409 or 422 that the handler answers is an outcome: if a
    delayed copy of the request could still succeed, it would do so after the client has given up.
    """
    if status < 400:
        return True
    return (
        status < 500
        and status not in _NOT_JUDGED
        and not any(name.lower() == b"retry-after" for name, _ in headers)
    )


def kept_headers(headers: Headers) -> str:
    """The headers that are stored, as JSON: all but hop-by-hop ones, ``Date``, ``Server`` and ``Set-Cookie``."""
    headers = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    return json.dumps(
        [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in headers
            if name not in _NOT_KEPT and name not in named
        ]
    )


def restored_headers(text: str) -> list[tuple[bytes, bytes]]:
    """What `kept_headers` has stored."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in json.loads(text)]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; of a large one, `rest` brings what comes after the first part."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    rest: AsyncIterator[bytes] | None = None

    async def send(self, send: Send) -> None:
        """Send it, part by part."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": self.rest is not None})
        if self.rest is not None:
            async for part in self.rest:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def problem(status: int, code: str, detail: str, *, retry_after: int | None = None) -> Reply:
    """A reply that says why the request was not let through to the application.

    Args:
        code: for programs, in the member ``code``.
        detail: for people: what is wrong, and what to do.
        retry_after: seconds until another attempt makes sense.

    Source: RFC 9457, with the type ``about:blank`` of its section 4.2.1.
    """
    body = json.dumps(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "code": code,
        }
    ).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    return Reply(status, headers, body)
