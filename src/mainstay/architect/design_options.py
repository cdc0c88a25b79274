"""What `mainstay design` does beside computing risks: compare, turn, simulate, write, check, verify.

Each function puts what it found into the report, as findings or as a table; the verb prints the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mainstay.architect.findings import Report, Table

if TYPE_CHECKING:
    from mainstay.architect.design.package import Outcome
    from mainstay.architect.design.sensitivity import Sensitivity
    from mainstay.architect.design.study import Result
    from mainstay.architect.design.verify import Verification

SIMULATED_SECONDS = 60.0
"""Of the system's own time."""
TOLD = 10
"""Most rows of the sensitivity table that are printed."""
MANY, DRAWN, LARGE = 60, 20, 4000
"""Of more than so many diagrams only so many are drawn for the site, each of at most so many characters."""
DRAWING, DRAWING_MANY = 60.0, 4.0
"""Seconds after which no more are drawn, of a system and of one with more than `MANY` diagrams: those that are there
are kept, so that the next write goes on from them."""
TURNING = 2.0
"""Seconds for the sensitivity table of a site: those numbers come first that most risks rest on."""
LEAST = 0.01
"""Change of margins below which a number is not worth a row."""


def what_if(result: Result, changes: Sequence[str], chosen: Sequence[str]) -> Report:
    """The report of the changed design: a table of what moved, and in full only the risks that appear."""
    from mainstay.architect.design import what_if as changing

    other = changing.study(result.study.system.source, changes, result.study.today, chosen)
    moved = changing.compare(result.risks, other.risks)
    before = {risk.id for risk in result.risks}
    report = other.report
    appeared = {risk.finding().fingerprint for risk in other.risks if risk.id not in before}
    report.findings = [finding for finding in report.findings if finding.fingerprint in appeared]
    report.suppressed, report.notes = [], []
    keys = {figure.key for risk in other.risks if risk.id not in before for figure in risk.inputs}
    report.assumptions = [item for item in report.assumptions if item.name in keys]
    rest = len({risk.id for risk in other.risks}) - sum(one.how != "gone" for one in moved)
    report.tables.append(
        Table(
            "what-if",
            f"What if {' and '.join(changes)}",
            ("", "risk", "before", "after", "need"),
            tuple((one.how, one.id, one.before, one.after, one.need) for one in moved),
            (
                f"{rest} other {'risk stays' if rest == 1 else 'risks stay'} as they were"
                if moved or rest
                else "there is no risk before or after"
            ),
        )
    )
    return report


def sensitivity(result: Result, report: Report) -> None:
    """The numbers that matter most, as a table."""
    from mainstay.architect.design.sensitivity import STEP
    from mainstay.architect.design.sensitivity import sensitivity as turn_all

    found = turn_all(result)
    rows = _turned_rows(found)
    notes = []
    if found.left:
        notes.append(f"{found.left} more were not turned for want of time")
    if len(found.turns) > len(rows):
        notes.append(f"{len(found.turns) - len(rows)} more matter less")
    report.tables.append(
        Table(
            "sensitivity",
            f"Numbers that matter most, each turned by {STEP:.0%}",
            ("number", "now", "better", "effect"),
            tuple(rows),
            "; ".join(notes) if found.turns else "no risk rests on a number",
        )
    )


def _turned_rows(found: Sensitivity) -> list[tuple[str, str, str, str]]:
    rows = []
    for turn in [turn for turn in found.turns if turn.flips or turn.weight >= LEAST][:TOLD]:
        effects = []
        if turn.gone:
            effects.append(f"{_named(turn.gone)} {'goes' if len(turn.gone) == 1 else 'go'}")
        if turn.appear:
            effects.append(f"the other way {_named(turn.appear)} would appear")
        if turn.moved:
            effects.append(
                f"{turn.moved} {'margin moves' if turn.moved == 1 else 'margins move'} by {_percent(turn.weight)}"
            )
        now = f"{turn.figure}{' (assumed)' if turn.figure.assumed else ''}"
        rows.append((turn.figure.key, now, turn.better, "; ".join(effects)))
    return rows


def _named(ids: Sequence[str]) -> str:
    rest = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return ", ".join(ids[:3]) + rest


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share < 1 else f"{share * 100:.0f} %"


