"""The sharp version beside the safe one: lines aligned, changes marked, what is equal folded."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from mainstay.architect.report.text import counted, visible

AROUND = 2
"""Equal lines kept on either side of a change."""


@dataclass(frozen=True, slots=True)
class CodeLine:
    """One row of a column; `number` is 0 for a filler or a fold."""

    number: int
    code: Markup
    kind: str
    """``same``, ``changed``, ``filler`` or ``fold``."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two columns of equally many rows."""

    sharp: list[CodeLine]
    safe: list[CodeLine]


@lru_cache(maxsize=64)
def compare(sharp: str, safe: str) -> Comparison | None:
    """The two columns, or None where there is nothing to compare."""
    if not sharp or not safe:
        return None
    left, right = sharp.rstrip().split("\n"), safe.rstrip().split("\n")
    left_code, right_code = colored(sharp), colored(safe)
    left_head, right_head = _imports(sharp), _imports(safe)
    columns = Comparison([], [])
    if left_head or right_head:
        columns.sharp.append(_folded(f"imports, {counted(left_head, 'line')}"))
        columns.safe.append(_folded(f"imports, {counted(right_head, 'line')}"))
    matcher = SequenceMatcher(None, left[left_head:], right[right_head:], autojunk=False)
    opcodes = [
        (tag, i + left_head, i_end + left_head, j + right_head, j_end + right_head)
        for tag, i, i_end, j, j_end in matcher.get_opcodes()
    ]
    for position, (tag, i, i_end, j, j_end) in enumerate(opcodes):
        if tag == "equal":
            kept = _kept(i_end - i, first=position == 0, last=position == len(opcodes) - 1)
            folded = 0
            for k in range(i_end - i):
                if k not in kept:
                    folded += 1
                    continue
                _fold(columns, folded)
                folded = 0
                columns.sharp.append(CodeLine(i + k + 1, left_code[i + k], "same"))
                columns.safe.append(CodeLine(j + k + 1, right_code[j + k], "same"))
            _fold(columns, folded)
            continue
        for k in range(max(i_end - i, j_end - j)):
            columns.sharp.append(_side(i + k, i_end, left_code))
            columns.safe.append(_side(j + k, j_end, right_code))
    return columns


def colored(source: str) -> list[Markup]:
    """The lines of a Python source as markup with pygments' short class names; each line stands for itself."""
    formatter = HtmlFormatter(nowrap=True)
    text = highlight(visible(source.rstrip()), PythonLexer(stripnl=False), formatter)
    return [Markup(row) for row in text.split("\n")]


def _kept(count: int, *, first: bool, last: bool) -> set[int]:
    head = set() if first else set(range(min(AROUND, count)))
    tail = set() if last else set(range(max(count - AROUND, 0), count))
    kept = head | tail
    return set(range(count)) if count - len(kept) <= 3 else kept


def _fold(columns: Comparison, lines: int) -> None:
    if lines:
        row = _folded(counted(lines, "equal line"))
        columns.sharp.append(row)
        columns.safe.append(row)


def _folded(said: str) -> CodeLine:
    return CodeLine(0, Markup("⋯ ") + said, "fold")


def _imports(source: str) -> int:
    """How many lines the docstring and the imports at the top take; they differ and say little."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    last = 0
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            last = statement.end_lineno or 0
        elif not isinstance(statement, ast.Expr):
            break
    return last


def _side(index: int, end: int, code: list[Markup]) -> CodeLine:
    if index >= end:
        return CodeLine(0, Markup(""), "filler")
    return CodeLine(index + 1, code[index], "changed")
