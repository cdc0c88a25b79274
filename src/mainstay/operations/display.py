"""What commands print: tables and sheets for people, one JSON document for scripts."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mainstay.errors import MainstayError
from mainstay.nearest import nearest

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for scripts.")]
States = Annotated[
    list[str] | None,
    typer.Option("--state", "-s", help="In these states (repeat, or separate by commas).", metavar="STATE"),
]
Before = Annotated[
    int | None, typer.Option("--before", help="The page before this id.", metavar="ID", show_default=False)
]
Most = Annotated[int, typer.Option("--most", "-n", min=1, max=1000, help="How many at most.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

WIDE = 110
"""Characters from which on a terminal shows the columns that are nice to have."""
PIPED = 240
"""Characters of a line where no terminal sets a limit: nothing should be cut off before `grep` sees it."""

STYLES = {
    "running": "cyan",
    "finishing": "cyan",
    "succeeded": "green",
    "completed": "green",
    "active": "green",
    "dead": "bold red",
    "compensating": "yellow",
    "blocked": "yellow",
    "paused": "yellow",
    "undeclared": "yellow",
    "cancelled": "dim",
    "compensated": "dim",
    "expired": "dim",
    "retired": "dim",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        heading: of the column.
        right: numbers stand on the right.
        wide: shown only where there is room.
        cut: may end in an ellipsis where there is too little room.
        fold: may go on in the next line then; for names that people copy.
    """

    heading: str
    right: bool = False
    wide: bool = False
    cut: bool = False
    fold: bool = False


def console() -> Console:
    """Stdout, as wide as the terminal; colour only on one, and not with NO_COLOR."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPED if piped else None, highlight=False, markup=False, emoji=False)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, none: str) -> None:
    """Print rows under headings, or the sentence `none` where there are no rows."""
    out = console()
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        out.print(none)
        return
    shown = [at for at, column in enumerate(columns) if not column.wide or out.width >= WIDE]
    # What is empty in every row tells nothing.
    shown = [at for at in shown if any(row[at] for row in cells)]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    widths = _widths(
        [columns[at] for at in shown],
        [max(len(columns[at].heading), *(row[at].cell_len for row in cells)) for at in shown],
        out.width - 2 * (len(shown) - 1),
    )
    for at, width in zip(shown, widths, strict=True):
        column = columns[at]
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            overflow="ellipsis" if column.cut else "fold",
            no_wrap=column.cut,
            width=width,
        )
    for row in cells:
        table.add_row(*(row[at] for at in shown))
    out.print(table)


def print_sheet(fields: Mapping[str, object]) -> None:
    """Print names and values below each other; what is None or empty is left out."""
    sheet = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    sheet.add_column(no_wrap=True, style="dim")
    sheet.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, False, "", [], {}):
            sheet.add_row(name, _cell(value))
    console().print(sheet)


def print_lines(*lines: str) -> None:
    """Print text as it is, apart from what a terminal would obey."""
    for line in lines:
        console().print(Text(harmless(line)), soft_wrap=True)


def print_errors(errors: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Print an error history: a line for each attempt that failed, and the traceback of the last."""
    for error in errors:
        print_lines("", f"attempt {error['attempt']}, {moment(error['at'], now)}, worker {error['worker']}")
        told = (error is errors[-1] and error.get("traceback")) or error["error"]
        print_lines(*(f"  {line}" for line in told.rstrip().splitlines()))


def print_json(document: object) -> None:
    """Print one JSON document. Times are ISO 8601 with their zone, other units are seconds."""
    sys.stdout.write(json.dumps(document, default=_plain, ensure_ascii=False, indent=2) + "\n")


def print_answer(json: bool, document: object, sentence: str) -> None:
    """Print what a command did: the document for scripts, or the sentence for people."""
    if json:
        print_json(document)
    else:
        print_lines(sentence)


def print_next_page(found: Sequence[Mapping[str, Any]], most: int) -> None:
    """Say how to see what comes after these, newest first, where there may be more."""
    if len(found) == most:
        print_lines("", f"the page before: --before {found[-1]['id']}")


def pretty_json(value: object) -> str:
    """JSON for reading: on one line where it is short."""
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= 60 else json.dumps(value, ensure_ascii=False, indent=2)


def ago(then: datetime | str | None, now: datetime) -> str:
    """``3 min ago``, ``in 5 h``; empty where there is no time."""
    if then is None:
        return ""
    if isinstance(then, str):
        then = datetime.fromisoformat(then)
    seconds = (now - then).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def duration(seconds: float | None) -> str:
    """``45 s``, ``3 min``, ``5 h``, ``12 days``: the largest unit of which there are at least two, or nearly."""
    if seconds is None:
        return ""
    for unit, size, least in (("days", 86400, 48 * 3600), ("h", 3600, 5400), ("min", 60, 100)):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(then: datetime | str | None, now: datetime) -> str:
    """A time with its age: ``2026-03-01 09:00:00+00:00 (3 min ago)``; empty where there is none."""
    if then is None:
        return ""
    at = datetime.fromisoformat(then) if isinstance(then, str) else then
    return f"{at.isoformat(sep=' ', timespec='seconds')} ({ago(at, now)})"


def harmless(text: str, *, lines: bool = True) -> str:
    """Text without what a terminal would obey: it comes from payloads and errors that anyone may have made."""
    return "".join(
        c if c.isprintable() or (lines and c in "\n\t") else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def first_line(text: str | None) -> str:
    """The first line of a text that may have more, or be missing."""
    return (text or "").strip().partition("\n")[0]


def agree(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be taken back.

    Raises:
        MainstayError: the answer is no, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise MainstayError(
            f"this would {question}; add --yes to do so, since there is no terminal to ask on."
        )
    if not typer.confirm(f"{question[0].upper()}{question[1:]}?", err=True):
        raise MainstayError("nothing was changed.")


def names(given: Sequence[str] | None) -> list[str]:
    """Names from an option that may be repeated, or hold several with commas between."""
    return [name.strip() for value in given or () for name in value.split(",") if name.strip()]


def states(given: Sequence[str] | None, literal: Any) -> list[Any]:
    """The names given, which must be among those of the literal type.

    Raises:
        MainstayError: there is no such state, or none is named.
    """
    known = get_args(literal)
    if given and not names(given):  # such as "$STATE" that is not set: not to be taken for all
        raise MainstayError(f"--state names no state; there are {', '.join(known)}.")
    for name in names(given):
        if name not in known:
            raise MainstayError(
                f"there is no state {name!r}{nearest(name, known)}; there are {', '.join(known)}."
            )
    return names(given)


def _widths(columns: Sequence[Column], wanted: Sequence[int], room: int) -> list[int]:
    """Where there is too little room, what may be cut gives way first, the widest most; then what may go on below."""
    widths = list(wanted)
    cut = [at for at, column in enumerate(columns) if column.cut]
    fold = [at for at, column in enumerate(columns) if column.fold]
    for shrinking, least in ((cut, 12), (fold, 16), (cut, 5), (fold, 8)):
        while sum(widths) > room and (above := [at for at in shrinking if widths[at] > least]):
            widths[max(above, key=lambda at: widths[at])] -= 1
    return widths


def _cell(value: object) -> Text:
    match value:
        case None:
            text = ""
        case str():
            text = harmless(value)
        case bool():
            text = "yes" if value else ""
        case float():
            text = f"{value:g}"
        case list() | tuple():
            text = harmless(", ".join(map(str, value)))
        case _:
            text = str(value)
    return Text(text, style=STYLES.get(text, ""))


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} is nothing that JSON knows")
