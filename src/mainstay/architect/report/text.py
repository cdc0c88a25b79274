"""Text from strangers, made safe to show: statements, paths and source lines may hold anything."""

from __future__ import annotations

import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
# C0 and C1 controls (less tab and newline), and the marks that reverse the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def encodable(text: str) -> str:
    """`text` with lone surrogates replaced by U+FFFD, so that it can be encoded as UTF-8."""
    return _SURROGATE.sub("\ufffd", text)


def visible(text: str) -> str:
    """`text` with control characters written out (``\\x1b``), so that none reaches a terminal or a page."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], encodable(text))


def line(text: str) -> str:
    """`text` on one line, white space folded, control characters written out."""
    return " ".join(visible(text).split())


def short(text: str, most: int) -> str:
    """`text` on one line, cut to at most `most` characters with an ellipsis."""
    one = line(text)
    return one if len(one) <= most else one[: max(most - 1, 0)].rstrip() + "…"


def clean(value: Any) -> Any:
    """A JSON value with `encodable` strings throughout, keys included."""
    match value:
        case str():
            return encodable(value)
        case dict():
            return {encodable(str(key)): clean(item) for key, item in value.items()}
        case list() | tuple():
            return [clean(item) for item in value]
    return value


def counted(number: float, one: str, many: str = "") -> str:
    """``1 finding``, ``2 findings``, ``1 204 files``."""
    return f"{number:,.0f}".replace(",", "\u202f") + f" {one if number == 1 else many or one + 's'}"
