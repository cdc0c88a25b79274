"""The report as SARIF 2.1.0, for code scanning.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", errata 01; section numbers in
the comments are its. Choices: steps of the path are one code flow; the events of a witness that have a place in
source are a second one, with a thread flow per actor and ``executionOrder`` across them, which is how SARIF tells
an interleaving (3.38.11).
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote

from mainstay.architect.findings import Finding, Location, Problem, Report, Severity, Verdict, Witness
from mainstay.architect.report.context import Context
from mainstay.architect.report.text import clean

NAME = "sarif"

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"
LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
}
RANKS = {Verdict.PROVEN: 100.0, Verdict.LIKELY: 80.0, Verdict.POSSIBLE: 40.0}
PRECISION = {Verdict.PROVEN: "very-high", Verdict.LIKELY: "high", Verdict.POSSIBLE: "medium"}

Json = dict[str, Any]


def render(report: Report, context: Context) -> str:
    """One SARIF log with one run, ASCII only, ending in a newline."""
    shown = [(finding, None) for finding in report.findings]
    hidden = [(item.finding, item) for item in report.suppressed]
    rules = sorted({finding.edge for finding, _ in [*shown, *hidden]})
    results = [_result(finding, rules) for finding, _ in shown]
    for item in report.suppressed:
        kind = "external" if item.by == "baseline" else "inSource"
        suppression = {"kind": kind, "justification": item.reason}
        results.append({**_result(item.finding, rules), "suppressions": [suppression]})
    run: Json = {
        "tool": {
            "driver": {
                "name": "mainstay",
                "version": context.version,
                "rules": [_rule(edge, report, context) for edge in rules],
            }
        },
        "automationDetails": {"id": f"mainstay/{report.engine}/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the checkout."}}},
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    *(_notification(problem) for problem in report.problems),
                    *(_notification(note, "note") for note in report.notes),
                ],
            }
        ],
        "results": results,
        "properties": {
            "statistics": report.statistics,
            "assumptions": [
                {"name": item.name, "value": item.value, "number": item.number, "findings": item.findings}
                for item in report.assumptions
            ],
            "checks": [
                {"edge": item.edge, "subject": item.subject, "verdict": item.verdict, "bound": item.bound}
                for item in report.checks
            ],
        },
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(clean(log), indent=2, default=str) + "\n"


def _rule(edge: str, report: Report, context: Context) -> Json:
    page = context.pages(edge)
    worst = next((finding.severity for finding in report.findings if finding.edge == edge), Severity.MEDIUM)
    title = page.title if page else edge
    rule: Json = {
        "id": edge,
        "name": "".join(part.capitalize() for part in edge.split("-")),
        "shortDescription": {"text": title},
        "defaultConfiguration": {
            "level": LEVELS[Severity(page.severity) if page and page.severity else worst]
        },
        "properties": {"tags": ["backend", edge]},
    }
    if page:
        rule["fullDescription"] = {"text": page.remedy or title}
        rule["help"] = {"text": page.text or page.remedy or title}
        if page.text:
            rule["help"]["markdown"] = page.text
    return rule


def _result(finding: Finding, rules: list[str]) -> Json:
    result: Json = {
        "ruleId": finding.edge,
        "ruleIndex": rules.index(finding.edge),
        "level": LEVELS[finding.severity],
        "rank": RANKS[finding.verdict],
        "message": {"text": _message(finding)},
        "locations": [_location(finding.location)],
        "partialFingerprints": {"mainstay/v1": finding.fingerprint},
        "properties": {
            "severity": finding.severity.value,
            "verdict": finding.verdict.value,
            "precision": PRECISION[finding.verdict],
            "subject": finding.subject,
            "formula": finding.formula,
            "remedy": finding.remedy,
            "patterns": list(finding.patterns),
            "witnessFile": finding.witness_file,
        },
    }
    flows = []
    if finding.path:
        steps = [{"location": _location(step.location, step.text)} for step in finding.path]
        flows.append({"threadFlows": [{"locations": steps}]})
        related = [step for step in finding.path if step.location != finding.location]
        result["relatedLocations"] = [
            {"id": number, **_location(step.location, step.text)} for number, step in enumerate(related, 1)
        ]
    if finding.witness is not None and (flow := _interleaving(finding.witness)):
        flows.append(flow)
    if flows:
        result["codeFlows"] = flows
    return result


def _message(finding: Finding) -> str:
    said = [finding.message.rstrip(".") + "."]
    if finding.witness is not None:
        said += finding.witness.argument
    if finding.formula:
        said.append(f"Computed: {finding.formula}.")
    if finding.remedy:
        said.append(finding.remedy)
    return " ".join(said)


def _interleaving(witness: Witness) -> Json | None:
    actors: dict[str, list[Json]] = {}
    for order, event in enumerate(witness.events, 1):
        if event.location is not None:
            step: Json = {
                "location": _location(event.location, f"{event.actor}: {event.text}"),
                "executionOrder": order,
                "importance": "essential" if event.marked else "important",
            }
            actors.setdefault(event.actor, []).append(step)
    if not actors:
        return None
    flows = [{"id": actor, "locations": steps} for actor, steps in actors.items()]
    return {"message": {"text": "What happened, in order of execution."}, "threadFlows": flows}


def _location(place: Location, text: str = "") -> Json:
    physical: Json = {"artifactLocation": {"uri": _uri(place.file), "uriBaseId": ROOT}}
    if place.line > 0:
        region = {"startLine": place.line, "startColumn": max(place.column, 1)}
        if place.end_line >= place.line:
            region["endLine"] = place.end_line
            if place.end_column > (place.column if place.end_line == place.line else 0):
                region["endColumn"] = place.end_column
        physical["region"] = region
    location: Json = {"physicalLocation": physical}
    if text:
        location["message"] = {"text": text}
    return location


def _uri(file: str) -> str:
    """A relative reference (RFC 3986): the bytes of the name, percent-encoded, so that a colon is no scheme."""
    try:
        raw = os.fsencode(file)
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        raw = file.encode("utf-8", "replace")
    return quote(raw, safe="/-._~")


def _notification(problem: Problem, level: str = "warning") -> Json:
    place = Location(problem.file, problem.line)
    return {"level": level, "message": {"text": problem.message}, "locations": [_location(place)]}
