"""Services wait for each other in a ring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Edge, Op
from mainstay.architect.findings import Severity, Step

Node = TypeVar("Node", bound=Hashable)

KIND = Kind(
    name="call-cycle",
    title="Operations or services call each other in a ring and wait",
    severity=Severity.MEDIUM,
    formula="a strongly connected component of more than one node (or a node that calls itself) in the graph "
    "of waiting calls",
    why="Each needs the other to answer: they cannot be deployed, tested or restored apart, and when both "
    "pools are full of requests that wait for the other, neither ever gets free. A ring of operations may "
    "not end at all.",
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
            f"{' -> '.join([*ring, ring[0]])}: "
            f"{'each waits for the next' if len(ring) > 1 else 'it waits for itself'}, and nothing says where it ends",
            f"{len(ring)} operation{'s' if len(ring) > 1 else ''} in one ring of waiting calls",
            (),
            " and ".join(
                f"let {edge.caller.id} hand over to "
                f"{'itself' if edge.caller is edge.target else edge.target.id} by an event, or later"
                for edge in _enough(edges)
            ),
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
        cut = _enough(edges, by_service=True)
        yield Risk(
            KIND,
            ring[0],
            f"{' and '.join(ring)} call each other and wait: {', '.join(edge.id for edge in edges)}",
            f"{len(ring)} services in one ring of waiting calls",
            (),
            " and ".join(
                f"let {service} keep a copy made from events, in place of "
                f"{listed([edge.id for edge in cut if edge.caller.service == service])}"
                for service in dict.fromkeys(edge.caller.service for edge in cut)
            ),
            system.at(*edges[0].where),
            tuple(
                Step(system.at(*edge.where), f"{edge.caller.id} calls {edge.target.id}", edge.id)
                for edge in edges
            ),
        )


def _enough(edges: Sequence[Edge], by_service: bool = False) -> list[Edge]:
    """Calls without which no ring is left: of each ring all those of the one that makes the fewest."""

    def name(node: object) -> str:
        assert isinstance(node, Op)
        return node.service if by_service else node.id

    left, cut = list(edges), list[Edge]()
    while True:
        graph: dict[str, list[str]] = {name(edge.caller): [] for edge in left}
        for edge in left:
            graph[name(edge.caller)].append(name(edge.target))
            graph.setdefault(name(edge.target), [])
        found = rings(graph)
        if not found:
            return cut
        ring = set(found[0])
        inside = [edge for edge in left if name(edge.caller) in ring and name(edge.target) in ring]
        counts = Counter(name(edge.caller) for edge in inside)
        fewest = min(counts.values())
        chosen = [each for each in counts if counts[each] == fewest][-1]
        cut += [edge for edge in inside if name(edge.caller) == chosen]
        left = [edge for edge in left if edge not in cut]


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
