"""AsyncAPI 3.0: one document for each service that tells or is told something without being asked.

A channel is what consumers subscribe to: the topic of an emitting service, which carries all its events, so that events
of one row stay in order across their kinds; the webhooks of a dependency or to an actor; a stream over WebSocket or
server-sent events. Messages are CloudEvents 1.0.2 in binary mode: attributes in headers, under the prefix that the
protocol's binding has.

Source: AsyncAPI specification 3.0.0; CloudEvents bindings for Kafka, NATS, AMQP and HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mainstay.architect.design.contracts import security
from mainstay.architect.design.contracts.examples import MOMENT, Examples, same_uuid
from mainstay.architect.design.contracts.json_schema import Schema, Schemas
from mainstay.architect.design.contracts.naming import (
    STREAMING,
    camel,
    dashed,
    exposed,
    pascal,
    sentence,
    webhooks_in,
    webhooks_out,
    words,
)
from mainstay.architect.design.contracts.payloads import (
    event_about,
    event_fields,
    event_key,
    event_state,
    reply_of,
)
from mainstay.architect.design.contracts.routes import route_of
from mainstay.architect.design.contracts.webhooks import event_type, source
from mainstay.architect.design.contracts.yaml_text import dump
from mainstay.architect.design.generated import Example, Generated
from mainstay.architect.design.questions import brokers, listed
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Act, Dep, Op, System

VERSION = "3.0.0"
PROTOCOLS: dict[str, tuple[str, int, str]] = {
    "kafka": ("kafka", 9092, "ce_"),
    "nats": ("nats", 4222, "ce-"),
    "rabbitmq": ("amqp", 5672, "cloudEvents_"),
    "redis": ("redis", 6379, "ce-"),
    "sqs": ("sqs", 443, "ce-"),
    "pubsub": ("googlepubsub", 443, "ce-"),
    "pulsar": ("pulsar", 6650, "ce-"),
    "kinesis": ("kinesis", 443, "ce-"),
}
"""By kind of part: AsyncAPI's name of the protocol, port, and the prefix of CloudEvents attributes."""
OUTBOX = "outbox"
"""Without a broker, events go through tables of PostgreSQL."""


@dataclass
class Book:
    """What the channels of one document share."""

    system: System
    service: str
    schemas: Schemas = field(init=False)
    examples: Examples = field(init=False)
    servers: dict[str, Any] = field(default_factory=dict)
    channels: dict[str, Any] = field(default_factory=dict)
    operations: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, Any] = field(default_factory=dict)
    schemes: set[str] = field(default_factory=set)
    checked: list[Example] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schemas = Schemas(self.system, self.service)
        self.examples = Examples(self.schemas)

    def example(self, name: str, schema: Schema, value: Any) -> Any:
        """The value, noted as one that must satisfy the schema."""
        self.checked.append(
            Example(name, value, {**schema, "components": {"schemas": self.schemas.components}})
        )
        return value

    def host(self, name: str) -> str:
        """A host that the reader replaces (RFC 2606)."""
        return f"{name}.{self.system.name}.example".replace("_", "-")

    def operation(self, name: str, made: dict[str, Any]) -> None:
        """Add an operation under a name that no other has."""
        wanted, number = name, 2
        while name in self.operations:
            name, number = f"{wanted}{number}", number + 1
        self.operations[name] = made


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
        _sends(book, event, [op for op in ops if event in op.spec.emits])
    for op in ops:
        for event in op.spec.on:
            _receives(book, op, event)
    for sender in webhooks_in(system, service):
        _is_told(book, sender)
    for op, actor in webhooks_out(system, service):
        _tells(book, op, actor)
    for op in ops:
        if op.kind in STREAMING:
            _streams(book, op)
        elif "websocket" in system.services[service].speaks and op in exposed(system, service, "websocket"):
            _asked_by_socket(book, op)
    return book if book.operations else None


