"""What an event is: a pydantic model with a name and a version, and how older versions of it are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from mainstay.patterns.errors import Misuse, PatternError

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

KEEP = 30 * 86400.0
"""Seconds for which an event waits for its first subscriber, unless its class says otherwise."""

# It becomes part of a CloudEvent's type and so of a NATS subject or a routing key; the version is added to it.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_VERSIONED = re.compile(r"(.+)\.v([1-9][0-9]{0,8})")


class NewerVersion(PatternError):
    """The event was published by newer code than this: it has a version that this code does not know."""


class MissingUpcaster(Misuse):
    """An older version of an event cannot be read, because a step from it to the present one is missing."""


class Event(BaseModel):
    """Something that has happened. Derive a class for each kind of event; its fields are what subscribers get.

    Fields that this code does not know are passed over on reading, so that newer code may add some::

        class OrderPlaced(Event, version=2, key="order_id"):
            order_id: UUID

    Class arguments:
        name: what it is called outside this code, default the name of the class. Never change it.
        version: default 1. Raise it when older messages cannot be read as they are, and write an upcaster (`upcast`);
            a new field with a default needs neither.
        key: the field whose value orders events: a subscriber handles those with the same key one after the other, as
            they were published. Default: no order. For a computed one, override `event_key`.
        keep: seconds for which it waits for its first subscriber, default 30 days; then it expires.

    Raises:
        Misuse: as the class is made, where an argument cannot be used.
    """

    # What JSON alone would not bring back: not-a-number, infinity, and bytes that are no text.
    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        ser_json_inf_nan="strings",
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    event_name: ClassVar[str] = "Event"
    event_version: ClassVar[int] = 1
    event_key_field: ClassVar[str | None] = None
    event_keep: ClassVar[float] = KEEP
    event_upcasters: ClassVar[dict[int, Upcaster]] = {}

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        version: int = 1,
        key: str | None = None,
        keep: float | None = None,
        **config: Any,
    ) -> None:
        super().__init_subclass__(**config)
        cls.event_name = cls.__name__ if name is None else name
        cls.event_version = version
        cls.event_upcasters = {}
        if key is not None:
            cls.event_key_field = key
        if keep is not None:
            cls.event_keep = keep
        if not _NAME.fullmatch(cls.event_name) or len(cls.event_name) > 150:
            raise Misuse(
                f"an event is named with up to 150 letters, digits, _ and -, joined by dots, not {cls.event_name!r}"
            )
        if _VERSIONED.fullmatch(cls.event_name):
            raise Misuse(
                f"the name {cls.event_name!r} ends in a version; give that as version=, so that the name can stay"
            )
        if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 10**9:
            raise Misuse(f"the version of {cls.event_name} is a whole number from 1, not {version!r}")
        if not 0 < cls.event_keep < 100 * 366 * 86400:
            raise Misuse(f"{cls.event_name} is kept for a number of seconds above 0, not {cls.event_keep}")

    @classmethod
    def __pydantic_init_subclass__(cls, **arguments: Any) -> None:
        super().__pydantic_init_subclass__()
        if cls.event_key_field is not None and cls.event_key_field not in cls.model_fields:
            raise Misuse(f"{cls.event_name} has no field {cls.event_key_field!r} to be its key")
        if cls.model_config.get("extra") == "forbid":
            raise Misuse(
                f"{cls.event_name} forbids fields that it does not know, so that no newer code could ever add one;"
                ' leave extra at "ignore"'
            )

    def event_key(self) -> str | None:
        """The key of this event: those with the same one keep their order. None: no order."""
        if self.event_key_field is None:
            return None
        value = getattr(self, self.event_key_field)
        return None if value is None else str(value)

    @classmethod
    def read(cls, payload: str | bytes, version: int) -> Self:
        """The event in a payload of this or an older version.

        Raises:
            NewerVersion: the payload's version is above that of the class.
            MissingUpcaster: a step from its version to that of the class is missing.
            pydantic.ValidationError: the payload is not what the class says.
        """
        if version == cls.event_version:
            return cls.model_validate_json(payload)
        if version > cls.event_version:
            raise NewerVersion(
                f"{cls.event_name} of version {version} was published by newer code; this code knows up to version"
                f" {cls.event_version}"
            )
        data = json.loads(payload)
        for step in range(version, cls.event_version):
            if step not in cls.event_upcasters:
                raise MissingUpcaster(_missing(cls, step))
            data = cls.event_upcasters[step](data)
            if not isinstance(data, dict):
                raise MissingUpcaster(
                    f"the upcaster of {cls.event_name} from version {step} returned {type(data).__name__}, not a dict"
                )
        return cls.model_validate_json(json.dumps(data))


def upcast(event: type[Event], *, from_version: int) -> Callable[[Upcaster], Upcaster]:
    """Register how a payload of `from_version` becomes one of the version after it, as a dict of JSON values.

    Steps are chained, so each is written once and never changed::

        @upcast(OrderPlaced, from_version=1)
        def add_currency(data: dict[str, Any]) -> dict[str, Any]:
            return data | {"currency": "EUR"}

    Raises:
        Misuse: there is one already, or the class is not above that version.
    """
    if not 1 <= from_version < event.event_version:
        raise Misuse(
            f"{event.event_name} is version {event.event_version}, so an upcaster leads from a version from 1 to"
            f" {event.event_version - 1}, not from {from_version}"
        )

    def register(upcaster: Upcaster) -> Upcaster:
        if from_version in event.event_upcasters:
            raise Misuse(f"{event.event_name} has an upcaster from version {from_version} already")
        event.event_upcasters[from_version] = upcaster
        return upcaster

    return register


def check_upcasters(event: type[Event]) -> None:
    """Raises `MissingUpcaster` where the upcasters of an event do not lead up to its version without a gap."""
    versions = event.event_upcasters
    for step in range(min(versions, default=event.event_version - 1) or 1, event.event_version):
        if step not in versions:
            raise MissingUpcaster(_missing(event, step))


def _missing(event: type[Event], step: int) -> str:
    return (
        f"{event.event_name} is version {event.event_version}, and nothing reads its version {step}: write"
        f" @upcast({event.__name__}, from_version={step})"
    )


def versioned(type: str) -> tuple[str, int]:
    """The event's name and version in a CloudEvent's type; version 1 where it names none."""
    match = _VERSIONED.fullmatch(type)
    return (match[1], int(match[2])) if match else (type, 1)
