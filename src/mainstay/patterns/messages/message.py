"""A message before it is published, and a message as a worker holds it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from mainstay.patterns.errors import Misuse, PatternError

if TYPE_CHECKING:
    from mainstay.patterns.messages.worker import Worker
    from mainstay.patterns.transaction import Transaction

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile("[\ud800-\udfff]")
LARGEST_PAYLOAD = 1024 * 1024
"""Bytes of JSON at most. What is larger belongs into a table or an object store, and its key into the message."""
LONGEST_NAME = 1000
"""Bytes of a kind, a queue, a key or a unique key at most: they stand in indexes."""


CAUSED_BY = "caused_by"
"""The header that names the message whose handler published this one: number and kind."""


class Unserializable(Misuse, TypeError):
    """The payload cannot be written as JSON."""


class PayloadTooLarge(PatternError, ValueError):
    """The payload is longer than `LARGEST_PAYLOAD`."""


class LeaseLost(PatternError):
    """The message has been taken over by another worker, or called off; nothing of this attempt may count."""


def storable(text: str) -> bool:
    """Whether PostgreSQL can store a text: neither NUL nor half a surrogate pair in it."""
    return "\x00" not in text and (text.isascii() or not _SURROGATE.search(text))


def storable_json(text: str) -> bool:
    """Whether PostgreSQL can store a JSON text as jsonb."""
    if _NUL.search(text):
        return False
    return "\\ud" not in text.lower() or not _SURROGATE.search(
        json.dumps(json.loads(text), ensure_ascii=False)
    )


def as_storable_json(value: Any) -> str:
    """Any JSON, with U+FFFD in the place of what PostgreSQL cannot store: for records that must not fail."""
    text = json.dumps(value, ensure_ascii=False)
    return _SURROGATE.sub("\ufffd", _NUL.sub(lambda match: match[0][:-6] + "\ufffd", text))


def short_enough(text: str | None, what: str) -> None:
    """Refuse what is too long for an index.

    Raises:
        ValueError: it is.
    """
    if text is not None and len(text) * 4 > LONGEST_NAME and (size := len(text.encode())) > LONGEST_NAME:
        raise ValueError(f"{what} has {size} bytes and may have {LONGEST_NAME}; take a digest of it")


@lru_cache(4096)
def _good_name(text: str) -> bool:
    """Whether it can name a kind or queue."""
    return text != "" and storable(text) and len(text) * 4 <= LONGEST_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """What is published: a kind, a payload, and how it is to be delivered. Change copies with `but`.

    Attributes:
        kind: names the handler.
        payload: JSON text.
        queue: who takes it: workers serve queues.
        delay: seconds until it is due.
        at: due at this time (with time zone), instead of `delay`.
        priority: 0 to 9. Each step lets it go before what was due up to one hour earlier, so that even under a
            backlog nothing waits for ever: at most until what came `9 - its own` hours later has gone before.
        expires: seconds after which nobody shall begin it any more.
        key: messages of one queue with the same key: at most `key_limit` are at work at once.
        key_limit: 1 keeps their order too: one is begun only when every earlier one has ended.
        unique: no second message with this key is published while one is unfinished (and within `unique_for`).
        unique_for: seconds from publishing for which `unique` holds, even when the message has ended.
        headers: strings carried along: trace context, tenant, causation. Of what a handler publishes, ``caused_by`` is
            added: number and kind of the message that it works on.
    """

    kind: str
    payload: str
    queue: str = "default"
    delay: float = 0.0
    at: datetime | None = None
    priority: int = 0
    expires: float | None = None
    key: str | None = None
    key_limit: int = 1
    unique: str | None = None
    unique_for: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def but(self, **changes: Any) -> Self:
        """A copy with these attributes changed."""
        return replace(self, **changes)

    def __post_init__(self) -> None:
        # Some thousand a second are made of these: what is at its default, or was found good before, is passed over.
        if not (_good_name(self.kind) and _good_name(self.queue)):
            self._check_names()
        if (
            len(self.payload) > LARGEST_PAYLOAD // 4
            and (size := len(self.payload.encode())) > LARGEST_PAYLOAD
        ):
            raise PayloadTooLarge(
                f"the payload of a {self.kind} has {size} bytes and may have {LARGEST_PAYLOAD}; store it elsewhere and"
                " publish where"
            )
        if "\\u" in self.payload and not storable_json(self.payload):
            raise Unserializable(
                f"the payload of a {self.kind} holds the character NUL or half a surrogate pair, which PostgreSQL"
                " cannot store"
            )
        if (
            self.delay
            or self.headers
            or self.priority
            or self.key_limit != 1
            or self.key is not None
            or self.unique is not None
            or self.unique_for is not None
            or self.expires is not None
            or self.at is not None
        ):
            self._check_options()

    def _check_options(self) -> None:
        if not 0 <= self.priority <= 9:
            raise ValueError(f"priority is 0 to 9, not {self.priority}")
        if not 1 <= self.key_limit <= 32767:
            raise ValueError(f"key_limit is at least 1, not {self.key_limit}")
        if self.at is not None and self.at.tzinfo is None:
            raise ValueError("at needs a time zone: which clock is meant?")
        for name in ("delay", "expires", "unique_for"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 100 * 366 * 86400:
                raise ValueError(f"{name} is a number of seconds from 0 to a hundred years, not {value}")
        self._check_names()

    def _check_names(self) -> None:
        for name in ("kind", "queue"):
            if not getattr(self, name):
                raise ValueError(f"the {name} of a message cannot be empty")
        for text in (self.kind, self.queue, self.key, self.unique, *self.headers, *self.headers.values()):
            if text is not None and not storable(text):
                raise Unserializable(f"{text!r} holds a character that PostgreSQL cannot store")
        for name in ("kind", "queue", "key", "unique"):
            short_enough(getattr(self, name), f"the {name} of a {self.kind[:100]}")

    def options(self) -> str | None:
        """What is not the default, as JSON; None where all is."""
        if self._plain():
            return None
        options: dict[str, Any] = {"priority": self.priority, "delay": self.delay}
        if self.at is not None:
            options["at"] = self.at.isoformat()
        if self.key is not None:
            options |= {"key": self.key, "key_limit": self.key_limit}
        if self.expires is not None:
            options["expires"] = self.expires
        if self.unique is not None:
            options["unique"] = self.unique
            if self.unique_for is not None:
                options["unique_for"] = self.unique_for
        if self.headers:
            options["headers"] = dict(self.headers)
        return json.dumps(options)

    def _plain(self) -> bool:
        return not (
            self.delay
            or self.headers
            or self.priority
            or self.key is not None
            or self.unique is not None
            or self.expires is not None
            or self.at is not None
        )


def caused() -> dict[str, str]:
    """The header that names the message at work here, if there is one."""
    cause = AT_WORK.get()
    return {} if cause is None else {CAUSED_BY: f"{cause.id} {cause.kind}"}


class Message:
    """A message that this worker holds a lease of, as its handler sees it.

    Attributes:
        id: its number in this database.
        attempt: 1 for the first.
        payload: JSON text, as published (PostgreSQL may have changed the order of keys and the white space).
        published_at: when the publisher's transaction began.
    """

    __slots__ = (
        "_completed",
        "_result",
        "_transactional",
        "_worker",
        "attempt",
        "headers_json",
        "id",
        "key",
        "kind",
        "lease",
        "payload",
        "published_at",
        "queue",
        "unique_held",
    )

    def __init__(
        self,
        id: int,
        lease: int,
        attempt: int,
        queue: str,
        kind: str,
        payload: str,
        headers: str | None,
        key: str | None,
        published_at: datetime,
        unique_held: bool,
        transactional: bool,
        worker: Worker,
    ) -> None:
        self.id = id
        self.lease = lease
        self.attempt = attempt
        self.queue = queue
        self.kind = kind
        self.payload = payload
        self.headers_json = headers
        self.key = key
        self.published_at = published_at
        self.unique_held = unique_held
        self._worker = worker
        self._transactional = transactional
        self._completed = False
        self._result: tuple[Any] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """What the publisher sent along."""
        headers: Mapping[str, str] = json.loads(self.headers_json) if self.headers_json else {}
        return headers

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt, and in no other message of any database: send it with each call outside."""
        return f"{self._worker.installation}-{self.id}"

    async def complete(self, tx: Transaction, result: Any = None) -> None:
        """Complete the message in `tx`, for a handler that opens its transaction itself (after calls outside).

        Raises:
            LeaseLost: it is another worker's by now; let it leave the transaction, so that nothing of it stays.
        """
        if self._transactional:
            self._result = (
                result,
            )  # the worker completes it as the last statement of the handler's transaction
            return
        await self._worker.complete_in(tx, self, result)
        tx.after_commit(self._mark_completed)

    def _mark_completed(self) -> None:
        self._completed = True

    async def report_progress(self, progress: Any) -> None:
        """Store how far it has come (any JSON), for people to see; also a proof that the lease still stands.

        Raises:
            LeaseLost: it is another worker's by now.
            Unserializable: it is no JSON that PostgreSQL can store.
        """
        await self._worker.report_progress(self, progress)

    def in_turn(self) -> AbstractAsyncContextManager[None]:
        """Hold one of the connections that handlers share, for a transaction that the handler opens itself.

        The wait for one does not count to the handler's timeout.
        """
        return self._worker.in_turn(self)

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.kind} in {self.queue}, attempt {self.attempt}>"


AT_WORK: ContextVar[Message | None] = ContextVar("mainstay_message_at_work", default=None)
"""The message whose handler runs here."""
