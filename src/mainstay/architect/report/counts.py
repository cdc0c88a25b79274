"""The figures that every report begins or ends with."""

from __future__ import annotations

from collections import Counter

from mainstay.architect.findings import Report, Severity, Verdict
from mainstay.architect.report.text import counted, line


def by_severity(report: Report) -> dict[str, int]:
    """How many findings of each severity there are, worst first, none left out."""
    counts = Counter(finding.severity for finding in report.findings)
    return {severity.value: counts[severity] for severity in Severity}


def by_verdict(report: Report) -> dict[str, int]:
    """How many findings of each verdict there are, surest first, none left out."""
    counts = Counter(finding.verdict for finding in report.findings)
    return {verdict.value: counts[verdict] for verdict in Verdict}


def by_edge(report: Report) -> dict[str, int]:
    """How many findings of each edge there are, by name."""
    return dict(sorted(Counter(finding.edge for finding in report.findings).items()))


def headline(report: Report) -> str:
    """``3 findings: 1 critical, 2 high``, or ``no findings``."""
    if not report.findings:
        return "no findings"
    parts = ", ".join(f"{count} {name}" for name, count in by_severity(report).items() if count)
    return f"{counted(len(report.findings), 'finding')}: {parts}"


def facts(report: Report) -> list[str]:
    """What else the run has to say of itself: verdicts, checks, what was left out, how much, how long."""
    computed = report.engine == "design"  # from figures: how sure it is goes without saying
    said = [] if computed else [f"{count} {name}" for name, count in by_verdict(report).items() if count]
    checks = Counter(check.verdict for check in report.checks)
    said += [f"{count} {line(verdict)}" for verdict, count in sorted(checks.items())]
    waived = sum(item.by == "waiver" for item in report.suppressed)
    if waived:
        said.append(f"{waived} waived")
    if len(report.suppressed) > waived:
        said.append(f"{len(report.suppressed) - waived} suppressed")
    if report.problems:
        said.append(counted(len(report.problems), "problem"))
    for name, figure in report.statistics.items():
        if not name.endswith("seconds") and figure == int(figure):
            plain = line(name.replace("_", " "))
            said.append(counted(figure, plain.removesuffix("s"), plain))
    if "seconds" in report.statistics:
        seconds = report.statistics["seconds"]
        said.append(f"{seconds * 1000:.0f} ms" if computed and seconds < 1 else f"{seconds:.1f} s")
    return said
