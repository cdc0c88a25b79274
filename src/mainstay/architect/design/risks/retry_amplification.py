"""Retries multiply the load on what is already failing, until its limit is overrun."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from mainstay.architect.design.figures import PER_SECOND, SECONDS, SHARE, Figure, at_least, show
from mainstay.architect.design.questions import listed, waited
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Act, Dep, Edge, Op
from mainstay.architect.design.trees import kept, retry_of, tries
from mainstay.architect.findings import Severity

KIND = Kind(
    name="retry-amplification",
    title="Retries along a chain of calls overrun a dependency's limit",
    severity=Severity.HIGH,
    formula="sum over ways to it of peak × attempts(first call) × … × attempts(last call) > limit; "
    "attempts = 1 + repetitions, or 1 + budget; above a call with a fallback nothing is repeated; a cache "
    "above it keeps only the hits that outlast the outage",
    why="While the dependency answers, nobody repeats. As it slows down, every caller repeats at once, and attempts "
    "multiply at each level of the chain: it is asked most when it can do least, and stays down.",
    wrong_when="Too high where a breaker or a retry budget cuts repetitions off that the blueprint does not mention, "
    "or where only some failures are repeated; it is a bound: of several calls in one run (xN) the first that "
    "fails ends "
    "it. Too low where clients repeat on their own.",
    remedy="Repeat at one level only, with a budget; queue what need not be answered at once.",
    patterns=("job",),
    sources=("Site Reliability Engineering (Google, 2016), chapter 22: Addressing Cascading Failures",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each dependency whose stated limit retries overrun."""
    system, flows = study.system, study.flows
    for dep in system.deps.values():
        limit = system.stated((*dep.where, "limit"), dep.spec.limit, PER_SECOND)
        if limit is None or not dep.edges:
            continue
        attempts = Attempts(study, dep)
        terms: list[str] = []
        inputs: dict[str, Figure] = {}
        for edge in dep.edges:
            flow = flows.over(edge)
            times = attempts.over(edge) / flow.peak if flow.peak > 0 else tries(edge)
            terms.append(f"{show(flow.peak, PER_SECOND)} × {times:.4g} ({edge.caller.id})")
            inputs.update({figure.key: figure for figure in flow.inputs})
        inputs.update(attempts.inputs)
        if instead := sum(attempts.total_instead()):
            terms.append(f"{show(instead, PER_SECOND)} (by fallbacks that need it too)")
        plain = sum(flows.over(edge).peak for edge in dep.edges)
        worst = attempts.total()
        if worst <= limit.value * (1 + 1e-9) or worst <= plain * (1 + 1e-9):
            continue
        repeated = any(figure.key.endswith("retry") and figure.value > 1 for figure in inputs.values())
        caches = "caches above it run empty" if attempts.emptied else ""
        when = " and ".join(filter(None, ["callers repeat" if repeated else "", caches]))
        yield Risk(
            KIND,
            dep.id,
            f"{dep.name} may be asked {show(worst, PER_SECOND)} when {when}, more than its limit of {limit}",
            " + ".join(terms) + f" = {show(worst, PER_SECOND)} > {limit}",
            (*inputs.values(), limit),
            _remedy(attempts, dep, plain, worst, limit),
            system.at(*dep.where),
            value=worst,
            need=limit.value,
        )


def _remedy(attempts: Attempts, dep: Dep, plain: float, worst: float, limit: Figure) -> str:
    if plain >= limit.value:
        return (
            f"even one attempt each is {show(plain, PER_SECOND)}: ask for a limit of {at_least(worst, PER_SECOND)} "
            f"or more, or call it later, by a job limited to {limit}"
        )
    if attempts.emptied:
        names = listed([op.id for op in dict.fromkeys(attempts.emptied)])
        return f"a breaker below the cache of {names}, that lets at most {limit} through while {dep.name} is down"
    ways = [f"a retry budget of {math.floor((limit.value / plain - 1) * 100 + 1e-9)}% keeps within the limit"]
    nearest = sum(attempts.study.flows.over(edge).peak * tries(edge) for edge in dep.edges)
    if nearest < worst and nearest <= limit.value:
        ways.append(f"repeat only where {dep.name} itself is called: {show(nearest, PER_SECOND)}")
    return "; or ".join(ways)


