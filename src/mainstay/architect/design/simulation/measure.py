"""What a simulation came to: per operation, dependency, pool and row, each number with its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mainstay.architect.design.figures import SHARE
from mainstay.architect.design.risks import Study
from mainstay.architect.design.simulation.world import Regime, World
from mainstay.architect.design.system import Op
from mainstay.architect.design.trees import below, held_to

FEWEST, MOST = 1000, 20_000
"""Runs of one operation whose availability and times are measured."""
ALL = 60_000
"""Runs of operations in one regime, those that are called counted too."""


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


@dataclass(slots=True)
class Measured:
    """What `simulate` counted."""

    seconds: float
    seed: int
    operations: dict[str, Observed] = field(default_factory=dict)
    attempts: dict[str, Estimate] = field(default_factory=dict)
    """By dependency: attempts a second at peak while it is down."""
    pools: dict[str, Queue] = field(default_factory=dict)
    locks: dict[str, Estimate] = field(default_factory=dict)
    """By entity: share of the time that its hottest row is locked, at peak."""


def simulate(
    study: Study, seconds: float = 60.0, seed: int = 1, magnify: float = 1.0, steps: int = ALL
) -> Measured:
    """Run a system under four regimes: all up; components failing; each dependency down; queues at peak.

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
        world = World(study, measured.seed + at, regime)
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
        world = World(study, measured.seed + 2, Regime(down=dep.name))
        for op in ops:
            world.arrive(op, world.asked(op) * thin, measured.seconds)
        world.run()
        count = world.attempts[dep.name]
        scale = measured.seconds * thin
        each = max(1.0, count / max(1, sum(world.runs.values())))
        measured.attempts[dep.name] = Estimate(count / scale, math.sqrt(max(1, count) * each) / scale)


def _queues(study: Study, measured: Measured, steps: int) -> None:
    total = _work(study)
    if total <= 0:
        return
    seconds = min(measured.seconds, steps / total)
    world = World(study, measured.seed + 3, Regime(queues=True))
    warm = max(2.0, seconds / 4)  # until what was empty in the beginning is as full as it will be
    for op in study.system.ops.values():
        world.arrive(op, world.asked(op), warm + seconds)
    world.run(warm)
    for counted in (world.waits, world.held, world.locked):
        counted.clear()
    world.run(warm + seconds)
    for service, waits in world.waits.items():
        connections = study.system.copies(service).value * study.system.pool(service).value
        count = len(waits)
        mean = sum(waits) / count
        spread = math.sqrt(sum((wait - mean) ** 2 for wait in waits) / count)
        busy = world.held[service] / seconds / connections
        measured.pools[service] = Queue(
            Estimate(busy, busy * 2 / math.sqrt(count)),
            Estimate(mean, spread / math.sqrt(count)),
            quantile(sorted(waits), 0.99),
        )
    for entity, held in world.locked.items():
        share = held / seconds
        runs = max(1.0, share / study.system.assume.lock.seconds * seconds)
        measured.locks[entity] = Estimate(share, share * 2 / math.sqrt(runs))


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
    """A quantile of sorted values, and half the width of the order statistics one standard error to each side."""
    count = len(ordered)
    at = min(count - 1, int(share * count))
    width = math.sqrt(count * share * (1 - share))
    low, high = max(0, int(at - width)), min(count - 1, math.ceil(at + width))
    return Estimate(ordered[at], (ordered[high] - ordered[low]) / 2)
