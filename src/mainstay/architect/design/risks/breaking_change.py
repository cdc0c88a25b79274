"""A change that breaks those who rely on the version before, without a version that says so."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.findings import Severity

KIND = Kind(
    name="breaking-change",
    title="A change breaks those who rely on the version before it",
    severity=Severity.HIGH,
    formula="what was taken before is no longer taken, or what is given now was not allowed before, and the "
    "first number of the blueprint's version is not higher (only with --against)",
    why="Callers and consumers are deployed on their own days. On the day of the change they send what is "
    "refused and get what they cannot read; mobile clients go on doing so for months.",
    wrong_when="Where all callers are known and are deployed in the same step.",
    remedy="Add instead of changing: a new version beside the old one, which is deprecated with a sunset.",
    sources=(
        "RFC 9745 (Deprecation)",
        "RFC 8594 (Sunset)",
        "Liskov and Wing: A Behavioral Notion of Subtyping (1994)",
    ),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each operation or event, with all that breaks in it. None without a blueprint to compare with."""
    if study.against is None:
        return
    from mainstay.architect.design.breaking import Change, announced, compare  # only where it is asked for

    if announced(study.against, study.system):
        return
    broken: dict[str, list[Change]] = {}
    for change in compare(study.against, study.system, study.today):
        if change.breaking:
            broken.setdefault(change.subject, []).append(change)
    for subject, changes in broken.items():
        first, more = changes[0], len(changes) - 1
        yield Risk(
            KIND,
            subject,
            str(first)
            + (f"; and {more} more change{'s' * (more > 1)} of it break{'s' * (more == 1)}" if more else ""),
            "; ".join(f"{change.where or subject} {change.what}" for change in changes),
            (),
            first.remedy,
            first.location,
            value=float(len(changes)),
            need=0.0,
        )