def _whole(book: Book) -> dict[str, Any]:
    system, service = book.system, book.service
    spec = system.services[service]
    about = spec.about or f"{sentence(service)} of the system {system.name}."
    components = {
        "messages": dict(sorted(book.messages.items())),
        "schemas": dict(sorted(book.schemas.components.items())),
        "securitySchemes": {name: _scheme(name, system.name) for name in sorted(book.schemes)},
    }
    return {
        "asyncapi": VERSION,
        "info": {
            "title": f"{sentence(system.name)}: {service.replace('_', ' ')}",
            "version": system.blueprint.version or "1.0.0",
            "description": f"{about.rstrip('.')}. Generated from the blueprint {system.name}: change that instead.",
            "contact": {"name": f"Team {spec.team or system.name}"},
        },
        "defaultContentType": "application/json",
        "servers": dict(sorted(book.servers.items())),
        "channels": dict(sorted(book.channels.items())),
        "operations": dict(sorted(book.operations.items())),
        "components": {key: value for key, value in components.items() if value},
    }


# ---------------------------------------------------------------------------------------------- events


def _broker(book: Book) -> tuple[str, str, str]:
    """Server, protocol and prefix of CloudEvents attributes for events among services."""
    found = brokers(book.system)
    kinds = book.system.parts
    # Redis that stands beside another broker is a cache.
    name = next((name for name in found if kinds[name].spec.kind != "redis"), found[0] if found else "")
    if not name:
        book.servers[OUTBOX] = {
            "host": book.host("postgresql") + ":5432",
            "protocol": "postgresql",
            "description": "Tables of PostgreSQL: the outbox of the emitter, read by a worker of each consumer.",
        }
        return OUTBOX, "postgresql", ""
    kind = kinds[name].spec.kind
    protocol, port, prefix = PROTOCOLS.get(kind, (kind, 443, "ce-"))
    book.servers[name] = {
        "host": f"{book.host(name)}:{port}",
        "protocol": protocol,
        "description": f"The broker {name}; replace the host by that of each environment.",
    }
    return name, protocol, prefix


def _topic(book: Book, emitter: str) -> str:
    """The channel that carries all events of a service, made where it is not there yet; its name."""
    server, protocol, _ = _broker(book)
    name = camel(emitter)
    if name not in book.channels:
        address = f"{book.system.name}.{emitter}"
        channel: dict[str, Any] = {
            "address": f"{address}.>" if protocol == "nats" else address,
            "title": f"Events of {emitter}",
            "description": _carried(protocol, address),
            "servers": [{"$ref": f"#/servers/{server}"}],
            "messages": {},
        }
        if protocol == "kafka":
            channel["bindings"] = {"kafka": {"topic": address, "bindingVersion": "0.5.0"}}
        elif protocol == "amqp":
            exchange = {"name": address, "type": "topic", "durable": True, "autoDelete": False}
            channel["bindings"] = {
                "amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}
            }
        book.channels[name] = channel
    return name


def _carried(protocol: str, address: str) -> str:
    match protocol:
        case "kafka":
            return "A topic; the record's key is the event's key, so events of one row keep their order."
        case "nats":
            return f"A JetStream stream; the subject of an event is {address}. followed by its type."
        case "amqp":
            return "An exchange of kind topic; the routing key is the event's type."
        case "redis":
            return "A Redis stream, read by a consumer group for each consumer."
        case "postgresql":
            return "Kept in the emitter's outbox until every consumer has it; events of one key keep their order."
    return "Events of one key keep their order."


