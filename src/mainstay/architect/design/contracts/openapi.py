"""OpenAPI 3.1: one document for each service that is called over HTTP, or is sent webhooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mainstay.architect.design.contracts import problems, security
from mainstay.architect.design.contracts.http_operation import JSON, Book
from mainstay.architect.design.contracts.json_schema import Schema
from mainstay.architect.design.contracts.naming import (
    dashed,
    plural,
    sentence,
    snake,
    webhooks_in,
    webhooks_out,
    words,
)
from mainstay.architect.design.contracts.payloads import event_fields, event_state
from mainstay.architect.design.contracts.routes import Route, routes
from mainstay.architect.design.contracts.webhooks import SIGNED, cloud_event, signature_parameters, signed_by
from mainstay.architect.design.contracts.yaml_text import dump
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.questions import listed
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Op, System

VERSION = "3.1.0"


def generate(result: Result) -> Iterable[Generated]:
    """One document a service."""
    system = result.study.system
    for service in system.services:
        made = document(system, service)
        if made is not None:
            book, text = made
            title = " ".join(words(service)).capitalize()
            yield Generated(
                path=f"contracts/{service.replace('_', '-')}.openapi.yaml",
                text=text,
                title=f"{title}: REST API",
                kind="openapi",
                about=f"{_counted(len(book.routes), 'operation')} over HTTP, each with an example of every answer.",
                examples=tuple(book.checked),
            )


def document(system: System, service: str) -> tuple[Book, str] | None:
    """The document of one service, as text, beside the book with its examples; None where it has no HTTP."""
    offered = routes(system, service)
    senders = webhooks_in(system, service)
    told = webhooks_out(system, service)
    if not offered and not senders:
        return None
    book = Book(system, service, offered, _progress_path(offered))
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, str] = {}
    for route in offered:
        paths.setdefault(route.path, {})[route.method.lower()] = book.operation(
            route, _tag(route, service, tags)
        )
    if any(route.op.kind == "long" for route in offered):
        tags["operations"] = "What takes longer than a request, and how far it is."
        paths[book.progress] = {"get": _progress(book)}
    for sender, ops in senders.items():
        tags["webhooks"] = "What this service and others tell each other without being asked."
        path = f"/webhooks/{dashed(sender)}"
        while path in paths:
            path += "/events"
        paths[path] = {"post": _incoming(book, sender, ops)}
    if told:
        tags["webhooks"] = "What this service and others tell each other without being asked."
    hooks = {f"{op.name}_to_{actor.name}": {"post": _outgoing(book, op, actor.name)} for op, actor in told}
    return book, dump(_whole(book, _ordered(paths), tags, hooks))


def _whole(book: Book, paths: dict[str, Any], tags: dict[str, str], hooks: dict[str, Any]) -> dict[str, Any]:
    system, service = book.system, book.service
    spec = system.services[service]
    host = f"{service}.{system.name}.example".replace("_", "-")
    about = spec.about or f"The service {service} of the system {system.name}."
    made: dict[str, Any] = {
        "openapi": VERSION,
        "info": {
            "title": f"{sentence(system.name)}: {service.replace('_', ' ')}",
            "version": system.blueprint.version or "1.0.0",
            "description": f"{about.rstrip('.')}. Generated from the blueprint {system.name}: change that instead.",
            "contact": {"name": f"Team {spec.team or system.name}"},
        },
        "servers": [
            {
                "url": "https://{host}",
                "description": "Replace the host by that of each environment.",
                "variables": {"host": {"default": host}},
            }
        ],
        "tags": [{"name": name, "description": text} for name, text in sorted(tags.items())],
        "paths": paths,
    }
    if hooks:
        made["webhooks"] = hooks
    schemes = {
        name
        for item in [*paths.values(), *hooks.values()]
        for operation in item.values()
        for need in operation.get("security", [])
        for name in need
    }
    components = {
        "securitySchemes": {name: _scheme(book, name) for name in sorted(schemes)},
        "parameters": dict(sorted(book.parameters.items())),
        "headers": dict(sorted(book.headers.items())),
        "responses": dict(sorted(book.responses.items())),
        "schemas": dict(sorted(book.schemas.components.items())),
    }
    used = _reached([paths, hooks], components)
    for kind in ("parameters", "headers", "responses", "schemas"):
        components[kind] = {
            name: value for name, value in components[kind].items() if f"#/components/{kind}/{name}" in used
        }
    made["components"] = {key: value for key, value in components.items() if value}
    return made


def _reached(roots: list[Any], components: dict[str, dict[str, Any]]) -> set[str]:
    """The references that lead from some roots, by way of components, as far as they go."""
    found: set[str] = set()
    left = list(roots)
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += value.values()
            ref = value.get("$ref")
            if isinstance(ref, str) and ref not in found:
                found.add(ref)
                *_, kind, name = ref.split("/")
                left.append(components.get(kind, {}).get(name))
    return found


def _scheme(book: Book, name: str) -> dict[str, Any]:
    if name.startswith(SIGNED):
        sender = name.removeprefix(SIGNED)
        how = book.system.deps[sender].spec.auth
        about = f"The signature of {sender} over the body{f': {how}' if how else ''}; an old timestamp is refused."
        return {"type": "apiKey", "in": "header", "name": "webhook-signature", "description": about}
    return security.scheme(name, book.system.name)


def _tag(route: Route, service: str, tags: dict[str, str]) -> str:
    entity = route.resource
    if entity is None:
        name, about = service, f"What {service} does beside its entities."
    else:
        name = plural(snake(entity.name))
        about = f"{entity.name}: owned by {entity.service}." if entity.service else f"{entity.name}: a value."
    tags.setdefault(name, about)
    return name


def _ordered(paths: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Paths in the order of their operations; within one, methods in the order in which people write them."""
    order = ("get", "put", "post", "patch", "delete")
    return {
        path: dict(sorted(item.items(), key=lambda pair: order.index(pair[0])))
        for path, item in paths.items()
    }


