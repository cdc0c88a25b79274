"""The system behind a blueprint: names linked, edges read off the operations, every number with its origin.

Nodes are `Op`, `Dep`, `Act`, `Entity` and `Event`; an `Edge` is one call of an operation. What goes over more than one
node (loads, call trees) is in `flows.py`; what is wrong with any of it, in ``risks/``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from mainstay.architect.design.blueprint import (
    Actor,
    Blueprint,
    Dependency,
    Infrastructure,
    Operation,
    Service,
)
from mainstay.architect.design.figures import COUNT, SECONDS, SHARE, Figure
from mainstay.architect.design.phrases import Call
from mainstay.architect.design.reading import Source, key_of
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.units import Duration, Fraction, Rate
from mainstay.architect.document import Where
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Location
from mainstay.architect.nearest import nearest

ANYONE = "anyone"
READING = (
    "get",
    "list",
    "find",
    "search",
    "read",
    "count",
    "show",
    "fetch",
    "view",
    "download",
    "export",
    "check",
)


SIGN_IN = ("login", "log_in", "sign_in", "signin", "authenticate", "token", "reset_password", "verify_code")
"""What begins with one of these checks who somebody is."""


@dataclass(eq=False, slots=True)
class Dep:
    """A system of others."""

    name: str
    spec: Dependency
    where: Where
    edges: list[Edge] = field(default_factory=list)
    """The calls that reach it."""

    @property
    def id(self) -> str:
        """As a blueprint names it."""
        return self.name


@dataclass(eq=False, slots=True)
class Act:
    """An actor."""

    name: str
    spec: Actor
    where: Where
    edges: list[Edge] = field(default_factory=list)
    """Webhooks that it is sent."""

    @property
    def id(self) -> str:
        """As a blueprint names it."""
        return self.name


@dataclass(eq=False, slots=True)
class Part:
    """A broker, cache, gateway: run, not written."""

    name: str
    spec: Infrastructure
    where: Where


@dataclass(eq=False, slots=True)
class Entity:
    """What a service owns. `service` is empty for a type that none owns."""

    name: str
    service: str
    fields: dict[str, Type]
    where: Where

    @property
    def id(self) -> str:
        """``orders.Order``."""
        return f"{self.service}.{self.name}" if self.service else self.name

    @property
    def key(self) -> str:
        """The field that identifies a row: ``id``, else the first unique one, else the first."""
        if "id" in self.fields:
            return "id"
        return next(
            (name for name, type in self.fields.items() if "unique" in type.marks),
            next(iter(self.fields), ""),
        )

    def holds(self, mark: str) -> bool:
        """Some field of it bears that mark."""
        return any(mark in type.marks for type in self.fields.values())

    @property
    def state(self) -> str:
        """The field that holds its states; empty where it has none."""
        return next((name for name, type in self.fields.items() if type.states is not None), "")


@dataclass(eq=False, slots=True)
class Event:
    """What operations tell each other without waiting."""

    name: str
    emitters: list[Op | Dep] = field(default_factory=list)
    consumers: list[Op] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Edge:
    """One call of an operation."""

    caller: Op
    call: Call
    target: Op | Dep | Act
    group: int
    """Its place in the order of calls; calls of one group run at the same time."""
    where: Where
    fallback: Op | Dep | None = None

    @property
    def waits(self) -> bool:
        """Whether the caller waits for the answer."""
        return not self.call.later and not isinstance(self.target, Act)

    @property
    def optional(self) -> bool:
        """Whether the caller goes on where it fails."""
        return self.call.fallback in Call.WITHOUT

    @property
    def id(self) -> str:
        """``orders.place_order->stripe``."""
        return f"{self.caller.id}->{self.target.id}"


@dataclass(frozen=True, slots=True)
class Write:
    """One entity that an operation writes."""

    entity: Entity
    how: str
    """``creates``, ``moves``, ``changes`` or ``deletes``."""
    field: str = ""
    hottest: Fraction | None = None
    where: Where = ()


@dataclass(eq=False, slots=True)
class Op:
    """One operation of a service."""

    service: str
    name: str
    spec: Operation
    where: Where
    edges: list[Edge] = field(default_factory=list)
    """Its calls, in order."""
    callers: list[Edge] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    undo: Op | None = None

    @property
    def id(self) -> str:
        """``orders.place_order``."""
        return f"{self.service}.{self.name}"

    @property
    def kind(self) -> str:
        """``request``, ``event``, ``schedule``, or the kind that was written."""
        if self.spec.kind:
            return self.spec.kind
        return "event" if self.spec.on else "schedule" if self.spec.every else "request"

    @property
    def mutates(self) -> bool:
        """It changes something here, by what it says of itself."""
        spec = self.spec
        return bool(self.writes or spec.emits or spec.undo)

    @property
    def lists(self) -> bool:
        """It gives any number of things."""
        given = self.spec.gives
        return given is not None and given.type is not None and given.type.many in ("*", "+")


class System:
    """A blueprint with its names linked.

    Raises:
        MainstayError: a name that is used is not there, or is there in two senses. The sentence has the place and the
            nearest name.
    """

    def __init__(self, source: Source, blueprint: Blueprint | None = None) -> None:
        self.source = source
        self.blueprint = blueprint or source.blueprint()
        spec = self.blueprint
        self.name = spec.blueprint
        self.needs, self.assume = spec.needs, spec.assume
        self.services: dict[str, Service] = spec.services
        self.deps = {name: Dep(name, dep, ("depends", name)) for name, dep in spec.depends.items()}
        self.actors = {name: Act(name, actor, ("actors", name)) for name, actor in spec.actors.items()}
        self.parts = {name: Part(name, part, ("parts", name)) for name, part in spec.parts.items()}
        self.ops: dict[str, Op] = {}
        self.entities: dict[str, list[Entity]] = {}
        """By name; more than one where services share it, which is a risk."""
        self.events: dict[str, Event] = {name: Event(name) for name in spec.events}
        self.used: dict[str, Figure] = {}
        """Every figure that anything has asked for, by key."""
        self.turned: dict[str, float] = {}
        """Figures by key, and the factor by which they are other than written: the sensitivity table turns them."""
        self._check_names()
        self._gather()
        for op in self.ops.values():
            self._link(op)
        self._check_types()
        self._check_tenancy()
        self._check_paths()

    # ------------------------------------------------------------------------------------ places

    def at(self, *where: Any) -> Location:
        """The place of a value in the blueprint."""
        return self.source.place(*where)

    def refuse(self, where: Where, message: str) -> MainstayError:
        """The error for a place."""
        return MainstayError(f"{self.at(*where)}: {message}")

    # ------------------------------------------------------------------------------------ linking

    def _check_names(self) -> None:
        """A call names a service's operation, a dependency or an actor: no name may be two of them."""
        seen: dict[str, Where] = {}
        for section in ("services", "depends", "actors", "parts"):
            for name in getattr(self.blueprint, section):
                if name in seen:
                    raise self.refuse((section, name), f"{name!r} is also written at {self.at(*seen[name])}")
                seen[name] = (section, name)

    def _gather(self) -> None:
        for service, spec in self.services.items():
            for name, fields in spec.owns.items():
                where: Where = ("services", service, "owns", name)
                self.entities.setdefault(name, []).append(Entity(name, service, dict(fields), where))
            for name, operation in spec.does.items():
                where = ("services", service, "does", name)
                self.ops[f"{service}.{name}"] = Op(service, name, operation, where)
        for name, fields in self.blueprint.types.items():
            if name in self.entities:
                first = self.entities[name][0]
                raise self.refuse(("types", name), f"{name!r} is already owned, at {self.at(*first.where)}")
            self.entities[name] = [Entity(name, "", dict(fields), ("types", name))]
        for dep in self.deps.values():
            for event in dep.spec.sends:
                self.events.setdefault(event, Event(event)).emitters.append(dep)
        for op in self.ops.values():
            for event in op.spec.emits:
                self.events.setdefault(event, Event(event)).emitters.append(op)
            for event in op.spec.on:
                self.events.setdefault(event, Event(event)).consumers.append(op)

    def _link(self, op: Op) -> None:
        for group, item in enumerate(op.spec.calls):
            together = item if isinstance(item, tuple) else (item,)
            for at, call in enumerate(together):
                where: Where = (
                    (*op.where, "calls", group, at)
                    if isinstance(item, tuple)
                    else (*op.where, "calls", group)
                )
                edge = Edge(op, call, self._callee(op, call.to, where), group, where)
                if call.fallback and call.fallback not in Call.WITHOUT:
                    other = self._callee(op, call.fallback, where)
                    if isinstance(other, Act):
                        raise self.refuse(
                            where, f"{call.fallback!r} is an actor and cannot stand in for a call"
                        )
                    edge.fallback = other
                op.edges.append(edge)
                if isinstance(edge.target, Op):
                    edge.target.callers.append(edge)
                else:
                    edge.target.edges.append(edge)
        if op.spec.by is not None:
            for grant in op.spec.by.grants:
                known = [ANYONE, *self.actors, *self.deps]
                if grant.actor not in known:
                    hint = nearest(grant.actor, known)
                    raise self.refuse((*op.where, "by"), f"there is no actor named {grant.actor!r}{hint}")
                roles = self.actors[grant.actor].spec.roles if grant.actor in self.actors else ()
                if grant.role and grant.role not in roles:
                    hint = nearest(grant.role, roles)
                    raise self.refuse((*op.where, "by"), f"{grant.actor} has no role {grant.role!r}{hint}")
        for name in op.spec.emits_in:
            if name not in op.spec.emits:
                hint = nearest(name, op.spec.emits)
                raise self.refuse((*op.where, "emits_in", name), f"{op.id} does not emit {name!r}{hint}")
        if op.spec.undo is not None:
            op.undo = self.ops.get(f"{op.service}.{op.spec.undo}")
            if op.undo is None:
                hint = nearest(op.spec.undo, self.services[op.service].does)
                raise self.refuse((*op.where, "undo"), f"{op.service} does no {op.spec.undo!r}{hint}")
            if op.undo is op:
                raise self.refuse(
                    (*op.where, "undo"), f"{op.id} cannot undo itself; name the operation that takes it back"
                )
        if op.spec.deprecated is not None and op.spec.deprecated.use:
            use = op.spec.deprecated.use
            if use not in self.services[op.service].does:
                hint = nearest(use, self.services[op.service].does)
                raise self.refuse((*op.where, "deprecated"), f"{op.service} does no {use!r}{hint}")
        self._writes(op)

    def _callee(self, op: Op, name: str, where: Where) -> Op | Dep | Act:
        found = self.ops.get(name if "." in name else f"{op.service}.{name}")
        if found is not None:
            return found
        if name in self.deps:
            return self.deps[name]
        if name in self.actors:
            return self.actors[name]
        if name in self.services:
            does = list(self.services[name].does)
            example = f"; name what it does: {name}.{does[0]}" if does else ", and it does nothing"
            raise self.refuse(where, f"{name!r} is a service{example}")
        known = [*self.ops, *self.services[op.service].does, *self.deps, *self.actors]
        raise self.refuse(where, f"{name!r} is neither an operation nor a dependency{nearest(name, known)}")

    def entity(self, name: str, service: str, where: Where) -> Entity:
        """The entity of that name: the service's own before those of others.

        Raises:
            MainstayError: there is none.
        """
        found = self.entities.get(name)
        if not found:
            raise self.refuse(where, f"there is no entity {name!r}{nearest(name, self.entities)}")
        return next((entity for entity in found if entity.service == service), found[0])

    def _writes(self, op: Op) -> None:
        spec, at = op.spec, op.where
        for name in spec.creates:
            op.writes.append(
                Write(self.entity(name, op.service, (*at, "creates")), "creates", where=(*at, "creates"))
            )
        for name in spec.deletes:
            op.writes.append(
                Write(self.entity(name, op.service, (*at, "deletes")), "deletes", where=(*at, "deletes"))
            )
        for name in spec.reads:
            self.entity(name, op.service, (*at, "reads"))
        for change in spec.changes:
            where: Where = (*at, "changes")
            entity = self.entity(change.entity, op.service, where)
            if change.field and change.field not in entity.fields:
                hint = nearest(change.field, entity.fields)
                raise self.refuse(where, f"{change.entity} has no field {change.field!r}{hint}")
            op.writes.append(Write(entity, "changes", change.field, change.hottest, where))
        for move in spec.moves:
            where = (*at, "moves")
            entity = self.entity(move.entity, op.service, where)
            states = entity.fields[entity.state].states if entity.state else None
            if states is None:
                raise self.refuse(where, f"{move.entity} has no states; write them in a field of it")
            for state in (move.to, *([move.start] if move.start else [])):
                if state not in states.names:
                    raise self.refuse(
                        where, f"{move.entity} is never {state!r}{nearest(state, states.names)}"
                    )
            if move.start and (move.start, move.to) not in states.steps:
                raise self.refuse(where, f"no step of {move.entity} leads from {move.start!r} to {move.to!r}")
            if not states.before(move.to):
                raise self.refuse(
                    where, f"no step of {move.entity} leads to {move.to!r}; it begins in that state"
                )
            op.writes.append(Write(entity, "moves", entity.state, where=where))
        given = spec.gives.type.entity if spec.gives and spec.gives.type and not spec.gives.type.many else ""
        if not op.writes and given and not spec.on and self._makes(op):
            own = next(
                (entity for entity in self.entities.get(given, ()) if entity.service == op.service), None
            )
            signs_in = op.name.startswith(SIGN_IN)
            if own is not None and not (signs_in and own.holds("secret")):  # the account was there before
                op.writes.append(Write(own, "creates", where=(*at, "gives")))
        if not op.writes and spec.undo is not None:
            # It can be undone, so it wrote something: the entity of its service that other operations move.
            own = next(
                (e for group in self.entities.values() for e in group if e.service == op.service and e.state),
                None,
            )
            if own is not None:
                op.writes.append(Write(own, "creates", where=(*at, "undo")))

    @staticmethod
    def _makes(op: Op) -> bool:
        """What gives an entity of its service makes it where it emits, or takes and is not called a reading.

        A name such as ``customer_name``, which begins with what is given, is called a reading too. What is asked for
        by a field of itself (``takes: {id: Order.id}, gives: Order``) was there before.
        """
        given = op.spec.gives.type.entity if op.spec.gives and op.spec.gives.type else ""
        if any(type.entity == given and type.field for type in op.spec.takes.values()):
            return False
        begins = op.name.startswith(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", given).lower() + "_")
        looks = op.name.split("_")[0] in READING or (bool(given) and begins)
        return bool(op.spec.emits) or (bool(op.spec.takes) and not looks)

    def _check_types(self) -> None:
        """Every entity and field that a type names is there."""
        for where, type, service in self._types():
            if not type.entity:
                continue
            entity = self.entity(type.entity, service, where)
            if type.field and type.field not in entity.fields:
                hint = nearest(type.field, entity.fields)
                raise self.refuse(where, f"{type.entity} has no field {type.field!r}{hint}")

    def _check_tenancy(self) -> None:
        """What tells tenants apart is an entity, or a field of one."""
        by = self.blueprint.tenancy.by if self.blueprint.tenancy is not None else ""
        fields = {name for group in self.entities.values() for entity in group for name in entity.fields}
        if by and by not in self.entities and by not in fields:
            hint = nearest(by, [*self.entities, *fields])
            raise self.refuse(("tenancy", "by"), f"{by!r} is neither an entity nor a field of one{hint}")

    def _check_paths(self) -> None:
        """No two operations of a service are written at the same method and path (OpenAPI, Paths Object)."""
        seen: dict[tuple[str, str], Op] = {}
        for op in self.ops.values():
            if op.spec.http:
                key = (op.service, re.sub(r"\{[^}]*\}", "{}", op.spec.http))
                if key in seen:
                    raise self.refuse(
                        (*op.where, "http"), f"{op.spec.http} is already the path of {seen[key].name}"
                    )
                seen[key] = op

    def _types(self) -> Iterator[tuple[Where, Type, str]]:
        for group in self.entities.values():
            for entity in group:
                for name, type in entity.fields.items():
                    yield (*entity.where, name), type, entity.service
        for event, fields in self.blueprint.events.items():
            for name, type in fields.items():
                yield ("events", event, name), type, ""
        for op in self.ops.values():
            for name, type in op.spec.takes.items():
                yield (*op.where, "takes", name), type, op.service
            if op.spec.gives is not None and op.spec.gives.type is not None:
                yield (*op.where, "gives"), op.spec.gives.type, op.service

    # ------------------------------------------------------------------------------------ figures

    def figure(self, where: Where, written: Any, assumed: str, unit: str) -> Figure:
        """The number at `where`, or the assumption of that name where nothing is written there.

        Args:
            where: the way to the value in the blueprint.
            written: what stands there, or None.
            assumed: the field of `Assume` that takes its place.
            unit: one of `figures`' units.
        """
        if written is not None:
            made = Figure(key_of(where), base(written), unit, self.at(*where))
        else:
            own = ("assume", assumed)
            place = self.at(*own) if self.source.written(*own) else None
            made = Figure(
                f"assume.{assumed}", base(getattr(self.assume, assumed)), unit, place, place is None
            )
        return self.known(made)

    def known(self, made: Figure) -> Figure:
        """A figure as this system has it: kept by its key, and turned where it is to be turned.

        Every number that is read off the blueprint passes here.
        """
        if made.key in self.turned:
            made = replace(made, value=turned(made, self.turned[made.key]))
        self.used[made.key] = made
        return made

    def stated(self, where: Where, written: Any, unit: str) -> Figure | None:
        """The number at `where`; None where nothing is written."""
        if written is None:
            return None
        return self.known(Figure(key_of(where), base(written), unit, self.at(*where)))

    def assumption(self, name: str, unit: str) -> Figure:
        """An assumption by its name in `Assume`."""
        return self.figure((), None, name, unit)

    def need(self, name: str, op: Op | None = None) -> Figure | None:
        """A need (``availability``, ``p99``, ``retention``, ``team``): the operation's own, else the system's."""
        unit = {"availability": SHARE, "p99": SECONDS, "retention": SECONDS, "team": COUNT}[name]
        if op is not None and getattr(op.spec.needs, name) is not None:
            return self.stated((*op.where, "needs", name), getattr(op.spec.needs, name), unit)
        return self.stated(("needs", name), getattr(self.needs, name), unit)

    def availability(self, node: Op | Dep | Part) -> Figure:
        """Of a service (by any operation of it), a dependency or a part."""
        if isinstance(node, Op):
            where: Where = ("services", node.service, "availability")
            return self.figure(where, self.services[node.service].availability, "service_availability", SHARE)
        kind = "dependency_availability" if isinstance(node, Dep) else "part_availability"
        return self.figure((*node.where, "availability"), node.spec.availability, kind, SHARE)

    def timeout(self, edge: Edge) -> Figure:
        """How long the caller waits for one attempt."""
        if edge.call.within is not None:
            return self.known(
                Figure(f"{edge.id}.within", edge.call.within.seconds, SECONDS, self.at(*edge.where))
            )
        target = edge.target
        written = None if isinstance(target, Act) else target.spec.timeout
        return self.figure((*target.where, "timeout"), written, "timeout", SECONDS)

    def attempts(self, edge: Edge) -> Figure:
        """How often the call is tried at most: one more than it is repeated."""
        if edge.call.retry is not None:
            return self.known(
                Figure(f"{edge.id}.retry", 1 + edge.call.retry.times, COUNT, self.at(*edge.where))
            )
        target = edge.target
        retry = None if isinstance(target, Act) else target.spec.retry
        if retry is None:
            return Figure(f"{edge.id}.retry", 1, COUNT, None, False)
        where = (*target.where, "retry")
        return self.known(Figure(key_of(where), 1 + retry.times, COUNT, self.at(*where)))

    def copies(self, service: str) -> Figure:
        """Processes of a service."""
        return self.figure(("services", service, "copies"), self.services[service].copies, "copies", COUNT)

    def pool(self, service: str) -> Figure:
        """Database connections of one process."""
        return self.figure(("services", service, "pool"), self.services[service].pool, "pool", COUNT)

    def work(self, op: Op) -> Figure:
        """An operation's own computing, the 99th percentile."""
        return self.figure((*op.where, "work"), op.spec.work, "work", SECONDS)

    def hold(self, op: Op) -> Figure:
        """How long one run of an operation holds a database connection."""
        return self.figure((*op.where, "hold"), op.spec.hold, "hold", SECONDS)

    # ------------------------------------------------------------------------------------ questions

    @cached_property
    def brokered(self) -> bool:
        """Events go over a broker, rather than over the database's own outbox alone."""
        return any(
            part.spec.kind in ("kafka", "nats", "rabbitmq", "redis", "sqs", "pubsub")
            for part in self.parts.values()
        )

    def owner(self, name: str) -> str:
        """The service that owns an entity; empty where none does."""
        return next((entity.service for entity in self.entities.get(name, ())), "")


def turned(figure: Figure, factor: float) -> float:
    """The value of a figure turned by a factor a little above or below 1.

    Of a share, what it lacks of 100 % is divided by the factor; what comes in whole pieces stays whole, and moves.
    """
    if figure.unit == SHARE:
        return max(0.0, 1 - (1 - figure.value) / factor)
    value = figure.value * factor
    if figure.key.rpartition(".")[2] in ("copies", "pool", "retry", "team"):
        return max(1, math.ceil(value) if factor > 1 else math.floor(value))
    return value


def base(value: Any) -> float:
    """A written value as a number in base units."""
    match value:
        case Duration():
            return value.seconds
        case Rate():
            return value.per_second
        case Fraction():
            return value.value
    return float(value)
