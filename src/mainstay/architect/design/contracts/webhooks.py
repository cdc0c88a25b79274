"""Webhooks, in and out: how they are signed, and the envelope in which ours travel.

Ours are CloudEvents 1.0.2 in their JSON format, with the three headers of the Standard Webhooks specification 1.0:
id, timestamp and signature, HMAC-SHA256 over the three of id, timestamp and body.
"""

from __future__ import annotations

from typing import Any

from mainstay.architect.design.contracts.examples import MOMENT, same_uuid
from mainstay.architect.design.contracts.json_schema import Schema
from mainstay.architect.design.system import System

SIGNED = "signature_of_"
"""Prefix of the security scheme of a dependency that sends webhooks."""


def signed_by(system: System, sender: str) -> str:
    """The security scheme by which a dependency shows who it is: what its ``auth`` says, else a signature."""
    how = system.deps[sender].spec.auth
    return how if how in ("mtls", "jwt", "api_key", "oidc") else f"{SIGNED}{sender}"


def source(system: System, service: str) -> str:
    """The CloudEvents source of what a service tells: ``/shop/orders``."""
    return f"/{system.name}/{service}"


def event_type(name: str) -> str:
    """The CloudEvents type of an event: its name and version, as `mainstay.patterns.events` has it."""
    return f"{name}.v1"


def signature_parameters() -> list[dict[str, Any]]:
    """The headers by which a webhook of ours is told from a forgery and from a repetition."""
    known: tuple[tuple[str, str, dict[str, Any], Any], ...] = (
        (
            "webhook-id",
            "The same in every repetition.",
            {"type": "string"},
            "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        ),
        ("webhook-timestamp", "When it was sent, in seconds since 1970.", {"type": "integer"}, 1773480413),
        (
            "webhook-signature",
            "HMAC-SHA256 over id, timestamp and body, parted by dots.",
            {"type": "string"},
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    )
    return [
        {
            "name": name,
            "in": "header",
            "required": True,
            "description": about,
            "schema": schema,
            "example": example,
        }
        for name, about, schema, example in known
    ]


def cloud_event(
    system: System, service: str, name: str, data: Schema, held: Any
) -> tuple[Schema, dict[str, Any]]:
    """The envelope of an event in CloudEvents' JSON format, and an example of it."""
    schema: Schema = {
        "type": "object",
        "description": "A CloudEvent (1.0.2, JSON format).",
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "format": "uuid"},
            "source": {"const": source(system, service)},
            "type": {"const": event_type(name)},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "data": data,
        },
    }
    value = {
        "specversion": "1.0",
        "id": same_uuid(f"event {name}"),
        "source": source(system, service),
        "type": event_type(name),
        "time": MOMENT,
        "datacontenttype": "application/json",
        "data": held,
    }
    return schema, value
