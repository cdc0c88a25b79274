"""A cache goes on showing what has changed."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.figures import SECONDS, Figure
from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.findings import Severity

KIND = Kind(
    name="stale-cache",
    title="A cache is not dropped by something that changes what it holds",
    severity=Severity.LOW,
    formula="operations that write the entity that is cached - those whose events drop the cache",
    why="For the time of the cache a cancelled order is shown as paid, and somebody acts on it. Where reads "
    "must follow one's own writes, a user does not see what was just done, and does it again.",
    wrong_when="Where that much age is fine for everybody who reads it, which is often so.",
    remedy="Drop it by every event that changes it, or make its time as short as the age that is fine.",
    sources=("RFC 9111 (HTTP Caching)",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each cached operation."""
    system = study.system
    for op in system.ops.values():
        cache = op.spec.cache
        given = op.spec.gives.type if op.spec.gives else None
        if cache is None or given is None or not given.entity:
            continue
        strict = (op.spec.needs.consistency or system.needs.consistency) in ("strong", "read-your-writes")
        if not cache.until and not strict:
            continue  # age alone was chosen
        entity = system.entity(given.entity, op.service, op.where)
        missed: list[str] = []
        adding: list[str] = []
        silent: list[str] = []
        for other in system.ops.values():
            writes = [write for write in other.writes if write.entity is entity and write.how != "creates"]
            if given.many and any(write.entity is entity for write in other.writes):
                writes = [write for write in other.writes if write.entity is entity]
            if writes and not set(other.spec.emits) & set(cache.until):
                missed.append(other.id)
                adding += other.spec.emits[:1]
                silent += [] if other.spec.emits else [other.id]
        if not missed:
            continue
        fresh = Figure(f"{op.id}.cache", cache.fresh.seconds, SECONDS, system.at(*op.where, "cache"))
        ways = [f"drop it by {listed(list(dict.fromkeys(adding)))} too"] if adding else []
        if silent:
            ways.append(f"let {listed(silent)} emit an event, and drop it by that")
        yield Risk(
            KIND,
            op.id,
            f"{op.id} goes on giving {entity.name} as it was for up to {fresh} after {listed(missed)}",
            f"{len(missed)} writers that do not drop it × {fresh}",
            (fresh,),
            "; and ".join(ways),
            system.at(*op.where, "cache"),
            severity=Severity.MEDIUM if strict else None,
            value=cache.fresh.seconds,
        )
