"""JSON Schema 2020-12 of what a blueprint's types hold: entities, what operations take and give, what events carry.

Three rules shape them. What a service makes itself (``id``, states, when a row was made) is in replies and not in
requests for its own entities, which then have a second schema, ``OrderInput``. What is marked ``secret`` is in requests
and never in replies or events. An entity that must hold itself, directly or by way of others, is held there by its key.

A field marked ``?`` may be left out or null, which means the same. Money is a decimal number as text, so that no
reader makes a float of it, beside its currency.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mainstay.architect.design.contracts.naming import pascal
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.system import Entity, System

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DECIMAL = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
NOT_NEGATIVE = r"^(0|[1-9][0-9]*)(\.[0-9]+)?$"
CURRENCY = "^[A-Z]{3}$"
COUNTRY = "^[A-Z]{2}$"
PHONE = r"^\+[1-9][0-9]{1,14}$"
SCALARS: dict[str, Schema] = {
    "uuid": {"type": "string", "format": "uuid"},
    "text": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "decimal": {"type": "string", "format": "decimal", "pattern": DECIMAL},
    "bool": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "timestamp": {"type": "string", "format": "date-time"},
    "duration": {"type": "string", "format": "duration"},
    "email": {"type": "string", "format": "email"},
    "phone": {"type": "string", "description": "E.164", "pattern": PHONE},
    "url": {"type": "string", "format": "uri"},
    "iso3166": {"type": "string", "description": "ISO 3166-1 alpha-2", "pattern": COUNTRY},
    "iso4217": {"type": "string", "description": "ISO 4217", "pattern": CURRENCY},
    "json": {"description": "Any JSON value."},
    "file": {
        "type": "string",
        "format": "uri",
        "description": "Where the file can be fetched, for a short time.",
    },
}
UPLOAD: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
MONEY: Schema = {
    "type": "object",
    "description": "An amount in one currency.",
    "required": ["amount", "currency"],
    "properties": {
        "amount": {
            "type": "string",
            "format": "decimal",
            "description": "A decimal number as text, in units of the currency.",
            "pattern": DECIMAL,
        },
        "currency": {"type": "string", "description": "ISO 4217", "pattern": CURRENCY},
    },
}
MADE = (
    "created",
    "created_at",
    "updated",
    "updated_at",
    "changed_at",
    "modified_at",
    "deleted_at",
    "version",
)
"""Fields that a service fills in itself, beside the key and the state."""
BOUNDS = (
    ("least", "minimum"),
    ("above", "exclusiveMinimum"),
    ("most", "maximum"),
    ("below", "exclusiveMaximum"),
)


@dataclass
class Schemas:
    """The schemas of one document, each entity once, beneath one prefix.

    Args:
        system: the system.
        service: the service whose contract it is; its own entities are made by it.
        prefix: where entities are found: ``#/components/schemas/`` in OpenAPI and AsyncAPI, ``#/$defs/`` elsewhere.
    """

    system: System
    service: str
    prefix: str = "#/components/schemas/"
    components: dict[str, Schema] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _same: dict[str, bool] = field(default_factory=dict)
    _back: dict[tuple[str, str], bool] = field(default_factory=dict)

    def of(self, type: Type, service: str = "", request: bool = False, upload: bool = False) -> Schema:
        """The schema of a type.

        Args:
            type: what it is.
            service: in which its names are looked up; the document's own where empty.
            request: for what is sent to the service, rather than what it gives.
            upload: a file is its content, rather than where it can be fetched.
        """
        schema = self._one(type, service or self.service, request, upload)
        if type.many in ("*", "+"):
            schema = {"type": "array", **({"minItems": 1} if type.many == "+" else {}), "items": schema}
        elif type.many == "?":
            schema = nullable(schema)
        return self._marked(type, schema)

    def fields(
        self, fields: Mapping[str, Type], service: str = "", request: bool = False, upload: bool = False
    ) -> Schema:
        """The schema of an object with these fields."""
        properties = {name: self.of(type, service, request, upload) for name, type in fields.items()}
        return _object(properties, [name for name, type in fields.items() if type.many != "?"])

    def named(self, key: str, wanted: str, make: Schema) -> Schema:
        """A reference to a schema of the document's own, such as a problem, under a name that no entity has."""
        name = self._names.get(key)
        if name is None:
            name = self._name(key, wanted if wanted not in self.system.entities else f"{wanted}Value")
            self.components[name] = make
        return {"$ref": self.prefix + name}

    def _name(self, key: str, wanted: str) -> str:
        taken = set(self._names.values())
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}{number}", number + 1
        self._names[key] = name
        return name

    def entity(self, entity: Entity, request: bool = False) -> Schema:
        """A reference to the schema of an entity."""
        request = request and not self._alike(entity)
        key = f"{entity.id}{' input' if request else ''}"
        if key not in self._names:
            own = self.system.entity(entity.name, self.service, ()) is entity
            wanted = entity.name if own else pascal(entity.service) + entity.name
            if request:
                wanted += "Value" if f"{wanted}Input" in self.system.entities else "Input"
            name = self._name(key, wanted)
            self.components[name] = {}  # it may hold itself
            self.components[name] = self._entity(entity, request)
        return {"$ref": self.prefix + self._names[key]}

    def _entity(self, entity: Entity, request: bool) -> Schema:
        properties: dict[str, Schema] = {}
        required: list[str] = []
        for name, type in entity.fields.items():
            if ("secret" in type.marks and not request) or (request and self.made(entity, name)):
                continue
            properties[name] = self.of(self.held(entity, name), entity.service, request)
            if type.many != "?":
                required.append(name)
        owner = f"Owned by {entity.service}." if entity.service else "A value; no service owns it."
        return {"type": "object", "description": owner, **_object(properties, required)}

    def held(self, entity: Entity, name: str) -> Type:
        """What a field of an entity holds: the key alone, where the entity in it would hold this one again."""
        type = entity.fields[name]
        return self._key_of(type, entity.service) if self._comes_back(entity, name) else type

    def made(self, entity: Entity, name: str) -> bool:
        """The document's service fills this field in itself."""
        if entity.service != self.service:
            return False
        type = entity.fields[name]
        if type.states is not None:
            return True
        if name == "id":
            return type.name in ("uuid", "int")
        return name in MADE and type.name in ("timestamp", "int", "date")

    def _alike(self, entity: Entity) -> bool:
        """What is sent of an entity is what is given of it."""
        known = self._same.get(entity.id)
        if known is None:
            self._same[entity.id] = True  # while it is looked at: what comes back to it does not decide
            known = all(
                "secret" not in type.marks
                and not self.made(entity, name)
                and (
                    not type.entity or bool(type.field) or self._alike(self._entity_of(type, entity.service))
                )
                for name, type in entity.fields.items()
            )
            self._same[entity.id] = known
        return known

    def _entity_of(self, type: Type, service: str) -> Entity:
        return self.system.entity(type.entity, service, ())

    def _comes_back(self, entity: Entity, name: str) -> bool:
        """A field must hold an entity that must, in the end, hold this one: no value could be that deep."""
        key = (entity.id, name)
        if key not in self._back:
            start = entity.fields[name]
            stack, seen = list(self._held(start, entity.service)), set()
            while stack:
                inner = stack.pop()
                if inner.id not in seen:
                    seen.add(inner.id)
                    for type in inner.fields.values():
                        stack.extend(self._held(type, inner.service))
            self._back[key] = entity.id in seen
        return self._back[key]

    def _held(self, type: Type, service: str) -> Iterable[Entity]:
        """The entity that a field of this type must hold."""
        target, where = resolved(self.system, type, service)
        if target.entity and not target.field and type.many not in ("*", "?") and target.many != "*":
            yield self._entity_of(target, where)

    def _key_of(self, type: Type, service: str) -> Type:
        """The same as a reference: ``Order.id`` for ``Order``."""
        target, where = resolved(self.system, type, service)
        entity = self._entity_of(target, where)
        key = entity.fields.get(entity.key, Type("uuid"))
        plain = not key.entity and key.states is None and not key.many
        return replace(key, many=type.many) if plain else Type("uuid", type.many)

    def _one(self, type: Type, service: str, request: bool, upload: bool) -> Schema:
        if type.states is not None:
            return {
                "type": "string",
                "enum": list(type.states.names),
                "description": f"Steps: {type.states}.",
            }
        if type.words:
            return {"type": "string", "enum": list(dict.fromkeys(type.words))}
        if type.field:
            return self._reference(type, service, request)
        if type.entity:
            return self.entity(self._entity_of(type, service), request)
        if type.name == "money":
            return {**self.named("money", "Money", MONEY), **_spelled(type)}
        if type.name == "file" and upload:
            return dict(UPLOAD)
        return _bounded(type)

    def _reference(self, type: Type, service: str, request: bool) -> Schema:
        target, where = resolved(self.system, type, service)
        bounds = {name: getattr(type, name) for name, _ in BOUNDS if getattr(type, name) is not None}
        many = target.many if target.many in ("*", "+") else ""
        schema = self.of(replace(target, many=many, marks=(), **bounds), where, request)
        entity = self._entity_of(type, service)
        if type.field == entity.key:
            schema = {**schema, "x-references": f"{type.entity}.{type.field}"}
        if target.personal and not type.personal:
            schema = {**schema, "x-personal-data": True}
        return schema

    @staticmethod
    def _marked(type: Type, schema: Schema) -> Schema:
        more: Schema = {}
        if "secret" in type.marks:
            more["writeOnly"] = True
        if type.personal:
            more["x-personal-data"] = True
        if type.keep is not None:
            more["x-kept-for"] = str(type.keep)
        return {**schema, **more} if more else schema


