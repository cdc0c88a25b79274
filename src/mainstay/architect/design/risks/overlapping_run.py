"""A scheduled run takes longer than the time until the next."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice, pairwise

from mainstay.architect.design.figures import PER_SECOND, SECONDS, Figure, at_least, show
from mainstay.architect.design.flows import Flows
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Dep, Op
from mainstay.architect.design.times import Times
from mainstay.architect.design.trees import groups
from mainstay.architect.design.units import Duration
from mainstay.architect.findings import Severity

KIND = Kind(
    name="overlapping-run",
    title="A scheduled run is not done when the next one begins",
    severity=Severity.HIGH,
    formula="the longer of: mean own work + sum over its calls of xN × mean time of one, those of a group at "
    "the same time; and, for each dependency with a limit, its calls in one run / limit; > the shortest "
    "time between two runs",
    why="Either runs pile up - two work on the same rows, and each is slower for the other - or every second "
    "one is left out, and what is to be done once an hour is done when there is time. The backlog only "
    "grows.",
    wrong_when="Where the calls of one xN go out side by side: write them as a group. Where xN is the most "
    "that one run takes, and it is mostly less. What the run does in its own database is only what `work` "
    "says.",
    remedy="Fewer in one run, several at a time, or a longer period; or one job for each, in place of one long run.",
    patterns=("schedule", "job"),
    sources=(
        "Site Reliability Engineering (Google, 2016), chapter 24: Distributed Periodic Scheduling with Cron",
    ),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each scheduled operation."""
    system = study.system
    times: Times | None = None
    for op in system.ops.values():
        if not op.spec.every or not op.edges:
            continue
        times = times or Times(study)
        where = (*op.where, "every")
        period = system.known(Figure(f"{op.id}.every", shortest(op.spec.every), SECONDS, system.at(*where)))
        taken, formula, inputs, fits = _by_its_calls(times, op, period.value)
        for dep, calls in _asked(study.flows, op).items():
            limit = system.stated((*dep.where, "limit"), dep.spec.limit, PER_SECOND)
            if limit is not None and calls / limit.value > taken:
                taken, inputs = calls / limit.value, {limit.key: limit}
                formula = f"{show(calls, '')} calls of {dep.name} / {limit}"
                fits = f"a limit of {at_least(calls / period.value, PER_SECOND)} or more for {dep.name}"
        if taken <= period.value:
            continue
        yield Risk(
            KIND,
            op.id,
            f"{op.id} runs every {period} and takes some {show(taken, SECONDS, 2)}: the next run begins before it "
            "is done",
            f"{formula} = {show(taken, SECONDS, 3)} > {period}",
            (*inputs.values(), period),
            f"{fits + '; or ' if fits else ''}every: {_up(taken)}; or {math.ceil(taken / period.value)} at a time, "
            "as jobs of their own",
            system.at(*where),
            value=taken,
            need=period.value,
        )


def _by_its_calls(times: Times, op: Op, period: float) -> tuple[float, str, dict[str, Figure], str]:
    """Seconds that a run takes on average, as a sum, with its figures, and how often the longest call fits into it."""
    mean = times.run(op).mean
    steps = [(max(group, key=lambda edge: times.call(edge).mean), group) for group in groups(op)]
    if not steps:
        return 0.0, "", {}, ""
    slow = max((edge for edge, _ in steps), key=lambda edge: times.call(edge).mean)
    once = times.once(slow).mean * (slow.call.share.value if slow.call.share else 1.0)
    rest = mean - once * slow.call.times
    most = math.floor((period - rest) / once) if once > 0 else 0
    terms = [
        f"{edge.call.times} × {show(times.once(edge).mean, SECONDS, 3)} ({edge.call.to})" for edge, _ in steps
    ]
    own = show(max(0.0, mean - sum(times.call(edge).mean for edge, _ in steps)), SECONDS, 3)
    fits = f"{slow.target.id} x{most} at most in one run" if 0 < most < slow.call.times else ""
    return mean, " + ".join([f"own work {own}", *terms]), times.figures(op), fits


def _asked(flows: Flows, op: Op) -> dict[Dep, float]:
    """Calls of each dependency in one run, by itself and by what it calls, handed over or not."""
    found: dict[Dep, float] = {}

    def walk(current: Op, runs: float, above: frozenset[Op]) -> None:
        for edge in current.edges:
            often = runs * edge.call.times * (edge.call.share.value if edge.call.share else 1.0)
            if isinstance(edge.target, Dep):
                found[edge.target] = found.get(edge.target, 0.0) + often
            elif isinstance(edge.target, Op) and edge.target not in above:
                missed = 1.0 if edge.target.spec.cache is None else 1 - flows.hit(edge.target).value
                walk(edge.target, often * missed, above | {edge.target})

    walk(op, 1.0, frozenset({op}))
    return found


def shortest(every: str) -> float:
    """Seconds between two runs: of a cron expression the shortest that occurs.

    Args:
        every: a time such as ``15m``, or a cron expression, as a blueprint holds it.
    """
    if re.fullmatch(Duration.pattern, every):
        return Duration.parse(every).seconds
    from cronsim import CronSim

    runs = list(islice(CronSim(every, datetime(2026, 1, 1)), 200))
    return min((after - before).total_seconds() for before, after in pairwise(runs))


def _up(seconds: float) -> str:
    """A period in which a run is done, as a blueprint writes it, rounded up."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= 2 * size or unit == "s":
            return f"{math.ceil(seconds / size)}{unit}"
    raise AssertionError