def _progress_path(offered: list[Route]) -> str:
    """Where the progress of long operations is found, at a path that no operation has."""
    taken = {route.path.partition("{")[0].rstrip("/") for route in offered}
    root = "/operations"
    while root in taken:
        root = f"{root}-in-progress"
    return f"{root}/{{id}}"


def _progress(book: Book) -> dict[str, Any]:
    """The operation by which the progress of long ones is asked for."""
    taken = {route.op.name for route in book.routes}
    name = next(
        name for name in ("get_operation", "get_operation_progress", "get__operation") if name not in taken
    )
    needs: list[dict[str, list[str]]] = []
    for route in book.routes:
        if route.op.kind == "long":
            needs += [need for need in security.requirements(book.system, route.op) if need not in needs]
    schema = book.progress_schema()
    long = next(route.op.name for route in book.routes if route.op.kind == "long")
    id = {"type": "string", "format": "uuid"}
    value = book.example(f"{book.service} progress", schema, book.progress_value(long))
    refused = [problems.UNAUTHENTICATED] if needs and {} not in needs else []
    return {
        "operationId": name,
        "summary": "Progress of a long operation",
        "description": "How far an operation is that was answered with 202, and what came of it.",
        "tags": ["operations"],
        "security": needs,
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": id, "example": value["id"]}],
        "responses": {
            "200": {
                "description": "How far it is.",
                "headers": {"Retry-After": book.header("Retry-After")},
                "content": {JSON: {"schema": schema, "example": value}},
            },
            **{str(problem.status): book.problem([problem]) for problem in [*refused, problems.NOT_FOUND]},
            "default": book.unexpected(),
        },
    }


