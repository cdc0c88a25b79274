"""Where the front door meets the terminal: progress, one-line complaints, and where a report goes.

Rich is imported by the functions that print with it: a report needs none of it where its format does not.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mainstay.architect import catalog
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Report
from mainstay.architect.nearest import nearest

if TYPE_CHECKING:
    from mainstay.architect.demo import Demo
    from mainstay.architect.report import ManualPage


def cache_folder(root: Path) -> Path:
    """Where facts about a checkout are kept between runs: below ``XDG_CACHE_HOME``, else ``~/.cache``."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    return caches / "mainstay" / f"{root.resolve().name or 'root'}-{name}"


def drawings_folder() -> Path:
    """Where drawn diagrams are kept between runs: below ``XDG_CACHE_HOME``, else ``~/.cache``."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "mainstay" / "drawings"


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that tells on stderr what goes on, once the work has taken over a second.

    On a terminal the line is rewritten in place; elsewhere a line is written at most every two seconds.
    """
    from rich.console import Console

    console = Console(stderr=True)
    started = last = time.monotonic()
    status = console.status("")

    def tell(text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if quiet or now - started < 1:
            return
        if console.is_terminal:
            status.update(f"[dim]{text.replace('[', chr(92) + '[')}")
            status.start()
        elif now - last >= 2:
            last = now
            sys.stderr.write(f"mainstay: {text}\n")

    try:
        yield tell
    finally:
        status.stop()


def write_file(file: Path, text: str) -> None:
    """Write all of it or nothing, and leave no temporary file. Raises `MainstayError` where that is not possible."""
    import tempfile

    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise MainstayError(
            f"{file} cannot be written ({error.strerror}); make its folder, or name another."
        ) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(file)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise MainstayError(
            f"{file} cannot be written ({error.strerror}); make room, or name another."
        ) from error


@dataclass(frozen=True)
class Delivery:
    """Where a report goes and in which form; refused before the work starts, not after."""

    format: str
    output: Path | None

    def __post_init__(self) -> None:
        from mainstay.architect.report import names

        known = names()
        if self.format not in known:
            raise MainstayError(
                f"there is no report format {self.format!r}{nearest(self.format, known)}; "
                f"choose from: {', '.join(known)}."
            )
        if self.output is None:
            return
        if self.output.is_dir():
            raise MainstayError(f"{self.output} is a folder; name a file for --output.")
        if self.output.parent.name == ".mainstay":
            self.output.parent.mkdir(exist_ok=True)
        if not self.output.parent.is_dir():
            raise MainstayError(
                f"the folder {self.output.parent} does not exist; make it, or name another --output."
            )

    def write(self, report: Report, root: Path, *, quiet: bool) -> None:
        """Render the report and write it; problems are said on stderr where the format is not for people."""
        from mainstay.architect.report import Context, render

        stream = None if self.output else sys.stdout
        context = Context.of(stream, root=root, pages=manual_page, quiet=quiet)
        text = render(self.format, report, context)
        if self.output is not None:
            write_file(self.output, text)
        else:
            sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "utf-8", errors="replace"))
            sys.stdout.flush()
        if report.problems and (self.format != "text" or self.output is not None):
            for problem in report.problems:
                sys.stderr.write(f"mainstay: {problem}\n")


def manual_page(name: str) -> ManualPage | None:
    """What a report shows of an edge: its page with the two services, sharp and safe. None where it is not known."""
    from mainstay.architect.report import ManualPage

    edge = catalog.edges().get(name)
    if edge is None:
        risk = catalog.risks().get(name)
        return ManualPage(risk.title, risk.text) if risk is not None else None
    return ManualPage(
        title=edge.page.title,
        text=edge.page.text,
        remedy=edge.remedy,
        severity=edge.severity,
        sharp=(edge.folder / "sharp.py").read_text(encoding="utf-8"),
        safe=(edge.folder / "safe.py").read_text(encoding="utf-8"),
    )


def print_page(page: catalog.Page) -> None:
    """Print a page of the manual; an edge's page ends with the service that has it and the one that has not."""
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.syntax import Syntax

    console = Console()
    console.print(f"[bold]{page.name}[/] [dim]{page.kind}[/]\n{page.title}\n", highlight=False)
    console.print(Markdown(page.text))
    for part in ("sharp", "safe"):
        file = page.file.parent / f"{part}.py"
        if page.kind == "sharp edge" and file.exists():
            console.rule(f"{part}.py")
            console.print(
                Syntax(file.read_text(encoding="utf-8"), "python", background_color="default", word_wrap=True)
            )


def print_catalog(
    edges: Mapping[str, catalog.Edge], risks: Mapping[str, catalog.Page], patterns: Mapping[str, catalog.Page]
) -> None:
    """Print every name with the sentence that says what it is."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for title, rows in (
        ("sharp edges", [(edge.name, f"{edge.severity}", edge.page.title) for edge in edges.values()]),
        ("risks of a design", [(page.name, page.meta["severity"], page.title) for page in risks.values()]),
        ("patterns", [(page.name, "", page.title) for page in patterns.values()]),
    ):
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=None,
            padding=(0, 2, 0, 0),
            show_header=False,
        )
        for row in rows:
            table.add_row(*row)
        console.print(table, "")
    console.print("[dim]mainstay explain NAME prints the page.[/]")


def print_demo(demo: Demo, output: Path) -> None:
    """Print what the demo came to: for each edge, what review and diagnose said of both editions."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    console = Console()
    table = Table(title="the shop, taken apart", title_justify="left", title_style="bold", box=SIMPLE)
    table.add_column("sharp edge", no_wrap=True)
    for edition in ("sharp", "safe"):
        table.add_column(f"{edition}:\nreview")
        table.add_column(f"{edition}:\ndiagnose")
    for row in demo.rows:
        table.add_row(*row)
    console.print(table)
    for finding in demo.report.findings:
        console.print(
            f"[bold]{finding.edge}[/] {finding.verdict}  [dim]{finding.location}[/]", highlight=False
        )
        console.print(Padding(escape(finding.message), (0, 0, 1, 2)), highlight=False)
    for line in demo.lines:
        console.print(line, highlight=False)
    console.print(f"\nreport   {output}", highlight=False)
    for witness in demo.witnesses:
        console.print(f"witness  mainstay replay {witness}", highlight=False, soft_wrap=True)
