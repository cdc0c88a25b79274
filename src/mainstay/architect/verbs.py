"""The verbs of the architect's wing: review, diagnose, replay, explain, catalog, demo.

They compose the engines and hold no logic of theirs. Results go to stdout, progress and problems to stderr.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mainstay.architect import catalog, console
from mainstay.architect.findings import Verdict
from mainstay.architect.options import (
    Baseline,
    Format,
    Ignore,
    Output,
    Quiet,
    Select,
    WriteBaseline,
    finish,
    known_findings,
    split,
)
from mainstay.architect.settings import Settings, find_root, leave_out, load_settings
from mainstay.errors import MainstayError

T = TypeVar("T")

app = typer.Typer()

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="Use this PostgreSQL instead of the embedded one; databases are made beside the one named, "
        "which must hold no tables.",
        metavar="URL",
        show_default=False,
    ),
]


@app.command(
    epilog="Examples:  mainstay review .   |   mainstay review src --format sarif -o mainstay.sarif   |   "
    "mainstay review app --select n-plus-one --min-verdict possible"
)
def review(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders; the current folder by default.")
    ] = None,
    format: Format = "text",
    output: Output = None,
    select: Select = None,
    ignore: Ignore = None,
    baseline: Baseline = None,
    write_baseline: WriteBaseline = None,
    min_verdict: Annotated[
        str | None,
        typer.Option("--min-verdict", help="likely, or possible to see guesses too.", metavar="VERDICT"),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither read nor write the cache of facts.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; one a core by default.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Read source and find its sharp edges, with the path that leads to each. The code is never imported or run."""
    from mainstay.architect.review import review as run_review

    paths = paths or [Path()]
    settings = load_settings(find_root([path for path in paths if path.exists()]))
    edges = _edges(settings, select, ignore)
    least = _verdict(min_verdict, settings)
    delivery = console.Delivery(format, output)
    known = known_findings(settings, baseline)
    with console.progress(quiet) as progress:
        report = run_review(
            paths,
            validations={edge.name: edge for edge in edges if edge.validation() is not None},
            root=settings.root,
            cache=None if no_cache else console.cache_folder(settings.root),
            workers=workers,
            progress=progress,
            tables=settings.libraries,
        )
    leave_out(report, settings.exclude)
    report.keep(least)
    finish(report, settings.root, delivery, known, write_baseline, quiet)


@app.command(
    epilog="Examples:  mainstay diagnose scenario.yaml   |   mainstay diagnose scenario.yaml -f html -o report.html   |"
    "   mainstay diagnose scenario.yaml -- node server.js"
)
def diagnose(
    context: typer.Context,
    scenario: Annotated[
        Path, typer.Argument(help="The scenario: service, set-up, actors, requests.", show_default=False)
    ],
    format: Format = "text",
    output: Output = None,
    select: Select = None,
    ignore: Ignore = None,
    baseline: Baseline = None,
    write_baseline: WriteBaseline = None,
    database_url: DatabaseUrl = None,
    schedules: Annotated[
        int, typer.Option("--schedules", min=1, help="Most schedules to try for each pair.")
    ] = 200,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, help="Most seconds for all experiments.")
    ] = 600,
    witnesses: Annotated[Path, typer.Option("--witnesses", help="Where witnesses are written.")] = Path(
        ".mainstay/witnesses"
    ),
    quiet: Quiet = False,
) -> None:
    """Run a service against a real PostgreSQL and prove its sharp edges. What follows -- replaces its command."""
    from mainstay.architect.diagnose import Budget, load_scenario
    from mainstay.architect.diagnose import diagnose as run_diagnose

    loaded = load_scenario(scenario)
    settings = load_settings(find_root([scenario]))
    edges = _edges(settings, select, ignore)
    delivery = console.Delivery(format, output)
    known = known_findings(settings, baseline)
    with console.progress(quiet) as progress:
        report = _run(
            run_diagnose(
                loaded,
                {edge.name: edge for edge in edges if edge.experiment() is not None},
                command=context.obj,
                database_url=database_url,
                witness_directory=witnesses,
                budget=Budget(schedules=schedules, seconds=seconds),
                progress=progress,
                root=settings.root,
            )
        )
    finish(report, settings.root, delivery, known, write_baseline, quiet)


@app.command(
    epilog="Examples:  mainstay replay .mainstay/witnesses/check-then-act-1f0c.json   |   "
    "mainstay replay witness.json -- python -m uvicorn app:app --port '$PORT'"
)
def replay(
    context: typer.Context,
    witness: Annotated[Path, typer.Argument(help="A witness that diagnose wrote.", show_default=False)],
    database_url: DatabaseUrl = None,
    quiet: Quiet = False,
) -> None:
    """Run one witness again: same start, same schedule. Exit code 1 where the edge still cuts, 0 where it is gone."""
    from mainstay.architect.diagnose import replay as run_replay

    with console.progress(quiet) as progress:
        result = _run(
            run_replay(
                witness,
                {edge.name: edge for edge in catalog.edges().values()},
                command=context.obj,
                database_url=database_url,
                progress=progress,
            )
        )
    for line in result.lines:
        typer.echo(line)
    same = "with the same outcome" if result.same_outcome else "with another outcome than the witness had"
    typer.echo(
        f"\nThe edge still cuts, {same}." if result.reproduced else "\nThe edge is gone: not reproduced."
    )
    raise typer.Exit(1 if result.reproduced else 0)


@app.command(epilog="Examples:  mainstay explain check-then-act   |   mainstay explain repository")
def explain(
    name: Annotated[str, typer.Argument(help="An edge, a risk or a pattern.", show_default=False)],
) -> None:
    """Print the page of a sharp edge, a risk or a pattern."""
    console.print_page(catalog.page(name))


@app.command("catalog", epilog="Example:  mainstay catalog")
def list_catalog() -> None:
    """List every sharp edge, every risk of a design and every pattern."""
    console.print_catalog(catalog.edges(), catalog.risks(), catalog.patterns())


@app.command(epilog="Examples:  mainstay demo   |   mainstay demo --output report.html")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the report is written.")] = Path(
        ".mainstay/demo.html"
    ),
    database_url: DatabaseUrl = None,
    quiet: Quiet = False,
) -> None:
    """The whole loop on the shipped shop: review it, prove its three sharp edges, show its safe edition clean."""
    from mainstay.architect.demo import run_demo

    delivery = console.Delivery("html", output)
    with console.progress(quiet) as progress:
        result = _run(
            run_demo(
                database_url=database_url, witness_directory=output.parent / "witnesses", progress=progress
            )
        )
    delivery.write(result.report, result.root, quiet=quiet)
    console.print_demo(result, output)
    raise typer.Exit(0 if result.as_promised else 2)


# ------------------------------------------------------------------------------------------- shared


def _edges(settings: Settings, chosen: list[str] | None, ignored: list[str] | None) -> list[catalog.Edge]:
    return catalog.select(split(chosen) or list(settings.select), split(ignored) or list(settings.ignore))


def _verdict(given: str | None, settings: Settings) -> Verdict:
    if given is None:
        return settings.min_verdict
    if given not in ("likely", "possible"):
        raise MainstayError(f"--min-verdict must be 'likely' or 'possible', not {given!r}.")
    return Verdict(given)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run asynchronous work so that Ctrl-C and SIGTERM cancel it and let it clean up."""

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        return await work

    try:
        return asyncio.run(guarded())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise MainstayError(
            "interrupted; every process it started has ended and every database it made is gone."
        ) from None
