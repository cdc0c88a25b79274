"""What a new version of a blueprint changes for those who rely on the old one.

Two directions, two rules (Liskov and Wing: A Behavioral Notion of Subtyping, 1994). What an operation *takes* may
grow more tolerant: everything that could be sent before must still be taken. What it *gives*, and what an event
carries, may grow more exact: everything that comes now must have been allowed before. All else breaks somebody, and
needs a new version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from mainstay.architect.design.contracts.http_words import limits, succeeds_with
from mainstay.architect.design.contracts.json_schema import Schemas, resolved
from mainstay.architect.design.contracts.naming import STREAMING, exposed, reads
from mainstay.architect.design.contracts.payloads import event_fields, event_key
from mainstay.architect.design.contracts.routes import Route, identified_by, routes, row_named
from mainstay.architect.design.questions import listed
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.system import Entity, Op, System
from mainstay.architect.findings import Location

IN, OUT = "in", "out"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was."""

    subject: str
    """``orders.place_order``, or the event."""
    where: str
    """What of it: ``takes.lines.quantity``; empty for the whole."""
    what: str
    """As a clause: ``is now required``."""
    breaking: bool
    remedy: str
    location: Location

    def __str__(self) -> str:
        return f"{self.subject}{'.' + self.where if self.where else ''} {self.what}"


def compare(old: System, new: System, today: date | None = None) -> list[Change]:
    """Every change that somebody outside a service can see, breaking ones first, then by subject.

    Args:
        old: the system as others rely on it.
        new: the system as it is to be.
        today: the day by which a sunset has passed; the present one where it is None.
    """
    found = [*_operations(old, new, today or date.today()), *_events(old, new)]
    return sorted(found, key=lambda change: (not change.breaking, change.subject, change.where, change.what))


def announced(old: System, new: System) -> bool:
    """The blueprint's own version says that it breaks: its first number is higher."""
    first, second = (system.blueprint.version.partition(".")[0] for system in (old, new))
    return first.isdigit() and second.isdigit() and int(second) > int(first)


# ---------------------------------------------------------------------------------------------- operations


def _operations(old: System, new: System, today: date) -> Iterator[Change]:
    routed = _Routes(old), _Routes(new)
    for name, before in old.ops.items():
        if not _offered(old, before):
            continue  # nobody calls it
        after = new.ops.get(name)
        if after is None:
            gone = before.spec.deprecated
            over = gone is not None and gone.sunset is not None and gone.sunset <= today
            where = ("services", before.service) if before.service in new.services else ()
            yield Change(
                name,
                "",
                f"is gone, as announced for {gone.sunset}" if over and gone else "is gone",
                not over,
                f"keep it, deprecated with a sunset: {before.name} deprecated: {today} sunset …",
                new.at(*where),
            )
            continue
        yield from _operation(old, new, before, after, routed)
    for name, after in new.ops.items():
        if name not in old.ops and (_offered(new, after) or not (after.spec.on or after.spec.every)):
            yield Change(name, "", "is new", False, "", new.at(*after.where))


