"""Retries multiply the load on what is already failing, until its limit is overrun."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.figures import PER_SECOND, Figure, show
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Edge, Op
from mainstay.architect.findings import Severity

KIND = Kind(
    name="retry-amplification",
    title="Retries along a chain of calls overrun a dependency's limit",
    severity=Severity.HIGH,
    formula="sum over callers of peak × attempts(first call) × … × attempts(last call) > limit",
    why="While the dependency answers, nobody repeats. As it slows down, every caller repeats at once, and attempts "
    "multiply at each level of the chain: it is asked most when it can do least, and stays down.",
    wrong_when="Too high where a breaker or a retry budget cuts repetitions off that the blueprint does not mention, "
    "or where only some failures are repeated. Too low where clients repeat on their own.",
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
        plain = worst = 0.0
        terms: list[str] = []
        inputs: dict[str, Figure] = {}
        for edge in dep.edges:
            flow = flows.over(edge)
            attempts = amplification(study, edge, inputs)
            plain += flow.peak
            worst += flow.peak * attempts
            terms.append(f"{show(flow.peak, PER_SECOND)} × {attempts:g} ({edge.caller.id})")
            inputs.update({figure.key: figure for figure in flow.inputs})
        if worst <= limit.value or worst == plain:
            continue
        yield Risk(
            KIND,
            dep.id,
            f"{dep.name} may be asked {show(worst, PER_SECOND)} when callers repeat, more than its limit of {limit}",
            " + ".join(terms) + f" = {show(worst, PER_SECOND)} > {limit}",
            (*inputs.values(), limit),
            f"a retry budget of {max(0.0, limit.value / plain - 1) * 100:.0f}% keeps within the limit"
            if plain < limit.value
            else f"even one attempt each is {show(plain, PER_SECOND)}: ask for a limit above that, or call it later, "
            f"by a job limited to {limit}",
            system.at(*dep.where),
            value=worst,
            need=limit.value,
        )


def amplification(
    study: Study, edge: Edge, inputs: dict[str, Figure], seen: frozenset[Op] = frozenset()
) -> float:
    """Attempts at this call for one run at the start of the worst chain that leads to it."""
    own = study.system.attempts(edge)
    if own.value > 1:
        inputs[own.key] = own
    budget = edge.call.retry.budget if edge.call.retry else None
    mine = 1 + budget.value if budget is not None else own.value
    if edge.caller in seen:
        return mine
    before = [
        amplification(study, above, inputs, seen | {edge.caller})
        for above in edge.caller.callers
        if above.waits
    ]
    return mine * max(before, default=1.0)
