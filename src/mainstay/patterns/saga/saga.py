"""The base class of sagas, and how one is started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, PrivateAttr

from mainstay.patterns.errors import Misuse
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.message import (
    LARGEST_PAYLOAD,
    PayloadTooLarge,
    Unserializable,
    short_enough,
    storable,
    storable_json,
)
from mainstay.patterns.messages.statements import load
from mainstay.patterns.saga.definition import Definition
from mainstay.patterns.saga.step import Step

SQL = load(__package__)


class Saga(BaseModel):
    """The data of a saga, typed by pydantic, and its steps in order. Register the class with ``@messages.saga``.

    Fields are what the steps need to know and what they find out; those that a step sets are stored as it completes,
    for later steps and for undoing. What a later version of the class adds needs a default.
    """

    model_config = ConfigDict(ignored_types=(Step,))

    saga_definition: ClassVar[Definition | None] = None
    """Set by ``@messages.saga``."""
    _id: int | None = PrivateAttr(default=None)

    @property
    def saga_id(self) -> int | None:
        """The number of the saga, in its steps and after `start`."""
        return self._id

    async def start(self, connection: Any) -> int | None:
        """Start the saga in the transaction that `connection` is in: it exists if and when that commits.

        Args:
            connection: a `Transaction`, `AsyncSession`, `AsyncConnection`, `psycopg.AsyncConnection` or asyncpg's.

        Returns:
            Its number; None where there is one with its key already.

        Raises:
            Misuse: the class has not been registered.
            Unserializable: its data is no JSON that PostgreSQL can store, or its key or lock no text.
            PayloadTooLarge: its data is too long.
            ValueError: its key or lock is longer than 1000 bytes.
        """
        for values in self._start():
            if rows := await connections.fetch(connection, SQL["start_saga"], values):
                self._id = rows[0][0]
                return self._id
        return None

    def start_sync(self, connection: Any) -> int | None:
        """As `start`, for a `Session`, `Connection`, `psycopg.Connection`, psycopg2 or Django connection."""
        for values in self._start():
            if rows := connections.fetch_sync(connection, SQL["start_saga"], values):
                self._id = rows[0][0]
                return self._id
        return None

    def _start(self) -> list[dict[str, Any]]:
        """The values to start with; a second time, where another one may just have taken the lock, to queue up."""
        definition = vars(type(self)).get("saga_definition")
        if definition is None:
            raise Misuse(f"saga {type(self).__name__} is not registered: put @messages.saga above its class")
        values = {
            "kind": definition.name,
            "key": self._named("key", definition.key),
            "lock": self._named("lock", definition.lock),
            "queue": definition.queue,
            "data": dump(self),
            "timeout": definition.timeout,
            "keep": definition.keep,
            **definition.plan,
        }
        return [
            values | {"queued": queued} for queued in ((False,) if values["lock"] is None else (False, True))
        ]

    def _named(self, what: str, template: str | None) -> str | None:
        if template is None:
            return None
        name = template.format_map(_Fields(self))
        if not storable(name):
            raise Unserializable(
                f"the {what} of saga {type(self).__name__}, {name!r}, holds a character that PostgreSQL cannot store"
            )
        short_enough(name, f"the {what} of saga {type(self).__name__}")
        return name


class _Fields(Mapping[str, Any]):
    def __init__(self, saga: Saga) -> None:
        self._saga = saga

    def __getitem__(self, name: str) -> Any:
        return getattr(self._saga, name)

    def __iter__(self) -> Any:
        return iter(type(self._saga).model_fields)

    def __len__(self) -> int:
        return len(type(self._saga).model_fields)


def dump(saga: Saga) -> str:
    """The data as JSON.

    Raises:
        Unserializable: it is none, or PostgreSQL cannot store it.
        PayloadTooLarge: it is longer than 1 MiB.
    """
    name = type(saga).__name__
    try:
        text = json.dumps(saga.model_dump(mode="json", round_trip=True), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Unserializable(f"the data of saga {name} cannot be written as JSON: {error}") from error
    if not storable_json(text):
        raise Unserializable(
            f"the data of saga {name} holds the character NUL or half a surrogate pair, which PostgreSQL cannot store"
        )
    if len(text) > LARGEST_PAYLOAD:
        raise PayloadTooLarge(
            f"the data of saga {name} has {len(text)} bytes and may have {LARGEST_PAYLOAD}; store it elsewhere and"
            " keep where"
        )
    return text
