"""The 99th percentile of an operation is above what is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mainstay.architect.design.figures import SECONDS, Figure, show
from mainstay.architect.design.questions import listed, waited
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Dep, Edge, Op
from mainstay.architect.design.times import Times
from mainstay.architect.design.trees import below, groups, held_to
from mainstay.architect.findings import Severity, Step

KIND = Kind(
    name="latency-budget",
    title="An operation's 99th percentile is above what is needed",
    severity=Severity.MEDIUM,
    formula="p99 of own work + calls in order (those of one group: the longest), each a lognormal by its p99 "
    "and assume.tail = p99 over median; sums by mean and variance (Fenton-Wilkinson), the longest by the "
    "product of distributions, shares and caches as mixtures; without waiting for connections or locks",
    why="One in a hundred requests takes longer than the budget before anything goes wrong. A page that "
    "makes five such requests is late for one visitor in twenty.",
    wrong_when="Too high where slow answers are not independent of each other in the other direction: an "
    "answer that is fast because all are. Too low under load that fills a pool (pool-size), where all are "
    "slow together (a shared disk, a garbage collection), and where what calls it is far away. Simulated, "
    "nine in ten lie within a tenth of it; least certain is a percentile that sits where a cache or a share "
    "of 1% makes it jump.",
    remedy="Call at the same time what does not need each other; hand over; cache; ask for less.",
    patterns=("outbox", "job"),
    sources=(
        "Fenton: The Sum of Log-Normal Probability Distributions (IRE Transactions, 1960)",
        "Dean and Barroso: The Tail at Scale (CACM 2013)",
    ),
)
MOST, EFFORT = 20, 400
"""Calls that a remedy tries to hand over; fewer where the tree is large, so that all come to that many operations."""


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each request that an actor waits for, and each operation with a p99 of its own to meet."""
    system = study.system
    times = Times(study)
    for op, need in held_to(system, "p99", ("request",)):
        p99 = times.of(op).p99
        if p99 <= need.value:
            continue
        heavy = sorted(_stages(times, op), key=lambda stage: -stage[1])
        naive = _naive(times, op)
        calls = list(dict.fromkeys(waited(op)))
        inputs = times.figures(op)
        shown = " + ".join(f"{name} {show(seconds, SECONDS, 3)}" for name, seconds in _stages(times, op))
        hit = f", behind a cache that answers {study.flows.hit(op)}" if op.spec.cache else ""
        yield Risk(
            KIND,
            op.id,
            f"{op.id} answers within {show(p99, SECONDS, 3)} at the 99th percentile, need {need}: most of it is "
            f"{listed([f'{name} ({show(seconds, SECONDS, 3)})' for name, seconds in heavy[:2]])}",
            f"p99s: {shown}{hit}; their naive sum is {show(naive, SECONDS, 3)}; as lognormals "
            f"{show(p99, SECONDS, 3)} > {need}",
            (*(inputs[key] for key in sorted(inputs)), need),
            _remedy(times, op, need, heavy, calls),
            system.at(*op.where),
            tuple(
                Step(system.at(*edge.where), f"{edge.caller.id} waits for {edge.target.id}", edge.id)
                for edge in calls
            ),
            value=p99,
            need=need.value,
        )


def _stages(times: Times, op: Op) -> list[tuple[str, float]]:
    """The operation's own work and its calls, each with its 99th percentile."""
    found = [("its own work", times.study.system.work(op).value)]
    for group in groups(op):
        for edge in group:
            name = edge.call.to + (f" x{edge.call.times}" if edge.call.times > 1 else "")
            found.append((name, times.call(edge).p99))
    return found


def _naive(times: Times, op: Op) -> float:
    """What adding up percentiles would give: the longest of each group."""
    return times.study.system.work(op).value + sum(
        max(times.call(edge).p99 for edge in group) for group in groups(op)
    )


def _remedy(times: Times, op: Op, need: Figure, heavy: list[tuple[str, float]], calls: list[Edge]) -> str:
    ways: list[str] = []
    size = len(below(op))
    calls = calls[: min(MOST, EFFORT // size)]

    def reached(changed: Times) -> str | None:
        p99 = changed.of(op).p99
        return show(p99, SECONDS, 3) if p99 <= need.value else None

    if len(groups(op)) > 1 and (text := reached(Times(times.study, beside=frozenset([op]), base=times))):
        ways.append(f"its calls at the same time, where none needs another's answer: {text}")
    ways += [
        f"{edge.target.id} asked once for all {edge.call.times}: {text}"
        for edge in calls
        if edge.call.times > 1 and (text := reached(Times(times.study, single=frozenset([edge]), base=times)))
    ]
    for edge in calls:
        if len(ways) < 2 and (text := reached(Times(times.study, frozenset([edge]), base=times))):
            at = "" if edge.caller is op else f" in {edge.caller.id}"
            ways.append(f"{edge.target.id} handed over{at}: {text}")
    for dep in dict.fromkeys(edge.target for edge in calls if isinstance(edge.target, Dep)):
        if size * 10 < EFFORT and len(ways) < 3 and (most := _bearable(times, op, need, dep)):
            ways.append(f"{dep.name} within {show(most, SECONDS, 2)} at its 99th percentile")
    if not ways and op.spec.cache is None and not op.mutates:
        for hit in (0.9, 0.95, 0.99):
            if 1 - (1 - hit) * (1 - times.run(op).below(need.value)) >= 0.99:
                ways.append(f"a cache that answers {hit:.0%} of the calls")
                break
    if not ways:
        ways.append(
            f"no single call makes up for it: budget {need} over {len(heavy)} stages, "
            f"{show(need.value / max(1, len(heavy)), SECONDS, 2)} each, or hand over more than one"
            if len(heavy) > 1
            else f"its own work within {need}"
        )
    return "; or ".join(ways)


def _bearable(times: Times, op: Op, need: Figure, dep: Dep) -> float | None:
    """The highest p99 of a dependency with which the need is met; None where none is worth naming."""
    low, high = 0.0, 3600.0
    for _ in range(24):
        middle = (low + high) / 2
        if Times(times.study, p99s={dep: middle}, base=times).of(op).p99 <= need.value:
            low = middle
        else:
            high = middle
        if high - low < 0.005 * high:
            break
    step = 10 ** (math.floor(math.log10(low)) - 1) if low > 0.05 * need.value else 0.0
    return math.floor(low / step) * step if step else None  # rounded down, for it is to be met
