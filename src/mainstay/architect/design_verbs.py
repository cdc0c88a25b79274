"""The verb `design`: a blueprint in, computed risks out; and the package of contracts, diagrams and documents.

It stands apart from the other verbs so that it starts at once: what only some of its options need is imported by them.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mainstay.architect.findings import Finding, Location, Report
from mainstay.architect.options import (
    Baseline,
    Format,
    Output,
    Quiet,
    WriteBaseline,
    finish,
    known_findings,
    split,
)
from mainstay.architect.settings import Settings, find_root, load_settings
from mainstay.errors import MainstayError

os.environ.setdefault(
    "PYDANTIC_DISABLE_PLUGINS", "__all__"
)  # looking for some takes longer than reading a blueprint

app = typer.Typer()


@app.command(
    epilog="Examples:  mainstay design blueprint.yaml   |   "
    "mainstay design blueprint.yaml --write design --verify   |   "
    "mainstay design blueprint.yaml --check design   |   "
    "mainstay design blueprint.yaml --what-if orders.place_order.timeout=400ms   |   "
    "mainstay design blueprint.yaml --against blueprint-of-last-release.yaml   |   "
    "mainstay design --schema > blueprint.schema.json"
)
def design(
    blueprint: Annotated[
        Path | None, typer.Argument(help="The blueprint, in YAML.", show_default=False)
    ] = None,
    format: Format = "text",
    output: Output = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select", help="Look only for risks of these kinds (repeat, or part by commas).", metavar="KIND"
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="Do not look for risks of these kinds.", metavar="KIND"),
    ] = None,
    baseline: Baseline = None,
    write_baseline: WriteBaseline = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            help="Write contracts, diagrams, documents and the site to DIR: all or nothing, and never over a file that "
            "a person changed.",
            metavar="DIR",
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check", help="Say only what in DIR is not as it would be written now.", metavar="DIR"
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hand every file to the validators that are installed.")
    ] = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            help="With another value in one place: which risks go, appear and move (repeatable).",
            metavar="KEY=VALUE",
        ),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Say which numbers matter most.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", help="Look for changes that break callers of an earlier blueprint.", metavar="OLD"
        ),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Compare each formula with a simulation of the system.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of blueprints, for editors, and exit.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Compute the risks of a design from its blueprint: each with formula, inputs and what would satisfy it."""
    from mainstay.architect.console import Delivery

    if schema:
        from mainstay.architect.design.schema import FILE

        typer.echo(FILE.read_text(encoding="utf-8"), nl=False)
        raise typer.Exit
    if blueprint is None:
        raise MainstayError("name a blueprint, such as: mainstay design blueprint.yaml")
    if what_if and (write or check or verify or against or baseline or write_baseline):
        raise MainstayError(
            "--what-if only compares; use it without --write, --check, --verify, --against and baselines"
        )
    if write and check:
        raise MainstayError("--write and --check contradict each other; give one of them")
    if (write or check) and (select or ignore):
        raise MainstayError(
            "the package holds every risk; use --write and --check without --select and --ignore"
        )
    from mainstay.architect.design.study import study_file

    settings = load_settings(find_root([blueprint]))
    chosen = _kinds(settings, select, ignore)
    delivery = Delivery(format, output)
    known = known_findings(settings, baseline)
    gc.enable()
    result = study_file(blueprint, chosen=chosen, against=against)
    report, failed = result.report, False
    if write or check or verify or what_if or sensitivity or simulate:
        from mainstay.architect import design_options as more

        if what_if:
            report = more.what_if(result, what_if, chosen)
        if sensitivity:
            more.sensitivity(result, report)
        if simulate:
            more.simulate(result, report, quiet)
        if write or verify or check:
            failed = more.package(result, report, write, check, verify, quiet)
    finish(_from_root(report, settings.root), settings.root, delivery, known, write_baseline, quiet, failed)


def _kinds(settings: Settings, select: Sequence[str] | None, ignore: Sequence[str] | None) -> list[str]:
    """The kinds of risks to look for; empty for all. Settings may name sharp edges too, which are not meant here."""
    from mainstay.architect.design.risks import kinds
    from mainstay.architect.nearest import nearest

    chosen, ignored = split(list(select or ())), split(list(ignore or ()))
    known = kinds() if chosen or ignored or settings.select or settings.ignore else {}
    for name in (*chosen, *ignored):
        if name not in known:
            raise MainstayError(
                f"there is no kind of risk named {name!r}{nearest(name, known)}; see: mainstay catalog"
            )
    chosen = chosen or [name for name in settings.select if name in known]
    ignored = ignored or [name for name in settings.ignore if name in known]
    if not chosen and not ignored:
        return []
    left = [name for name in chosen or known if name not in ignored]
    if not left:
        raise MainstayError("--ignore leaves no kind of risk to look for; name fewer")
    return left


def _from_root(report: Report, root: Path) -> Report:
    """The report with its places named from `root`, as other reports have them, rather than from where we stand."""
    here = Path.cwd().resolve()
    if here == root.resolve():
        return report
    names: dict[str, str] = {}

    def named(file: str) -> str:
        if file not in names:
            path = (here / file).resolve()
            inside = path.is_relative_to(root.resolve())
            names[file] = path.relative_to(root.resolve()).as_posix() if inside else file
        return names[file]

    def place(location: Location) -> Location:
        return replace(location, file=named(location.file))

    def moved(finding: Finding) -> Finding:
        path = tuple(replace(step, location=place(step.location)) for step in finding.path)
        return replace(finding, location=place(finding.location), path=path, fingerprint="")

    report.findings = [moved(finding) for finding in report.findings]
    report.suppressed = [replace(item, finding=moved(item.finding)) for item in report.suppressed]
    report.notes = [replace(note, file=named(note.file)) for note in report.notes]
    return report