class _Routes:
    """Where the operations of a system are found over HTTP, with the ways that they get out of each other's."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._known: dict[str, dict[str, Route]] = {}

    def of(self, op: Op) -> Route | None:
        """The route of an operation; None where it has none."""
        if op.service not in self._known:
            made = routes(self.system, op.service)
            self._known[op.service] = {route.op.name: route for route in made}
        return self._known[op.service].get(op.name)


def _offered(system: System, op: Op) -> list[str]:
    """The protocols over which an operation can be called from outside its service."""
    return [
        protocol
        for protocol in system.services[op.service].speaks
        if op in exposed(system, op.service, protocol) and (protocol != "sse" or op.kind in STREAMING)
    ]


def _operation(
    old: System, new: System, before: Op, after: Op, routed: tuple[_Routes, _Routes]
) -> Iterator[Change]:
    def change(where: str, what: str, breaking: bool, remedy: str = "") -> Change:
        key = where.partition(".")[0]
        place = new.at(*after.where, key) if key else new.at(*after.where)
        return Change(after.id, where, what, breaking, remedy or _version(after), place)

    if before.kind != after.kind:
        yield change("kind", f"is {after.kind} and was {before.kind}", True)
    spoken, speaks = _offered(new, after), new.services[after.service].speaks
    lost = [
        protocol
        for protocol in _offered(old, before)
        if protocol not in spoken and (protocol not in speaks or before.spec.by == after.spec.by)
    ]
    if lost:
        yield Change(
            after.id,
            "",
            f"is not offered over {listed(lost, 'or')} any more",
            True,
            f"go on speaking {listed(lost)} until nobody does",
            new.at("services", after.service),
        )
    yield from (
        Change(after.id, f"takes{way}", what, breaking, _version(after), new.at(*after.where, "takes"))
        for way, what, breaking in _fields(
            _Side(old, before.service), before.spec.takes, _Side(new, after.service), after.spec.takes, IN
        )
    )
    yield from _gives(old, new, before, after)
    yield from _callers(before, after, change)
    yield from _signing_in(old, new, before, after, change)
    first, second = routed[0].of(before), routed[1].of(after)
    if first is not None and second is not None:
        yield from _over_http(first, second, change)
    if "graphql" in spoken and "graphql" in _offered(old, before):
        yield from _over_graphql(old, new, before, after, change)
    if both := {"graphql", "grpc"} & set(spoken) & set(_offered(old, before)):
        yield from _named_row(old, new, before, after, change)
        given = [op.spec.gives.type if op.spec.gives else None for op in (before, after)]
        # What gives nothing tells of its success in place of it: each GraphQL field has a value, each oneof a choice.
        if given[0] is None and given[1] is not None and ("graphql" in both or after.kind == "bulk"):
            yield change("gives", f"is {given[1]} and was only that it was done", True)
    if after.spec.idempotent == "key" and before.spec.idempotent != "key":
        yield change(
            "idempotent", "now asks for an Idempotency-Key", True, "take requests without a key for a time"
        )
    if after.lists and before.lists:
        yield from _pages(before, after, change)
    yield from _limits(old, new, before, after, change)
    if after.spec.deprecated is not None and before.spec.deprecated is None:
        yield change("deprecated", f"is deprecated since {after.spec.deprecated.since}", False)


Tell = Callable[..., Change]
"""Where, what, whether it breaks somebody, and the remedy where it is not a new version."""


def _over_http(first: Route, second: Route, change: Tell) -> Iterator[Change]:
    """Method and path, how the body is written, and the status of success."""
    shown = [f"{route.method} {route.path}" for route in (first, second)]
    # Variables may be called otherwise: callers never see their names.
    same = [(route.method, re.sub(r"\{[^}]*\}", "{}", route.path)) for route in (first, second)]
    if same[0] != same[1]:
        remedy = f"keep the path: {second.op.name} http: {shown[0]}"
        yield change("http", f"is {shown[1]} and was {shown[0]}", True, remedy)
        return
    files = [
        any(route.op.spec.takes[name].name == "file" for name in route.body) for route in (first, second)
    ]
    if first.body and files[0] != files[1]:
        forms = ["multipart/form-data" if one else "JSON" for one in files]
        yield change("takes", f"is sent as {forms[1]} and was sent as {forms[0]}", True)
    status = succeeds_with(first), succeeds_with(second)
    if status[0] != status[1] and first.op.kind == second.op.kind:
        yield change("http", f"answers {status[1]} and answered {status[0]}", True)


def _over_graphql(old: System, new: System, before: Op, after: Op, change: Tell) -> Iterator[Change]:
    """What is only otherwise in GraphQL: its roots, its unions and its connections are part of each query."""
    if before.kind == after.kind and reads(before) != reads(after):
        roots = ["query" if reads(op) else "mutation" for op in (before, after)]
        yield change("", f"is a {roots[1]} and was a {roots[0]}", True)
    known, now = (op.spec.gives.problems if op.spec.gives else () for op in (before, after))
    if known and (gone := [name for name in known if name not in now]):
        yield change("gives", f"is never {listed(gone, 'or')} any more, which queries ask for", True)
    if not known and now and after.kind != "bulk":  # where each item is a union with what may go wrong anyway
        yield change("gives", f"is a union with {listed(now)} now, and was plain", True)
    if before.spec.idempotent == "key" and after.spec.idempotent != "key":
        yield change("idempotent", "takes no idempotencyKey any more", True)


def _named_row(old: System, new: System, before: Op, after: Op, change: Tell) -> Iterator[Change]:
    """The key of the row that a request is about, where it takes none: it is an argument of its own."""
    keys = []
    for system, op in ((old, before), (new, after)):
        entity = row_named(system, op)
        named = entity is not None and entity.key and not identified_by(op, entity)
        keys.append(f"{entity.name}.{entity.key}" if entity is not None and named else "")
    if keys[0] != keys[1]:
        what = f"asks for {keys[1]} now" if keys[1] else "asks for no key any more"
        yield change("takes", f"{what}{f', and asked for {keys[0]}' if keys[0] else ''}", True)


def _pages(before: Op, after: Op, change: Tell) -> Iterator[Change]:
    first, second = before.spec.page, after.spec.page
    if first is None and second is not None:
        yield change("page", f"now gives {second} at a time, and gave all", True)
    elif first is not None and second is None:
        yield change("page", f"has no pages any more, and gave {first} at a time", True)
    elif first is not None and second is not None and second != first:
        yield change("page", f"gives {second} at most and gave {first}", second < first)


def _limits(old: System, new: System, before: Op, after: Op, change: Tell) -> Iterator[Change]:
    """Who kept within the old limit is not to be refused by the new one."""
    first, second = limits(old, before), limits(new, after)
    for who, rate in second.items():
        was = first.get(who)
        if was is not None and rate.per_second > was.per_second:
            yield change("limit", f"allows {who} {rate} and allowed {was}", False)
        elif was is None or rate.per_second < was.per_second:
            named = who == "caller" or who in old.actors
            if named:
                yield change(
                    "limit",
                    f"allows {who} {rate} and allowed {was if was is not None else 'any rate'}",
                    True,
                    f"tell {who} before, with a day",
                )
    size = before.spec.size, after.spec.size
    if size[1] is not None and (size[0] is None or size[1].bytes < size[0].bytes):
        yield change("size", f"takes {size[1]} at most and took {size[0] or 'any size'}", True)


def _signing_in(old: System, new: System, before: Op, after: Op, change: Tell) -> Iterator[Change]:
    """An actor that may still call must still get in as it did."""
    granted = {grant.actor for grant in after.spec.by.grants} if after.spec.by else set()
    for actor in dict.fromkeys(grant.actor for grant in before.spec.by.grants) if before.spec.by else ():
        if actor in granted and actor in old.actors and actor in new.actors:
            was, now = old.actors[actor].spec.auth, new.actors[actor].spec.auth
            if was != now and was is not None and now is not None:
                yield change(
                    "by",
                    f"lets {actor} in by {now} and let it in by {was}",
                    now != "none",
                    f"take both for as long as {actor} uses {was}",
                )


def _gives(old: System, new: System, before: Op, after: Op) -> Iterator[Change]:
    place = new.at(*after.where, "gives")
    first = before.spec.gives.type if before.spec.gives else None
    second = after.spec.gives.type if after.spec.gives else None
    if first is not None and second is None:
        yield Change(after.id, "gives", f"is nothing and was {first}", True, _version(after), place)
    elif first is not None and second is not None:
        for way, what, breaking in _type(
            _Side(old, before.service), first, _Side(new, after.service), second, OUT, ""
        ):
            yield Change(after.id, f"gives{way}", what, breaking, _version(after), place)
    known = before.spec.gives.problems if before.spec.gives else ()
    if more := [
        name for name in (after.spec.gives.problems if after.spec.gives else ()) if name not in known
    ]:
        yield Change(after.id, "gives", f"may now fail with {listed(more)}", False, "", place)
    now = after.spec.gives.problems if after.spec.gives else ()
    if "graphql" not in new.services[after.service].speaks and (
        gone := [name for name in known if name not in now]
    ):
        yield Change(after.id, "gives", f"never fails with {listed(gone)} any more", False, "", place)


def _callers(before: Op, after: Op, change: Tell) -> Iterator[Change]:
    """Who may call it: nobody may lose what was granted."""
    now = (
        {}
        if after.spec.by is None
        else {(grant.actor, grant.role): grant.scope for grant in after.spec.by.grants}
    )
    wide = ("", "all")
    for grant in before.spec.by.grants if before.spec.by else ():
        any_role = now.get((grant.actor, ""))
        scope = now.get((grant.actor, grant.role), any_role)
        who = f"{grant.actor} ({grant.role})" if grant.role else grant.actor
        if scope is None:
            roles = [role for actor, role in now if actor == grant.actor]
            what = (
                f"asks {grant.actor} for the role {listed(roles, 'or')}" if roles else f"is closed to {who}"
            )
            yield change("by", what, True, f"grant it to {who} for as long as it is used")
        elif scope != grant.scope and (grant.scope in wide or scope == "own") and scope not in wide:
            yield change("by", f"gives {who} only {scope}", True, f"tell {grant.actor} before, with a day")


def _version(op: Op) -> str:
    return f"keep it as it is, and put the change into {op.name}_v2 with version: v2; then deprecate this one"


# ---------------------------------------------------------------------------------------------- events


def _events(old: System, new: System) -> Iterator[Change]:
    for name, event in old.events.items():
        if not event.emitters:
            continue
        after = new.events.get(name)
        if after is None or not after.emitters:
            consumers = [op.id for op in after.consumers] if after is not None else []
            still = f", which {listed(consumers)} waits for" if consumers else ""
            yield Change(
                name,
                "",
                f"is emitted no more{still}",
                True,
                f"go on emitting {name} until nobody handles it",
                new.at(),
            )
            continue
        tellers = [
            dict.fromkeys(each.service for each in told.emitters if isinstance(each, Op))
            for told in (event, after)
        ]
        if lost := [service for service in tellers[0] if service not in tellers[1]]:
            yield Change(
                name,
                "",
                f"is told by {listed(lost)} no more: who listens there hears nothing",
                True,
                f"go on emitting {name} from {listed(lost)} until nobody listens there",
                new.at(*after.emitters[0].where),
            )
        keys = event_key(old, name), event_key(new, name)
        if keys[0] != keys[1] and keys[0]:
            kept = f"by {keys[1]}" if keys[1] else "not at all"
            yield Change(
                name,
                keys[0],
                f"is the key of its order no more: it is kept {kept}",
                True,
                f"keep {keys[0]} in {name}, or emit one of another name",
                new.at(*after.emitters[0].where),
            )
        first, first_service = event_fields(old, name)
        second, second_service = event_fields(new, name)
        place = new.at("events", name) if name in new.blueprint.events else new.at(*after.emitters[0].where)
        for way, what, breaking in _fields(
            _Side(old, first_service), first, _Side(new, second_service), second, OUT
        ):
            remedy = f"emit {name} as it is, and beside it one with the change, until all have moved"
            yield Change(name, way.removeprefix("."), what, breaking, remedy, place)


# ---------------------------------------------------------------------------------------------- types


@dataclass(frozen=True, slots=True)
class _Side:
    """A system, and the service in which names are looked up."""

    system: System
    service: str


Difference = tuple[str, str, bool]
"""Way, what is different, and whether that breaks somebody."""
Seen = frozenset[tuple[str, str]]


def _fields(
    old: _Side,
    before: Mapping[str, Type],
    new: _Side,
    after: Mapping[str, Type],
    way: str,
    seen: Seen = frozenset(),
) -> Iterator[Difference]:
    for name, type in before.items():
        if "secret" in type.marks and way == OUT:
            continue
        if name not in after:
            yield f".{name}", "is gone", True
        else:
            for inner, what, breaking in _type(old, type, new, after[name], way, "", seen):
                yield f".{name}{inner}", what, breaking
    for name, type in after.items():
        if name in before:
            if way == OUT and "secret" in type.marks and "secret" not in before[name].marks:
                yield f".{name}", "is secret now and left out", True
            continue
        needed = way == IN and type.many != "?"
        yield f".{name}", "is new and required" if needed else "is new", needed


def _type(
    old: _Side, before: Type, new: _Side, after: Type, way: str, at: str, seen: Seen = frozenset()
) -> Iterator[Difference]:
    """What is different between two types, in what is sent (`IN`) or what comes back (`OUT`)."""
    if before.many != after.many:
        yield at, _many(before, after), not _wider(*((before, after) if way == IN else (after, before)))
    first, where = resolved(old.system, before, old.service)
    second, there = resolved(new.system, after, new.service)
    old, new = _Side(old.system, where), _Side(new.system, there)
    if first.entity and second.entity:
        entities = old.system.entity(first.entity, where, ()), new.system.entity(second.entity, there, ())
        pair = (entities[0].id, entities[1].id)
        if pair in seen:
            return
        sides = _Side(old.system, entities[0].service), _Side(new.system, entities[1].service)
        fields = [_asked(side, entity, way) for side, entity in zip(sides, entities, strict=True)]
        yield from (
            (at + inner, what, breaking)
            for inner, what, breaking in _fields(sides[0], fields[0], sides[1], fields[1], way, seen | {pair})
        )
        return
    words = _words(first), _words(second)
    if words[0] and words[1]:
        yield from _choices(words[0], words[1], way, at)
    elif first.name != second.name or bool(words[0]) != bool(words[1]):
        yield at, f"is {_short(second)} and was {_short(first)}", True
    else:
        yield from _bounds(first, second, way, at)


def _asked(side: _Side, entity: Entity, way: str) -> Mapping[str, Type]:
    """The fields of an entity; in what is sent, without those that its service fills in itself."""
    made = Schemas(side.system, entity.service).made
    return {name: type for name, type in entity.fields.items() if way == OUT or not made(entity, name)}


def _words(type: Type) -> tuple[str, ...]:
    return type.states.names if type.states is not None else type.words


def _short(type: Type) -> str:
    return type.name or "a choice of words"


def _many(before: Type, after: Type) -> str:
    named = {"": "exactly one", "?": "one or none", "*": "any number", "+": "at least one"}
    return f"is {named[after.many]} and was {named[before.many]}"


def _wider(before: Type, after: Type) -> bool:
    """Everything that was allowed before is allowed after, over the wire: one is not a list of one."""
    return (before.many, after.many) in (("", "?"), ("+", "*"))


def _choices(before: tuple[str, ...], after: tuple[str, ...], way: str, at: str) -> Iterator[Difference]:
    if gone := [word for word in before if word not in after]:
        yield at, f"is never {listed(gone, 'or')} any more", way == IN
    if more := [word for word in after if word not in before]:
        yield at, f"may be {listed(more, 'or')} too", way == OUT


def _lowest(type: Type) -> tuple[float | None, bool]:
    """The lowest value, and whether it is left out itself."""
    return (type.least, False) if type.least is not None else (type.above, True)


def _highest(type: Type) -> tuple[float | None, bool]:
    """The highest value, and whether it is left out itself."""
    return (type.most, False) if type.most is not None else (type.below, True)


def _bounds(before: Type, after: Type, way: str, at: str) -> Iterator[Difference]:
    for which, sign, end in (("lowest", 1, _lowest), ("highest", -1, _highest)):
        (first, first_open), (second, second_open) = end(before), end(after)
        if first == second and (first is None or first_open == second_open):
            continue
        tighter = second is not None and (
            first is None or (second - first) * sign > 0 or (second == first and second_open)
        )
        shown = ["none" if value is None else f"{value:g}" for value in (first, second)]
        yield at, f"has {shown[1]} as its {which} value and had {shown[0]}", tighter == (way == IN)
