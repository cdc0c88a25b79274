"""Streams and subscriptions as channels: over WebSocket, or over server-sent events."""

from __future__ import annotations

from typing import Any

from mainstay.architect.design.contracts import security
from mainstay.architect.design.contracts.async_book import Book
from mainstay.architect.design.contracts.json_schema import Schema
from mainstay.architect.design.contracts.naming import STREAMING, camel, pascal, sentence
from mainstay.architect.design.contracts.payloads import reply_of
from mainstay.architect.design.contracts.routes import route_of
from mainstay.architect.design.system import Op


def _socket(book: Book, op: Op) -> dict[str, Any] | None:
    """The channel of an operation that sends as things happen; None where it is offered otherwise (gRPC, GraphQL)."""
    speaks = book.system.services[book.service].speaks
    if "graphql" in speaks and op.kind in STREAMING:
        return None  # a subscription of the schema; a WebSocket is what it travels over
    if "websocket" in speaks:
        server, protocol = "websocket", "wss"
    elif "sse" in speaks or ("http" in speaks and "graphql" not in speaks):
        server, protocol = "http", "https"
    else:
        return None
    book.servers[server] = {
        "host": book.host(book.service),
        "protocol": protocol,
        "description": "This service.",
    }
    needs = [need for need in security.requirements(book.system, op) if need]
    route = route_of(book.system, op)
    channel: dict[str, Any] = {
        "address": route.path,
        "title": sentence(op.name),
        "description": "It stays open; each message is sent as it happens. Who reconnects asks for the state first.",
        "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": {},
    }
    if route.inside:
        channel["parameters"] = {
            inside.name: {
                "description": f"Which {route.resource.name if route.resource else 'one'} is meant."
            }
            for inside in route.inside
        }
    if protocol == "wss":
        channel["bindings"] = {"ws": {"method": "GET", "bindingVersion": "0.1.0"}}
    names = [name for need in needs for name in need]
    book.schemes |= set(names)
    return {
        "channel": channel,
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in names],
    }


def streams(book: Book, op: Op) -> None:
    """A channel over which a subscriber is sent what happens."""
    made = _socket(book, op)
    schema = reply_of(book.schemas, op)
    if made is None or schema is None:
        return
    schema = schema["properties"]["items"]["items"] if op.lists else schema
    name, message = camel(op.name), f"{pascal(op.name)}Message"
    channel = made.pop("channel")
    channel["messages"][message] = _direct(book, message, schema, f"{op.id} streamed")
    book.channels[name] = channel
    book.operation(
        f"{name}Sends",
        {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "title": sentence(op.name),
            "description": "At most once for each connection: what was missed is read again after reconnecting.",
            **({"security": made["security"]} if made["security"] else {}),
            "messages": [{"$ref": f"#/channels/{name}/messages/{message}"}],
        },
    )
    if op.spec.takes and "bindings" in channel:
        _taken(book, op, name, channel)


def _taken(book: Book, op: Op, name: str, channel: dict[str, Any]) -> dict[str, str]:
    """What the client says over the socket."""
    wanted = f"{pascal(op.name)}Request"
    schema = book.schemas.fields(op.spec.takes, op.service, request=True)
    channel["messages"][wanted] = _direct(book, wanted, schema, f"{op.id} asked")
    book.operation(
        f"{name}Receives",
        {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{name}"},
            "title": f"{sentence(op.name)}: what the client says",
            "messages": [{"$ref": f"#/channels/{name}/messages/{wanted}"}],
        },
    )
    return {"$ref": f"#/channels/{name}/messages/{wanted}"}


def asked_by_socket(book: Book, op: Op) -> None:
    """A request and its reply over the one socket of the service, where it speaks nothing better for that."""
    if any(other in book.system.services[book.service].speaks for other in ("http", "graphql", "grpc")):
        return
    made = _socket(book, op)
    if made is None:
        return
    name = camel(op.name)
    channel = made.pop("channel")
    schema = reply_of(book.schemas, op) or {"type": "object", "description": "It was done."}
    reply = f"{pascal(op.name)}Reply"
    channel["messages"][reply] = _direct(book, reply, schema, f"{op.id} answered")
    book.channels[name] = channel
    request = _taken(book, op, name, channel)
    made_op = book.operations[f"{name}Receives"]
    made_op["messages"] = [request]
    made_op["reply"] = {
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{reply}"}],
    }
    if made["security"]:
        made_op["security"] = made["security"]


def _direct(book: Book, name: str, schema: Schema, about: str) -> dict[str, str]:
    """A message without an envelope."""
    payload = schema if "$ref" in schema else book.schemas.named(f"message {name}", f"{name}Payload", schema)
    value = book.example(about, payload, book.examples.of(payload, "", name))
    book.messages[name] = {
        "name": name,
        "title": sentence(name),
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"name": name, "payload": value}],
    }
    return {"$ref": f"#/components/messages/{name}"}
