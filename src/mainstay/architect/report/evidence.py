"""What review and diagnose found, for a terminal: each finding with its evidence, then what was cleared."""

from __future__ import annotations

import io

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mainstay.architect.findings import Finding, Report, Severity, Step, Suppressed
from mainstay.architect.report.context import Context
from mainstay.architect.report.counts import facts, headline
from mainstay.architect.report.source import dedent, excerpt
from mainstay.architect.report.text import line

COLORS = {
    Severity.CRITICAL: "bold white on red",
    Severity.HIGH: "bold red",
    Severity.MEDIUM: "bold yellow",
    Severity.LOW: "bold cyan",
}


def render(report: Report, context: Context) -> str:
    """The text, with ANSI colours if `context.color`."""
    file = io.StringIO()
    console = Console(
        file=file,
        width=context.width,
        force_terminal=context.color,
        color_system="standard" if context.color else None,
        no_color=not context.color,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
    for finding in report.findings:
        _finding(console, finding, context)
    if not context.quiet:
        _checks(console, report)
        for suppressed in report.suppressed:
            _suppressed(console, suppressed)
        if report.suppressed:
            console.print()
    for problem in report.problems:
        console.print(_hanging("problem", "yellow", line(str(problem)), 9))
    if report.problems:
        console.print()
    if not context.quiet or not report.findings:
        summary = Text(headline(report), "bold")
        if told := facts(report):
            summary.append("  (" + " · ".join(told) + ")", "not bold dim")
        console.print(summary)
    return file.getvalue()


def _finding(console: Console, finding: Finding, context: Context) -> None:
    head = Text()
    head.append(f" {finding.severity.value.upper()} ", COLORS[finding.severity])
    head.append(f" {line(finding.edge)}", "bold").append(f"  {finding.verdict.value}", "dim")
    console.print(head)
    console.print(Padding(Text(line(finding.message)), (0, 0, 0, 2)))
    console.print(Padding(Text(line(str(finding.location)), "blue"), (0, 0, 0, 2)), soft_wrap=False)
    if context.quiet:
        console.print()
        return
    steps = finding.path or (Step(finding.location, ""),)
    if finding.path or excerpt(context.root, finding.location):
        console.print()
    for number, step in enumerate(steps, 1):
        _step(console, number, step, context, last=number == len(steps), single=not finding.path)
    console.print()
    if finding.witness is not None and finding.witness.argument:
        console.print(_hanging("proof", "bold", finding.witness.argument))
    if finding.remedy:
        console.print(_hanging("remedy", "bold green", finding.remedy))
    if finding.witness_file:
        console.print(_hanging("again", "bold", f"mainstay replay {finding.witness_file}"))
    console.print(_hanging("more", "bold", f"mainstay explain {finding.edge}"))
    console.print()


def _step(console: Console, number: int, step: Step, context: Context, *, last: bool, single: bool) -> None:
    if not single:
        head = Text(overflow="fold").append(f"{number}. ", "dim")
        head.append(line(step.text), "bold" if last else "")
        head.append(f"  {line(f'{step.location.file}:{step.location.line}')}", "dim")
        console.print(Padding(head, (0, 0, 0, 2)))
    for row in dedent(excerpt(context.root, step.location, most=3)):
        room = context.width - 13
        text, start, end = row.text, row.start, row.end
        if len(text) > room:  # keep the span in sight
            cut = max(min(start - 8, len(text) - room), 0)
            rest = "…" if len(text) > cut + room else ""
            text, start, end = text[cut : cut + room], start - cut, min(end - cut, room)
            text = ("…" + text[1:] if cut else text)[: room - len(rest)] + rest
        code = Text(f"{row.number:>7} │ ", "dim", no_wrap=True, overflow="crop")
        code.append(text[:start], "not dim").append(
            text[start:end], "not dim bold red" if last else "not dim bold"
        )
        code.append(text[end:], "not dim")
        console.print(code)
        if end > start:
            under = Text(" " * 7 + " │ ", "dim", no_wrap=True, overflow="crop")
            under.append(" " * start + "^" * (end - start), "not dim red" if last else "dim")
            console.print(under)


def _hanging(label: str, style: str, said: str | list[str], width: int = 8) -> Padding:
    """A label in the margin, and beside it one or more sentences, each begun on a line of its own."""
    grid = Table.grid(padding=0)
    grid.add_column(width=width, no_wrap=True)
    grid.add_column(overflow="fold")
    sentences = [said] if isinstance(said, str) else said
    for index, sentence in enumerate(sentences):
        grid.add_row(Text("" if index else label, style), Text(line(sentence)))
    return Padding(grid, (0, 0, 0, 2))


def _checks(console: Console, report: Report) -> None:
    for check in report.checks:
        mark, style = (
            ("✓ cleared", "green") if check.verdict == "cleared" else ("? " + line(check.verdict), "yellow")
        )
        row = Text(f"{mark:<13}", style)
        row.append(line(check.edge), "bold not green not yellow").append(
            f"  {line(check.subject)}", "default"
        )
        console.print(row)
        console.print(Padding(Text(line(check.bound), "dim"), (0, 0, 0, 13)))
    if report.checks:
        console.print()


def _suppressed(console: Console, suppressed: Suppressed) -> None:
    said = f"{suppressed.finding.edge}  {suppressed.finding.location} · {suppressed.reason}"
    console.print(_hanging("suppressed", "dim", said, 12))
