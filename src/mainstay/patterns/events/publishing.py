"""Events on their way into the publisher's transaction: one INSERT, whoever subscribes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError

from mainstay.patterns.events.envelope import new_headers
from mainstay.patterns.events.event import KEEP, Event
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.message import NewMessage, Unserializable
from mainstay.patterns.messages.statements import load

SQL = load(__package__)


@dataclass(frozen=True, slots=True)
class Draft:
    """One event as it is put on the table.

    Attributes:
        message: `kind` is the event's name, `key` its own.
        keep: seconds that it waits for its first subscriber.
        from_outside: it came from a broker, so no relay gets it.
    """

    message: NewMessage
    keep: float = KEEP
    from_outside: bool = False


def draft(event: Event) -> Draft:
    """An event that is published here and now.

    Raises:
        Unserializable: a field cannot be written as JSON.
        PayloadTooLarge: the JSON is longer than a message may be.
        ValueError: its key is empty or has the character NUL.
    """
    name = event.event_name
    try:
        payload = event.model_dump_json(by_alias=True)
    except (PydanticSerializationError, UnicodeError) as error:
        raise Unserializable(f"the event {name} cannot be written as JSON: {error}") from error
    key = event.event_key()
    if key is not None and (not key or "\x00" in key):
        raise ValueError(f"the key of {name} must not be empty nor have the character NUL; None is no key")
    headers = new_headers(name, event.event_version)
    return Draft(NewMessage(kind=name, payload=payload, key=key, headers=headers), event.event_keep)


def values(drafts: Sequence[Draft]) -> Mapping[str, Any]:
    """What the statement ``publish`` takes."""
    return {
        "events": [one.message.kind for one in drafts],
        "payloads": [one.message.payload for one in drafts],
        "headers": [json.dumps(dict(one.message.headers)) for one in drafts],
        "keys": [one.message.key for one in drafts],
        "keeps": [float(one.keep) for one in drafts],
        "foreigners": [one.from_outside for one in drafts],
    }


async def publish(connection: Any, events: Sequence[Event]) -> list[int | None]:
    """Publish in the transaction that `connection` is in; the id of every message that it comes to."""
    rows = await connections.fetch(connection, SQL["publish"], values([draft(one) for one in events]))
    return [row[0] for row in rows]


def publish_sync(connection: Any, events: Sequence[Event]) -> list[int | None]:
    """As `publish`, for connections without await."""
    rows = connections.fetch_sync(connection, SQL["publish"], values([draft(one) for one in events]))
    return [row[0] for row in rows]