def _message(book: Book, event: str, protocol: str, prefix: str, emitter: str) -> dict[str, str]:
    """A reference to the message of an event."""
    name = event
    if name not in book.messages:
        system = book.system
        fields, service = event_fields(system, event)
        schema: Schema = book.schemas.fields(fields, service) if fields else {"type": "object"}
        about = event_about(system, event)
        payload = book.schemas.named(f"event {event}", event, {"description": about, **schema})
        value = book.example(
            f"{book.service} event {event}",
            payload,
            book.examples.of(payload, "", event, **event_state(system, event)),
        )
        key = event_key(system, event)
        headers, sent = _headers(book, event, prefix, emitter, value.get(key) if key else None)
        book.example(f"{book.service} headers of {event}", headers, sent)
        made: dict[str, Any] = {
            "name": event_type(event),
            "title": sentence(event),
            "summary": about,
            "contentType": "application/json",
            "headers": headers,
            "payload": payload,
            "correlationId": {
                "description": "The same for all that one request set off.",
                "location": f"$message.header#/{prefix}correlationid",
            },
        }
        if key and protocol == "kafka":
            keyed = schema.get("properties", {}).get(key, {"type": "string"})
            made["bindings"] = {"kafka": {"key": keyed, "bindingVersion": "0.5.0"}}
        made["examples"] = [{"name": event, "headers": sent, "payload": value}]
        book.messages[name] = made
    return {"$ref": f"#/components/messages/{name}"}


def _headers(book: Book, event: str, prefix: str, emitter: str, key: Any) -> tuple[Schema, dict[str, Any]]:
    """The attributes of a CloudEvent as headers, and an example of them."""
    where = source(book.system, emitter)
    known: list[tuple[str, Schema, str]] = [
        ("specversion", {"const": "1.0"}, "1.0"),
        ("id", {"type": "string", "format": "uuid"}, same_uuid(f"event {event}")),
        ("source", {"const": where}, where),
        ("type", {"const": event_type(event)}, event_type(event)),
        ("time", {"type": "string", "format": "date-time"}, MOMENT),
        ("correlationid", {"type": "string"}, same_uuid("correlation")),
    ]
    if key is not None:
        about = "Events with the same key keep their order."
        known.append(("partitionkey", {"type": "string", "description": about}, str(key)))
    required = [f"{prefix}{name}" for name in ("specversion", "id", "source", "type")]
    schema: Schema = {
        "type": "object",
        "description": "The attributes of a CloudEvent 1.0.2.",
        "required": required,
        "properties": {f"{prefix}{name}": schema for name, schema, _ in known},
    }
    return schema, {f"{prefix}{name}": value for name, _, value in known}


def _sends(book: Book, event: str, ops: list[Op]) -> None:
    _, protocol, prefix = _broker(book)
    channel = _topic(book, book.service)
    book.channels[channel]["messages"][event] = _message(book, event, protocol, prefix, book.service)
    key = event_key(book.system, event)
    order = f" Events of one {key} keep their order." if key else ""
    made: dict[str, Any] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "title": sentence(event),
        "description": f"Told by {listed([op.name for op in ops])}, in the same transaction as what it writes.{order}",
        "messages": [{"$ref": f"#/channels/{channel}/messages/{event}"}],
    }
    book.operation(f"send{event}", made)


def _receives(book: Book, op: Op, event: str) -> None:
    """From every service of ours that emits it; what dependencies send comes by webhook."""
    for emitter in dict.fromkeys(e.service for e in book.system.events[event].emitters if isinstance(e, Op)):
        _, protocol, prefix = _broker(book)
        channel = _topic(book, emitter)
        book.channels[channel]["messages"][event] = _message(book, event, protocol, prefix, emitter)
        made: dict[str, Any] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{channel}"},
            "title": f"{sentence(op.name)} on {sentence(event).lower()}",
            "description": "At least once: a repetition is recognized by source and id, and does nothing.",
            "messages": [{"$ref": f"#/channels/{channel}/messages/{event}"}],
        }
        if protocol == "kafka":
            group = {"type": "string", "const": f"{book.system.name}.{emitter}.{book.service}"}
            made["bindings"] = {"kafka": {"groupId": group, "bindingVersion": "0.5.0"}}
        book.operation(f"{camel(op.name)}On{event}", made)


# ---------------------------------------------------------------------------------------------- webhooks


