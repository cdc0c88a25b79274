"""Services wait for each other in a ring."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Op
from mainstay.architect.findings import Severity, Step

Node = TypeVar("Node", bound=Hashable)

KIND = Kind(
    name="call-cycle",
    title="Operations or services call each other in a ring and wait",
    severity=Severity.MEDIUM,
    formula="a strongly connected component of more than one node (or a node that calls itself) in the graph "
    "of waiting calls",
    why="Each needs the other to answer: they cannot be deployed, tested or restored apart, and when both "
    "pools are full of "
    "requests that wait for the other, neither ever gets free. A ring of operations may not end at all.",
    wrong_when="A recursion that is bounded by its data, such as a tree that is walked level by level.",
    remedy="Turn one of the calls into an event, or move what both need into one of them.",
    patterns=("events",),
    sources=("Tarjan: Depth-first search and linear graph algorithms (1972)",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each ring of operations; one for each ring of services that no ring of operations explains."""
    system = study.system
    calls = {
        op.id: [edge.target.id for edge in op.edges if edge.waits and isinstance(edge.target, Op)]
        for op in system.ops.values()
    }
    explained: set[frozenset[str]] = set()
    for ring in rings(calls):
        explained.add(frozenset(system.ops[name].service for name in ring))
        edges = [
            edge for name in ring for edge in system.ops[name].edges if edge.target.id in ring and edge.waits
        ]
        yield Risk(
            KIND,
            ring[0],
            f"{' -> '.join([*ring, ring[0]])}: each waits for the next, and nothing says where it ends",
            f"{len(ring)} operations in one ring of waiting calls",
            (),
            f"let {edges[-1].caller.id} hand over to {edges[-1].target.id} by an event, or later",
            system.at(*edges[0].where),
            tuple(
                Step(system.at(*edge.where), f"{edge.caller.id} calls {edge.target.id}", edge.id)
                for edge in edges
            ),
            severity=Severity.HIGH,
        )
    between: dict[str, list[str]] = {service: [] for service in system.services}
    for op in system.ops.values():
        for edge in op.edges:
            if edge.waits and isinstance(edge.target, Op) and edge.target.service != op.service:
                between[op.service].append(edge.target.service)
    for ring in rings(between):
        if frozenset(ring) in explained:
            continue
        edges = [
            edge
            for op in system.ops.values()
            if op.service in ring
            for edge in op.edges
            if edge.waits and isinstance(edge.target, Op) and edge.target.service in ring
            if edge.target.service != op.service
        ]
        yield Risk(
            KIND,
            ring[0],
            f"{' and '.join(ring)} call each other and wait: {', '.join(edge.id for edge in edges)}",
            f"{len(ring)} services in one ring of waiting calls",
            (),
            f"let {edges[-1].caller.service} keep a copy made from events, in place of {edges[-1].id}",
            system.at(*edges[0].where),
            tuple(
                Step(system.at(*edge.where), f"{edge.caller.id} calls {edge.target.id}", edge.id)
                for edge in edges
            ),
        )


def rings(graph: Mapping[Node, Sequence[Node]]) -> list[list[Node]]:
    """The strongly connected components that hold a ring, each in an order in which its nodes were found."""
    order: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []
    found: list[list[Node]] = []
    for root in graph:
        if root in order:
            continue
        work: list[tuple[Node, Iterator[Node]]] = [(root, iter(graph[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        while work:  # not by recursion: a chain may be long
            node, rest = work[-1]
            for other in rest:
                if other not in order:
                    order[other] = low[other] = len(order)
                    stack.append(other)
                    work.append((other, iter(graph[other])))
                    break
                if other in stack:
                    low[node] = min(low[node], order[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    at = stack.index(node)
                    component = stack[at:]
                    del stack[at:]
                    if len(component) > 1 or node in graph[node]:
                        found.append(component)
    return sorted(found, key=lambda ring: order[ring[0]])
