"""The report as workflow commands, which GitHub shows as annotations beside the changed lines."""

from __future__ import annotations

from mainstay.architect.findings import Finding, Problem, Report, Severity
from mainstay.architect.report.context import Context
from mainstay.architect.report.counts import facts, headline
from mainstay.architect.report.text import visible

NAME = "github"

COMMANDS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "notice",
}


def render(report: Report, context: Context) -> str:
    """A command for each finding and each problem, a line each, then a plain line with the counts."""
    lines = [_finding(finding) for finding in report.findings]
    lines += [_problem(problem) for problem in report.problems]
    if not context.quiet:
        lines += [_problem(note, "notice", "note") for note in report.notes]
        lines.append(visible(" · ".join([headline(report), *facts(report)])))
    return "".join(f"{line}\n" for line in lines)


def _finding(finding: Finding) -> str:
    place = finding.location
    properties: dict[str, str | int] = {"file": place.file}
    if place.line > 0:
        properties |= {"line": place.line, "col": place.column}
        if place.end_line > place.line:
            properties["endLine"] = place.end_line
        elif place.end_column > place.column:
            properties |= {"endLine": place.line, "endColumn": place.end_column}
    # What is computed from a blueprint has its number; how sure it is goes without saying.
    sure = "" if finding.formula else f", {finding.verdict.value}"
    properties["title"] = f"{finding.edge} ({finding.severity.value}{sure})"
    said = [finding.message]
    if finding.formula:
        said.append(f"Formula: {finding.formula}")
    said += [f"{number}. {step.location}  {step.text}" for number, step in enumerate(finding.path, 1)]
    if finding.witness is not None:
        said += finding.witness.argument
    if finding.remedy:
        said.append(f"Remedy: {finding.remedy}")
    if finding.witness_file:
        said.append(f"Again: mainstay replay {finding.witness_file}")
    return _command(COMMANDS[finding.severity], properties, "\n".join(said))


def _problem(problem: Problem, command: str = "warning", title: str = "not read") -> str:
    properties: dict[str, str | int] = {"file": problem.file}
    if problem.line:
        properties["line"] = problem.line
    return _command(command, {**properties, "title": title}, problem.message)


def _command(name: str, properties: dict[str, str | int], message: str) -> str:
    listed = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items())
    return f"::{name} {listed}::{_data(message)}"


def _data(text: str) -> str:
    # The percent sign first: the others bring their own.
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return visible(escaped)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
