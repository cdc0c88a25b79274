"""A caller gives up before what it waits for has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mainstay.architect.design.figures import COUNT, SECONDS, Figure, show
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Dep, Edge, Op
from mainstay.architect.design.times import Times
from mainstay.architect.design.trees import asked, dependency_p99, groups, longest, pauses
from mainstay.architect.findings import Severity, Step

KIND = Kind(
    name="timeout-nesting",
    title="Timeouts do not nest: a caller gives up before what it waits for",
    severity=Severity.MEDIUM,
    formula="own work + sum over its calls in order (those of one group: the longest) of timeout × attempts "
    "+ waits between them > its own timeout. Also: a timeout below the p99 of what answers",
    why="The caller has gone, and may be trying again, while the first attempt still works, holds its "
    "connection and may yet commit. Under a slow dependency the work that nobody waits for is what keeps it "
    "slow.",
    wrong_when="Where the deadline travels with the request and every callee keeps to it, as gRPC's does; "
    "where calls are rarely made together. It is the longest that can happen, and simulated calls that "
    "answer at the last moment take exactly that; one dependency that never answers is enough where its "
    "attempts alone outlast the caller, else several have to be late at once. Where no timeout is written "
    "an assumed one is taken, at least as long as the p99 that is needed; a p99 is a target that one in a "
    "hundred may miss, not a deadline.",
    remedy="From the outside in: the caller's timeout, less its own work, shared among its calls and their attempts.",
    sources=(
        "Site Reliability Engineering (Google, 2016), chapter 22: Addressing Cascading Failures, on deadlines",
        "gRPC: Deadlines",
    ),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each operation that may outlast its callers, one for each call that is cut off too early."""
    for op in study.system.ops.values():
        risk = _nesting(study, op)
        if risk is not None:
            yield risk
    yield from _cut_off(study)


def budget(study: Study, op: Op) -> Figure | None:
    """How long whoever calls an operation waits for it; None where nobody waits.

    It is the least of what its callers say (``within``), else its own timeout, else an assumed one, or the p99 that
    is needed where that is longer.
    """
    system = study.system
    waiting = [edge for edge in op.callers if edge.waits]
    if not waiting and not asked(op, system) and op.spec.timeout is None:
        return None
    least = min(
        (system.timeout(edge) for edge in waiting if edge.call.within is not None),
        key=lambda figure: figure.value,
        default=None,
    )
    if least is None or asked(op, system):
        own = system.figure((*op.where, "timeout"), op.spec.timeout, "timeout", SECONDS)
        need = system.need("p99", op)
        if own.assumed and need is not None and need.value > own.value:
            own = need
        least = own if least is None or own.value < least.value else least
    return least


@dataclass(frozen=True, slots=True)
class Held:
    """The longest that a run is at work, where each of its calls takes as long as it may."""

    work: Figure
    """Its own, the 99th percentile."""
    steps: list[Edge]
    """Of each group of calls the longest."""
    waited: float
    """Seconds that all these may take."""
    inputs: dict[str, Figure]

    @property
    def seconds(self) -> float:
        """Altogether."""
        return self.work.value + self.waited


def held(study: Study, op: Op) -> Held:
    """The longest that a run of an operation is at work."""
    made = Held(study.system.work(op), [], 0.0, {})
    for group in groups(op):
        lengths = {edge: longest(study.system, edge) for edge in group}
        slow = max(group, key=lambda edge: lengths[edge][0])
        made.steps.append(slow)
        made.inputs.update({figure.key: figure for figure in lengths[slow][1]})
        made = replace(made, waited=made.waited + lengths[slow][0])
    return made


def _nesting(study: Study, op: Op) -> Risk | None:
    system = study.system
    given = budget(study, op) if groups(op) else None
    if given is None:
        return None
    most = held(study, op)
    stated = any(not key.startswith("assume.") for key in (given.key, *most.inputs))
    total = round(most.seconds, 9)
    if not stated or total <= given.value or (given.key.startswith("assume.") and most.waited <= given.value):
        return None  # where nothing is written, nothing contradicts anything
    terms = [_term(study, edge) for edge in most.steps]
    who = "is given up on" if op.spec.timeout or not asked(op, system) else "is likely given up on"
    if most.waited < given.value:
        lasts = f"may take {show(most.seconds, SECONDS)}: own work {most.work} + "
    else:
        lasts = f"may wait for {show(most.waited, SECONDS)}: "
    return Risk(
        KIND,
        op.id,
        f"{op.id} {who} after {show(given.value, SECONDS)} and {lasts}{' + '.join(terms)}",
        f"own work {most.work} + {' + '.join(terms)} = {show(most.seconds, SECONDS)} > {given}",
        tuple({given.key: given, most.work.key: most.work, **most.inputs}.values()),
        _remedy(study, op, given.value, most.seconds, most.work.value, most.steps),
        system.at(*op.where, *(("timeout",) if op.spec.timeout else ())),
        tuple(
            Step(system.at(*edge.where), f"{edge.caller.id} waits for {edge.target.id}", edge.id)
            for edge in most.steps
        ),
        value=most.seconds,
        need=given.value,
    )


