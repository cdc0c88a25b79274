"""What happened beside what every serial order would have left: one row a fact, one column an outcome."""

from __future__ import annotations

import functools
import json
import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mainstay.architect.findings import Outcome, Witness
from mainstay.architect.report.text import visible


@dataclass(frozen=True, slots=True)
class Cell:
    """The lines of one fact in one outcome, each with whether it differs from what was observed."""

    lines: list[tuple[str, bool]]

    @property
    def differs(self) -> bool:
        return any(differs for _, differs in self.lines)


@dataclass(frozen=True, slots=True)
class Fact:
    label: str
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is what was observed."""

    names: list[str]
    facts: list[Fact]
    reasons: list[list[str]]
    """For each column, why it is not what was observed; empty for the first."""


def outcomes(witness: Witness) -> Table | None:
    """The table, or None where the witness observed no outcome."""
    if witness.observed is None:
        return None
    columns = [witness.observed, *witness.serial]
    actors = dict.fromkeys(actor for outcome in columns for actor in outcome.replies)
    tables = dict.fromkeys(table for outcome in columns for table in outcome.tables)
    facts = [_fact(f"reply to {actor}", columns, _reply(actor)) for actor in actors]
    facts += [_fact(f"rows of {table}", columns, _rows(table, columns)) for table in tables]
    if any(outcome.outside for outcome in columns):
        facts.append(_fact("calls outside", columns, lambda outcome: list(outcome.outside)))
    return Table([outcome.name for outcome in columns], facts, [outcome.differs for outcome in columns])


def _reply(actor: str) -> Callable[[Outcome], list[str]]:
    return lambda outcome: [outcome.replies[actor]] if actor in outcome.replies else []


def _rows(table: str, columns: list[Outcome]) -> Callable[[Outcome], list[str]]:
    """The rows of an outcome; those that every outcome has are only counted."""

    def counted(outcome: Outcome) -> Counter[str]:
        return Counter(_row(row) for row in outcome.tables.get(table, []))

    alike = functools.reduce(operator.and_, map(counted, columns))
    rest = [f"({alike.total()} more, alike in all)"] if alike else []
    return lambda outcome: [*(counted(outcome) - alike).elements(), *rest]


def _row(row: dict[str, Any]) -> str:
    return "  ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
        for key, value in row.items()
    )


def _fact(label: str, columns: list[Outcome], told: Callable[[Outcome], list[str]]) -> Fact:
    observed = told(columns[0])
    cells = [Cell([(visible(item), False) for item in observed])]
    for outcome in columns[1:]:
        left = list(observed)
        lines = []
        for item in told(outcome):
            if item in left:
                left.remove(item)
                lines.append((visible(item), False))
            else:
                lines.append((visible(item), True))
        if left and len(lines) < len(observed):
            missing = len(observed) - len(lines)
            lines += [("(not there)" if missing == 1 else f"({missing} are not there)", True)]
        cells.append(Cell(lines))
    return Fact(visible(label), cells)
