"""What a simulation came to: per operation, dependency, pool and row, each number with its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mainstay.architect.design.figures import SHARE
from mainstay.architect.design.risks import Study
from mainstay.architect.design.simulation.world import Regime, Tally, World
from mainstay.architect.design.system import Op
from mainstay.architect.design.trees import below, gateways, held_to

FEWEST, MOST = 1000, 20_000
"""Runs of one operation whose availability and times are measured."""
ALL = 60_000
"""Runs of operations in one regime, those that are called counted too."""
FLAKY = 0.5
"""Share of attempts that a dependency which is partly down fails."""
BATCHES = 20
"""Stretches of time into which a queue's waits are parted: waits within one are not independent of each other."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that was counted."""

    value: float
    error: float
    """One standard error of it."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One operation, asked from outside."""

    runs: int
    availability: Estimate
    p50: Estimate
    p99: Estimate
    """Of runs that succeeded with everything up, without queues."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The pool of one service at peak."""

    busy: Estimate
    """Share of its connections that are held."""
    wait_mean: Estimate
    wait_p99: Estimate


@dataclass(frozen=True, slots=True)
class Row:
    """The hottest row of one entity at peak."""

    locked: Estimate
    """Share of the time."""
    wait_mean: Estimate
    """Seconds that a write waits for those before it."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Runs of one operation while something that it waits for never answers."""

    dependency: str
    lasted: Estimate
    """The 99th percentile of how long a run of it is at work."""
    outlasted: Estimate
    """Share of its runs still at work when whoever had called gave up."""


@dataclass(slots=True)
class Measured:
    """What `simulate` counted."""

    seconds: float
    seed: int
    operations: dict[str, Observed] = field(default_factory=dict)
    attempts: dict[str, Estimate] = field(default_factory=dict)
    """By dependency: attempts a second at peak while it is down."""
    partly: dict[str, Estimate] = field(default_factory=dict)
    """The same while it fails every second attempt."""
    calls: dict[str, Estimate] = field(default_factory=dict)
    """By dependency: calls a second at peak with everything up."""
    pools: dict[str, Queue] = field(default_factory=dict)
    locks: dict[str, Row] = field(default_factory=dict)
    """By entity."""
    at_last: dict[str, Estimate] = field(default_factory=dict)
    """By operation: the 99th percentile of a run where each of its calls answers at the last moment of its last try."""
    silent: dict[str, list[Silence]] = field(default_factory=dict)
    """By operation."""
    without: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    """By component and operation: share of runs that succeed while the component is down."""


def simulate(
    study: Study, seconds: float = 60.0, seed: int = 1, magnify: float = 1.0, steps: int = ALL
) -> Measured:
    """Run a system under several regimes.

    All up; components failing; each dependency down, wholly and partly; queues at peak; each dependency silent; calls
    that answer at the last moment; each component taken away.

    Args:
        study: the system.
        seconds: of simulated time at peak load; less where that would be more than `steps`, and for the times and
            the availability of one operation between `FEWEST` and `MOST` runs.
        seed: the same seed gives the same numbers.
        steps: most runs of operations in one regime; more of them take longer and count better.
        magnify: by how much everything is down more often (30 % at most); what is down twice in ten thousand runs
            cannot be counted.
    """
    measured = Measured(seconds, seed)
    _operations(study, measured, magnify, steps)
    _outages(study, measured, steps)
    _queues(study, measured, steps)
    _timeouts(study, measured, steps)
    _without(study, measured, steps)
    return measured


def magnified(study: Study, magnify: float) -> dict[str, float]:
    """The availability of every component, where each is down so many times as often."""
    system = study.system
    found: dict[str, float] = {}
    for name in system.services:
        where = ("services", name, "availability")
        found[name] = system.figure(
            where, system.services[name].availability, "service_availability", SHARE
        ).value
    for dep in system.deps.values():
        found[dep.name] = system.availability(dep).value
    for part in system.parts.values():
        found[part.name] = system.availability(part).value
    if magnify == 1:
        return found
    return {name: 1 - min(max(0.3, 1 - value), (1 - value) * magnify) for name, value in found.items()}


