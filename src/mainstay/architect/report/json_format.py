"""The report as JSON: every field of `findings.Report`, described by ``finding.schema.json``."""

from __future__ import annotations

import json

from mainstay.architect.findings import REPORT_VERSION, Report, to_json
from mainstay.architect.report.context import Context
from mainstay.architect.report.text import clean

NAME = "json"


def render(report: Report, context: Context) -> str:
    """One JSON object, indented by two spaces, ending in a newline."""
    body = {"version": REPORT_VERSION, "mainstay": context.version, **clean(to_json(report))}
    return json.dumps(body, indent=2, ensure_ascii=False, default=str) + "\n"
