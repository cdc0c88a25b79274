"""Many small calls go over a boundary where one would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mainstay.architect.design.figures import SECONDS, Figure, show
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Dep, Edge, Op
from mainstay.architect.findings import Severity, Step

KIND = Kind(
    name="chatty-boundary",
    title="One run of an operation crosses the same boundary many times",
    severity=Severity.MEDIUM,
    formula="calls to one other service in one run × (hop + the callee's work, or the dependency's p99 over "
    "tail), of those that go out at the same time the longest: at least 10 of them, or 4 that take more "
    "than a quarter of the p99 that is needed",
    why="Each call pays the network, the serializing, the sign-in and a chance of a slow answer: the slowest "
    "of twenty calls is slow five times as often as one. It is the N+1 query, over a network.",
    wrong_when="Where the calls go out at the same time and none of them is waited for long.",
    remedy="Ask once for many: an operation that takes a list, a copy kept by events, or a join on the other side.",
    patterns=("repository",),
    sources=("Dean and Barroso: The Tail at Scale (CACM 2013)",),
)
MANY, SOME = 10, 4
BACKGROUND = ("schedule", "event", "bulk", "long")


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each operation and boundary."""
    system = study.system
    for op in system.ops.values():
        if op.kind in BACKGROUND:
            continue  # nobody waits, and one call for each row may be the work itself
        crossing: dict[str, list[Edge]] = {}
        for edge in op.edges:
            other = edge.target.service if isinstance(edge.target, Op) else edge.target.id
            if edge.waits and other != op.service:
                crossing.setdefault(other, []).append(edge)
        need = system.need("p99", op)
        for other, edges in crossing.items():
            calls = Counter({edge: edge.call.times for edge in edges})
            total = calls.total()
            if total < SOME:
                continue
            inputs: dict[str, Figure] = {}
            costs = {edge: edge.call.times * _cost(study, edge, inputs) for edge in edges}
            together: dict[int, float] = {}
            for edge, cost in costs.items():
                together[edge.group] = max(together.get(edge.group, 0.0), cost)
            seconds = sum(together.values())
            if total < MANY and (need is None or seconds < need.value / 4):
                continue
            against = _against(seconds, need)
            yield Risk(
                KIND,
                f"{op.id}->{other}",
                f"{op.id} calls {other} {total} times in one run: some {show(seconds, SECONDS, 2)}{against}",
                _sum(costs),
                (*inputs.values(), *([need] if need else [])),
                f"one call for all of them takes some {show(sum(costs.values()) / total, SECONDS, 2)}, and saves "
                f"{total - 1} round trips",
                system.at(*edges[0].where),
                tuple(Step(system.at(*edge.where), f"{op.id} calls {edge.call}", edge.id) for edge in edges),
                value=float(total),
                need=1.0,
            )


def _sum(costs: dict[Edge, float]) -> str:
    """The calls added up: those of one group as the longest of them."""
    beside: dict[int, list[str]] = {}
    for edge, cost in costs.items():
        text = f"{edge.call.times} × {show(cost / edge.call.times, SECONDS, 3)} ({edge.call.to})"
        beside.setdefault(edge.group, []).append(text)
    return " + ".join(
        terms[0] if len(terms) == 1 else f"the longest of ({', '.join(terms)})" for terms in beside.values()
    )


def _against(seconds: float, need: Figure | None) -> str:
    if need is None:
        return ""
    share = seconds / need.value
    return f", {share:.0%} of the {need} it has" if share <= 1 else f", {share:.2g} times the {need} it has"


def _cost(study: Study, edge: Edge, inputs: dict[str, Figure]) -> float:
    """What an ordinary call costs, in seconds: medians, as an ordinary run has them."""
    system = study.system
    hop, tail = system.assumption("hop", SECONDS), system.assumption("tail", "")
    if isinstance(edge.target, Dep):
        own = system.figure((*edge.target.where, "p99"), edge.target.spec.p99, "dependency_p99", SECONDS)
    elif isinstance(edge.target, Op):
        own = system.work(edge.target)
    else:
        return hop.value
    inputs.update({figure.key: figure for figure in (hop, tail, own)})
    return hop.value + own.value / tail.value
