"""An event is emitted and nobody handles it."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Op
from mainstay.architect.findings import Severity
from mainstay.architect.nearest import nearest

KIND = Kind(
    name="event-without-consumer",
    title="An event is emitted and nothing handles it",
    severity=Severity.LOW,
    formula="emitters of the event > 0 and handlers of the event = 0",
    why="Either somebody was meant to act on it and does not, or it is a contract to be kept that nobody asked for.",
    wrong_when="Where consumers outside the blueprint handle it; write what it carries under events, and it "
    "is taken as a published contract.",
    remedy="Name the operation that handles it, or do not emit it.",
    patterns=("events",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each such event."""
    system = study.system
    dropped = {name for op in system.ops.values() if op.spec.cache for name in op.spec.cache.until}
    waited = [name for name, event in system.events.items() if event.consumers and not event.emitters]
    for name, event in system.events.items():
        if event.consumers or not event.emitters or name in dropped or name in system.blueprint.events:
            continue
        first = event.emitters[0]
        key = "emits" if isinstance(first, Op) else "sends"
        yield Risk(
            KIND,
            name,
            f"{listed([node.id for node in event.emitters])} emits {name}, and nothing handles "
            f"it{nearest(name, waited)}",
            f"{len(event.emitters)} emit it, 0 handle it",
            (),
            f"handle it (on: {name}), write what it carries under events if it is for others, or do not emit it",
            system.at(*first.where, key),
        )
