"""What goes over the wire: what an operation takes and gives, what an event carries."""

from __future__ import annotations

from mainstay.architect.design.contracts.json_schema import DIALECT, Schema, Schemas
from mainstay.architect.design.contracts.naming import article, snake
from mainstay.architect.design.questions import personal_in
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.system import Entity, Event, Op, System


def page_of(schema: Schema, most: int | None) -> Schema:
    """One page of a list, and where the next one begins; without pages, the whole list."""
    items = {"type": "array", **({"maxItems": most} if most else {}), "items": schema["items"]}
    if not most:
        return {"type": "object", "required": ["items"], "properties": {"items": items}}
    following = {
        "type": ["string", "null"],
        "description": "The cursor of the next page; null on the last one.",
    }
    return {
        "type": "object",
        "required": ["items", "next"],
        "properties": {"items": items, "next": following},
    }


def reply_of(schemas: Schemas, op: Op) -> Schema | None:
    """What an operation gives when it succeeds; None where that is nothing but its success."""
    given = op.spec.gives.type if op.spec.gives is not None else None
    if given is None:
        return None
    schema = schemas.of(given, op.service)
    return page_of(schema, op.spec.page) if given.many in ("*", "+") else schema


def request_schema(system: System, op: Op) -> Schema:
    """Everything that an operation takes, as one self-contained schema."""
    schemas = Schemas(system, op.service, "#/$defs/")
    made = schemas.fields(op.spec.takes, op.service, request=True, upload=True)
    return contained({**made, "additionalProperties": False}, schemas)


def reply_schema(system: System, op: Op) -> Schema:
    """What an operation gives, as one self-contained schema; only null where it gives nothing."""
    schemas = Schemas(system, op.service, "#/$defs/")
    made = reply_of(schemas, op)
    return contained({"type": "null"} if made is None else made, schemas)


def event_schema(system: System, name: str) -> Schema:
    """What an event carries, as one self-contained schema."""
    fields, service = event_fields(system, name)
    schemas = Schemas(system, service, "#/$defs/")
    return contained(schemas.fields(fields, service), schemas)


def contained(schema: Schema, schemas: Schemas) -> Schema:
    """A schema with all that it refers to."""
    more = {"$defs": dict(sorted(schemas.components.items()))} if schemas.components else {}
    return {"$schema": DIALECT, **schema, **more}


def event_entity(system: System, event: Event) -> Entity | None:
    """The entity that an event is about: of those its emitter writes, the one it is named after, else the first."""
    for op in event.emitters:
        if isinstance(op, Op):
            written = [write.entity for write in op.writes]
            given = op.spec.gives.type if op.spec.gives is not None else None
            if not written and given is not None and given.entity and not given.field:
                written = [system.entity(given.entity, op.service, ())]
            named = [entity for entity in written if event.name.startswith(entity.name)]
            if written:
                return max(named, key=lambda entity: len(entity.name)) if named else written[0]
    return None


def event_fields(system: System, name: str) -> tuple[dict[str, Type], str]:
    """What an event carries, and the service in which its types are looked up.

    That is what the blueprint says under ``events:``. Where it says nothing: the entity that it is about, as it was
    then, without what is secret or personal, so that consumers need not call back and personal data stays where it is;
    without an entity, what its emitter takes. Empty for an event of a dependency, which defines it.
    """
    if system.blueprint.events.get(name):
        return dict(system.blueprint.events[name]), ""
    event = system.events[name]
    entity = event_entity(system, event)
    first = next((op for op in event.emitters if isinstance(op, Op)), None)
    if entity is not None:
        fields, service = dict(entity.fields), entity.service
        if entity.key and not fields[entity.key].many and not fields[entity.key].entity:
            fields[entity.key] = Type(f"{entity.name}.{entity.key}")
    elif first is not None:
        fields, service = first.spec.takes, first.service
    else:
        return {}, ""
    kept = {
        name: type
        for name, type in fields.items()
        if "secret" not in type.marks and not personal_in(system, {name: type}, service)
    }
    return kept, service


def event_state(system: System, name: str) -> dict[str, str]:
    """The state of its entity when an event is told, by the field that holds it, where all that emit it agree."""
    event = system.events[name]
    entity = event_entity(system, event)
    if entity is None or not entity.state:
        return {}
    states = entity.fields[entity.state].states
    reached = set()
    for op in event.emitters:
        moves = (
            [move.to for move in op.spec.moves if move.entity == entity.name] if isinstance(op, Op) else []
        )
        reached.add(moves[-1] if moves else states.first if states else "")
    return {entity.state: reached.pop()} if len(reached) == 1 else {}


def event_key(system: System, name: str) -> str:
    """The field of an event's payload whose value keeps its order: events of one row stay in order.

    That is the key of the entity that the event is about; where it is not told, the first other key that is.
    """
    fields, _ = event_fields(system, name)
    entity = event_entity(system, system.events[name])
    first = [name for name, type in fields.items() if type.field or type.name == "uuid"]
    own: list[str] = []
    if entity is not None:
        short = snake(entity.name)
        own = [
            name for name, type in fields.items() if type.entity == entity.name and type.field == entity.key
        ]
        own += [short, f"{short}_id", entity.key]
    return next((name for name in (*own, *first) if name in fields and not fields[name].many), "")


def event_about(system: System, name: str) -> str:
    """One sentence on what an event carries."""
    event = system.events[name]
    if system.blueprint.events.get(name):
        return "As the blueprint writes it."
    entity = event_entity(system, event)
    if entity is not None:
        dropped = [
            field
            for field, type in entity.fields.items()
            if "secret" in type.marks or personal_in(system, {field: type}, entity.service)
        ]
        left_out = f" {', '.join(dropped)} left out: personal or secret." if dropped else ""
        return f"{article(entity.name)[:1].upper()}{article(entity.name)[1:]} as it was then.{left_out}"
    emitters = [op.id for op in event.emitters]
    if any(isinstance(op, Op) for op in event.emitters):
        return f"What {emitters[0]} was given."
    return f"As {emitters[0]} defines it." if emitters else "Nobody emits it."
