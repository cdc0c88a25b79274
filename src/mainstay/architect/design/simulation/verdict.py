"""Holds each formula of the risks against the simulation, within its stated tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mainstay.architect.design.chances import Chance, Chances
from mainstay.architect.design.risks import Study
from mainstay.architect.design.risks.hot_row import hottest, waiting
from mainstay.architect.design.risks.pool_size import demand
from mainstay.architect.design.risks.retry_amplification import Attempts
from mainstay.architect.design.risks.single_point_of_failure import left
from mainstay.architect.design.risks.timeout_nesting import budget, held
from mainstay.architect.design.simulation.measure import (
    ALL,
    Estimate,
    Measured,
    magnified,
    measured_operations,
    simulate,
)
from mainstay.architect.design.times import Times

AVAILABILITY = 0.01
"""Of the share that fails: the age of an outage is told apart in steps."""
P99 = 0.15
"""Of the time: sums and longest of lognormals are no lognormals."""
P50 = 0.12
BUSY = 0.03
"""Of the share of connections or of a row that is held: those who wait for a row do not come quite at random."""
ATTEMPTS = 0.02
WAIT = 1.0
"""Of one hold: of how calls of one request come in a bunch, only the number is known."""
LINE = 0.2
"""Of the mean wait for a row, and a tenth of one lock."""
LASTS = 0.02
"""Of the longest that a run is at work."""
LATE = 0.01
"""Share of runs whose own work takes longer than its 99th percentile."""
ERRORS = 4.0
"""Standard errors of what was counted, which are allowed on top."""
MAGNIFY = 50.0
"""How many times as often everything is down, so that there is something to count."""
FULL = 0.9
"""Use of a pool or a row beyond which a queue is still growing when the simulation ends."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of one subject, computed and counted."""

    subject: str
    what: str
    formula_value: float
    simulated: float
    tolerance: float
    """How far apart they may be: the formula's own tolerance, and the errors of counting."""
    bound: bool = False
    """The formula is an upper bound: what is counted may be lower by any amount."""

    @property
    def holds(self) -> bool:
        """Whether they agree."""
        above = self.simulated - self.formula_value
        return above <= self.tolerance and (self.bound or -above <= self.tolerance)


def judge(study: Study, seconds: float = 60.0, seed: int = 1, steps: int = ALL) -> list[Row]:
    """Simulate a system and hold every formula against it; what each tolerance is made of: docs/design-formulas.md."""
    measured = simulate(study, seconds, seed, MAGNIFY, steps)
    return [
        *_availability(study, measured),
        *_without(study, measured),
        *_times(study, measured),
        *_lasting(study, measured),
        *_attempts(study, measured),
        *_queues(study, measured),
    ]


def _row(
    subject: str, what: str, formula: float, counted: Estimate, tolerance: float, bound: bool = False
) -> Row:
    return Row(subject, what, formula, counted.value, tolerance + ERRORS * counted.error, bound)


def _availability(study: Study, measured: Measured) -> Iterator[Row]:
    chances, values = Chances(study), magnified(study, MAGNIFY)
    for op in measured_operations(study):
        if op.id not in measured.operations:
            continue
        seen, chance = measured.operations[op.id].availability, Chance(values)
        fails = 1 - chance.of(chances.entry(op))
        what = f"share that fails, outages {MAGNIFY:g} times as often"
        counted = Estimate(1 - seen.value, seen.error)
        yield _row(op.id, what, fails, counted, AVAILABILITY * fails, bound=not chance.exact)


def _without(study: Study, measured: Measured) -> Iterator[Row]:
    chances = Chances(study)
    for (name, op), seen in measured.without.items():
        given, exact = left(chances, study.system.ops[op], name)
        if exact:
            yield _row(op, f"share that answers, {name} down", given, seen, AVAILABILITY * (1 - given))


def _times(study: Study, measured: Measured) -> Iterator[Row]:
    times = Times(study)
    for op in measured_operations(study):
        if op.id in measured.operations:
            seen, spread = measured.operations[op.id], times.of(op)
            p50, p99 = spread.quantile(0.5), spread.p99
            yield _row(op.id, "p50", p50, seen.p50, P50 * p50)
            yield _row(op.id, "p99", p99, seen.p99, P99 * p99)


def _lasting(study: Study, measured: Measured) -> Iterator[Row]:
    for id, seen in measured.at_last.items():
        op = study.system.ops[id]
        most = held(study, op).seconds
        yield _row(id, "longest at work, calls answer at the last moment", most, seen, LASTS * most)
        given = budget(study, op)
        called = any(edge.waits for edge in op.callers)
        for silence in measured.silent.get(id, ()):
            what = f"longest while one is silent, {silence.dependency}"
            yield _row(id, what, most, silence.lasted, LASTS * most, bound=True)
            if given is not None and called:
                nests = most <= given.value
                what = f"share that outlasts its caller, said to {'' if nests else 'not '}nest"
                what += f", {silence.dependency} silent"
                yield _row(id, what, LATE if nests else 1.0, silence.outlasted, 0.0, bound=True)


def _attempts(study: Study, measured: Measured) -> Iterator[Row]:
    for name, seen in measured.attempts.items():
        most = Attempts(study, study.system.deps[name]).total()
        what = "attempts a second while it"
        yield _row(name, f"{what} is down", most, seen, ATTEMPTS * most, bound=True)
        partly = measured.partly[name]
        yield _row(name, f"{what} fails every second time", most, partly, ATTEMPTS * most, bound=True)


def _queues(study: Study, measured: Measured) -> Iterator[Row]:
    """What flows and queues at peak; nothing of it where something is full, for that holds back all around it."""
    rows = hottest(study)
    needed = {service: demand(study, service) for service in measured.pools}
    if any(each.load >= FULL for each in needed.values()):
        return
    if any(sum(writer.busy for writer in writers) >= FULL for writers in rows.values()):
        return
    for name, counted in measured.calls.items():
        yield _row(name, "calls a second at peak", study.flows.to(study.system.deps[name]).peak, counted, 0.0)
    for service, seen in measured.pools.items():
        load, wait = needed[service].load, needed[service].wait_p99
        yield _row(service, "connections held", load, seen.busy, BUSY * load)
        what = "p99 of the wait for a connection"
        yield _row(service, what, wait, seen.wait_p99, WAIT * needed[service].hold, bound=True)
    for entity, writers in rows.items():
        if entity.id in measured.locks:
            line = measured.locks[entity.id]
            busy, wait = sum(writer.busy for writer in writers), waiting(study, writers)
            lock = busy / sum(writer.rate for writer in writers)
            yield _row(entity.id, "hottest row locked", busy, line.locked, BUSY * busy)
            what = "mean wait for the hottest row"
            yield _row(entity.id, what, wait, line.wait_mean, LINE * wait + 0.1 * lock, bound=True)
