"""Source lines for the places that a report names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mainstay.architect.findings import Location
from mainstay.architect.report.text import visible

LARGEST = 4_000_000
"""Bytes; a larger file is not shown."""
WIDEST = 400
"""Characters; a longer line is shown around the span only."""
TAB = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One line as shown: tabs expanded, control characters written out, the span in characters from 0."""

    number: int
    text: str
    start: int = 0
    end: int = 0

    @property
    def parts(self) -> tuple[str, str, str]:
        """What stands before, in and after the span."""
        return self.text[: self.start], self.text[self.start : self.end], self.text[self.end :]


def excerpt(root: Path, location: Location, around: int = 0, most: int = 6) -> list[Line]:
    """The lines of `location` with `around` lines before and after; empty where the source cannot be read.

    A span over more than `most` lines is cut there. Files outside `root` are not read.
    """
    lines = _lines(root, location.file)
    first = location.line
    if not 1 <= first <= len(lines):
        return []
    last = min(max(location.end_line, first), first + most - 1, len(lines))
    shown = range(max(first - around, 1), min(last + around, len(lines)) + 1)
    found = [_line(lines[number - 1], number, location) for number in shown]
    while found[0].number < first and not found[0].text.strip():
        del found[0]
    while found[-1].number > last and not found[-1].text.strip():
        del found[-1]
    return found


def dedent(lines: list[Line]) -> list[Line]:
    """The same lines without the indentation that all of them share."""
    margin = min((len(line.text) - len(line.text.lstrip()) for line in lines if line.text.strip()), default=0)
    return [
        Line(line.number, line.text[margin:], max(line.start - margin, 0), max(line.end - margin, 0))
        for line in lines
    ]


@lru_cache(maxsize=256)
def _lines(root: Path, file: str) -> tuple[str, ...]:
    try:
        base = root.resolve()
        path = (base / file).resolve()
        if not path.is_relative_to(base) or not path.is_file() or path.stat().st_size > LARGEST:
            return ()
        return tuple(path.read_text(encoding="utf-8", errors="replace").split("\n"))
    except (OSError, ValueError, RuntimeError):  # gone, a NUL in the name, links that loop
        return ()


def _line(raw: str, number: int, location: Location) -> Line:
    raw = raw.rstrip("\r")
    last = max(location.end_line, location.line)
    start = end = 0
    if location.line <= number <= last:
        indent = len(raw) - len(raw.lstrip())
        start = min(location.column - 1, len(raw)) if number == location.line else indent
        end = location.end_column - 1 if number == location.end_line and location.end_column else len(raw)
        end = min(max(end, start), len(raw))
    if len(raw) > WIDEST:
        cut = max(start - WIDEST // 4, 0)
        raw, start, end = raw[cut : cut + WIDEST], start - cut, min(end - cut, WIDEST)
    before, span, after = (
        visible(part) for part in (_tabs(raw[:start]), _tabs(raw[start:end]), _tabs(raw[end:]))
    )
    return Line(
        number,
        (before + span + after).rstrip() if not after else before + span + after,
        len(before),
        len(before) + len(span.rstrip()),
    )


def _tabs(text: str) -> str:
    return text.replace("\t", " " * TAB)
