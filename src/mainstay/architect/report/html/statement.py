"""Statements shortened for reading: what is asked of which table, with the values filled in."""

from __future__ import annotations

import re

from mainstay.architect.findings import Event
from mainstay.architect.report.text import line, short

_COLUMNS = re.compile(r"^(SELECT(?: DISTINCT)?) (?!\*).{9,}? (FROM\b)", re.IGNORECASE)
_INSERTED = re.compile(r"^(INSERT INTO \S+) \([^()]{9,}\) (VALUES\b)", re.IGNORECASE)
_RETURNED = re.compile(r"( RETURNING) .{9,}$", re.IGNORECASE)
_PARAMETER = re.compile(r"\$(\d+)(?:::[\w ]+?(?=\W|$))?")


def brief(event: Event, most: int) -> str:
    """The event's text on one line of at most `most` characters.

    Of a statement, a long list of columns gives way to an ellipsis, the table's name is not repeated before each
    column, and parameters are filled in.
    """
    if event.kind != "statement":
        return short(event.text, most)
    text = line(event.text)
    if event.target:
        table = re.escape(event.target)
        text = re.sub(rf'(?:"{table}"|\b{table})\.', "", text)
    text = _COLUMNS.sub(r"\1 … \2", text)
    text = _INSERTED.sub(r"\1 (…) \2", text)
    text = _RETURNED.sub(r"\1 …", text)
    return short(_PARAMETER.sub(lambda match: _filled(event, match), text), most)


def _filled(event: Event, match: re.Match[str]) -> str:
    index = int(match[1]) - 1
    if not 0 <= index < len(event.parameters):
        return match[0]
    value = event.parameters[index]
    if value is None:
        return "null"
    return value if re.fullmatch(r"-?\d+(\.\d+)?", value) else "'" + short(value, 24) + "'"
