"""What travels with an event beside its payload: which event it is, what caused it, and what the user sends along.

It lies in the message's headers. ``event``, ``version`` and ``id`` name the event, ``source`` is there if it came from
a broker, ``caused_by`` if a handler published it; all else is handed on from the event that a handler works on to those
that it publishes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from mainstay.patterns.messages.message import CAUSED_BY, caused

OWN = frozenset({"event", "version", "id", "source", "time", "causation", CAUSED_BY})
"""Headers that belong to one event and are not handed on."""

_HEADER = re.compile(r"[a-z][a-z0-9]{0,19}")
_VALUE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,1000}")
_carried: ContextVar[Mapping[str, str]] = ContextVar("mainstay_carried", default={})  # noqa: B039 (never changed)


@contextmanager
def carry(**headers: str) -> Iterator[None]:
    """Send these along with every event published in the block: ``with carry(traceparent=request.headers[…])``.

    They reach the subscribers (`Message.headers`), what these publish in turn, and brokers (as CloudEvents extensions).
    ``correlation`` names the whole story that an event is part of; where none is given, its first event's id does.

    Raises:
        ValueError: a name is not made of up to 20 of a-z and 0-9 or is one of the event's own, or a value is empty,
            above 1000 characters or has control characters.
    """
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or name in OWN:
            raise ValueError(
                f"what is carried has a name of up to 20 of a-z and 0-9, not {name!r}, and none of"
                f" {', '.join(sorted(OWN))}"
            )
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValueError(
                f"{name} is carried as 1 to 1000 characters without control characters, not {value!r}"
            )
    with _carrying({**_carried.get(), **headers}):
        yield


@contextmanager
def caused_by(headers: Mapping[str, str]) -> Iterator[None]:
    """What is published in the block was caused by the event with these headers."""
    carried = {name: value for name, value in headers.items() if name not in OWN}
    if "id" in headers:
        carried["causation"] = headers["id"]
        carried.setdefault("correlation", headers["id"])
    with _carrying(carried):
        yield


def new_headers(event: str, version: int) -> dict[str, str]:
    """The headers of an event that is published here and now."""
    id = str(uuid.uuid4())
    return {
        "event": event,
        "version": str(version),
        "id": id,
        "correlation": id,
        **_carried.get(),
        **caused(),
    }


@contextmanager
def _carrying(headers: Mapping[str, str]) -> Iterator[None]:
    token = _carried.set(headers)
    try:
        yield
    finally:
        _carried.reset(token)
