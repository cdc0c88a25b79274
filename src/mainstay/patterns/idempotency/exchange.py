"""One request and its reply, held back until the reply is stored and its transaction has committed.

The transaction begins before the handler, so that the handler's own `db.transaction()` is a part of it (a
savepoint), and ends when the application sends the last piece of its reply: then the reply is stored, COMMIT
is sent, and only after that the first byte leaves. So there is one COMMIT, and no moment in which there is
an effect without a reply or a reply without an effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from sqlalchemy.orm import SessionTransaction

from mainstay.patterns.errors import Misuse
from mainstay.patterns.guards import open_scope
from mainstay.patterns.idempotency.key import IdempotencyKey
from mainstay.patterns.idempotency.keys import Busy, IdempotencyKeys, Reused
from mainstay.patterns.idempotency.reply import (
    Application,
    Message,
    Receive,
    Reply,
    Scope,
    Send,
    is_outcome,
    problem,
)
from mainstay.patterns.serialization_retry import lost_a_race
from mainstay.patterns.transaction import Transaction

IN_SCOPE = "mainstay.idempotency"
"""Where the exchange is found in the ASGI scope."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.2  # seconds between two looks whether the key is free


class ReplyTooLarge(Misuse):
    """The reply is larger than `IdempotencyKeys.largest_reply`; the effect is undone."""


class ReplyInPart(Misuse):
    """The reply was complete, and a transaction that the handler or a dependency had begun was still open."""


class Answered(Exception):
    """Leaves the application: the exchange has an answer of its own. Let it pass."""


class NotCommitted(OSError):
    """Leaves the application: its reply was not committed. An OSError, as ASGI has it for a send that fails."""


