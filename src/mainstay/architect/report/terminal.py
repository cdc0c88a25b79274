"""The report as text for a terminal, `Context.width` columns wide.

What was seen in code or proven on a service is shown by `evidence`, what was computed from a blueprint by `computed`:
the latter needs no library, as a design is to be answered at once.
"""

from __future__ import annotations

from mainstay.architect.findings import Report
from mainstay.architect.report.context import Context

NAME = "text"

ASCII = str.maketrans(
    {
        "│": "|",
        "·": "-",
        "…": "...",
        "─": "-",
        "✓": "+",
        "→": "->",
        "\u202f": " ",
        "’": "'",
        "“": '"',
        "”": '"',
        "×": "x",
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
        "≈": "~",
    }
)


def render(report: Report, context: Context) -> str:
    """Plain text; ANSI colours if `context.color`; ASCII unless `context.unicode`."""
    if report.engine == "design":
        from mainstay.architect.report import computed

        text = computed.render(report, context)
    else:
        from mainstay.architect.report import evidence

        text = evidence.render(report, context)
    text = "\n".join(row.rstrip() for row in text.splitlines()) + "\n"
    return text if context.unicode else text.translate(ASCII).encode("ascii", "backslashreplace").decode()
