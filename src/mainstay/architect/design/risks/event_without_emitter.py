"""Something waits for an event that nothing emits."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.findings import Severity
from mainstay.architect.nearest import nearest

KIND = Kind(
    name="event-without-emitter",
    title="An operation handles an event that nothing emits",
    severity=Severity.HIGH,
    formula="handlers of the event > 0 and emitters of the event = 0",
    why="The handler never runs. What it was to do - release the stock, void the payment - never happens, "
    "and no error says so.",
    wrong_when="Where a system outside the blueprint emits it; name that system under depends, with sends.",
    remedy="Let the operation that causes it emit it, or name the dependency that sends it.",
    patterns=("events",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each such event; a cache that waits for it counts as well."""
    system = study.system
    emitted = [name for name, event in system.events.items() if event.emitters]
    for name, event in system.events.items():
        if event.emitters or not event.consumers:
            continue
        first = event.consumers[0]
        yield Risk(
            KIND,
            name,
            f"{listed([op.id for op in event.consumers])} waits for {name}, which nothing "
            f"emits{nearest(name, emitted)}",
            f"{len(event.consumers)} handle it, 0 emit it",
            (),
            f"emit {name} where it happens, or name who sends it: depends.….sends",
            system.at(*first.where, "on"),
        )
    for op in system.ops.values():
        for name in op.spec.cache.until if op.spec.cache else ():
            if name not in emitted:
                yield Risk(
                    KIND,
                    f"{op.id}:{name}",
                    f"the cache of {op.id} is to be dropped by {name}, which nothing emits{nearest(name, emitted)}",
                    "1 waits for it, 0 emit it",
                    (),
                    f"emit {name} where what {op.id} gives is changed",
                    system.at(*op.where, "cache"),
                    severity=Severity.MEDIUM,
                )
