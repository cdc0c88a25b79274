"""From a file to risks: what `mainstay design` does before anything is written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from mainstay.architect.design.blueprint import Waiver
from mainstay.architect.design.figures import Figure
from mainstay.architect.design.reading import Source, read_source
from mainstay.architect.design.risks import Risk, Study, assess, kinds
from mainstay.architect.design.system import System
from mainstay.architect.findings import Assumption, Problem, Report, Suppressed
from mainstay.architect.nearest import nearest


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
    chosen: Sequence[str] = ()
    """The kinds of risks that were looked for; all where it is empty."""
    previous: Mapping[str, str] = field(default_factory=dict)
    """Texts by path of the package that is to be written over, for what must not change between two writings."""


def study_file(
    path: Path, today: date | None = None, chosen: Sequence[str] = (), against: Path | None = None
) -> Result:
    """Read a blueprint and assess it.

    Args:
        path: the blueprint.
        today: which waivers hold; the present day where it is None.
        chosen: names of kinds of risks; all where it is empty.
        against: an earlier version of the blueprint.

    Raises:
        MainstayError: it cannot be read; the sentence has file, line and column.
    """
    return study_source(
        read_source(path), today, chosen, read_source(against) if against is not None else None
    )


def study_source(
    source: Source,
    today: date | None = None,
    chosen: Sequence[str] = (),
    against: Source | None = None,
) -> Result:
    """Assess a blueprint that has been read, or was changed since; `against` is an earlier version of it."""
    started = time.perf_counter()
    study = Study(System(source), against=System(against) if against is not None else None)
    if today is not None:
        study.today = today
    risks = sorted(assess(study, chosen), key=lambda risk: risk.id)
    report = Report("design")
    _answer(study, risks, chosen, report)
    report.sort()
    system = study.system
    report.statistics = {
        "services": len(system.services),
        "operations": len(system.ops),
        "seconds": round(time.perf_counter() - started, 4),
    }
    assumed = {figure.key: figure for risk in risks for figure in risk.inputs if figure.assumed}
    rest = Counter(key for risk in risks for key in {figure.key for figure in risk.inputs if figure.assumed})
    report.assumptions = [
        Assumption(key, str(assumed[key]), assumed[key].value, count)
        for key, count in sorted(rest.items(), key=lambda item: (-item[1], item[0]))
    ]
    report.assumptions += [
        Assumption(key, str(figure), figure.value, 0)
        for key, figure in sorted(system.used.items())
        if figure.assumed and key not in rest
    ]
    return Result(study, risks, report, [assumed[key] for key in sorted(assumed)], chosen)


def _answer(study: Study, risks: list[Risk], chosen: Sequence[str], report: Report) -> None:
    """Parts what somebody answers for from what is open, and says which waivers are over or meet nothing."""
    waivers: dict[str, Waiver] = {}
    for waiver in study.system.blueprint.waivers:
        if waiver.risk not in waivers or waivers[waiver.risk].until < waiver.until:
            waivers[waiver.risk] = waiver
    for risk in risks:
        answer = waivers.get(risk.id)
        if answer is None:
            report.findings.append(risk.finding())
        elif answer.until < study.today:
            over = f"{risk.message} (waived by {answer.owner} until {answer.until}, which is over)"
            report.findings.append(replace(risk, message=over).finding())
        else:
            reason = f"{answer.reason} ({answer.owner}, until {answer.until})"
            report.suppressed.append(Suppressed(risk.finding(), reason, by="waiver"))
    ids = {risk.id for risk in risks}
    for at, waiver in enumerate(study.system.blueprint.waivers):
        kind = waiver.risk.partition(":")[0]
        if waiver.risk in ids or (chosen and kind in kinds() and kind not in chosen):
            continue
        place = study.system.at("waivers", at, "risk")
        hint = nearest(waiver.risk, ids) or "; remove it"
        report.notes.append(
            Problem(place.file, f"no risk is called {waiver.risk!r}, which is waived here{hint}", place.line)
        )
