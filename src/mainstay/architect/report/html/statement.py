"""Statements shortened for reading: what is asked of which table, with the values filled in."""

from __future__ import annotations

import re
import textwrap

from mainstay.architect.findings import Event
from mainstay.architect.report.text import line, short

_COLUMNS = re.compile(r"^(SELECT(?: DISTINCT)?) (?!\*).{9,}? (FROM\b)", re.IGNORECASE)
_INSERTED = re.compile(r"^(INSERT INTO \S+) \([^()]{9,}\) (VALUES\b)", re.IGNORECASE)
_RETURNED = re.compile(r"( RETURNING) .{9,}$", re.IGNORECASE)
_CAST = re.compile(r"(\$\d+)::\w+")
_PARAMETER = re.compile(r"\$(\d+)(?:::[\w ]+?(?=\W|$))?")


def brief(event: Event, most: int) -> str:
    """The event's text on one line of at most `most` characters.

    Of a statement, a long list of columns gives way to an ellipsis, the table's name is not repeated before each
    column, and parameters are filled in.
    """
    if event.kind != "statement":
        return short(event.text, most)
    text = line(event.text).rstrip(" ;")
    if event.target:
        table = re.escape(event.target)
        text = re.sub(rf'(?:"{table}"|\b{table})\.', "", text)
    text = _COLUMNS.sub(r"\1 … \2", text)
    text = _INSERTED.sub(r"\1 (…) \2", text)
    text = _RETURNED.sub(r"\1 …", text)
    return short(_PARAMETER.sub(lambda match: _filled(event, match), text), most)


def rows(event: Event, most: int) -> list[str]:
    """`brief` on one row of at most `most` characters, or on two where it is longer: broken before a clause."""
    text = brief(event, 2 * most)
    if len(text) > most:
        for clause in (" WHERE ", " VALUES ", " SET ", " FROM "):
            at = text.find(clause)
            if 0 < at <= most and len(text) - at - 1 <= most:
                return [text[:at], text[at + 1 :]]
    return textwrap.wrap(text, most, max_lines=2, placeholder="…") or [""]


def note(event: Event) -> str:
    """What an event that is no arrow is called: ``held before UPDATE …``, ``goes on with UPDATE …``."""
    text = _CAST.sub(r"\1", line(event.text))
    match event.kind:
        case "reply" if event.result and not text.startswith(event.result):
            return f"{event.result} {text}"
        case "pause" if not text.startswith("held"):
            return f"held {text}"
        case "resume" if text.startswith("before "):
            return f"goes on with {text.removeprefix('before ')}"
        case "blocked" if "waits" not in text:
            return f"waits: {text}"
        case "unblocked":
            return f"has the lock: {text}"
    return text


def _filled(event: Event, match: re.Match[str]) -> str:
    index = int(match[1]) - 1
    if not 0 <= index < len(event.parameters):
        return match[0]
    value = event.parameters[index]
    if value is None:
        return "null"
    return value if re.fullmatch(r"-?\d+(\.\d+)?", value) else "'" + short(value, 24) + "'"
