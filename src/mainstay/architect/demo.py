"""The whole loop on the shipped shop: review it, run it, prove its edges, and show the safe edition clean.

The shop has two editions with the same endpoints, ``sharp`` and ``safe``; `git diff --no-index sharp safe`
in ``examples/shop`` shows all that makes the difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mainstay.architect import catalog
from mainstay.architect.combine import combine
from mainstay.architect.diagnose import Budget, diagnose, load_scenario
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Finding, Report, Verdict
from mainstay.architect.review import review


@dataclass(slots=True)
class Demo:
    """What the demo came to."""

    report: Report
    """Review and diagnosis of the sharp edition, joined, with the checks that the safe edition passed."""
    root: Path
    rows: list[tuple[str, ...]] = field(default_factory=list)
    """For each edge: its name, then what review and diagnose said of the sharp and of the safe edition."""
    lines: list[str] = field(default_factory=list)
    witnesses: list[str] = field(default_factory=list)
    as_promised: bool = True
    """Every edge seen and proven in the sharp edition, none in the safe one."""


def shop() -> Path:
    """The folder of the shipped shop: inside the installed package, or in the checkout beside it."""
    for folder in (catalog.PACKAGE / "examples" / "shop", catalog.PACKAGE.parents[1] / "examples" / "shop"):
        if (folder / "scenario.yaml").is_file():
            return folder
    raise MainstayError("the shipped shop is not there; install Mainstay again, with its 'demo' extra.")


async def run_demo(
    *, database_url: str | None, witness_directory: Path, progress: Callable[[str], None]
) -> Demo:
    """Review and diagnose both editions of the shop. Takes about a minute on two cores."""
    try:
        import alembic  # noqa: F401
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as missing:
        raise MainstayError(
            f"the shop needs the package {missing.name!r}; install Mainstay with its 'demo' extra."
        ) from None

    started = time.monotonic()
    folder, edges = shop(), catalog.edges()
    progress("review: reading the shop")
    read = review([folder], validations=edges, root=folder, cache=None, progress=progress)
    read.keep(Verdict.LIKELY)
    scenario = load_scenario(folder / "scenario.yaml")
    diagnosed: dict[str, Report] = {}
    for edition in ("sharp", "safe"):
        diagnosed[edition] = await diagnose(
            scenario,
            edges,
            command=[
                part.replace("sharp.app:", f"{edition}.app:") for part in scenario.service.command or ()
            ],
            database_url=database_url,
            witness_directory=witness_directory / edition,
            budget=Budget(seconds=300),
            progress=lambda text, edition=edition: progress(f"diagnose {edition}: {text}"),  # type: ignore[misc]
        )

    def seen(edition: str) -> list[Finding]:
        return [finding for finding in read.findings if finding.location.file.startswith(f"{edition}/")]

    sharp = Report("review", seen("sharp"), statistics=read.statistics, problems=read.problems)
    report = combine(sharp, diagnosed["sharp"])
    report.checks = [*diagnosed["sharp"].checks, *diagnosed["safe"].checks]
    report.findings += [*seen("safe"), *diagnosed["safe"].findings]
    report.sort()
    demo = Demo(report, folder)
    for name in edges:
        row = [name]
        for edition, expected in (("sharp", True), ("safe", False)):
            for said in (seen(edition), diagnosed[edition].findings):
                found = [finding for finding in said if finding.edge == name]
                verdicts = ", ".join(sorted({finding.verdict.value for finding in found}))
                row.append(f"{len(found)} {verdicts}" if found else "none")
                demo.as_promised &= bool(found) == expected
        cleared = [
            check for check in diagnosed["safe"].checks if check.edge == name and check.verdict == "cleared"
        ]
        if row[4] == "none" and cleared:
            row[4] = f"{len(cleared)} cleared"
        demo.rows.append((row[0], row[1], row[2], row[3], row[4]))
    demo.lines.append(
        f"{time.monotonic() - started:.0f} seconds in all; the safe edition differs in: diff -ru sharp safe"
    )
    demo.witnesses = [finding.witness_file for finding in diagnosed["sharp"].findings if finding.witness_file]
    return demo