class Exchange:
    """Made by the middleware for one attempt at a request.

    Attributes:
        key: the key, once `begin` has taken it.
    """

    def __init__(
        self,
        keys: IdempotencyKeys,
        scope: Scope,
        receive: Receive,
        send: Send,
        body: bytes | None,
        whole: bool,
    ) -> None:
        self.key: IdempotencyKey | None = None
        self._keys = keys
        self._upstream_receive, self._upstream_send = receive, send
        self._body, self._whole, self._given = body, whole, body is None
        self._fingerprint = b""
        self._unit: AsyncExitStack | None = None
        self._around = open_scope(keys.database)  # a test may hold one open around the whole request
        self._tx: Transaction | None = None
        self._part: SessionTransaction | None = None  # the savepoint that it is, where one was open around it
        self._over = asyncio.Event()
        self._start: Message | None = None
        self._pending = bytearray()
        self._first = b""
        self._parts = self._size = 0
        self._answer: Reply | None = None
        self._failure: BaseException | None = None
        self.scope = {**scope, IN_SCOPE: self} if body is None else _plain(scope, self)

    async def run(
        self, app: Application, first: Callable[[Exchange], Awaitable[object]] | None = None
    ) -> Exception | None:
        """Call `first`, then the application, and see to it that the reply goes out or nothing has happened.

        Returns:
            None; or the race that it lost. Then all is undone and nothing is sent, so it may be run again.
        """
        try:
            if first is not None:
                await first(self)
            await app(self.scope, self._receive, self._send)
            if self._failure is not None:
                raise NotCommitted from self._failure  # it was raised in the application, and swallowed there
            if self._unit is not None:
                raise Misuse("the application ended without a whole reply, so what it did is undone")
        except BaseException as raised:
            undone = self._unit is not None or self._failure is not None
            await self._undo(raised)
            if self._answer is None:
                error = self._failure or raised
                if undone and isinstance(error, Exception) and lost_a_race(error):
                    return error
                raise error  # noqa: B904 (what the application made of our error is no cause of it)
        if self._answer is not None:
            await self._answer.send(self._upstream_send)
        return None

    async def begin(self, key: IdempotencyKey) -> None:
        """Take the key, with a transaction that stays open until the reply is complete.

        Raises:
            Answered: the request has its answer already: the stored reply, or why it is not let through.
        """
        if self.key is not None:
            raise Misuse("this request has taken its idempotency key already; take it in one place")
        self.key = key
        if not self._whole:
            raise self.answer(
                problem(
                    413,
                    "idempotent_request_too_large",
                    f"A request with an Idempotency-Key may have {self._keys.largest_request} bytes.",
                )
            )
        headers = dict(self.scope["headers"])
        self._fingerprint = key.fingerprint(
            self.scope.get("query_string", b""), headers.get(b"content-type", b""), self._body or b""
        )
        deadline, pause = self._keys.clock() + self._keys.wait, _FIRST_PAUSE
        while not await self._claim(key):
            left = deadline - self._keys.clock()
            if left <= 0:
                raise self.answer(
                    problem(
                        409,
                        "idempotency_key_in_use",
                        "A request with this Idempotency-Key is being worked on; send it again later.",
                        retry_after=self._keys.retry_after,
                    )
                )
            await self._keys.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _claim(self, key: IdempotencyKey) -> bool:
        """Begin the transaction and take the key in it; False, and no transaction, where another one has it."""
        if open_scope(self._keys.database) is not self._around:
            raise Misuse(
                "a transaction was begun before the idempotency key of this request was taken, so it would commit after"
                " the reply has left; take the key first (in FastAPI, what tells the tenant opens no transaction around"
                " the handler)"
            )
        unit = AsyncExitStack()
        tx = await unit.enter_async_context(self._keys.database.transaction(isolation=self._keys.isolation))
        self._unit = unit
        try:
            reply = await self._keys.claim(tx, key, self._fingerprint)
            if reply is not None:
                raise self.answer(reply)
        except Busy as error:
            await self._undo(error)
            return False
        except Reused:
            raise self.answer(
                problem(
                    422,
                    "idempotency_key_reused",
                    "This Idempotency-Key was used for another request; take a new key for a new request.",
                )
            ) from None
        self._tx, self._part = tx, tx.session.sync_session.get_nested_transaction()
        return True

    def answer(self, reply: Reply) -> Answered:
        """Decide on the answer, whatever the application makes of the exception that is to be raised then."""
        self._answer = reply
        return Answered("answered by the idempotency middleware; let this exception pass")

    async def undo(self) -> None:
        """Undo what was done, without an error; the reply that follows goes out at once and is not stored."""
        await self._undo(NotCommitted("this reply is not an outcome, so its transaction is rolled back"))

    async def _undo(self, error: BaseException) -> None:
        if self._unit is not None:
            unit, self._unit, self._tx = self._unit, None, None
            try:
                await unit.__aexit__(type(error), error, error.__traceback__)
            except BaseException as passed:
                if passed is not error:
                    raise
        self._over.set()

    # --------------------------------------------------------------------------- what the application sees

    async def _receive(self) -> Message:
        if not self._given:
            self._given = True
            return {"type": "http.request", "body": self._body, "more_body": not self._whole}
        if self._unit is not None:
            # That the client has gone does not stop the work: it will ask again.
            await self._over.wait()
        return await self._upstream_receive()

    async def _send(self, message: Message) -> None:
        if self._answer is not None:
            return  # what the application makes of `Answered` is not the answer
        if self._failure is not None:
            raise NotCommitted from self._failure
        if self._tx is None:
            await self._upstream_send(message)
        elif message["type"] == "http.response.start":
            if is_outcome(message["status"], message.get("headers", ())):
                self._start = message
            else:
                await self.undo()
                await self._upstream_send(message)
        elif message["type"] == "http.response.body":
            try:
                reply = await self._hold(self._tx, message.get("body", b""), message.get("more_body", False))
            except BaseException as error:
                self._failure = error
                if isinstance(error, Exception):
                    raise NotCommitted from error
                raise
            if reply is not None:
                await reply.send(self._upstream_send)

    async def _hold(self, tx: Transaction, body: bytes, more: bool) -> Reply | None:
        """Take a piece of the reply; the whole of it, once it is stored and committed."""
        self._size += len(body)
        if self._size > self._keys.largest_reply:
            raise ReplyTooLarge(
                f"a reply under an idempotency key may have {self._keys.largest_reply} bytes; answer with a link to"
                " what is larger, or raise largest_reply"
            )
        self._pending += body
        while len(self._pending) > self._keys.part:
            await self._store(tx, bytes(self._pending[: self._keys.part]))
            del self._pending[: self._keys.part]
        return None if more else await self._finish(tx)

    async def _store(self, tx: Transaction, body: bytes) -> None:
        assert self._start is not None and self.key is not None
        if self._parts == 0:
            status, headers = self._start["status"], self._start.get("headers", ())
            await self._keys.store(tx, self.key, self._fingerprint, status, headers, body)
            self._first = body
        else:
            await self._keys.store_part(tx, self.key.id, self._parts, body)
        self._parts += 1

    async def _finish(self, tx: Transaction) -> Reply:
        assert self._start is not None and self._unit is not None and self.key is not None
        if tx.session.sync_session.get_nested_transaction() is not self._part:
            raise ReplyInPart(
                "the reply is complete while a transaction inside this request is still open, so its end could"
                " no longer change the reply; end the block before the reply (in FastAPI, a dependency that"
                ' yields a transaction is declared with Depends(…, scope="function"))'
            )
        await self._store(tx, bytes(self._pending))
        further = self._parts - 1
        if further:
            await self._keys.close_parts(tx, self.key.id, further)
        unit, self._unit, self._tx = self._unit, None, None
        await unit.aclose()
        self._over.set()
        rest = self._keys.rest(self.key.id, further) if further else None
        return Reply(self._start["status"], list(self._start.get("headers", ())), self._first, rest)


def _plain(scope: Scope, exchange: Exchange) -> Scope:
    """The scope for an application whose reply is held.

    Without extensions by which a server sends files or trailers on its own. And with version 2.4, which tells
    Starlette to stream in the task that has the transaction, not beside one that waits for the client to go.
    """
    extensions = scope.get("extensions") or {}
    return {
        **scope,
        IN_SCOPE: exchange,
        "asgi": {**scope.get("asgi", {}), "spec_version": "2.4"},
        "extensions": {
            name: value for name, value in extensions.items() if not name.startswith("http.response.")
        },
    }
