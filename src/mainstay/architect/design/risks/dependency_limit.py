"""A dependency is asked more often than it takes, without any repetition."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.figures import PER_SECOND, SHARE, Figure, at_least, show
from mainstay.architect.design.questions import changes_there
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.risks.retry_amplification import amplification
from mainstay.architect.design.system import Dep
from mainstay.architect.findings import Severity

KIND = Kind(
    name="dependency-limit",
    title="Ordinary load is more than a dependency takes",
    severity=Severity.HIGH,
    formula="sum over callers of peak > limit, though nobody repeats; usual > limit: it never catches up",
    why="What goes over the limit is refused. Where it is queued, the queue grows for as long as the peak "
    "lasts, and is worked off with what is left after it.",
    wrong_when="Where the provider lets bursts through, and the peak is short. It is arithmetic of flows, "
    "and a simulation counts the same; but a second of arrivals at random has more or fewer calls than the "
    "mean (at 50/s, 57 or more in one second of six), and calls that time out and are repeated come on top.",
    remedy="Queue what need not be answered at once, with a limit a second; cache what is asked again; ask for more.",
    patterns=("job",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each dependency whose limit is overrun; where retries do it, their own risk says so."""
    system, flows = study.system, study.flows
    for dep in system.deps.values():
        limit = system.stated((*dep.where, "limit"), dep.spec.limit, PER_SECOND)
        if limit is None or not dep.edges or any(amplification(study, edge, {}) > 1 for edge in dep.edges):
            continue
        flow = flows.to(dep)
        if flow.peak <= limit.value:
            continue
        inputs: dict[str, Figure] = {figure.key: figure for figure in flow.inputs}
        late = [edge for edge in dep.edges if not edge.waits or edge.caller.kind in ("event", "schedule")]
        if flow.usual > limit.value:
            ends = f"and {show(flow.usual, PER_SECOND)} on an ordinary day: it never catches up"
            severity = Severity.CRITICAL
        else:
            lag = show(flow.peak - limit.value, PER_SECOND)
            ends = (
                f"so {lag} are "
                + ("queued" if len(late) == len(dep.edges) else "refused")
                + " while the peak lasts"
            )
            severity = Severity.MEDIUM if len(late) == len(dep.edges) else Severity.HIGH
        yield Risk(
            KIND,
            dep.name,
            f"{dep.name} is asked {show(flow.peak, PER_SECOND)} at peak, takes {limit}, {ends}",
            " + ".join(f"{show(flows.over(edge).peak, PER_SECOND)} ({edge.caller.id})" for edge in dep.edges)
            + f" = {show(flow.peak, PER_SECOND)} > {limit}",
            (*inputs.values(), limit),
            _remedy(dep, flow.peak, limit),
            system.at(*dep.where, "limit"),
            value=flow.peak,
            need=limit.value,
            severity=severity,
        )


def _remedy(dep: Dep, peak: float, limit: Figure) -> str:
    more = f"a limit of {at_least(peak, PER_SECOND)} or more"
    if changes_there(dep):
        return f"{more}; or call it later, by a job limited to {limit}"
    hit = at_least(1 - limit.value / peak, SHARE)
    return f"{more}; or a cache that answers {hit} of the calls; or one call for many"