def _term(study: Study, edge: Edge) -> str:
    timeout, attempts = study.system.timeout(edge), study.system.attempts(edge)
    text = f"{edge.call.to} {timeout}{' (assumed)' if timeout.assumed else ''}"
    if attempts.value > 1:
        text += f" × {attempts.value:g}"
    if wait := sum(pauses(edge)):
        text = f"({text} + {show(wait, SECONDS)} between)"
    if edge.fallback is not None:
        seconds = longest(study.system, edge)[0] / edge.call.times
        text = f"({text}, else {edge.fallback.id}: {show(seconds, SECONDS)})"
    return text + (f" × {edge.call.times} calls" if edge.call.times > 1 else "")


def _remedy(study: Study, op: Op, given: float, total: float, work: float, steps: list[Edge]) -> str:
    system = study.system
    slow = max(steps, key=lambda edge: longest(system, edge)[0])
    rest = total - longest(system, slow)[0]
    timeout, attempts = system.timeout(slow).value, system.attempts(slow).value
    other = longest(system, slow)[0] - (timeout * attempts + sum(pauses(slow))) * slow.call.times
    ways: list[str] = []
    fits = (given - rest - other - sum(pauses(slow)) * slow.call.times) / (attempts * slow.call.times)
    usual = Times(study).attempt(slow).p99
    left = given - rest
    also = [
        edge
        for edge in op.edges  # at the same time as the slowest, and too slow themselves
        if edge.group == slow.group and edge is not slow and edge.waits and longest(system, edge)[0] > left
    ]
    if fits >= usual and not also:
        each = " an attempt" if attempts > 1 else ""
        ways.append(f"{slow.target.id} within {show(_down(fits), SECONDS)}{each}")
    single = (given - rest - other) / slow.call.times
    if attempts > 1 and fits < timeout and single >= usual and not also:
        kept = min(timeout, single)
        ways.append(f"{slow.target.id} tried once, within {show(_down(kept), SECONDS)}, the rest by a job")
    ways.append(f"a timeout of {show(_up(total), SECONDS)} for {op.id}")
    return ", or ".join(ways)


def _cut_off(study: Study) -> Iterator[Risk]:
    """Calls whose timeout is below the p99 that their dependency states, and whose failing is not caught."""
    system = study.system
    times = Times(study)
    tail = system.assumption("tail", COUNT)
    for op in system.ops.values():
        for edge in op.edges:
            dep = edge.target
            if not edge.waits or not isinstance(dep, Dep) or dep.spec.p99 is None or edge.call.fallback:
                continue
            timeout, p99 = system.timeout(edge), dependency_p99(system, dep)
            if timeout.key.startswith("assume.") or timeout.value >= p99.value:
                continue
            attempts = system.attempts(edge).value
            late = 1 - times.attempt(edge).below(timeout.value)
            lost = late**attempts
            need = system.need("availability", op)
            may = 1 - need.value if need is not None else 0.01
            if lost <= may:
                continue
            again = f", and {_share(lost)} after {attempts:g} attempts" if attempts > 1 else ""
            yield Risk(
                KIND,
                edge.id,
                f"{op.id} waits {show(timeout.value, SECONDS)} for {dep.name}, whose p99 is {p99}: "
                f"{_share(late)} of the calls are given up{again}",
                f"share above {timeout} of a lognormal with p99 {p99}, {tail} times its median = {_share(late)}"
                + (f"; to the power of {attempts:g} = {_share(lost)}" if attempts > 1 else "")
                + f" > {_share(may)}",
                (timeout, p99, tail, *([need] if need else [])),
                f"at least {p99}; or 'else', for what is done without it",
                system.at(*edge.where),
                value=lost,
                need=may,
            )


def _share(value: float) -> str:
    return f"{value * 100:.2g}%"


def _down(seconds: float) -> float:
    """Rounded down to two digits that can be written in a blueprint."""
    step = _step(seconds)
    return max(0.001, int(seconds / step + 1e-9) * step)


def _up(seconds: float) -> float:
    step = _step(seconds)
    return math.ceil(seconds / step - 1e-9) * step


def _step(seconds: float) -> float:
    return math.pow(10, max(0, len(str(int(seconds * 1000))) - 2)) / 1000
