"""A broker, cache, gateway or service that no number demands."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.figures import COUNT, PER_SECOND, SECONDS, Figure, show
from mainstay.architect.design.questions import BROKERS, listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Op, Part, System
from mainstay.architect.findings import Severity

KIND = Kind(
    name="needless-part",
    title="A part that no number of the blueprint demands",
    severity=Severity.LOW,
    formula="broker: events a second at peak < what one PostgreSQL carries. Cache: the connections it saves "
    "fit into the pools without it. Gateway: actors call one service only. Search: nothing is marked "
    "search. Service: one other calls it, waits for it, nobody else needs it, and it keeps nothing or its "
    "caller keeps data too",
    why="Each part is a thing that fails, is upgraded and is learned; availability along the chain "
    "multiplies. PostgreSQL with an outbox, or a module, does the same work with one thing less.",
    wrong_when="Where it is there already, or is demanded by something that the blueprint does not hold: say "
    "why in the part.",
    remedy="Leave it out until a number asks for it; or write down which one does: why: ….",
)
CACHES = ("redis", "memcached", "valkey", "cache")
SEARCH = ("elasticsearch", "opensearch", "search", "meilisearch", "typesense", "solr")


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each such part or service."""
    system = study.system
    for part in system.parts.values():
        if part.spec.why:
            continue
        kind = part.spec.kind.lower()
        if kind in CACHES and _fans_out(system):
            continue
        if kind in CACHES and any(op.spec.cache for op in system.ops.values()):
            yield from _cache(study, part)
        elif kind in BROKERS:
            yield from _broker(study, part)
        elif kind in ("gateway", "api_gateway", "kong"):
            yield from _gateway(system, part)
        elif kind in SEARCH and not _searched(system):
            yield _risk(
                system, part, f"{part.name} is there and nothing is marked search", "0 fields searched"
            )
    yield from _services(system)


def _fans_out(system: System) -> bool:
    """Somebody stays connected, or keeps its data there: that asks for something shared in memory."""
    return any(service.store == "redis" for service in system.services.values()) or any(
        op.kind in ("subscription", "stream") for op in system.ops.values()
    )


def _searched(system: System) -> bool:
    return any(
        "search" in type.marks
        for group in system.entities.values()
        for e in group
        for type in e.fields.values()
    )


def _broker(study: Study, part: Part) -> Iterator[Risk]:
    system, flows = study.system, study.flows
    engine = system.assumption("engine", PER_SECOND)
    emitting = [op for op in system.ops.values() if op.spec.emits]
    peak = sum(flows.runs(op).peak * len(op.spec.emits) for op in emitting)
    if peak >= engine.value:
        return
    inputs = {figure.key: figure for op in emitting for figure in flows.runs(op).inputs}
    yield _risk(
        system,
        part,
        f"{part.name} carries {show(peak, PER_SECOND)} at peak; one PostgreSQL with an outbox carries {engine}",
        f"{show(peak, PER_SECOND)} < {engine}",
        (*inputs.values(), engine),
        peak,
        engine.value,
    )


def _cache(study: Study, part: Part) -> Iterator[Risk]:
    """A cache in front of operations: what would the pools need without it?"""
    system, flows = study.system, study.flows
    utilisation = system.assumption("utilisation", "%")
    inputs: dict[str, Figure] = {utilisation.key: utilisation}
    saved = spare = 0.0
    for name in system.services:
        ops = [op for op in system.ops.values() if op.service == name]
        cached = [op for op in ops if op.spec.cache]
        if not cached:
            continue
        size = system.copies(name).value * system.pool(name).value
        busy = 0.0
        for op in ops:
            hold = system.hold(op)
            busy += flows.of(op).peak * hold.value  # all of it, as if nothing were cached
            inputs.update({figure.key: figure for figure in (*flows.of(op).inputs, hold)})
        saved += sum(flows.of(op).peak * flows.hit(op).value * system.hold(op).value for op in cached)
        spare += size * utilisation.value - busy
        if busy > size * utilisation.value:
            return
    yield _risk(
        system,
        part,
        f"{part.name} saves {show(saved, COUNT, 2)} database connections at peak, and {show(spare, COUNT, 2)} "
        "would be "
        "free without it",
        f"sum of peak × hit × hold = {show(saved, COUNT, 3)} connections, within the pools",
        tuple(inputs.values()),
    )


def _gateway(system: System, part: Part) -> Iterator[Risk]:
    entered = sorted({op.service for op in system.ops.values() if op.spec.by is not None})
    if len(entered) == 1:
        yield _risk(
            system,
            part,
            f"{part.name} stands in front of {entered[0]} alone",
            "1 service that actors call",
        )


def _services(system: System) -> Iterator[Risk]:
    """One risk for each service that others stand behind of which nobody else knows."""
    modules: dict[str, list[str]] = {}
    for name, service in system.services.items():
        ops = [op for op in system.ops.values() if op.service == name]
        if not ops or service.availability is not None or service.copies is not None or service.about:
            continue
        if any(op.spec.by or op.spec.on or op.spec.every or op.spec.emits for op in ops):
            continue
        callers = {edge.caller.service for op in ops for edge in op.callers}
        if len(callers) != 1 or callers == {name} or not all(edge.waits for op in ops for edge in op.callers):
            continue
        other = callers.pop()
        if service.team != system.services[other].team or service.region != system.services[other].region:
            continue
        if any(not isinstance(edge.target, Op) for op in ops for edge in op.edges):
            continue  # it keeps a provider at arm's length
        if service.store != "none" and system.services[other].store == "none":
            continue  # a front without data, and data behind it: two things, and mostly deployed apart
        modules.setdefault(other, []).append(name)
    for other, names in modules.items():
        hop = system.assumption("hop", SECONDS)
        if len(names) == 1:
            said = (
                f"{names[0]} is called by {other} alone, which waits for it: as a module of {other} it saves"
            )
            saved, remedy = "a deployable", f"make it a module of {other}; what it owns stays its own"
        else:
            said = f"{listed(names)} are called by {other} alone, which waits for them: as modules of {other} they save"
            saved = f"{len(names)} deployables"
            remedy = f"make them modules of {other}; what each owns stays its own"
        yield Risk(
            KIND,
            other,
            f"{said} {hop} a call and {saved}",
            f"{len(names)} services with 1 caller, 0 events and 0 actors",
            (hop,),
            remedy,
            system.at("services", names[0]),
            value=float(len(names)),
            need=0.0,
        )


def _risk(
    system: System,
    part: Part,
    message: str,
    formula: str,
    inputs: tuple[Figure, ...] = (),
    value: float | None = None,
    need: float | None = None,
) -> Risk:
    return Risk(
        KIND,
        part.name,
        message,
        formula,
        inputs,
        f"leave {part.name} out, or say which number asks for it: {part.name} why: …",
        system.at(*part.where),
        value=value,
        need=need,
    )
