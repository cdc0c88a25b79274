"""What a new version of a blueprint changes for those who rely on the old one.

Two directions, two rules (Liskov and Wing: A Behavioral Notion of Subtyping, 1994). What an operation *takes* may
grow more tolerant: everything that could be sent before must still be taken. What it *gives*, and what an event
carries, may grow more exact: everything that comes now must have been allowed before. All else breaks somebody, and
needs a new version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from mainstay.architect.design.contracts.json_schema import resolved
from mainstay.architect.design.contracts.naming import over_http
from mainstay.architect.design.contracts.payloads import event_fields
from mainstay.architect.design.contracts.routes import route_of
from mainstay.architect.design.questions import listed
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.system import Op, System
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
    for name, before in old.ops.items():
        if before.spec.on or before.spec.every:
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
        yield from _operation(old, new, before, after)
    for name, after in new.ops.items():
        if name not in old.ops:
            yield Change(name, "", "is new", False, "", new.at(*after.where))


def _operation(old: System, new: System, before: Op, after: Op) -> Iterator[Change]:
    def change(where: str, what: str, breaking: bool, remedy: str = "") -> Change:
        key = where.partition(".")[0]
        place = new.at(*after.where, key) if key else new.at(*after.where)
        return Change(after.id, where, what, breaking, remedy or _version(after), place)

    if before.kind != after.kind:
        yield change("kind", f"is {after.kind} and was {before.kind}", True)
    yield from (
        Change(after.id, f"takes{way}", what, breaking, _version(after), new.at(*after.where, "takes"))
        for way, what, breaking in _fields(
            _Side(old, before.service), before.spec.takes, _Side(new, after.service), after.spec.takes, IN
        )
    )
    yield from _gives(old, new, before, after)
    yield from _callers(before, after, change)
    if before in over_http(old, before.service) and after in over_http(new, after.service):
        first, second = (
            f"{route.method} {route.path}" for route in (route_of(old, before), route_of(new, after))
        )
        if first != second:
            yield change(
                "http", f"is {second} and was {first}", True, f"keep the path: {after.name} http: {first}"
            )
    if after.spec.idempotent == "key" and before.spec.idempotent != "key":
        yield change(
            "idempotent", "now asks for an Idempotency-Key", True, "take requests without a key for a time"
        )
    if before.spec.page is None and after.spec.page is not None and after.lists and before.lists:
        yield change("page", f"now gives {after.spec.page} at a time, and gave all", True)
    if after.spec.deprecated is not None and before.spec.deprecated is None:
        yield change("deprecated", f"is deprecated since {after.spec.deprecated.since}", False)


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


def _callers(before: Op, after: Op, change: Callable[[str, str, bool, str], Change]) -> Iterator[Change]:
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
        yield from (
            (at + inner, what, breaking)
            for inner, what, breaking in _fields(
                sides[0], entities[0].fields, sides[1], entities[1].fields, way, seen | {pair}
            )
        )
        return
    words = _words(first), _words(second)
    if words[0] and words[1]:
        yield from _choices(words[0], words[1], way, at)
    elif first.name != second.name or bool(words[0]) != bool(words[1]):
        yield at, f"is {_short(second)} and was {_short(first)}", True
    else:
        yield from _bounds(first, second, way, at)


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
