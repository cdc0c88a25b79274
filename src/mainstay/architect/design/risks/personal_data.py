"""Personal data crosses a boundary, or is kept and nothing says for how long."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.figures import SECONDS, Figure, show
from mainstay.architect.design.questions import listed, personal_in, personal_of
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Dep, Edge, Op, System
from mainstay.architect.findings import Severity

KIND = Kind(
    name="personal-data",
    title="Personal data leaves the system, its region or its time",
    severity=Severity.MEDIUM,
    formula="fields marked pii that reach a dependency not said to take them, a dependency in another "
    "region, or an event; keep > retention; or personal data with neither a time to keep it nor an "
    "operation that deletes it",
    why="Each copy is one more place to be searched, corrected and erased when somebody asks for it, and one "
    "more that can leak. What an event has carried stays in every log and every consumer.",
    wrong_when="Where the operation does not pass on what it was given; say personal: false of the dependency.",
    remedy="Pass on an id and let the other side ask; say who may have it; delete it on a schedule.",
    sources=("Regulation (EU) 2016/679 (GDPR), articles 5, 28 and 44",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each dependency, event, field kept too long, and service that never deletes."""
    system = study.system
    for dep in system.deps.values():
        yield from _handed_over(system, dep)
    for name, fields in system.blueprint.events.items():
        event = system.events[name]
        carried = personal_in(system, fields, "")
        if carried and event.emitters:
            copies = len(event.consumers)
            yield Risk(
                KIND,
                name,
                f"{name} carries personal data ({listed(carried)}): {copies} consumer{'s' * (copies != 1)} and "
                "every log "
                "of it keep a copy",
                f"{len(carried)} personal fields × {copies} consumers",
                (),
                f"carry the id, and let consumers ask {event.emitters[0].id.partition('.')[0]}",
                system.at("events", name),
                value=float(copies),
                need=0.0,
            )
    yield from _kept(study)


def _handed_over(system: System, dep: Dep) -> Iterator[Risk]:
    given: dict[str, list[str]] = {}
    first: Edge | None = None
    for edge in dep.edges:
        fields = personal_in(system, edge.caller.spec.takes, edge.caller.service)
        if fields:
            given[edge.caller.id] = fields
            first = first or edge
    if first is None or dep.spec.personal is False:
        return
    ways = listed([f"{way} by {caller}" for caller, fields in given.items() for way in fields])
    regions = system.needs.region
    if dep.spec.region and regions and dep.spec.region not in regions:
        yield Risk(
            KIND,
            f"{dep.name}:region",
            f"{dep.name} is in {dep.spec.region} and may be given personal data ({ways}), which is to stay in "
            f"{listed(regions)}",
            f"region {dep.spec.region} is not {listed(regions)}",
            (),
            f"use a region of {dep.name} in {regions[0]}, or give it an id instead, and say personal: false",
            system.at(*dep.where, "region"),
            severity=Severity.HIGH,
        )
    if dep.spec.personal is None and dep.spec.kind not in ("identity", "cache", "broker"):
        yield Risk(
            KIND,
            dep.name,
            f"{dep.name} may be given personal data: {ways}",
            f"{sum(map(len, given.values()))} personal fields in what callers of {dep.name} take",
            (),
            f"say {dep.name}.personal: true where a contract covers it, or false where it is given none",
            system.at(*first.where),
        )


def _kept(study: Study) -> Iterator[Risk]:
    system = study.system
    retention = system.need("retention")
    erasing = {
        write.entity.name for op in system.ops.values() for write in op.writes if write.how == "deletes"
    }
    for group in system.entities.values():
        for entity in group:
            for name, type in entity.fields.items():
                if not type.personal or type.keep is None or retention is None:
                    continue
                if type.keep.seconds > retention.value:
                    where = (*entity.where, name)
                    keep = Figure(f"{entity.id}.{name} keep", type.keep.seconds, SECONDS, system.at(*where))
                    yield Risk(
                        KIND,
                        f"{entity.id}.{name}",
                        f"{entity.id}.{name} is kept for {type.keep}, longer than the {retention} that the "
                        "system may",
                        f"{type.keep} > {retention}",
                        (keep, retention),
                        f"keep it for {retention} at most",
                        system.at(*where),
                        value=type.keep.seconds,
                        need=retention.value,
                    )
    for service in system.services:
        stays = [
            entity
            for group in system.entities.values()
            for entity in group
            if entity.service == service and entity.holds("pii") and not inside(system, entity.name, erasing)
        ]
        held = [
            f"{entity.name}.{name}"
            for entity in stays
            for name, type in entity.fields.items()
            if type.personal
        ]
        if not held:
            continue
        limit = f"after {show(retention.value, SECONDS)}" if retention is not None else "ever"
        yield Risk(
            KIND,
            service,
            f"{service} holds {_some(held)}, and no operation deletes any of it {limit}",
            f"{len(held)} personal fields, 0 operations that delete",
            (retention,) if retention is not None else (),
            "add an operation that erases on request and on schedule: every: '0 3 * * *', deletes: "
            + (f"[{', '.join(names)}]" if len(names := [entity.name for entity in stays]) > 1 else names[0])
            + ("" if retention is not None else "; and say needs.retention"),
            system.at("services", service, "owns", held[0].partition(".")[0]),
            severity=Severity.MEDIUM if retention is not None else Severity.LOW,
        )


def inside(system: System, name: str, erasing: set[str]) -> bool:
    """The entity is deleted, by itself or as a part of what is."""
    if name in erasing:
        return True
    for group in system.entities.values():
        for entity in group:
            parts = [
                type.entity for type in entity.fields.values() if not type.field
            ]  # a reference is no part
            if entity.name in erasing and name in parts:
                return True
    return False


def _some(names: list[str]) -> str:
    return (
        listed(names)
        if len(names) <= 4
        else f"{', '.join(names[:3])} and {len(names) - 3} more personal fields"
    )


def given_by(system: System, op: Op) -> list[str]:
    """The personal data that an operation gives."""
    given = op.spec.gives
    return personal_of(system, given.type if given else None, op.service)
