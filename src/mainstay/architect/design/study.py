"""From a file to risks: what `mainstay design` does before anything is written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mainstay.architect.design.figures import Figure
from mainstay.architect.design.reading import Source, read_source
from mainstay.architect.design.risks import Risk, Study, assess
from mainstay.architect.design.system import System
from mainstay.architect.findings import Report, Suppressed


@dataclass(slots=True)
class Result:
    """What a blueprint came to."""

    study: Study
    risks: list[Risk]
    """Every risk, waived ones too."""
    report: Report
    """The same as findings, less those that are waived."""
    assumptions: list[Figure]
    """What was assumed and went into a number, by key."""


def study_file(path: Path, today: date | None = None) -> Result:
    """Read a blueprint and assess it.

    Raises:
        MainstayError: it cannot be read; the sentence has file, line and column.
    """
    return study_source(read_source(path), today)


def study_source(source: Source, today: date | None = None) -> Result:
    """Assess a blueprint that has been read, or was changed since."""
    started = time.perf_counter()
    study = Study(System(source))
    if today is not None:
        study.today = today
    risks = sorted(assess(study), key=lambda risk: risk.id)
    waived = {waiver.risk: waiver for waiver in study.system.blueprint.waivers if waiver.until >= study.today}
    report = Report("design")
    for risk in risks:
        if (waiver := waived.get(risk.id)) is None:
            report.findings.append(risk.finding())
        else:
            reason = f"{waiver.reason} ({waiver.owner}, until {waiver.until})"
            report.suppressed.append(Suppressed(risk.finding(), reason, by="waiver"))
    report.sort()
    system = study.system
    report.statistics = {
        "services": len(system.services),
        "operations": len(system.ops),
        "seconds": round(time.perf_counter() - started, 4),
    }
    assumptions = {f.key: f for risk in risks for f in risk.inputs if f.assumed}
    return Result(study, risks, report, [assumptions[key] for key in sorted(assumptions)])
