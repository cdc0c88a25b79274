"""YAML as people write it: block style, keys in the order given, no anchors, long text folded.

PyYAML's emitters cannot indent lists or fold only what is long, and take most of the time of a large package.
Everything written reads back as the same value by YAML 1.1 and by 1.2.
"""

from __future__ import annotations

import json
import re
import textwrap
from functools import lru_cache
from typing import Any

WIDTH = 110
"""Columns of a line at most, where the text has spaces to break it at."""

_PLAIN = re.compile(r"[A-Za-z_/$(][^\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]*")
_ODD = re.compile(r"[\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
_MEANS_MORE = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))


def dump(value: dict[str, Any]) -> str:
    """The document. Values are mappings, lists, text, numbers, truth values and None; keys are text."""
    lines: list[str] = []
    _mapping(value, 0, lines)
    return "\n".join(lines) + "\n"


def _mapping(value: dict[str, Any], depth: int, lines: list[str], first: str = "") -> None:
    """`first` is what stands before the first key, where the mapping is an item of a list."""
    indent = " " * depth
    for key, item in value.items():
        lead = f"{first or indent}{scalar(str(key))}:"
        first = ""
        if isinstance(item, dict) and item:
            lines.append(lead)
            _mapping(item, depth + 2, lines)
        elif isinstance(item, list | tuple) and item:
            lines.append(lead)
            _list(item, depth + 2, lines)
        else:
            _leaf(lead, item, depth, lines)


def _list(value: list[Any] | tuple[Any, ...], depth: int, lines: list[str]) -> None:
    lead = " " * depth + "-"
    for item in value:
        if isinstance(item, dict) and item:
            _mapping(item, depth + 2, lines, f"{lead} ")
        elif isinstance(item, list | tuple) and item:
            lines.append(lead)
            _list(item, depth + 2, lines)
        else:
            _leaf(lead, item, depth, lines)


def _leaf(lead: str, value: Any, depth: int, lines: list[str]) -> None:
    if not isinstance(value, str):
        lines.append(f"{lead} {_other(value)}")
        return
    if len(value) + len(lead) > WIDTH or "\n" in value:
        indent = " " * (depth + 2)
        ends = value.endswith("\n")
        parts = value.removesuffix("\n").split("\n")
        if "\n" in value and all(_whole(part) or not part for part in parts) and parts[0] and parts[-1]:
            lines.append(f"{lead} {'|' if ends else '|-'}")
            lines.extend(f"{indent}{part}" if part else "" for part in parts)
            return
        if "\n" not in value and " " in value and _whole(value) and "  " not in value:
            lines.append(f"{lead} >-")
            width = max(40, WIDTH - len(indent))
            folded = textwrap.wrap(value, width, break_long_words=False, break_on_hyphens=False)
            lines.extend(f"{indent}{line}" for line in folded)
            return
    lines.append(f"{lead} {scalar(value)}")


def _whole(text: str) -> bool:
    """It can be a line of a block: it neither begins nor ends with a space, and has only what can be printed."""
    return text == text.strip() and not _ODD.search(text)


@lru_cache(maxsize=20_000)
def scalar(text: str) -> str:
    """Text on one line, quoted where it would be read as something else."""
    if (
        _PLAIN.fullmatch(text)
        and ": " not in text
        and " #" not in text
        and text[-1] not in ": "
        and text.lower() not in _MEANS_MORE
    ):
        return text
    if not _ODD.search(text):
        doubled = text.replace("'", "''")
        return f"'{doubled}'"
    return _ODD.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _other(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            text = repr(value)
            return text.replace("e", ".0e") if "e" in text and "." not in text else text
    return "[]" if isinstance(value, list | tuple) else "{}"
