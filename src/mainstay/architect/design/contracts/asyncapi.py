"""AsyncAPI 3.0: one document for each service that tells or is told something without being asked.

A channel is what consumers subscribe to: the topic of an emitting service, which carries all its events, so that events
of one row stay in order across their kinds; the webhooks of a dependency or to an actor; a stream over WebSocket or
server-sent events. Messages are CloudEvents 1.0.2 in binary mode: attributes in headers, under the prefix that the
protocol's binding has.

Source: AsyncAPI specification 3.0.0; CloudEvents bindings for Kafka, NATS, AMQP and HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mainstay.architect.design.contracts import security
from mainstay.architect.design.contracts.async_book import Book
from mainstay.architect.design.contracts.async_events import receives, sends
from mainstay.architect.design.contracts.async_sockets import asked_by_socket, streams
from mainstay.architect.design.contracts.async_webhooks import is_told, tells
from mainstay.architect.design.contracts.naming import (
    STREAMING,
    exposed,
    sentence,
    webhooks_in,
    webhooks_out,
    words,
)
from mainstay.architect.design.contracts.yaml_text import dump
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import System

VERSION = "3.0.0"


def generate(result: Result) -> Iterable[Generated]:
    """One document a service."""
    system = result.study.system
    for service in system.services:
        book = document(system, service)
        if book is not None:
            title = " ".join(words(service)).capitalize()
            sent = sum(made["action"] == "send" for made in book.operations.values())
            yield Generated(
                path=f"contracts/{service.replace('_', '-')}.asyncapi.yaml",
                text=dump(_whole(book)),
                title=f"{title}: events",
                kind="asyncapi",
                about=f"What it tells ({sent}) and is told ({len(book.operations) - sent}) without being asked.",
                examples=tuple(book.checked),
            )


def document(system: System, service: str) -> Book | None:
    """Channels and operations of one service; None where it neither tells nor is told anything."""
    book = Book(system, service)
    ops = [system.ops[f"{service}.{name}"] for name in system.services[service].does]
    for event in dict.fromkeys(name for op in ops for name in op.spec.emits):
        sends(book, event, [op for op in ops if event in op.spec.emits])
    for op in ops:
        for event in op.spec.on:
            receives(book, op, event)
    for sender in webhooks_in(system, service):
        is_told(book, sender)
    for op, actor in webhooks_out(system, service):
        tells(book, op, actor)
    for op in ops:
        if op.kind in STREAMING:
            streams(book, op)
        elif "websocket" in system.services[service].speaks and op in exposed(system, service, "websocket"):
            asked_by_socket(book, op)
    return book if book.operations else None


def _whole(book: Book) -> dict[str, Any]:
    system, service = book.system, book.service
    spec = system.services[service]
    about = spec.about or f"The service {service} of the system {system.name}."
    components = {
        "messages": dict(sorted(book.messages.items())),
        "schemas": dict(sorted(book.schemas.components.items())),
        "securitySchemes": {name: scheme(name, system.name) for name in sorted(book.schemes)},
    }
    return {
        "asyncapi": VERSION,
        "info": {
            "title": f"{sentence(system.name)}: {service.replace('_', ' ')}",
            "version": system.blueprint.version or "1.0.0",
            "description": f"{about.rstrip('.')}. Generated from the blueprint {system.name}: change that instead.",
            "contact": {"name": f"Team {spec.team or system.name}"},
            "tags": [{"name": system.name}, {"name": service}]
            if service != system.name
            else [{"name": service}],
        },
        "defaultContentType": "application/json",
        "servers": dict(sorted(book.servers.items())),
        "channels": dict(sorted(book.channels.items())),
        "operations": dict(sorted(book.operations.items())),
        "components": {key: value for key, value in components.items() if value},
    }


def scheme(name: str, system: str) -> dict[str, Any]:
    """The security scheme of AsyncAPI, which spells keys otherwise than OpenAPI."""
    made = security.scheme(name, system)
    match made["type"]:
        case "apiKey":
            return {
                "type": "httpApiKey",
                "name": made["name"],
                "in": made["in"],
                "description": made["description"],
            }
        case "mutualTLS":
            return {"type": "X509", "description": made["description"]}
    return made