def resolved(system: System, type: Type, service: str) -> tuple[Type, str]:
    """What a reference to a field leads to in the end, and the service in which its names are looked up.

    A ring of references leads to text.
    """
    seen: set[str] = set()
    while type.field:
        entity = system.entity(type.entity, service, ())
        step = f"{entity.id}.{type.field}"
        if step in seen:
            return Type("text"), service
        seen.add(step)
        type, service = entity.fields[type.field], entity.service
    return type, service


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {"anyOf": [{"$ref": schema["$ref"]}, {"type": "null"}], **rest}
    made = dict(schema)
    if isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if "enum" in made:
        made["enum"] = [*made["enum"], None]
    return made


def _object(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {
        "type": "object",
        **({"required": required} if required else {}),
        **({"properties": properties} if properties else {}),
    }


def _bounded(type: Type) -> Schema:
    """The schema of a scalar, held to its bounds."""
    schema = dict(SCALARS[type.name])
    if type.name == "int":
        low = max(_whole(type.least, math.ceil), _whole(type.above, lambda n: math.floor(n) + 1), key=_floor)
        high = min(
            _whole(type.most, math.floor), _whole(type.below, lambda n: math.ceil(n) - 1), key=_ceiling
        )
        schema |= {k: v for k, v in (("minimum", low), ("maximum", high)) if v is not None}
    elif type.name == "float":
        for name, keyword in BOUNDS:
            if (number := getattr(type, name)) is not None:
                schema[keyword] = _short(number)
    elif type.name == "text":
        low = max(_whole(type.least, math.ceil), _whole(type.above, lambda n: math.floor(n) + 1), key=_floor)
        high = min(
            _whole(type.most, math.floor), _whole(type.below, lambda n: math.ceil(n) - 1), key=_ceiling
        )
        schema |= {"minLength": low} if low is not None and low > 0 else {}
        schema |= {"maxLength": max(0, high)} if high is not None else {}
    elif type.name == "decimal":
        schema |= _spelled(type)
        if (type.least is not None and type.least >= 0) or (type.above is not None and type.above >= 0):
            schema["pattern"] = NOT_NEGATIVE
    return schema


def _whole(number: float | None, to: Any) -> int | None:
    return None if number is None else int(to(number))


def _floor(number: int | None) -> float:
    return -math.inf if number is None else number


def _ceiling(number: int | None) -> float:
    return math.inf if number is None else number


def _short(number: float) -> int | float:
    return int(number) if number == int(number) and abs(number) < 1e15 else number


def _spelled(type: Type) -> Schema:
    """Bounds that JSON Schema cannot hold text to, for the reader."""
    return {
        f"x-{keyword}": _short(number)
        for name, keyword in BOUNDS
        if (number := getattr(type, name)) is not None
    }