def _incoming(book: Book, sender: str, ops: list[Op]) -> dict[str, Any]:
    """The webhook that a dependency calls."""
    system = book.system
    told = [
        event for op in ops for event in op.spec.on if system.deps[sender] in system.events[event].emitters
    ]
    bodies: list[tuple[str, Schema]] = []
    for event in dict.fromkeys(told):
        fields, service = event_fields(system, event)
        schema = book.schemas.fields(fields, service) if fields else {"type": "object"}
        about = "As the blueprint writes it." if fields else f"As {sender} defines it."
        bodies.append((event, book.schemas.named(f"event {event}", event, {"description": about, **schema})))
    for op in ops:
        if op.spec.by is not None and any(grant.actor == sender for grant in op.spec.by.grants):
            schema = book.schemas.fields(op.spec.takes, op.service, request=True)
            bodies.append(
                (
                    op.name,
                    book.schemas.named(
                        f"request {op.name}", f"{sentence(op.name).title().replace(' ', '')}Request", schema
                    ),
                )
            )
    examples = {}
    for name, schema in bodies:
        value = book.example(f"{book.service} webhook {name}", schema, book.examples.of(schema, "", name))
        examples[name] = {"summary": f"{sentence(name)}", "value": value}
    handled = listed(sorted({op.name for op in ops}))
    content: dict[str, Any] = {"schema": {"anyOf": [schema for _, schema in bodies]}, "examples": examples}
    if len(bodies) == 1:
        content = {"schema": bodies[0][1], "example": examples[bodies[0][0]]["value"]}
    return {
        "operationId": f"receive_{sender}_webhook",
        "summary": f"Webhook of {sender}",
        "description": (
            f"{sender} tells what happened. It is stored and answered at once; {handled} works on it afterwards. A "
            "repetition is recognized by its id and does nothing."
        ),
        "tags": ["webhooks"],
        "security": [{signed_by(system, sender): []}],
        "requestBody": {"required": True, "content": {JSON: content}},
        "responses": {
            "204": {"description": "It is stored."},
            "400": book.problem([problems.BAD_REQUEST]),
            "401": book.problem([problems.UNAUTHENTICATED]),
            "default": book.unexpected(),
        },
    }


def _outgoing(book: Book, op: Op, actor: str) -> dict[str, Any]:
    """The webhook that an actor is sent: a CloudEvent of what set the operation off."""
    system = book.system
    names = list(dict.fromkeys([*op.spec.on, *op.spec.emits]))
    bodies: list[tuple[str, Schema, Any]] = []
    for event in names:
        fields, service = event_fields(system, event)
        data = book.schemas.named(f"event {event}", event, book.schemas.fields(fields, service))
        held = book.examples.of(data, "", event, **event_state(system, event))
        bodies.append((event, data, held))
    if not names:
        data = book.schemas.named(
            f"request {op.name}", f"{_title(op.name)}Data", book.schemas.fields(op.spec.takes, op.service)
        )
        bodies.append((_title(op.name), data, book.examples.of(data, "", op.name)))
    schemas, examples = [], {}
    for name, data, held in bodies:
        schema, value = cloud_event(system, book.service, name, data, held)
        ref = book.schemas.named(f"webhook {name}", f"{name}Webhook", schema)
        schemas.append(ref)
        examples[name] = {
            "summary": sentence(name),
            "value": book.example(f"{op.id} to {actor} {name}", ref, value),
        }
    content: dict[str, Any] = {"schema": schemas[0], "example": examples[bodies[0][0]]["value"]}
    if len(schemas) > 1:
        content = {"schema": {"oneOf": schemas}, "examples": examples}
    return {
        "operationId": f"{op.name}_to_{actor}",
        "tags": ["webhooks"],
        "summary": f"{sentence(op.name)}: what {actor} is told",
        "description": (
            "Sent at least once, with growing waits until it is answered with 2xx, and signed over id, timestamp and "
            "body. The same id is the same event: work on it once."
        ),
        "security": [],  # the signature, a parameter, shows who sent it
        "parameters": signature_parameters(),
        "requestBody": {"required": True, "content": {"application/cloudevents+json": content}},
        "responses": {
            "204": {"description": "Received; it is not sent again."},
            "410": {"description": "The subscription is over; nothing more is sent."},
            "default": {"description": "Not received; it is sent again later."},
        },
    }


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in words(name))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
