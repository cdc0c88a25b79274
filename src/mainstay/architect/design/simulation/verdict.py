"""Holds each formula of the risks against the simulation, within its stated tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mainstay.architect.design.chances import Chance, Chances
from mainstay.architect.design.risks import Study
from mainstay.architect.design.risks.hot_row import hottest
from mainstay.architect.design.risks.pool_size import wait_p99
from mainstay.architect.design.risks.retry_amplification import Attempts
from mainstay.architect.design.simulation.measure import (
    ALL,
    Estimate,
    Measured,
    magnified,
    measured_operations,
    simulate,
)
from mainstay.architect.design.times import Times

AVAILABILITY = 0.03
"""Of the share that fails: shares of an outage that caches bridge are drawn apart."""
P99 = 0.15
"""Of the time: sums and longest of lognormals are no lognormals."""
P50 = 0.12
BUSY = 0.03
"""Of the share of connections or of a row that is held."""
ATTEMPTS = 0.02
WAIT = 1.0
"""Of one hold: M/M/c is a bound for arrivals at random; several calls of one run come in a bunch."""
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
        *_times(study, measured),
        *_attempts(study, measured),
        *_pools(study, measured),
        *_locks(study, measured),
    ]


def _row(
    subject: str, what: str, formula: float, counted: Estimate, share: float, bound: bool = False
) -> Row:
    return Row(subject, what, formula, counted.value, share * abs(formula) + ERRORS * counted.error, bound)


def _availability(study: Study, measured: Measured) -> Iterator[Row]:
    chances, values = Chances(study), magnified(study, MAGNIFY)
    for op in measured_operations(study):
        if op.id not in measured.operations:
            continue
        seen = measured.operations[op.id].availability
        given = Chance(values).of(chances.entry(op))
        tolerance = AVAILABILITY * (1 - given) + ERRORS * seen.error
        what = f"availability, outages {MAGNIFY:g} times as often"
        yield Row(op.id, what, given, seen.value, tolerance)


def _times(study: Study, measured: Measured) -> Iterator[Row]:
    times = Times(study)
    for op in measured_operations(study):
        if op.id in measured.operations:
            seen, spread = measured.operations[op.id], times.of(op)
            yield _row(op.id, "p50", spread.quantile(0.5), seen.p50, P50)
            yield _row(op.id, "p99", spread.p99, seen.p99, P99)


def _attempts(study: Study, measured: Measured) -> Iterator[Row]:
    for name, seen in measured.attempts.items():
        formula = Attempts(study, study.system.deps[name]).total()
        yield _row(name, "attempts a second while it is down", formula, seen, ATTEMPTS, bound=True)


def _pools(study: Study, measured: Measured) -> Iterator[Row]:
    system = study.system
    for service, seen in measured.pools.items():
        copies, pool = system.copies(service).value, system.pool(service).value
        rate = busy = 0.0
        for op in system.ops.values():
            if op.service == service:
                peak = study.flows.runs(op).peak
                rate, busy = rate + peak, busy + peak * system.hold(op).value
        load = busy / (copies * pool)
        if load >= FULL:
            continue
        yield _row(service, "connections held", load, seen.busy, BUSY)
        wait = wait_p99(rate / copies, busy / rate, int(pool))
        tolerance = WAIT * busy / rate + ERRORS * seen.wait_p99.error
        yield Row(
            service, "p99 of the wait for a connection", wait, seen.wait_p99.value, tolerance, bound=True
        )


def _locks(study: Study, measured: Measured) -> Iterator[Row]:
    for entity, writers in hottest(study).items():
        busy = sum(writer.rate * writer.lock for writer in writers)
        # A full pool lets fewer writers through than there are.
        roomy = all(
            seen.busy.value < FULL
            for service, seen in measured.pools.items()
            if service in {writer.op.service for writer in writers}
        )
        if entity.id in measured.locks and busy < FULL and roomy:
            yield _row(entity.id, "hottest row locked", busy, measured.locks[entity.id], BUSY)
