"""Something that is to go away is still called."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.findings import Severity

KIND = Kind(
    name="deprecated-operation",
    title="An operation that goes away is still called, or its day has passed",
    severity=Severity.MEDIUM,
    formula="callers of a deprecated operation > 0; or its sunset is before today; or it has no sunset",
    why="On the day of its sunset its callers fail. A deprecation without a day is one that nobody acts on.",
    wrong_when="Where callers are being moved at this moment.",
    remedy="Move the callers, then remove it on the day that was announced.",
    sources=("RFC 8594 (Sunset)", "RFC 9745 (Deprecation)"),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each deprecated operation."""
    system = study.system
    for op in system.ops.values():
        deprecated = op.spec.deprecated
        if deprecated is None:
            continue
        callers = sorted({edge.caller.id for edge in op.callers})
        instead = f" use {op.service}.{deprecated.use}" if deprecated.use else ""
        place = system.at(*op.where, "deprecated")
        if deprecated.sunset is not None and deprecated.sunset < study.today:
            message = f"{op.id} was to go away on {deprecated.sunset}, and is still there"
            if callers:
                message += f", called by {listed(callers)}"
            formula, remedy, severity = (
                f"{deprecated.sunset} < today",
                "remove it, or announce another day",
                Severity.HIGH,
            )
        elif callers:
            message = f"{listed(callers)} calls {op.id}, which is deprecated since {deprecated.since}"
            formula, remedy, severity = (
                f"{len(callers)} callers",
                f"let them{instead or ' call something else'}",
                None,
            )
        elif deprecated.sunset is None:
            message = (
                f"{op.id} is deprecated since {deprecated.since}, and nothing says until when it is there"
            )
            formula, remedy, severity = "no sunset", "announce a day: sunset 2027-06-01", Severity.LOW
        else:
            continue
        yield Risk(KIND, op.id, message, formula, (), remedy, place, severity=severity)