def simulate(result: Result, report: Report, quiet: bool) -> None:
    """Each formula beside what a simulation of the system measures."""
    from mainstay.architect.console import progress
    from mainstay.architect.design.simulation.verdict import judge

    with progress(quiet) as tell:
        tell("simulating")
        rows = judge(result.study, SIMULATED_SECONDS, 1)
    report.tables.append(
        Table(
            "simulation",
            f"Formulas beside a simulation of {SIMULATED_SECONDS:g} seconds",
            ("", "subject", "what", "formula", "simulated", "tolerance"),
            tuple(
                (
                    "holds" if row.holds else "differs",
                    row.subject,
                    row.what,
                    f"{_measured(row.what, row.formula_value)}{' at most' if row.bound else ''}",
                    _measured(row.what, row.simulated),
                    _measured(row.what, row.tolerance, 3),
                )
                for row in rows
            ),
        )
    )


def _measured(what: str, value: float, digits: int = 5) -> str:
    """A number of the simulation: a time in the unit in which people say it."""
    from mainstay.architect.design.figures import span

    return span(value, digits - 1) if what.startswith(("p50", "p99")) else f"{value:.{digits}g}"


def package(
    result: Result, report: Report, write: Path | None, check: Path | None, verify: bool, quiet: bool
) -> bool:
    """Make the package and write, check or verify it.

    Returns:
        Whether something drifted or a validator refused a file, which is exit code 1.
    """
    from mainstay.architect.console import drawings_folder, progress
    from mainstay.architect.design import package as packing
    from mainstay.architect.design.generated import generate

    folder = write or check
    result.previous = packing.previous(folder) if folder is not None else {}
    blueprint = packing.sources_digest(result.study.system.source.files.values())
    files = generate(result)
    texts = {file.path: file.text for file in files}
    failed = False
    if check is not None:
        drifted = packing.check(check, texts, blueprint)
        failed = bool(drifted)
        title = (
            f"{check}: {_counted(len(drifted), 'file')} not as the blueprint says"
            if drifted
            else (f"{check} is as the blueprint says")
        )
        report.tables.append(Table("drift", title, ("file", "how"), tuple(drifted.items())))
        # The question is whether the folder has drifted: its risks stand in it, and have their own run.
        report.findings, report.suppressed, report.assumptions = [], [], []
    with progress(quiet) as tell:
        checked = None
        if verify:
            from mainstay.architect.design.verify import verify as validate

            checked = validate(files, tell, drawings_folder())
            failed = failed or bool(checked.refused)
            report.tables.append(_marks(checked))
        if write is not None and not (checked is not None and checked.refused):
            from mainstay.architect.design import site
            from mainstay.architect.design.sensitivity import sensitivity as turn_all
            from mainstay.architect.design.site.drawing import drawer

            marks = (
                {mark.path: mark.said for mark in checked.marks}
                if checked is not None
                else packing.known_marks(write, texts)
            )
            tell("drawing the diagrams")
            pictures = [file.text for file in files if file.kind == "mermaid"]
            many = len(pictures) > MANY
            if many:  # half a second each, a large one more: the others stand there as text
                pictures = [text for text in pictures if len(text) <= LARGE][:DRAWN]
            draw = (
                checked.drawings.get
                if checked is not None
                else drawer(
                    pictures,
                    drawings_folder(),
                    lambda at, of: tell(f"drawing diagram {at} of {of}"),
                    DRAWING_MANY if many else DRAWING,
                )
            )
            rows = [
                site.Turned(name, now, f"{better} is better: {effect}")
                for name, now, better, effect in _turned_rows(turn_all(result, TURNING))
            ]
            texts |= site.write_site(result, files, draw=draw, sensitivity=rows, marks=marks)
            report.tables.append(_written(write, packing.write(write, texts, blueprint, marks)))
        elif write is not None:
            report.tables.append(
                Table("package", f"{write} was not written: a validator refuses a file", (), ())
            )
    return failed


def _marks(checked: Verification) -> Table:
    refused = checked.refused
    rows = [(mark.path, said) for mark in refused for said in mark.refused]
    rows += [(mark.path, mark.said) for mark in checked.marks if not mark.refused]
    counts = [
        (sum(mark.said.startswith(word) for mark in checked.marks), word)
        for word in ("validated", "checked", "not validated", "refused")
    ]
    said = ", ".join(f"{count} {word}" for count, word in counts if count)
    return Table("files", f"{_counted(len(checked.marks), 'file')}: {said}", ("file", "mark"), tuple(rows))


def _written(folder: Path, outcome: Outcome) -> Table:
    said = [
        f"{len(paths)} {word}"
        for paths, word in (
            (outcome.written, "written"),
            (outcome.same, "unchanged"),
            (outcome.removed, "removed"),
        )
        if paths
    ]
    kept = tuple((path, "no longer generated, but changed by a person: kept") for path in outcome.kept)
    return Table("package", f"{folder}: {', '.join(said) or 'nothing to do'}", ("file", "how"), kept)


def _counted(number: int, one: str) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {one}s"
