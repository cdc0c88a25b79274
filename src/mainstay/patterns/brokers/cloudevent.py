"""A CloudEvent: the envelope in which an event leaves the service, the same for every broker.

Source: CloudEvents 1.0.2, cncf.io; its extensions Partitioning, Sequence and Distributed Tracing; its JSON format.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

SPECVERSION = "1.0"
PARTITION_KEY = "partitionkey"
"""Name of the extension whose value is the key of the event: events with the same key keep their order."""

_NAME = re.compile(r"[a-z0-9]+")
# Control characters, lone surrogates, and what Unicode calls noncharacters.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
_URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+\s*(?:;.*)?", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")
_OPTIONAL = ("subject", "datacontenttype", "dataschema")
_CORE = frozenset({"specversion", "id", "source", "type", "time", "data", *_OPTIONAL})


class BadEvent(ValueError):
    """This is no valid CloudEvent; the message says which attribute is wrong and why."""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event. `source` and `id` together name it: what has both the same is a duplicate.

    Args:
        id: not empty, unique for its source.
        source: where it happened, a URI reference such as ``/shop/orders``.
        type: what happened, such as ``shop.order-placed.v1``.
        time: when it happened, with a time zone.
        subject: what it happened to.
        datacontenttype: media type of `data`.
        dataschema: absolute URI of the schema of `data`.
        data: the payload as it goes over the wire. Empty data is no data (None), since most protocols cannot
            tell the two apart.
        extensions: further attributes by name (a-z and 0-9), in their string form: `partitionkey`, `sequence`,
            `traceparent`, ….

    Raises:
        BadEvent: an attribute breaks a rule of CloudEvents 1.0.2.
    """

    id: str
    source: str
    type: str
    time: datetime | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: bytes | None = field(default=None, repr=False)
    extensions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Copied, so that nobody changes an event that waits to be sent.
        object.__setattr__(self, "extensions", MappingProxyType(dict(self.extensions)))
        if self.data is not None and not isinstance(self.data, bytes):
            raise BadEvent(f"data is bytes, not {type(self.data).__name__}; encode it first")
        object.__setattr__(self, "data", self.data or None)
        if self.time is not None:
            if (offset := self.time.utcoffset()) is None:
                raise BadEvent(
                    "time needs a time zone: a time without one means something else to each reader"
                )
            if offset % timedelta(minutes=1):
                raise BadEvent(f"time is whole minutes from UTC (RFC 3339), not {offset}")
        for name in self.extensions:
            if not _NAME.fullmatch(name) or name in _CORE:
                raise BadEvent(
                    f"an extension's name is made of a-z and 0-9 and is no core attribute, not {name!r}"
                )
        for name, value in self.attributes().items():
            if not isinstance(value, str):
                raise BadEvent(f"{name} is a string, not {type(value).__name__}")
            if not value and name not in self.extensions:
                raise BadEvent(f"{name} must not be empty")
            if forbidden := _FORBIDDEN.search(value):
                raise BadEvent(f"{name} has the character U+{ord(forbidden[0]):04X}, which is not allowed")
        if not _URI_REFERENCE.fullmatch(self.source):
            raise BadEvent(f"source is a URI reference such as /shop/orders, not {self.source!r}")
        if self.dataschema and not (
            _URI.fullmatch(self.dataschema) and _URI_REFERENCE.fullmatch(self.dataschema)
        ):
            raise BadEvent(f"dataschema is an absolute URI, not {self.dataschema!r}")
        if self.datacontenttype and not _MEDIA_TYPE.fullmatch(self.datacontenttype):
            raise BadEvent(
                f"datacontenttype is a media type such as application/json, not {self.datacontenttype!r}"
            )
        if self.extensions.get(PARTITION_KEY) == "":
            raise BadEvent(f"{PARTITION_KEY} must not be empty; leave it out where there is no key")

    def __hash__(self) -> int:
        return hash((self.source, self.id))

    @property
    def key(self) -> str | None:
        """The extension `partitionkey`: events with the same key keep their order."""
        return self.extensions.get(PARTITION_KEY)

    def attributes(self) -> dict[str, str]:
        """All attributes that are set, `specversion` included, each in its canonical string form."""
        found = {"specversion": SPECVERSION, "id": self.id, "source": self.source, "type": self.type}
        if self.time is not None:
            found["time"] = self.time.isoformat().replace("+00:00", "Z")
        for name in _OPTIONAL:
            if (value := getattr(self, name)) is not None:
                found[name] = value
        return found | dict(self.extensions)


def from_attributes(attributes: Mapping[str, str], data: bytes | None) -> CloudEvent:
    """The event with these attributes, each in its canonical string form.

    Raises:
        BadEvent: one is missing or wrong, or it is of another major version.
    """
    left = dict(attributes)
    missing = [name for name in ("specversion", "id", "source", "type") if name not in left]
    if missing:
        raise BadEvent(f"this message is no CloudEvent: it has no {' and no '.join(missing)}")
    if (version := left.pop("specversion")) != SPECVERSION:
        raise BadEvent(f"this is a CloudEvent of version {version!r}; {SPECVERSION} is understood")
    core: dict[str, Any] = {
        name: left.pop(name) for name in ("id", "source", "type", *_OPTIONAL) if name in left
    }
    if "time" in left:
        core["time"] = _time(left.pop("time"))
    return CloudEvent(**core, data=data, extensions=left)


def from_json(text: bytes) -> CloudEvent:
    """The event in the JSON format, in which many publishers send it (structured mode).

    Raises:
        BadEvent: it is no JSON object, or not one of a valid event.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadEvent(f"a structured event is a JSON object, and this is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadEvent(f"a structured event is a JSON object, not {type(found).__name__}")
    attributes = {name: _canonical(name, value) for name, value in found.items() if not _is_data(name, value)}
    if found.get("data_base64") is not None:
        try:
            data = base64.b64decode(found["data_base64"], validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise BadEvent("data_base64 is not Base64") from None
    elif "data" not in found:
        data = None
    else:
        kind = attributes.setdefault("datacontenttype", "application/json").partition(";")[0].strip().lower()
        # Data of another type than JSON stands as a JSON string in the envelope, and is what the string says.
        is_text = isinstance(found["data"], str) and not kind.endswith(("/json", "+json"))
        text_of_it = (
            found["data"] if is_text else json.dumps(found["data"], ensure_ascii=False, separators=(",", ":"))
        )
        try:
            data = text_of_it.encode()
        except UnicodeEncodeError:
            raise BadEvent("data has half of a surrogate pair, which no encoding takes") from None
    return from_attributes(attributes, data)


def read(attributes: Mapping[str, str], content_type: str | None, data: bytes | None) -> CloudEvent:
    """The event in a message of any protocol, in binary or in structured mode, as its content type tells.

    Raises:
        BadEvent: the message is no valid CloudEvent.
    """
    kind = (content_type or "").lower()
    if not kind.startswith("application/cloudevents"):
        return from_attributes(attributes, data)
    if not kind.startswith("application/cloudevents+json"):
        raise BadEvent(f"structured events are read in JSON, not as {content_type}")
    return from_json(data or b"")


def _is_data(name: str, value: object) -> bool:
    return name in ("data", "data_base64") or value is None


def _canonical(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise BadEvent(f"{name} is a string, a whole number or a boolean, not {type(value).__name__}")


def _time(text: str) -> datetime:
    if _RFC3339.fullmatch(text):
        try:
            return datetime.fromisoformat(text.upper())
        except ValueError:  # the 30th of February
            pass
    raise BadEvent(f"time is a timestamp of RFC 3339 with a time zone, not {text!r}")
