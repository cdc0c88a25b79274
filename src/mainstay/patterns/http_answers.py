"""What an error of the patterns or of PostgreSQL is answered with over HTTP, in any ASGI framework.

The body is a problem (RFC 9457). It never quotes SQL, values or names of constraints.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mainstay.patterns.errors import (
    BadCursor,
    BadETag,
    BadLimit,
    CommitUnknown,
    ConditionFailed,
    LockNotAvailable,
    NotFound,
    ReplyInTransaction,
    StaleWrite,
    VersionRequired,
)
from mainstay.patterns.guards import open_scope
from mainstay.patterns.serialization_retry import lost_a_race, sqlstate

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

RETRY_AFTER = 1
"""Seconds, the least that the header ``Retry-After`` can ask for: who lost a race or a lock may come back at once."""

UNKNOWN = "it may or may not have been done; look before you send it again"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, one sentence for the client, and after how many seconds the same request may succeed (or None)."""

    status: int
    detail: str
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """``Content-Type`` and, where a retry helps, ``Retry-After`` (RFC 9110, 10.2.3)."""
        headers = {"content-type": "application/problem+json"}
        return headers if self.retry_after is None else headers | {"retry-after": str(self.retry_after)}

    @property
    def body(self) -> bytes:
        """The problem as JSON (RFC 9457, 4.2.1: the type ``about:blank`` is left out)."""
        problem = {"title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.detail}
        return json.dumps(problem).encode()


def answer_to(error: BaseException) -> Answer | None:
    """The answer to this error, or None where it is a fault of the program: let the framework answer 500.

    A violated constraint is None too. Only the service knows what it means, and raises an error of its own.
    """
    match error:
        case NotFound():
            return Answer(404, f"there is no such {error.model.__name__.lower()}")
        case StaleWrite(expected=int()):
            return Answer(412, "it was changed since you read it; read it again")
        case StaleWrite():
            return Answer(409, "someone else changed it at the same time; read it again")
        case ConditionFailed():
            return Answer(409, "its state does not allow this")
        case VersionRequired():
            return Answer(428, str(error))
        case BadCursor() | BadLimit() | BadETag():
            return Answer(400, str(error))
        case LockNotAvailable():
            return Answer(503, "someone else is working on it", RETRY_AFTER)
        case CommitUnknown():
            return Answer(500, UNKNOWN)
    if _of_unknown_fate(error):
        return Answer(500, UNKNOWN)
    if lost_a_race(error):
        return Answer(503, "too many changed the same at the same time", RETRY_AFTER)
    if _busy_or_away(error):
        return Answer(503, "busy or out of reach at the moment", RETRY_AFTER)
    return None


def _of_unknown_fate(error: BaseException) -> bool:
    """Whether its causes say so: above all a time limit that passed during COMMIT. No invitation to repeat it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CommitUnknown):
        cause = cause.__cause__
    return cause is not None


def _busy_or_away(error: BaseException) -> bool:
    """Refused for now: no connection, lost it, out of resources, a time limit, shut down, or a standby."""
    if not isinstance(error, DBAPIError):
        # The pool's own; asyncpg lets the socket's errors through when it cannot connect.
        return isinstance(error, (PoolTimeout, TimeoutError, ConnectionError))
    code = sqlstate(error)
    if code is None:
        return error.connection_invalidated or isinstance(error, OperationalError)
    # Classes 08, 53 and 57P; lock, statement and idle timeouts; read only (PostgreSQL manual, appendix A).
    return code.startswith(("08", "53", "57P")) or code in ("55P03", "57014", "25P03", "25P04", "25006")


class AnswerErrors:
    """ASGI middleware: answers what `answer_to` knows, and refuses a reply inside an open transaction.

    So a client never gets a success whose commit may still fail, and no transaction stays open while a client
    takes its time to read. It is where a FastAPI dependency with ``yield`` commits too late: since FastAPI 0.118
    its end runs after the reply was sent.

    An error after the reply has begun goes on to the server, which cuts the connection. Errors that the
    framework handles itself never come here.

    Raises:
        ReplyInTransaction: a reply was about to be sent while a transaction is open here; nothing was sent.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False
        around = open_scope()  # a test may hold one open around the whole request

        async def guarded(message: Message) -> None:
            nonlocal begun
            if open_scope() not in (None, around):
                raise ReplyInTransaction(
                    "a reply was about to be sent inside an open transaction, whose commit may yet fail and whose"
                    " locks would wait for the client; end the transaction first: put the block into the"
                    " service function, not around the request, and stream from pages, not from a cursor"
                )
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, guarded)
        except Exception as error:
            answer = answer_to(error)
            if begun or answer is None:
                raise
            headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
            headers.append((b"content-length", str(len(answer.body)).encode()))
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
