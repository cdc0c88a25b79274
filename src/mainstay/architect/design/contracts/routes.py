"""Where an operation is found over HTTP: its method and its path.

A path follows from what an operation does, not from its verb: what creates an ``Order`` is ``POST /orders``, what moves
one is ``POST /orders/{id}/cancel``, what gives one is ``GET /orders/{id}``. Where two operations of a service would
get the same, the one that is called as everybody would call it (``create_order`` before ``import_order``) keeps it,
then the one written first; the other's verb is added. ``http:`` in the blueprint settles it, and is never changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mainstay.architect.design.contracts.naming import (
    STREAMING,
    dashed,
    in_query,
    over_http,
    plural,
    reads,
    snake,
    words,
)
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.system import READING, Entity, Op, System

CREATING = ("create", "place", "add", "register", "submit", "open", "book", "post", "new", "make", "start")
UPDATING = ("update", "change", "edit", "set", "modify", "patch", "correct", "amend")
REPLACING = ("put", "replace")
DELETING = ("delete", "remove", "erase", "drop")
FILLING = ("a", "all", "an", "by", "every", "for", "from", "in", "my", "of", "the", "to", "with")
"""Words of a name that say nothing in a path."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One variable of a path."""

    name: str
    """As in the path: ``id`` of ``/orders/{id}``."""
    field: str
    """The field of `takes` that it holds; empty where the path alone says which one is meant."""
    type: Type


@dataclass(frozen=True, slots=True)
class Route:
    """Where an operation is found over HTTP."""

    op: Op
    method: str
    """In capitals."""
    path: str
    """With variables in braces: ``/v2/orders/{id}/cancel``."""
    resource: Entity | None
    """The entity that the path is about."""
    inside: tuple[Parameter, ...]
    """The variables of the path, in order."""
    query: tuple[str, ...]
    """Fields of `takes` that stand in the query."""
    body: tuple[str, ...]
    """Fields of `takes` that stand in the body."""

    @property
    def item(self) -> bool:
        """It is about one row of its resource, which its path names."""
        return bool(self.inside)


def routes(system: System, service: str) -> list[Route]:
    """Method and path of every operation that a service offers over HTTP, in the order written; no two are alike."""
    offered = over_http(system, service)
    taken: set[tuple[str, str]] = set()
    made: dict[Op, Route] = {}
    for op in offered:
        if op.spec.http:
            method, _, path = op.spec.http.partition(" ")
            made[op] = _route(system, op, method, path, _resource(system, op))
            taken.add(_same(method, path))
    ranked = [op for op in offered if op not in made]
    for op in sorted(ranked, key=_rank):
        resource = _resource(system, op)
        method, path = _derived(system, op, resource)
        if op.spec.version:
            path = f"/{op.spec.version}{path}"
        base = path
        verb = _verb(op, resource) if resource is not None else []
        number = 1
        for more in ("", *verb, dashed(op.name)):
            path = f"{base}/{more}" if more else base
            if _same(method, path) not in taken and not base.endswith(f"/{more}"):
                break
        while _same(method, path) in taken:
            number += 1
            path = f"{base}/{dashed(op.name)}-{number}"
        taken.add(_same(method, path))
        made[op] = _route(system, op, method, path, resource)
    return [made[op] for op in offered]


def route_of(system: System, op: Op) -> Route:
    """The route that an operation has by itself, for what is offered over something else than HTTP: a WebSocket."""
    if op.spec.http:
        method, _, path = op.spec.http.partition(" ")
    else:
        method, path = _derived(system, op, _resource(system, op))
        path = f"/{op.spec.version}{path}" if op.spec.version else path
    return _route(system, op, method, path, _resource(system, op))


def _same(method: str, path: str) -> tuple[str, str]:
    """Paths that differ in the names of variables only are the same path (OpenAPI, Paths Object)."""
    return method, re.sub(r"\{[^}]*\}", "{}", path)


def _bare(op: Op) -> str:
    """The name without a version at its end: ``place_order`` of ``place_order_v2``."""
    return re.sub(r"_v[0-9]+$", "", op.name)


def _rank(op: Op) -> int:
    """Operations that are called as everybody would call them come first; the sort keeps the order of the others."""
    verb = words(_bare(op))[0]
    return (
        0 if verb in (CREATING[0], UPDATING[0], DELETING[0], "get", "list") else 1 if verb in CREATING else 2
    )


