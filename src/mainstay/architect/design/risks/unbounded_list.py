"""A list without an end, or an input without a size."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Dep, Op, System
from mainstay.architect.findings import Severity

KIND = Kind(
    name="unbounded-list",
    title="An answer or an input grows with the data, without limit",
    severity=Severity.MEDIUM,
    formula="gives any number, no page is said, and nothing else bounds it: a list that it takes (one answer "
    "for each thing asked for), what it calls and hands on, a service that keeps nothing, or a type of few "
    "values; or takes a file or a bulk and no size",
    why="It is quick in the first year. Then one tenant has a million rows, and one request takes the "
    "memory, the connection and the time that everybody else needed.",
    wrong_when="Where the data itself is bounded: the lines of one order, the brands of a shop. Give what "
    "holds them, or say the page that holds all. Silent, and wrong to be, where a list that is taken is "
    "itself without end: give it a size.",
    remedy="Keyset pages with a greatest size; a greatest body size, and uploads by URL.",
    patterns=("keyset-pagination",),
    sources=("Winand: SQL Performance Explained, chapter 7",),
)
WHOLE = ("stream", "subscription", "download", "long", "event")
FEW = ("bool", "iso3166", "iso4217")
"""Types of which there are few values, all told."""


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each operation."""
    system = study.system
    for op in system.ops.values():
        given = op.spec.gives.type if op.spec.gives else None
        if op.lists and op.spec.page is None and op.kind not in WHOLE and not _bounded(system, op):
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


def _bounded(system: System, op: Op) -> bool:
    """Something other than a page bounds what it gives."""
    given = op.spec.gives.type if op.spec.gives else None
    if given is None or given.name in FEW or any(type.many in ("*", "+") for type in op.spec.takes.values()):
        return True
    if system.services[op.service].store == "none" and not any(
        isinstance(edge.target, Dep) for edge in op.edges
    ):
        owner = system.owner(given.entity)
        keeps = bool(owner) and system.services[owner].store != "none"
        if op.edges or not keeps:  # it keeps no rows that could grow, and reads none past who keeps them
            return True
    return any(  # it hands on what an operation gives that it calls: whether that has pages is said there
        isinstance(edge.target, Op)
        and edge.target.spec.gives is not None
        and edge.target.spec.gives.type is not None
        and edge.target.lists
        and edge.target.spec.gives.type.entity == given.entity
        for edge in op.edges
    )
