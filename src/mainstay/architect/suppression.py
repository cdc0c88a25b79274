"""Suppression in place: ``# mainstay: ignore[check-then-act] one writer only, see ADR 7``.

The comment stands on a line of the finding, or alone on the line above it. It names the edges it answers
for and gives a reason; without a reason it is not honoured, and that is said. ``//`` and ``--`` open the
comment as well as ``#``, so that any front end's language can carry it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from mainstay.architect.findings import Finding, Problem, Report, Suppressed

COMMENT = re.compile(
    r"(?:#|//|--)\s*mainstay:\s*ignore\s*(?:\[(?P<edges>[^\]]*)\])?[ \t:–-]*(?P<reason>.*?)\s*(?:\*/)?$"
)


@lru_cache(maxsize=512)
def _lines(file: Path) -> tuple[str, ...]:
    try:
        return tuple(file.read_text(encoding="utf-8", errors="replace").split("\n"))
    except OSError:
        return ()


def _comments(finding: Finding, root: Path) -> list[tuple[int, re.Match[str]]]:
    """The suppression comments that could speak for the finding: on its lines, or alone on the line above."""
    lines = _lines(root / finding.location.file)
    first, last = finding.location.line, max(finding.location.line, finding.location.end_line)
    found = []
    for number in range(max(1, first - 1), min(last, len(lines)) + 1):
        text = lines[number - 1]
        match = COMMENT.search(text)
        alone = match is not None and not text[: match.start()].strip()
        if match is not None and (number >= first or alone):
            found.append((number, match))
    return found


def apply_suppressions(report: Report, root: Path) -> None:
    """Move findings that the code answers for from ``findings`` to ``suppressed``, with the reason given."""
    _lines.cache_clear()
    kept = []
    for finding in report.findings:
        reason = ""
        for number, match in _comments(finding, root):
            edges = {edge.strip() for edge in (match["edges"] or "").split(",")} - {""}
            place = finding.location.file
            if not edges:
                problem = Problem(
                    place, "'mainstay: ignore' must name an edge: ignore[check-then-act] reason", number
                )
            elif finding.edge not in edges:
                continue
            elif not match["reason"]:
                problem = Problem(
                    place, f"'mainstay: ignore[{match['edges']}]' needs a reason behind it", number
                )
            else:
                reason = match["reason"]
                break
            if problem not in report.problems:
                report.problems.append(problem)
        if reason:
            report.suppressed.append(Suppressed(finding, reason))
        else:
            kept.append(finding)
    report.findings = kept