def _http_server(book: Book) -> dict[str, str]:
    book.servers["http"] = {
        "host": book.host(book.service),
        "protocol": "https",
        "description": "This service.",
    }
    return {"$ref": "#/servers/http"}


def _is_told(book: Book, sender: str) -> None:
    system = book.system
    told = [
        name
        for name in system.deps[sender].spec.sends
        if any(op.service == book.service for op in system.events[name].consumers)
    ]
    if not told:
        return
    channel = f"webhooksOf{pascal(sender)}"
    book.channels[channel] = {
        "address": f"/webhooks/{dashed(sender)}",
        "title": f"Webhooks of {sender}",
        "description": f"{sender} calls it; each is stored and answered at once.",
        "servers": [_http_server(book)],
        "messages": {event: _plain(book, event, sender) for event in told},
    }
    book.operation(
        f"receiveWebhooksOf{pascal(sender)}",
        {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{channel}"},
            "title": f"Webhooks of {sender}",
            "description": "At least once: a repetition is recognized by its id, and does nothing.",
            "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            "messages": [{"$ref": f"#/channels/{channel}/messages/{event}"} for event in told],
        },
    )


def _plain(book: Book, event: str, sender: str) -> dict[str, str]:
    """The message of an event that others send in a form of their own."""
    fields, service = event_fields(book.system, event)
    schema = book.schemas.fields(fields, service) if fields else {"type": "object"}
    about = "As the blueprint writes it." if fields else f"As {sender} defines it."
    payload = book.schemas.named(f"event {event}", event, {"description": about, **schema})
    value = book.example(f"{book.service} webhook {event}", payload, book.examples.of(payload, "", event))
    book.messages[event] = {
        "name": event,
        "title": sentence(event),
        "summary": about,
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"name": event, "payload": value}],
    }
    return {"$ref": f"#/components/messages/{event}"}


def _tells(book: Book, op: Op, actor: Act) -> None:
    events = list(dict.fromkeys([*op.spec.on, *op.spec.emits]))
    if not events:
        return
    name = f"webhooksTo{pascal(actor.name)}"
    channel = book.channels.setdefault(
        name,
        {
            "address": None,
            "title": f"Webhooks to {actor.name}",
            "description": f"The URL that each {actor.name} has registered; see the webhooks of the OpenAPI document.",
            "messages": {},
        },
    )
    for event in events:
        dep = next((e.name for e in book.system.events[event].emitters if isinstance(e, Dep)), "")
        message = (
            _plain(book, event, dep)
            if dep and event not in book.messages
            else _message(book, event, "https", "ce-", book.service)
        )
        channel["messages"][event] = message
    book.operation(
        f"{camel(op.name)}To{pascal(actor.name)}",
        {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "title": f"{sentence(op.name)}: tell {actor.name}",
            "description": "Signed, at least once, with growing waits until it is answered with 2xx.",
            "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            "messages": [{"$ref": f"#/channels/{name}/messages/{event}"} for event in events],
        },
    )


# ---------------------------------------------------------------------------------------------- streams and sockets


def _socket(book: Book, op: Op) -> dict[str, Any] | None:
    """The channel of an operation that sends as things happen; None where it is offered otherwise (gRPC, GraphQL)."""
    speaks = book.system.services[book.service].speaks
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


def _streams(book: Book, op: Op) -> None:
    """A channel over which a subscriber is sent what happens."""
    made = _socket(book, op)
    schema = reply_of(book.schemas, op)
    if made is None or schema is None:
        return
    schema = schema["properties"]["items"]["items"] if op.lists else schema
    name, message = camel(op.name), f"{pascal(op.name)}Message"
    channel = made.pop("channel")
    channel["messages"][message] = _direct(book, message, schema, f"{op.id} streamed")
    channel["description"] = (
        "It stays open; each message is sent as it happens. Who reconnects asks for the state first."
    )
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


def _asked_by_socket(book: Book, op: Op) -> None:
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


def _scheme(name: str, system: str) -> dict[str, Any]:
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