def _named(system: System, op: Op) -> Entity | None:
    """The entity of its own service that an operation's name speaks of, the longest one."""
    said = f"_{_bare(op)}_"
    own = [system.entity(name, op.service, ()) for name in system.services[op.service].owns]
    named = [
        entity
        for entity in own
        if f"_{snake(entity.name)}_" in said or f"_{plural(snake(entity.name))}_" in said
    ]
    return max(named, key=lambda entity: len(entity.name), default=None)


def _resource(system: System, op: Op) -> Entity | None:
    """The entity that an operation is about: the one it writes, else gives, else is named after."""
    named = _named(system, op)
    for how in ("creates", "moves", "deletes", "changes"):
        written = [write.entity for write in op.writes if write.how == how]
        if written:
            own = [entity for entity in written if entity.service == op.service]
            return named if named in written else (own or written)[0]
    given = op.spec.gives.type if op.spec.gives is not None else None
    if given is not None and given.entity:
        entity = system.entity(given.entity, op.service, ())
        if entity.service == op.service and (named is None or given.many):
            return entity
    return named


def identified_by(op: Op, entity: Entity) -> str:
    """The field of what an operation takes that says which row is meant; empty where none does."""
    own = snake(entity.name)
    for name, type in op.spec.takes.items():
        if type.many or type.states is not None or type.words:
            continue
        if type.entity == entity.name and type.field == entity.key:
            return name
        plain = type.name in ("uuid", "int", "text")
        if plain and name in (own, f"{own}_id", entity.key if entity.key == "id" else f"{own}_{entity.key}"):
            return name
        if (
            name == entity.key
            and not type.entity
            and plain
            and not any(w.how == "creates" for w in op.writes)
        ):
            return name
    return ""


def row_named(system: System, op: Op) -> Entity | None:
    """The entity of which a request has to name one row: what it changes of its service, or what it gives.

    A bulk names its rows in what it takes.
    """
    if op.kind == "bulk":
        return None
    for write in op.writes:
        if write.how != "creates" and write.entity.service == op.service:
            return write.entity
    given = op.spec.gives.type if op.spec.gives else None
    if (
        given is None
        or given.many
        or given.field
        or not given.entity
        or op.kind in STREAMING
        or not reads(op)
    ):
        return None
    return system.entity(given.entity, op.service, ())


def _parent(system: System, op: Op, entity: Entity) -> Entity | None:
    """The entity of the same service below which a list or a new row stands: it takes the key of just one."""
    found = [
        parent
        for type in op.spec.takes.values()
        if type.entity and type.field and not type.many and type.entity != entity.name
        for parent in [system.entity(type.entity, op.service, ())]
        if parent.service == op.service and parent.key == type.field
    ]
    return found[0] if len(found) == 1 else None


def _left(op: Op, entity: Entity) -> tuple[list[str], list[str]]:
    """The words of a name before and after the entity's, without verb, filling words and what it takes."""
    verb, *rest = [word for word in words(_bare(op)) if word not in FILLING] or words(_bare(op))
    taken = {word for name in op.spec.takes for word in words(name)}
    for name in _nouns(entity):
        if [verb, *rest][: len(name)] == name:
            return [], [word for word in [verb, *rest][len(name) :] if word not in taken]
    for at in range(len(rest)):
        for name in _nouns(entity):
            if rest[at : at + len(name)] == name:
                before, after = rest[:at], rest[at + len(name) :]
                return [w for w in before if w not in taken], [w for w in after if w not in taken]
    return [w for w in rest if w not in taken], []


def _nouns(entity: Entity) -> tuple[list[str], ...]:
    """The words of an entity's name, of one and of many; the last one alone means it too (`revoke_key` of ApiKey)."""
    own = words(entity.name)
    return own, [*own[:-1], plural(own[-1])], own[-1:], [plural(own[-1])]


def _verb(op: Op, entity: Entity) -> list[str]:
    """The first word of a name, where it is no noun: ``order_history`` has none."""
    first = words(_bare(op))[0]
    return [] if any(first == name[0] for name in _nouns(entity)) else [first]


