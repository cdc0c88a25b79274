"""What a design computed, for a terminal: each risk with its formula, inputs and remedy; then what was assumed.

Written without a library: loading one takes longer than computing the risks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from mainstay.architect.findings import Finding, Report, Severity, Step, Table
from mainstay.architect.report.context import Context
from mainstay.architect.report.counts import facts, headline
from mainstay.architect.report.text import counted, line

MARGIN = 9
"""Columns of the labels beside what is said."""
# ANSI SGR parameters (ECMA-48).
BOLD, DIM, BLUE, GREEN, YELLOW = "1", "2", "34", "1;32", "33"
COLORS = {
    Severity.CRITICAL: "1;37;41",
    Severity.HIGH: "1;31",
    Severity.MEDIUM: "1;33",
    Severity.LOW: "1;36",
}


def render(report: Report, context: Context) -> str:
    """Plain text, with ANSI colours if `context.color`."""
    return "\n".join(_Page(context).rows(report)) + "\n"


class _Page:
    def __init__(self, context: Context) -> None:
        self.context = context

    def rows(self, report: Report) -> Iterator[str]:
        """Every line of the report."""
        for finding in report.findings:
            yield from self._finding(finding)
        quiet = self.context.quiet
        for table in report.tables:
            yield from self._table(table)
        if not quiet and report.assumptions:
            risky = [item for item in report.assumptions if item.findings]
            named = [line(f"{item.name} = {item.value}") for item in risky]
            room = max(map(len, named), default=0)
            rest = [counted(item.findings, "risk rests", "risks rest") + " on it" for item in risky]
            said = [f"{name:<{room}}  {text}" for name, text in zip(named, rest, strict=True)]
            for number, row in enumerate(said):
                label = "" if number else "assumed"
                yield f"  {self._styled(label, DIM)}{' ' * (MARGIN - len(label))}{row}"
            if enough := [
                line(f"{item.name} = {item.value}") for item in report.assumptions if not item.findings
            ]:
                yield from self._labelled("enough", [", ".join(enough)], DIM)
            yield ""
        if not quiet and report.suppressed:
            said = [f"{_name(item.finding)}  {item.reason}" for item in report.suppressed]
            yield from self._labelled("waived", said, DIM)
            yield ""
        if not quiet and report.notes:
            yield from self._labelled("note", [str(note) for note in report.notes], YELLOW)
            yield ""
        for problem in report.problems:
            yield from self._labelled("problem", [str(problem)], YELLOW)
        if report.findings or not report.tables:  # a table alone answers what was asked
            told = facts(report)
            yield self._styled(headline(report), BOLD) + (
                self._styled("  (" + " · ".join(told) + ")", DIM) if told else ""
            )
        if not quiet and report.findings:
            yield self._styled(
                f"mainstay explain {line(report.findings[0].edge)} tells more of that kind", DIM
            )

    def _finding(self, finding: Finding) -> Iterator[str]:
        head = self._styled(f" {finding.severity.value.upper()} ", COLORS[finding.severity])
        yield f"{head} {self._styled(_name(finding), BOLD)}"
        yield from self._wrapped(finding.message)
        yield "  " + self._styled(line(str(finding.location)), BLUE)
        if not self.context.quiet:
            yield ""
            if finding.formula:
                yield from self._labelled("formula", [finding.formula], BOLD)
            if finding.path:
                yield from self._labelled("from", [self._step(finding, step) for step in finding.path], BOLD)
            if finding.remedy:
                yield from self._labelled("remedy", [finding.remedy], GREEN)
        yield ""

    @staticmethod
    def _step(finding: Finding, step: Step) -> str:
        place = step.location
        if place == finding.location:
            return step.text
        same = place.file == finding.location.file
        return f"{step.text}  (line {place.line})" if same else f"{step.text}  ({place.file}:{place.line})"

    def _table(self, table: Table) -> Iterator[str]:
        rows = [tuple(line(cell) for cell in row) for row in (table.columns, *table.rows)]
        widths = [max(len(row[at]) for row in rows) for at in range(len(table.columns))]
        yield self._styled(line(table.title), BOLD)
        for number, row in enumerate(rows if table.rows else ()):
            cells = [f"{cell:<{width}}" for cell, width in zip(row[:-1], widths, strict=False)]
            indent = 2 + sum(width + 2 for width in widths[:-1])
            last = self._fold(row[-1], indent) if indent < self.context.width - 20 else [row[-1]]
            text = "  " + "".join(f"{cell}  " for cell in cells) + last[0]
            yield self._styled(text, DIM) if number == 0 else text
            yield from (" " * indent + more for more in last[1:])
        if table.note:
            yield from self._wrapped(table.note, DIM)
        yield ""

    def _labelled(self, label: str, said: Sequence[str], style: str) -> Iterator[str]:
        """A label in the margin, and beside it sentences, each begun on a line of its own."""
        margin = self._styled(label, style) + " " * (MARGIN - len(label))
        for sentence in said:
            rows = self._fold(sentence, 2 + MARGIN)
            for number, row in enumerate(rows):
                yield "  " + margin + ("  " if number else "") + row
                margin = " " * MARGIN

    def _wrapped(self, text: str, style: str = "") -> Iterator[str]:
        for row in self._fold(text, 2):
            yield "  " + self._styled(row, style)

    def _fold(self, text: str, indent: int) -> list[str]:
        width = max(20, self.context.width - indent - 2)
        one = "  ".join(map(line, text.split("  ")))
        return textwrap.wrap(
            one, width, break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False
        ) or [""]

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.context.color and style and text else text


def _name(finding: Finding) -> str:
    """The risk's id, as a waiver names it."""
    return line(f"{finding.edge}:{finding.subject}" if finding.subject else finding.edge)
