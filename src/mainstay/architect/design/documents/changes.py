"""What is new against the blueprint before: written only where one was named."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.breaking import announced, compare
from mainstay.architect.design.documents.markdown import table
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.study import Result


def generate(result: Result) -> Iterator[Generated]:
    """The changes, those that break somebody first."""
    old, new = result.study.against, result.study.system
    if old is None:
        return
    changes = compare(old, new, result.study.today)
    text = f"# Changes from {old.blueprint.version} to {new.blueprint.version}\n\n"
    if not changes:
        text += "Nothing that anybody outside a service can see.\n"
    if announced(old, new):
        text += "The first number of the version is higher: changes that break are announced by it.\n\n"
    for heading, breaking in (("Breaks", True), ("Does not break", False)):
        rows = [
            (c.subject, c.where, c.what, c.remedy if breaking else "")
            for c in changes
            if c.breaking == breaking
        ]
        if rows:
            heads = ("what", "where", "change", "without breaking")
            text += f"## {heading}\n\n" + table(
                heads[: 4 if breaking else 3], [row[: 4 if breaking else 3] for row in rows]
            )
            text += "\n"
    yield Generated(
        "documents/changes.md", text.rstrip() + "\n", "Changes", "markdown", "Against the version before."
    )