def measured_operations(study: Study) -> list[Op]:
    """Those that actors call, and those with needs of their own."""
    system = study.system
    named = [op for name in ("availability", "p99") for op, _ in held_to(system, name)]
    entered = [op for op in system.ops.values() if op.spec.by is not None]
    return list(dict.fromkeys([*entered, *named]))


def _operations(study: Study, measured: Measured, magnify: float, steps: int) -> None:
    ops = measured_operations(study)
    if not ops:
        return
    worlds, weights = [], _weights(study)
    for at, regime in enumerate((Regime(), Regime(magnified(study, magnify), patient=True))):
        world = World(study, _seed(measured, at), regime)
        for op in ops:
            # Without queues the rate changes nothing but how much is seen.
            wanted = min(MOST, max(FEWEST, study.flows.of(op).peak * measured.seconds))
            runs = min(wanted, max(100.0, steps / len(ops) / weights[op]))
            world.arrive(op, runs / measured.seconds, measured.seconds)
        world.run()
        worlds.append(world)
    calm, failing = worlds
    for op in ops:
        times = sorted(calm.took.get(op, []))
        runs = failing.runs[op]
        if times and runs:
            share = failing.good[op] / runs
            error = math.sqrt(max(share * (1 - share), 1 / runs) / runs)
            measured.operations[op.id] = Observed(
                runs, Estimate(share, error), quantile(times, 0.5), quantile(times, 0.99)
            )


def _outages(study: Study, measured: Measured, steps: int) -> None:
    ops = list(study.system.ops.values())
    total = _work(study)
    for dep in study.system.deps.values():
        if not dep.edges or total <= 0:
            continue
        # Rates only scale what is counted, for nothing queues.
        thin = min(1.0, steps / len(study.system.deps) / (total * measured.seconds))
        regimes = (Regime(down=dep.name, patient=True), Regime(flaky={dep.name: FLAKY}, patient=True))
        for at, (regime, found) in enumerate(zip(regimes, (measured.attempts, measured.partly), strict=True)):
            world = World(study, _seed(measured, 2 + at), regime)
            for op in ops:
                world.arrive(op, world.asked(op) * thin, measured.seconds)
            world.run()
            found[dep.name] = _a_second(world.attempts[dep.name], measured.seconds * thin)


def _a_second(tally: Tally, seconds: float) -> Estimate:
    return Estimate(tally.total / seconds, tally.error / seconds)


def _queues(study: Study, measured: Measured, steps: int) -> None:
    total = _work(study)
    if total <= 0:
        return
    seconds = min(measured.seconds, steps / total)
    world = World(study, _seed(measured, 4), Regime(queues=True, patient=True))
    warm = max(2.0, seconds / 4)  # until what was empty in the beginning is as full as it will be
    for op in study.system.ops.values():
        world.arrive(op, world.asked(op), warm + seconds)
    world.run(warm)
    for counted in (world.waits, world.held, world.locked, world.line, world.attempts):
        counted.clear()
    world.run(warm + seconds)
    for service, waits in world.waits.items():
        connections = study.system.copies(service).value * study.system.pool(service).value
        measured.pools[service] = Queue(
            _a_second(world.held[service], seconds * connections),
            mean_in_time(waits),
            quantile_in_time(waits, 0.99),
        )
    for entity, tally in world.locked.items():
        measured.locks[entity] = Row(_a_second(tally, seconds), mean_in_time(world.line[entity]))
    for dep in study.system.deps.values():
        if dep.edges:
            measured.calls[dep.name] = _a_second(world.attempts[dep.name], seconds)


