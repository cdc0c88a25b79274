"""Retries multiply the load on what is already failing, until its limit is overrun."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mainstay.architect.design.chances import STEPS, Block, Chance, Chances, Factor, Keep, given, made
from mainstay.architect.design.figures import COUNT, PER_SECOND, SECONDS, SHARE, Figure, at_least, show
from mainstay.architect.design.questions import listed, waited
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Act, Dep, Edge, Op
from mainstay.architect.design.trees import repeats, retry_of, tries
from mainstay.architect.findings import Severity

KIND = Kind(
    name="retry-amplification",
    title="Retries along a chain of calls overrun a dependency's limit",
    severity=Severity.HIGH,
    formula="sum over ways to it of peak × attempts(first call) × … × attempts(last call) > limit; attempts "
    "= 1 + repetitions, or 1 + budget; above a call with a fallback nothing is repeated; a cache above it "
    "keeps only the hits that outlast the outage",
    why="While the dependency answers, nobody repeats. As it slows down, every caller repeats at once, and "
    "attempts multiply at each level of the chain: it is asked most when it can do least, and stays down.",
    wrong_when="Too high where a breaker or a retry budget cuts repetitions off that the blueprint does not "
    "mention, or where only some failures are repeated. It is a bound, and simulated outages mostly stay "
    "well below it: of several calls in one run the first that fails ends it, and a dependency that fails "
    "half of its calls is asked for less than one that fails all. Too low where clients repeat on their "
    "own, or where calls time out that would have answered.",
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
            over = attempts.over(edge)
            if flow.peak > 0:
                terms.append(f"{show(flow.peak, PER_SECOND)} × {over / flow.peak:.4g} ({edge.caller.id})")
            elif over > 0:
                terms.append(f"{show(over, PER_SECOND)} ({edge.caller.id}, which stands in)")
            inputs.update({figure.key: figure for figure in flow.inputs})
        inputs.update(attempts.inputs)
        if instead := attempts.instead():
            terms.append(f"{show(instead, PER_SECOND)} (by fallbacks that need it too)")
        plain = sum(flows.over(edge).peak for edge in dep.edges)
        worst = attempts.total()
        if worst <= limit.value * (1 + 1e-9) or worst <= plain * (1 + 1e-9):
            continue
        repeated = any(figure.key.endswith("retry") and figure.value > 1 for figure in inputs.values())
        caches = "caches above it run empty" if attempts.emptied else ""
        beside = "what stands in asks it too" if attempts.stood_in() else ""
        when = " and ".join(filter(None, ["callers repeat" if repeated else "", caches, beside]))
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
    if edges := attempts.stood_in():
        names = listed(list(dict.fromkeys(f"{edge.caller.id}'s call of {edge.target.id}" for edge in edges)))
        return (
            f"let what stands in for {names} do without {dep.name}; or ask for a limit of "
            f"{at_least(worst, PER_SECOND)} or more"
        )
    ways = [f"a retry budget of {math.floor((limit.value / plain - 1) * 100 + 1e-9)}% keeps within the limit"]
    nearest = sum(attempts.study.flows.over(edge).peak * tries(edge) for edge in dep.edges)
    if nearest < worst and nearest <= limit.value:
        ways.append(f"repeat only where {dep.name} itself is called: {show(nearest, PER_SECOND)}")
    return "; or ".join(ways)


class Attempts:
    """How often each call is tried, a second at peak, while a dependency fails each time.

    Caches above it run empty one after the other as the outage goes on, and all see the same outage: what is given is
    the mean over its moments.

    Args:
        study: the system.
        dep: what is down.
    """

    def __init__(self, study: Study, dep: Dep) -> None:
        self.study = study
        self.inputs: dict[str, Figure] = {}
        """What was repeated on the ways that were walked."""
        self.emptied: list[Op] = []
        """Operations on those ways that have a cache."""
        cached = any(op.spec.cache is not None for op in study.system.ops.values())
        chances, reach, failing = Chances(study), dict[Op, bool](), dict[Op, bool]()
        self._moments = [
            _Moment(study, dep, since, chances, self.inputs, self.emptied, reach, failing)
            for since in range(STEPS if cached else 1)
        ]

    def total(self) -> float:
        """Attempts at the dependency, by all that call it."""
        return self._mean(lambda moment: moment.total())

    def instead(self) -> float:
        """Calls of it in place of something that needs it too."""
        return self._mean(lambda moment: sum(moment.instead(moment.dep)))

    def stood_in(self) -> list[Edge]:
        """Calls that need it, and whose fallback needs it too: what fails is asked once more by another way."""
        needs = self._moments[0].needs
        return [
            edge
            for op in self.study.system.ops.values()
            for edge in op.edges
            if edge.waits and edge.fallback is not None and needs(edge.target) and needs(edge.fallback)
        ]

    def over(self, edge: Edge) -> float:
        """Attempts at one call. What has a fallback does not fail its caller, which then is not repeated."""
        return self._mean(lambda moment: moment.over(edge))

    def _mean(self, of: Callable[[_Moment], float]) -> float:
        first = of(self._moments[0])
        if not self.emptied:
            return first  # nothing on the way to it changes with time
        return (first + sum(map(of, self._moments[1:]))) / len(self._moments)


@dataclass(slots=True)
class _Moment:
    """The same at one moment of the outage."""

    study: Study
    dep: Dep
    since: int
    """The step of time before now in which the dependency went down."""
    chances: Chances
    inputs: dict[str, Figure]
    emptied: list[Op]
    _reach: dict[Op, bool]
    _failing: dict[Op, bool]
    _runs: dict[Op, float] = field(default_factory=dict)
    _open: set[Op] = field(default_factory=set)
    _plain: dict[Op, float] = field(default_factory=dict)
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
        return sum(self.over(edge) for edge in self.dep.edges) + sum(self.instead(self.dep))

    def over(self, edge: Edge) -> float:
        """Attempts at one call."""
        runs = self.runs(edge.caller) if self._fails(edge) else self.plain(edge.caller)
        self._note(edge)
        return runs * _often(edge) * tries(edge)

    def instead(self, target: Op | Dep) -> Iterator[float]:
        """Calls of what stands in for another that fails too."""
        for op in self.study.system.ops.values():
            for edge in op.edges:
                if edge.fallback is target and edge.waits and self.needs(edge.target):
                    runs = self.runs(op) if self._fails(edge) else self.plain(op)
                    yield runs * _often(edge)

    def _fails(self, edge: Edge) -> bool:
        """Its caller fails, by this call or by another: it is repeated, and nothing fills its cache.

        What is handed over is so by runs that succeed, and is repeated by itself.
        """
        if not edge.waits:
            return False
        if not edge.call.fallback or self.needs(edge.fallback):
            return True
        caller = edge.caller
        if caller not in self._failing:
            run = self.chances.run(caller)
            values = {name: 0.0 if name == self.dep.name else 1.0 for name in run.names}
            self._failing[caller] = Chance(values).of(run) < 1
        return self._failing[caller]

    def needs(self, node: Op | Dep | Act | None) -> bool:
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
        extra = sum(self.over(edge) - flows.over(edge).peak for edge in op.callers)
        if op.spec.on and op.spec.retry is not None:
            extra += flows.told(op).peak * (repeats(op.spec.retry) - 1)  # each delivery of an event
            self.inputs[f"{op.id}.retry"] = self.study.system.known(
                Figure(
                    f"{op.id}.retry", 1 + op.spec.retry.times, COUNT, self.study.system.at(*op.where, "retry")
                )
            )
        if op in self._standing_in:
            extra += sum(self.instead(op))
        self._open.discard(op)
        self._runs[op] = (flows.of(op).peak + extra) * self._miss(op)
        return self._runs[op]

    def plain(self, op: Op) -> float:
        """Runs of an operation that does not fail: ordinary ones, and those in place of something that does."""
        flows = self.study.flows
        if op in self._plain:
            return self._plain[op]
        self._plain[op] = flows.runs(op).peak  # what a ring of calls comes back to
        extra = sum(self.plain(edge.caller) * _often(edge) - flows.over(edge).peak for edge in op.callers)
        if op in self._standing_in:
            extra += sum(self.instead(op))
        self._plain[op] = flows.runs(op).peak + extra * flows.missed(op)
        return self._plain[op]

    def _miss(self, op: Op) -> float:
        """The share of calls that its cache lets through, of those that every cache below lets through.

        A hot entry is there as long as it was filled before the outage, or by a cache below that held one. Those that
        reach the dependency count: where others do without it, entries of theirs are renewed.
        """
        keep = self.chances.keep(op)
        if keep is None:
            return 1.0
        hit, outage = self.study.flows.hit(op), self.study.system.assumption("outage", SECONDS)
        self.emptied.append(op)
        self.inputs.update({figure.key: figure for figure in (hit, outage)})
        run = made(self.chances.run(op), self.dep.name)
        down, _ = given([(Factor(0.0, (run,)), 1)], frozenset([self.dep.name]), up=False, since=self.since)
        worked = Chance(dict.fromkeys(run.names, 1.0)).before(Block(factors=down))
        if worked[0] >= 1:
            return 1 - hit.value
        return (1 - Keep(hit.value, keep.fresh).of(worked)[0]) / (1 - worked[0])

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
