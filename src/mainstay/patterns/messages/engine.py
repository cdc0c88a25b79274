"""The engine as code sees it: publish into a transaction, register handlers, make workers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from mainstay.patterns import inbox
from mainstay.patterns.database import Database
from mainstay.patterns.errors import Misuse
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.handler import Handler
from mainstay.patterns.messages.message import NewMessage, caused
from mainstay.patterns.messages.pruning import Pruning
from mainstay.patterns.messages.statements import Statement, load
from mainstay.patterns.messages.worker import Worker

SQL = load(__package__)


@runtime_checkable
class Publishable(Protocol):
    """What a layer lets users publish: it knows the messages that it comes to."""

    def to_messages(self, engine: Engine) -> Sequence[NewMessage]:
        """The messages to put on the table, in order."""


class Engine:
    """The messages of one database: who handles which kind, and the way in.

    Args:
        database: where they live. Its tables come from `mainstay db upgrade` (`patterns.schema`).
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.handlers: dict[str, Handler] = {}
        self.starting: list[Any] = []
        """Async functions, each called with the worker as it starts, before its first lease: a layer's own set-up."""
        self.ending: list[Any] = []
        """Async functions, each called with the worker when it has ended: a layer gives back what it opened."""
        self.duties: list[Any] = [Pruning()]
        """Async functions, each called with the worker about once a second while it runs: a layer's own upkeep."""
        self.keep_inbox: float | None = inbox.RETENTION.total_seconds()
        """Seconds for which the inbox remembers an event; then workers forget it. None: they forget nothing."""

    def handle(self, handler: Handler) -> None:
        """Register the handler of one kind.

        Raises:
            Misuse: there is one already, or it is `blocking` and async, or `blocking` and `transactional`.
        """
        if handler.blocking and inspect.iscoroutinefunction(handler.call):
            raise Misuse(
                f"the handler of {handler.kind!r} is async and blocking, and nobody would await it in its thread; leave"
                " blocking out"
            )
        if handler.blocking and handler.transactional:
            raise Misuse(
                f"the handler of {handler.kind!r} is blocking, so it runs in a thread, and its transaction belongs to"
                " the event loop; make it async and leave blocking out"
            )
        if handler.kind in self.handlers:
            raise Misuse(f"messages of kind {handler.kind!r} have a handler already")
        self.handlers[handler.kind] = handler

    async def publish(self, connection: Any, *items: NewMessage | Publishable) -> list[int | None]:
        """Publish in the transaction that `connection` is in: they exist if and when it commits.

        Args:
            connection: a `Transaction`, `AsyncSession`, `AsyncConnection`, `psycopg.AsyncConnection` or asyncpg's.

        Returns:
            The id of each message, in order; None for one whose unique key is taken.
        """
        new = self._messages(items)
        if keys := _unique_keys(new):
            await connections.fetch(connection, SQL["release_unique_keys"], {"keys": keys})
        if not new:
            return []
        statement, values = _insert(new)
        return _ids(new, await connections.fetch(connection, statement, values))

    def publish_sync(self, connection: Any, *items: NewMessage | Publishable) -> list[int | None]:
        """As `publish`, for a `Session`, `Connection`, `psycopg.Connection`, psycopg2 or Django connection."""
        new = self._messages(items)
        if keys := _unique_keys(new):
            connections.fetch_sync(connection, SQL["release_unique_keys"], {"keys": keys})
        if not new:
            return []
        statement, values = _insert(new)
        return _ids(new, connections.fetch_sync(connection, statement, values))

    def worker(self, **options: Any) -> Worker:
        """A worker for all handlers registered by now; its arguments are those of `Worker`."""
        return Worker(self, **options)

    def _messages(self, items: Sequence[NewMessage | Publishable]) -> Sequence[NewMessage]:
        cause = caused()
        if not cause and set(map(type, items)) <= {NewMessage}:
            return items  # type: ignore[return-value]
        found: list[NewMessage] = []
        for item in items:
            if isinstance(item, NewMessage):
                found.append(item)
            elif isinstance(item, Publishable):
                found.extend(item.to_messages(self))
            else:
                raise TypeError(f"a {type(item).__qualname__} is nothing that can be published")
        return [one.but(headers={**one.headers, **cause}) for one in found] if cause else found


def _unique_keys(new: Sequence[NewMessage]) -> list[str]:
    """All of them, with or without a window: the message that holds one may have had a window that has passed."""
    return sorted({one.unique for one in new if one.unique is not None})


def _insert(new: Sequence[NewMessage]) -> tuple[Statement, dict[str, Any]]:
    """The smallest statement that publishes all of these."""
    options = [one.options() for one in new]
    if any(options):
        return SQL["publish_with_options"], {
            "kinds": [one.kind for one in new],
            "queues": [one.queue for one in new],
            "payloads": [one.payload for one in new],
            "options": options,
        }
    if len(new) == 1:
        return SQL["publish_one"], {"kind": new[0].kind, "queue": new[0].queue, "payload": new[0].payload}
    kinds, queues = [one.kind for one in new], [one.queue for one in new]
    payloads = [one.payload for one in new]
    if len(set(kinds)) == len(set(queues)) == 1:
        return SQL["publish_alike"], {"kind": kinds[0], "queue": queues[0], "payloads": payloads}
    return SQL["publish_many"], {"kinds": kinds, "queues": queues, "payloads": payloads}


def _ids(new: Sequence[NewMessage], rows: Sequence[Sequence[Any]]) -> list[int | None]:
    """Rows come in order; those whose unique key was taken are missing."""
    if len(rows) == len(new):
        return [row[0] for row in rows]
    published: dict[str, int] = {row[1]: row[0] for row in rows if row[1] is not None}
    plain = iter(row[0] for row in rows if row[1] is None)
    return [next(plain) if one.unique is None else published.pop(one.unique, None) for one in new]