def _derived(system: System, op: Op, entity: Entity | None) -> tuple[str, str]:
    """Method and path, without a version."""
    looks = reads(op)
    if entity is None:
        return _without_resource(op, looks)
    before, after = _left(op, entity)
    action = "-".join([*_verb(op, entity), *before, *after]) or dashed(_bare(op))
    root = f"/{plural(dashed(entity.name))}"
    item = f"{root}/{{{entity.key}}}" if entity.key else root
    parent = _parent(system, op, entity)
    if parent is not None and parent.key:
        root = f"/{plural(dashed(parent.name))}/{{{parent.key}}}{root}"
    how = next(
        (how for how in ("creates", "moves", "deletes", "changes") for w in op.writes if w.how == how), ""
    )
    several = any(
        type.many in ("*", "+") or (type.entity and not type.field) for type in op.spec.takes.values()
    )
    verb, own = words(_bare(op))[0], snake(entity.name)
    plainly_many = plural(own) != own and f"_{plural(own)}_" in f"_{_bare(op)}_"
    one = bool(identified_by(op, entity)) or not (several or plainly_many)
    if looks:
        return _looking(op, entity, root, item, before, after, action)
    if op.kind == "bulk":
        return "POST", f"{root}/{action}"
    if how == "creates":
        return "POST", root
    if how == "deletes":
        return ("DELETE", item) if one else ("POST", f"{root}/{action}")
    if how == "changes" and verb in (*UPDATING, *REPLACING) and (one or verb in REPLACING or not _many(op)):
        field = "/".join(["", *(["-".join([*before, *after])] if before or after else [])])
        return ("PUT" if verb in REPLACING else "PATCH"), f"{item}{field}"
    return "POST", f"{item if one else root}/{action}"


def _many(op: Op) -> bool:
    return any(type.many in ("*", "+") for type in op.spec.takes.values())


def _looking(
    op: Op, entity: Entity, root: str, item: str, before: list[str], after: list[str], action: str
) -> tuple[str, str]:
    given = op.spec.gives.type if op.spec.gives is not None else None
    shown = [*(word for word in _verb(op, entity) if word not in READING), *before, *after]
    if op.kind in STREAMING:
        # What tells of one row says so by its name, as watch_order does, or takes its key.
        one = identified_by(op, entity) or f"_{snake(entity.name)}_" in f"_{_bare(op)}_"
        base = item if one else root
        return "GET", f"{base}/{'stream' if base.endswith(f'/{action}') else action}"
    if op.kind == "download":
        base = root if given is not None and given.many and not identified_by(op, entity) else item
        return "GET", f"{base}/{action}"
    if not in_query(op):
        return "POST", f"{root}/{action}"
    tail = f"/{'-'.join(shown)}" if shown else ""
    if given is not None and given.many in ("*", "+") and given.entity == entity.name:
        return "GET", f"{root}{tail}"
    if not identified_by(op, entity) and (before and not after):
        return "GET", f"{root}{tail}"
    if not identified_by(op, entity) and given is not None and op.spec.takes:
        # It is found by something else than its key: GET /users/by-email?email=…
        by = "by-" + "-".join(dashed(name) for name in op.spec.takes)
        return "GET", f"{root}{tail or '/' + by}"
    return "GET", f"{item}{tail}"


def _without_resource(op: Op, looks: bool) -> tuple[str, str]:
    """``GET /home`` of get_home, ``POST /login`` of login."""
    verb, *rest = words(_bare(op))
    said = [word for word in rest if word not in FILLING]
    name = "-".join(said) if looks and verb in READING and said else dashed(_bare(op))
    if not looks or not in_query(op):
        return "POST", f"/{name}"
    keys = [name for name, type in op.spec.takes.items() if type.field and not type.many]
    return "GET", f"/{name}/{{{keys[0]}}}" if len(keys) == 1 else f"/{name}"


def _route(system: System, op: Op, method: str, path: str, resource: Entity | None) -> Route:
    """Every field of what is taken has its place: in the path, else in the query or the body, as the method has it."""
    inside: list[Parameter] = []
    left = dict(op.spec.takes)
    for name in re.findall(r"\{([^}]*)\}", path):
        owner = _owner(system, op, path, name, resource)
        field = name if name in left and not (owner and identified_by(op, owner)) else ""
        if not field and owner is not None:
            field = identified_by(op, owner)
        if field in left and not left[field].many and (left[field].field or not left[field].entity):
            type = left.pop(field)
        else:
            type, field = (owner.fields[name] if owner is not None else Type("text")), ""
        inside.append(Parameter(name, field, type))
    bodiless = method in ("GET", "HEAD", "DELETE")
    fields = tuple(left)
    return Route(
        op, method, path, resource, tuple(inside), fields if bodiless else (), () if bodiless else fields
    )


def _owner(system: System, op: Op, path: str, name: str, resource: Entity | None) -> Entity | None:
    """The entity whose collection stands before a variable, where the variable is its key."""
    before = path[: path.index(f"{{{name}}}")].rstrip("/").rpartition("/")[2]
    parent = _parent(system, op, resource) if resource is not None else None
    own = [system.entity(entity, op.service, ()) for entity in system.services[op.service].owns]
    for entity in (resource, parent, *own):
        if entity is not None and entity.key == name and plural(dashed(entity.name)) == before:
            return entity
    return resource if resource is not None and resource.key == name else None
