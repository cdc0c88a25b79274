"""Two services own the same data, or one writes what another owns."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.system import Op, System
from mainstay.architect.findings import Severity

KIND = Kind(
    name="shared-data",
    title="Data has two owners, or is written or read past its owner",
    severity=Severity.HIGH,
    formula="owners of an entity > 1; or an operation writes an entity of another service; or reads one, and "
    "neither calls that service nor handles an event of it; or a service takes a type of one that calls it",
    why="Two owners are two truths, and nobody can say which one counts. A table that several services write "
    "cannot change its shape, and its rules hold in none of them. A type taken from the caller ties both "
    "releases together.",
    wrong_when="Where two entities merely share a name; give them two. Where services are modules of one "
    "deployable. Where what is read is a copy that it keeps: let it own that under a name of its own.",
    remedy="One owner for each entity; others ask it, or keep a copy made from its events.",
    patterns=("events",),
    sources=("Newman: Building Microservices, 2nd edition (2021), chapter 4",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each entity with two owners, each write past an owner, and each type taken from a caller."""
    system = study.system
    for name, group in system.entities.items():
        if len(group) > 1:
            owners = [entity.service for entity in group]
            yield Risk(
                KIND,
                name,
                f"{name} is owned by {listed(owners)}: there are {len(owners)} truths about it",
                f"{len(owners)} owners of {name}",
                (),
                f"let one own it and the other hold a copy made from its events, or call what {owners[1]} "
                "holds by another name",
                system.at(*group[1].where),
            )
    for op in system.ops.values():
        for write in op.writes:
            owner = write.entity.service
            if owner and owner != op.service:
                yield Risk(
                    KIND,
                    f"{op.id}->{write.entity.id}",
                    f"{op.id} {write.how} {write.entity.name}, which {owner} owns: it goes past {owner}'s rules",
                    f"{write.entity.name} is owned by {owner}, written by {op.service}",
                    (),
                    f"call an operation of {owner} that does it, or emit an event that {owner} handles",
                    system.at(*write.where),
                )
    yield from _read_past(system)
    yield from _taken_from_callers(system)


def _read_past(system: System) -> Iterator[Risk]:
    """Reads of another service's rows that come neither by a call nor with an event: so from its tables."""
    for op in system.ops.values():
        told_by = {edge.target.service for edge in op.edges if isinstance(edge.target, Op)}
        told_by |= {
            node.service
            for name in op.spec.on
            for node in system.events[name].emitters
            if isinstance(node, Op)
        }
        for name in op.spec.reads:
            entity = system.entity(name, op.service, op.where)
            owner = entity.service
            if not owner or owner == op.service or owner in told_by:
                continue
            yield Risk(
                KIND,
                f"{op.id}->{entity.id}",
                f"{op.id} reads {name}, which {owner} owns, and asks {owner} for nothing: it reads the tables of "
                f"{owner}, which then cannot change their shape",
                f"{name} is owned by {owner}, read by {op.service}, 0 calls and 0 events between them",
                (),
                f"call an operation of {owner} that gives it, or keep a copy made from events of {owner}",
                system.at(*op.where, "reads"),
                severity=Severity.MEDIUM,
            )


def _taken_from_callers(system: System) -> Iterator[Risk]:
    told: set[tuple[str, str]] = set()
    for op in system.ops.values():
        callers = {edge.caller.service for edge in op.callers} - {op.service}
        for name, type in _types(op):
            owner = (
                system.entity(type.entity, op.service, op.where).service
                if type.entity and not type.field
                else ""
            )
            if owner in callers and (op.service, owner) not in told:
                told.add((op.service, owner))
                yield Risk(
                    KIND,
                    f"{op.service}->{owner}",
                    f"{op.id} {name} {type.entity}, owned by {owner}, which calls it: neither can change it alone",
                    f"{owner} -> {op.service} (call) and {op.service} -> {owner} (type)",
                    (),
                    f"let {op.service} own what it takes, in its own words, with ids for references",
                    system.at(*op.where, name),
                    severity=Severity.LOW,
                )


def _types(op: Op) -> Iterator[tuple[str, Type]]:
    for type in op.spec.takes.values():
        yield "takes", type
    if op.spec.gives is not None and op.spec.gives.type is not None:
        yield "gives", op.spec.gives.type