def _timeouts(study: Study, measured: Measured, steps: int) -> None:
    ops = [op for op in study.system.ops.values() if any(edge.waits for edge in op.edges)]
    runs = max(60, steps // 200)
    world = World(study, _seed(measured, 5), Regime(last_moment=True))
    for op in ops:
        world.begin(op, max(300, runs), run=True)
    world.run()
    for op in ops:
        measured.at_last[op.id] = quantile(sorted(world.lasted[op]), 0.99)
    for dep in study.system.deps.values():
        world = World(study, _seed(measured, 6), Regime(silent=dep.name))
        for op in ops:
            world.begin(op, runs, run=True)
        world.run()
        for op in ops:
            lasted = sorted(world.lasted[op])
            if world.attempts[dep.name].total:
                measured.silent.setdefault(op.id, []).append(
                    Silence(dep.name, quantile(lasted, 0.99), _share(world.outlasted[op], len(lasted)))
                )


def _without(study: Study, measured: Measured, steps: int) -> None:
    system = study.system
    ops = measured_operations(study)
    runs = max(100, steps // 60)
    for name in (*system.services, *system.deps, *(part.name for part in gateways(system))):
        world = World(study, _seed(measured, 7), Regime(down=name, patient=True))
        for op in ops:
            world.begin(op, runs)
        world.run()
        for op in ops:
            measured.without[name, op.id] = _share(world.good[op], runs)


def _seed(measured: Measured, regime: int) -> int:
    return measured.seed * 100 + regime


def _share(some: int, count: int) -> Estimate:
    """A share, and a quarter of how far it may be off, four standard errors out (Wilson's score interval)."""
    share = some / count
    return Estimate(share, 2 / count + math.sqrt(share * (1 - share) / count + 4 / count**2))


def _weights(study: Study) -> dict[Op, float]:
    """About how many steps one request of each operation takes: its run, and those of what it waits for."""
    found: dict[Op, float] = {}
    for root in study.system.ops.values():
        for op in below(root):
            if op not in found:
                miss = 1 - study.flows.hit(op).value if op.spec.cache is not None else 1.0
                calls = sum(
                    edge.call.times
                    * (edge.call.share.value if edge.call.share else 1.0)
                    * (1 + (found.get(edge.target, 0.0) if isinstance(edge.target, Op) else 0.0))
                    for edge in op.edges
                )
                found[op] = 0.2 + miss * (1 + calls)
    return found


def _work(study: Study) -> float:
    """Steps a second at peak."""
    weights = _weights(study)
    return sum(study.flows.of(op).peak * weights[op] for op in study.system.ops.values() if not op.callers)


def quantile(ordered: list[float], share: float) -> Estimate:
    """A quantile of sorted values; how far it may be off, from the order statistics."""
    count = len(ordered)
    return _quantile(ordered, share, math.sqrt(count * share * (1 - share)))


def _quantile(ordered: list[float], share: float, off: float) -> Estimate:
    """With the error that leads, four times, to the values four times `off` places away: tails are not normal."""
    count = len(ordered)
    at = min(count - 1, int(share * count))
    low, high = ordered[max(0, int(at - 4 * off))], ordered[min(count - 1, math.ceil(at + 4 * off))]
    return Estimate(ordered[at], max(high - ordered[at], ordered[at] - low) / 4)


def mean_in_time(seen: list[tuple[float, float]]) -> Estimate:
    """A mean of values by the time at which they were seen, with its error by the means of `BATCHES` stretches."""
    mean = sum(value for _, value in seen) / len(seen)
    return Estimate(mean, _batched(seen, [value - mean for _, value in seen]))


def quantile_in_time(seen: list[tuple[float, float]], share: float) -> Estimate:
    """A quantile of values by the time at which they were seen.

    How far the share below it may be off is taken from `BATCHES` stretches of time; what that means for the quantile,
    from the order statistics.
    """
    ordered = sorted(value for _, value in seen)
    count = len(ordered)
    value = ordered[min(count - 1, int(share * count))]
    off = _batched(seen, [(each <= value) - share for _, each in seen]) * count
    return _quantile(ordered, share, max(off, math.sqrt(count * share * (1 - share))))


def _batched(seen: list[tuple[float, float]], off: list[float]) -> float:
    """The error of a mean from how far each value is off it."""
    first, last = seen[0][0], seen[-1][0]
    sums = [0.0] * BATCHES
    for (at, _), each in zip(seen, off, strict=True):
        sums[min(BATCHES - 1, int((at - first) / ((last - first) or 1.0) * BATCHES))] += each
    return math.sqrt(sum(each**2 for each in sums) * BATCHES / (BATCHES - 1)) / len(seen)
