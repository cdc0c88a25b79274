"""Webhooks as channels: those that dependencies call, and those by which actors are told."""

from __future__ import annotations

from mainstay.architect.design.contracts.async_book import Book
from mainstay.architect.design.contracts.naming import camel, dashed, pascal, sentence
from mainstay.architect.design.contracts.payloads import event_fields, event_state
from mainstay.architect.design.contracts.webhooks import cloud_event, event_type, signature_parameters
from mainstay.architect.design.system import Act, Op


def _http_server(book: Book) -> dict[str, str]:
    book.servers["http"] = {
        "host": book.host(book.service),
        "protocol": "https",
        "description": "This service.",
    }
    return {"$ref": "#/servers/http"}


def is_told(book: Book, sender: str) -> None:
    """A dependency calls the service."""
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


def tells(book: Book, op: Op, actor: Act) -> None:
    """An operation tells an actor what it handled or emitted."""
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
        channel["messages"][f"{event}Webhook"] = _signed(book, event)
    book.operation(
        f"{camel(op.name)}To{pascal(actor.name)}",
        {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "title": f"{sentence(op.name)}: tell {actor.name}",
            "description": "Signed, at least once, with growing waits until it is answered with 2xx.",
            "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            "messages": [{"$ref": f"#/channels/{name}/messages/{event}Webhook"} for event in events],
        },
    )


def _signed(book: Book, event: str) -> dict[str, str]:
    """The message by which an actor is told of an event: a CloudEvent in JSON, and headers that sign it."""
    fields, service = event_fields(book.system, event)
    data = book.schemas.named(f"event {event}", event, book.schemas.fields(fields, service))
    held = book.examples.of(data, "", event, **event_state(book.system, event))
    schema, value = cloud_event(book.system, book.service, event, data, held)
    payload = book.schemas.named(f"webhook {event}", f"{event}Webhook", schema)
    book.example(f"{book.service} webhook {event} out", payload, value)
    parameters = signature_parameters()
    sent = {made["name"]: made["example"] for made in parameters}
    book.messages[f"{event}Webhook"] = {
        "name": event_type(event),
        "title": sentence(event),
        "contentType": "application/cloudevents+json",
        "headers": {
            "type": "object",
            "required": list(sent),
            "properties": {
                made["name"]: {**made["schema"], "description": made["description"]} for made in parameters
            },
        },
        "payload": payload,
        "examples": [{"name": event, "headers": sent, "payload": value}],
    }
    return {"$ref": f"#/components/messages/{event}Webhook"}