@dataclass(slots=True)
class Attempts:
    """How often each call is tried, a second at peak, while everything below it fails."""

    study: Study
    dep: Dep
    """What is down."""
    inputs: dict[str, Figure] = field(default_factory=dict)
    """What was repeated on the ways that were walked."""
    emptied: list[Op] = field(default_factory=list)
    """Operations on those ways that have a cache."""
    _runs: dict[Op, float] = field(default_factory=dict)
    _open: set[Op] = field(default_factory=set)
    _plain: dict[Op, float] = field(default_factory=dict)
    _reach: dict[Op, bool] = field(default_factory=dict)
    _standing_in: set[Op | Dep] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._standing_in = {
            edge.fallback
            for op in self.study.system.ops.values()
            for edge in op.edges
            if edge.fallback is not None
        }

    def total(self) -> float:
        """Attempts at the dependency, by all that call it."""
        return sum(self.over(edge) for edge in self.dep.edges) + sum(self.total_instead())

    def total_instead(self) -> Iterator[float]:
        """Calls of it in place of something that needs it too."""
        return self._instead(self.dep)

    def over(self, edge: Edge) -> float:
        """Attempts at one call. What has a fallback does not fail its caller, which then is not repeated."""
        caught = bool(edge.call.fallback) and not self._needs(edge.fallback)
        runs = self.plain(edge.caller) if caught else self.runs(edge.caller)
        self._note(edge)
        return runs * _often(edge) * tries(edge)

    def _instead(self, target: Op | Dep) -> Iterator[float]:
        """Calls of what stands in for another that fails too."""
        for op in self.study.system.ops.values():
            for edge in op.edges:
                if edge.fallback is target and edge.waits and self._needs(edge.target):
                    caught = not self._needs(edge.fallback)
                    runs = self.plain(op) if caught else self.runs(op)
                    yield runs * _often(edge)

    def _needs(self, node: Op | Dep | Act | None) -> bool:
        """It is the dependency, or waits for it."""
        if not isinstance(node, Op):
            return node is self.dep
        if node not in self._reach:
            ends = [end for edge in waited(node) for end in (edge.target, edge.fallback)]
            self._reach[node] = self.dep in ends
        return self._reach[node]

    def runs(self, op: Op) -> float:
        """Runs of an operation that fails each time, past its cache."""
        flows = self.study.flows
        if op in self._runs:
            return self._runs[op]
        if op in self._open:
            return flows.runs(op).peak
        self._open.add(op)
        extra = sum(self.over(edge) - flows.over(edge).peak for edge in op.callers if edge.waits)
        if op in self._standing_in:
            extra += sum(self._instead(op))
        self._open.discard(op)
        self._runs[op] = (flows.of(op).peak + extra) * self._miss(op)
        return self._runs[op]

    def plain(self, op: Op) -> float:
        """Runs of an operation that does not fail: ordinary ones, and those in place of something that does."""
        flows = self.study.flows
        if op in self._plain:
            return self._plain[op]
        self._plain[op] = flows.runs(op).peak  # what a ring of calls comes back to
        extra = sum(
            self.plain(edge.caller) * _often(edge) - flows.over(edge).peak
            for edge in op.callers
            if edge.waits
        )
        if op in self._standing_in:
            extra += sum(self._instead(op))
        miss = 1 - flows.hit(op).value if op.spec.cache is not None else 1.0
        self._plain[op] = flows.runs(op).peak + extra * miss
        return self._plain[op]

    def _miss(self, op: Op) -> float:
        """The share of calls that its cache, which nothing fills any more, lets through."""
        if op.spec.cache is None:
            return 1.0
        system = self.study.system
        hit, outage = self.study.flows.hit(op), system.assumption("outage", SECONDS)
        self.emptied.append(op)
        self.inputs.update({figure.key: figure for figure in (hit, outage)})
        return 1 - hit.value * kept(op.spec.cache.fresh.seconds, outage.value)

    def _note(self, edge: Edge) -> None:
        attempts, retry = self.study.system.attempts(edge), retry_of(edge)
        if attempts.value > 1:
            self.inputs[attempts.key] = attempts
        if retry is not None and retry.budget is not None and attempts.value > 1:
            key = f"{attempts.key} budget"
            self.inputs[key] = Figure(key, retry.budget.value, SHARE, attempts.location)


def _often(edge: Edge) -> float:
    """Calls in one run."""
    return edge.call.times * (edge.call.share.value if edge.call.share else 1.0)


def amplification(study: Study, edge: Edge, inputs: dict[str, Figure]) -> float:
    """Attempts at this call over calls: how often each is tried, on all ways that lead to it, while it fails."""
    assert isinstance(edge.target, Dep)
    attempts = Attempts(study, edge.target)
    rate, plain = attempts.over(edge), study.flows.over(edge).peak
    inputs.update(attempts.inputs)
    return rate / plain if plain > 0 else tries(edge)
