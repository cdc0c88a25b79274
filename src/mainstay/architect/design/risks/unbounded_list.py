"""A list without an end, or an input without a size."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Op
from mainstay.architect.findings import Severity

KIND = Kind(
    name="unbounded-list",
    title="An answer or an input grows with the data, without limit",
    severity=Severity.MEDIUM,
    formula="gives any number and no page; or takes a file or a bulk and no size",
    why="It is quick in the first year. Then one tenant has a million rows, and one request takes the memory, "
    "the connection "
    "and the time that everybody else needed.",
    wrong_when="Where the data itself is bounded: the lines of one order, the countries of the world. Give "
    "what holds them.",
    remedy="Keyset pages with a greatest size; a greatest body size, and uploads by URL.",
    patterns=("keyset-pagination",),
    sources=("Winand: SQL Performance Explained, chapter 7",),
)
WHOLE = ("stream", "subscription", "download", "long", "event")


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each operation."""
    system = study.system
    for op in system.ops.values():
        given = op.spec.gives.type if op.spec.gives else None
        if op.lists and op.spec.page is None and op.kind not in WHOLE and not _handed_on(op):
            yield Risk(
                KIND,
                op.id,
                f"{op.id} gives every {given.name if given else 'row'} there is: no page is said",
                f"{given} without page",
                (),
                f"say {op.id} page: 50; callers go on from the last key they saw",
                system.at(*op.where, "gives"),
            )
        files = [name for name, type in op.spec.takes.items() if type.name == "file"]
        if op.spec.size is None and (files or op.kind in ("bulk", "upload")):
            what = f"the file {files[0]}" if files else "a bulk"
            yield Risk(
                KIND,
                f"{op.id}:size",
                f"{op.id} takes {what} of any size",
                "no size",
                (),
                f"say {op.id} size: 10 MB, and refuse more with 413 before it is read",
                system.at(*op.where),
            )


def _handed_on(op: Op) -> bool:
    """It hands on what an operation gives that it calls: whether that has pages is said there."""
    given = op.spec.gives.type if op.spec.gives else None
    return given is not None and any(
        isinstance(edge.target, Op)
        and edge.target.spec.gives is not None
        and edge.target.spec.gives.type is not None
        and edge.target.lists
        and edge.target.spec.gives.type.entity == given.entity
        for edge in op.edges
    )
