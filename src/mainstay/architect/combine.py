"""Joins what review and diagnose say of one service: what was seen in the code and proven on the wire is one finding.

They speak of the same thing where they name the same edge and a line that the probe saw at work lies on the
path that review found. The joined finding keeps review's path and diagnose's proof.
"""

from __future__ import annotations

from dataclasses import replace

from mainstay.architect.findings import Finding, Location, Report, Witness


def combine(review: Report, diagnose: Report) -> Report:
    """One report from two. Findings of only one of the engines stay as they are."""
    left = list(review.findings)
    joined: list[Finding] = []
    for proven in diagnose.findings:
        matches = [seen for seen in left if seen.edge == proven.edge and _meet(seen, proven)]
        if not matches:
            joined.append(proven)
            continue
        best = max(matches, key=lambda seen: _shared(seen, proven))
        left = [seen for seen in left if seen not in matches]
        joined.append(
            replace(
                best,
                verdict=proven.verdict,
                severity=proven.severity,
                witness=proven.witness,
                witness_file=proven.witness_file,
            )
        )
    report = Report(
        "review and diagnose",
        [*joined, *left],
        [*review.checks, *diagnose.checks],
        [*review.problems, *diagnose.problems],
        [*review.suppressed, *diagnose.suppressed],
        {**review.statistics, **diagnose.statistics},
    )
    report.sort()
    return report


def _at_work(witness: Witness | None) -> list[Location]:
    """Lines of code that the probe saw during the witness; those that carry the finding where any are marked."""
    events = witness.events if witness else []
    marked = [event.location for event in events if event.location and event.marked]
    return marked or [event.location for event in events if event.location]


def _shared(seen: Finding, proven: Finding) -> int:
    """How many of the proof's lines lie on the path that review found."""
    spans = [seen.location, *(step.location for step in seen.path)]
    return sum(any(_within(line, span) for span in spans) for line in _at_work(proven.witness))


def _meet(seen: Finding, proven: Finding) -> bool:
    return _shared(seen, proven) > 0


def _within(line: Location, span: Location) -> bool:
    return line.file == span.file and span.line <= line.line <= max(span.line, span.end_line)
