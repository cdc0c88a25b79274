"""What the verbs that print a report share: their options, and how they end.

Nothing heavy is imported here: `mainstay design` answers in less time than the reports of other verbs take to load.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mainstay.architect.findings import Report
from mainstay.architect.settings import Settings
from mainstay.errors import complain

if TYPE_CHECKING:
    from mainstay.architect.console import Delivery

Format = Annotated[
    str, typer.Option("--format", "-f", help="text, json, sarif, github or html.", metavar="FORMAT")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Write to FILE instead of stdout.", metavar="FILE", show_default=False
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select", help="Look only for these edges (repeat, or separate by commas).", metavar="EDGE"
    ),
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", help="Do not look for these edges.", metavar="EDGE")
]
Baseline = Annotated[
    Path | None,
    typer.Option("--baseline", help="Show only what this baseline does not know.", metavar="FILE"),
]
WriteBaseline = Annotated[
    Path | None,
    typer.Option("--write-baseline", help="Write all findings to a baseline, and exit 0.", metavar="FILE"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Findings only: no progress, no cleared checks.")]


def split(values: list[str] | None) -> list[str]:
    """Names that were given by repeating an option, or parted by commas."""
    return [name.strip() for value in values or [] for name in value.split(",") if name.strip()]


def known_findings(settings: Settings, given: Path | None) -> Counter[str] | None:
    """The baseline that was named, on the command line or in the settings; None where none was."""
    from mainstay.architect.baseline import read_baseline

    file = given or (settings.root / settings.baseline if settings.baseline else None)
    return read_baseline(file) if file is not None else None


def finish(
    report: Report,
    root: Path,
    delivery: Delivery,
    known: Counter[str] | None,
    write_baseline: Path | None,
    quiet: bool,
    failed: bool = False,
) -> None:
    """What every such verb ends with: suppressions, baseline, report, exit code.

    Args:
        report: what the engine said.
        root: the folder that its locations are relative to.
        delivery: where it goes.
        known: the baseline.
        write_baseline: where a new baseline is written.
        quiet: findings only.
        failed: something else than a finding calls for exit code 1.
    """
    from mainstay.architect.baseline import apply_baseline, baseline_text
    from mainstay.architect.console import write_file
    from mainstay.architect.suppression import apply_suppressions

    apply_suppressions(report, root)
    if known is not None:
        apply_baseline(report, known)
    report.sort()
    if write_baseline is not None:
        write_file(write_baseline, baseline_text(report))
    delivery.write(report, root, quiet=quiet)
    undecided = sum(check.verdict == "undecided" for check in report.checks)
    if report.problems:
        raise typer.Exit(2)
    if failed or (report.findings and write_baseline is None):
        raise typer.Exit(1)
    if undecided:
        complain(f"{undecided} check{'s are' if undecided > 1 else ' is'} undecided, which is not a pass.")
        raise typer.Exit(2)
    raise typer.Exit(0)
