"""Events among services: topics, messages in CloudEvents' binary mode, who sends and who receives."""

from __future__ import annotations

from typing import Any

from mainstay.architect.design.contracts.async_book import Book
from mainstay.architect.design.contracts.examples import MOMENT, same_uuid
from mainstay.architect.design.contracts.json_schema import Schema
from mainstay.architect.design.contracts.naming import camel, sentence, snake
from mainstay.architect.design.contracts.payloads import (
    event_about,
    event_entity,
    event_fields,
    event_key,
    event_state,
)
from mainstay.architect.design.contracts.webhooks import event_type, source
from mainstay.architect.design.questions import brokers, listed
from mainstay.architect.design.system import Op

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
    emitters = {op.service for op in book.system.events[event].emitters if isinstance(op, Op)}
    sources = sorted(source(book.system, service) for service in emitters)
    known: list[tuple[str, Schema, str]] = [
        ("specversion", {"const": "1.0"}, "1.0"),
        ("id", {"type": "string", "format": "uuid"}, same_uuid(f"event {event}")),
        ("source", {"enum": sources} if len(sources) > 1 else {"const": where}, where),
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


def sends(book: Book, event: str, ops: list[Op]) -> None:
    """The service tells an event."""
    _, protocol, prefix = _broker(book)
    channel = _topic(book, book.service)
    book.channels[channel]["messages"][event] = _message(book, event, protocol, prefix, book.service)
    key = event_key(book.system, event)
    entity = event_entity(book.system, book.system.events[event])
    what = entity.name if entity is not None and key in (entity.key, snake(entity.name)) else key
    order = f" Events of one {what} keep their order." if key else ""
    made: dict[str, Any] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "title": sentence(event),
        "description": f"Told by {listed([op.name for op in ops])}, in the same transaction as what it writes.{order}",
        "messages": [{"$ref": f"#/channels/{channel}/messages/{event}"}],
    }
    book.operation(f"send{event}", made)


def receives(book: Book, op: Op, event: str) -> None:
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
