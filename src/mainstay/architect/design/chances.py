"""The exact chance that one run of an operation succeeds, where what it waits for shares components.

A component (a service with its store, a dependency, a gateway) is up or down during one run, independent of the
others, and counts once however often it is asked. A `Block` comes true when all its components are up and all its
factors come true; a `Factor` when it is not needed (a call made in some runs only) or when any one of its ways comes
true (a fallback). Where factors share components their chances do not multiply: the chance is then found by
conditioning on a shared component (Shannon's expansion), which is exact.

Caches look back in time: an entry is there if what fills it worked when the entry was made. Several caches see the same
outage, and a cache may be filled from another. So what stands behind a cache has no single chance but one for each
moment before now, and the cache averages those over the ages that its entry may have (`Keep`). A component that is down
has been so for an exponential time: its chance of having been up `t` ago is ``1 - q e^(-t / outage)``. Where two caches
hold answers of one component, it is conditioned on how long ago that went down, in `STEPS` steps.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from mainstay.architect.design.figures import SECONDS, SHARE, Figure
from mainstay.architect.design.risks import Study
from mainstay.architect.design.system import Act, Dep, Edge, Op
from mainstay.architect.design.trees import below, gateways, groups

MOST, LARGE = 250, 30
"""Factors looked at, and factors in one tree, beyond which the chance is bounded from below rather than computed."""
STEPS = 16
"""Steps of equal chance in which the age of an outage is told apart."""

Ages = tuple[float, ...]
"""The chance that something worked, now and at `STEPS` moments before now: at the i-th, a share ``1 - i / STEPS`` of
the outages that go on now had already begun. Where no cache looks back, now alone."""


@dataclass(frozen=True, slots=True)
class Keep:
    """A cache: how long it keeps what it was given, in mean outages.

    A share `hit` of what is asked is hot: as long as it can be renewed, an entry of it is there, whose age is anything
    up to `fresh`. Where there is `stale`, everything is taken to have been asked within that time.
    """

    hit: float
    fresh: float
    stale: float | None = None

    @property
    def bridged(self) -> float:
        """The share of runs that fail for a single outage which it answers."""
        alive = -math.expm1(-self.fresh) / self.fresh  # the mean of e^-age
        return self.hit * (1 - alive) if self.stale is None else 1 - math.exp(-self.stale) * alive

    def of(self, before: Ages) -> Ages:
        """The chance of an answer, from the chance that what fills it worked."""
        if len(before) == 1:
            raise ValueError("what a cache holds was made before now")
        if self.stale is not None:
            return averaged(before, self.stale, self.fresh)
        held = averaged(before, 0.0, self.fresh)
        return tuple(self.hit * old + (1 - self.hit) * now for old, now in zip(held, before, strict=True))


def averaged(before: Ages, least: float, spread: float) -> Ages:
    """The mean over ages between `least` and `least + spread`, before each of the moments."""
    return tuple(sum(map(operator.mul, row, before)) for row in _weights(least, spread))


@cache
def _weights(least: float, spread: float) -> list[tuple[float, ...]]:
    """What each moment counts in that mean; between two of them a chance is a straight line in ``e^-age``."""
    rows = []
    for at in range(STEPS + 1):
        row = [0.0] * (STEPS + 1)
        high = (1 - at / STEPS) * math.exp(-least)
        low = high * math.exp(-spread)
        if low <= 0:
            row[STEPS] = 1.0
        for cell in range(STEPS):
            top, bottom = 1 - cell / STEPS, 1 - (cell + 1) / STEPS
            a, b = max(low, bottom), min(high, top)
            if low <= 0 or a >= b:
                continue
            share, moved = math.log(b / a) / spread, (b - a) / spread
            row[cell] += (moved - bottom * share) * STEPS
            row[cell + 1] += (top * share - moved) * STEPS
        rows.append(tuple(row))
    return rows


@dataclass(frozen=True)
class Factor:
    """Comes true without any of its ways with the chance `free`, else when one of them does.

    With a `keep` there is one way, and it is enough that it came true when an entry of the cache was made.
    """

    free: float
    ways: tuple[Block, ...] = ()
    keep: Keep | None = None

    @cached_property
    def names(self) -> frozenset[str]:
        """Its components."""
        return frozenset().union(*(way.names for way in self.ways))

    @cached_property
    def kept(self) -> frozenset[str]:
        """Its components that stand behind a cache."""
        return self.names if self.keep else frozenset().union(*(way.kept for way in self.ways))

    @cached_property
    def size(self) -> int:
        """Factors in it, itself too, at most `LARGE` and one more."""
        return min(LARGE + 1, 1 + sum(way.size for way in self.ways))

    @cached_property
    def drawn(self) -> bool:
        """Chance plays a part beyond the state of its components: twice is then not the same as once."""
        return (
            self.free > 0
            or self.keep is not None
            or any(factor.drawn for way in self.ways for factor, _ in way.factors)
        )

    @cached_property
    def _hash(self) -> int:
        return hash((self.free, self.ways, self.keep))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Block:
    """Comes true when all its components are up, and each factor does, as often as it says."""

    needed: frozenset[str] = frozenset()
    factors: tuple[tuple[Factor, int], ...] = ()
    since: int = -1
    """Something in it went down in this step of time before now, and was up before; -1 where nothing is known to."""

    @cached_property
    def names(self) -> frozenset[str]:
        """Its components."""
        return self.needed.union(*(factor.names for factor, _ in self.factors))

    @cached_property
    def kept(self) -> frozenset[str]:
        """Its components that stand behind a cache."""
        return frozenset().union(*(factor.kept for factor, _ in self.factors))

    @cached_property
    def looks_back(self) -> bool:
        """A cache is in it."""
        return any(factor.keep or any(way.looks_back for way in factor.ways) for factor, _ in self.factors)

    @cached_property
    def size(self) -> int:
        """Factors in it, at most `LARGE` and one more."""
        return min(LARGE + 1, sum(factor.size for factor, _ in self.factors))

    @cached_property
    def settled(self) -> tuple[tuple[Factor, int], ...]:
        """Its factors, where it is known that all its components are up."""
        if self.needed.isdisjoint(frozenset().union(*(factor.names for factor, _ in self.factors))):
            return self.factors
        return given(self.factors, self.needed, up=True)[0]

    @cached_property
    def _hash(self) -> int:
        return hash((self.needed, self.factors, self.since))

    def __hash__(self) -> int:
        return self._hash


SURE = Block()


def together(*blocks: Block) -> Block:
    """All of them."""
    needed: frozenset[str] = frozenset()
    factors: dict[Factor, int] = {}
    for block in blocks:
        assert block.since < 0
        needed |= block.needed
        for factor, times in block.factors:
            factors[factor] = factors.get(factor, 0) + times if factor.drawn else 1
    return Block(needed, tuple(factors.items()))


def repeated(block: Block, times: int) -> Block:
    """It, as often as that: components are asked once, what is drawn is drawn each time."""
    return Block(
        block.needed, tuple((factor, count * times if factor.drawn else 1) for factor, count in block.factors)
    )


def perhaps(free: float, *ways: Block) -> Block:
    """Any one of the ways, or none at all with the chance `free`."""
    if free >= 1 or SURE in ways:
        return SURE
    if len(ways) == 1:
        (way,) = ways
        if free == 0:
            return way
        if not way.needed and len(way.factors) == 1 and way.factors[0][1] == 1 and not way.factors[0][0].keep:
            inner = way.factors[0][0]
            return Block(factors=((Factor(free + (1 - free) * inner.free, inner.ways), 1),))
    return Block(factors=((Factor(free, ways), 1),))


class Chances:
    """The blocks of a system's operations, each built once.

    Args:
        study: the system.
        without: calls that are taken as handed over; for what a remedy would give.
    """

    def __init__(self, study: Study, without: frozenset[Edge] = frozenset()) -> None:
        self.study, self.without = study, without
        self._known: dict[Op, Block] = {}

    def entry(self, op: Op) -> Block:
        """A run that an actor asks for: through the gateways, then the cache, then the operation."""
        doors = frozenset(part.name for part in gateways(self.study.system)) if op.spec.by else frozenset()
        return together(Block(doors), self.behind_cache(op))

    def behind_cache(self, op: Op) -> Block:
        """An answer of the operation, from its cache or by a run."""
        keep, run = self.keep(op), self.run(op)
        if keep is None or run == SURE:
            return run
        return Block(factors=((Factor(0.0, (run,), keep), 1),))

    def keep(self, op: Op) -> Keep | None:
        """What its cache keeps; None where it has none, or one that keeps nothing."""
        cache = op.spec.cache
        if cache is None:
            return None
        outage = self.study.system.assumption("outage", SECONDS).value
        fresh = cache.fresh.seconds / outage
        if fresh <= 0:
            return None
        stale = cache.stale.seconds / outage if cache.stale is not None else None
        return Keep(self.study.flows.hit(op).value, fresh, stale)

    def bridging(self, op: Op) -> list[Figure]:
        """The figures of what its cache bridges."""
        if op.spec.cache is None:
            return []
        outage = self.study.system.assumption("outage", SECONDS)
        return [outage] if op.spec.cache.stale is not None else [self.study.flows.hit(op), outage]

    def run(self, op: Op) -> Block:
        """One run of the operation, past its cache."""
        if op not in self._known:
            for each in below(op):
                if each not in self._known:
                    calls = [self.call(edge) for group in groups(each) for edge in group]
                    self._known[each] = together(Block(frozenset([each.service])), *calls)
        return self._known[op]

    def call(self, edge: Edge) -> Block:
        """One call with its fallback, in the share of runs in which it is made."""
        if edge.optional or edge in self.without:
            return SURE
        ways = [self._target(edge.target)]
        if edge.fallback is not None:
            ways.append(self._target(edge.fallback))
        made = repeated(perhaps(0.0, *ways), edge.call.times)
        return made if edge.call.share is None else perhaps(1 - edge.call.share.value, made)

    def _target(self, target: Op | Dep | Act) -> Block:
        if isinstance(target, Op):
            # Not yet known is only what a ring of calls comes back to.
            return self.behind_cache(target) if target in self._known else SURE
        return Block(frozenset([target.id])) if isinstance(target, Dep) else SURE

    def figure(self, name: str) -> Figure:
        """The availability of a component, by its name."""
        system = self.study.system
        if name in system.deps:
            return system.availability(system.deps[name])
        if name in system.parts:
            return system.availability(system.parts[name])
        where = ("services", name, "availability")
        return system.figure(where, system.services[name].availability, "service_availability", SHARE)


class Chance:
    """Computes the chance of blocks from the availability of their components.

    Args:
        values: the availability of every component.
    """

    def __init__(self, values: Mapping[str, float]) -> None:
        self.values = values
        self.seen = 0
        """Factors that were looked at to condition on something."""
        self._deep = False
        self._known: dict[tuple[int, int], tuple[Block, Ages]] = {}
        """By identity, and the block kept, so that no other takes its place."""

    @property
    def exact(self) -> bool:
        """False: more components are shared than can be told apart, and what was given is a lower bound."""
        return self.seen <= MOST

    def of(self, block: Block) -> float:
        """The chance that a block comes true."""
        return self.before(block, STEPS if block.looks_back else 0)[0]

    def before(self, block: Block, steps: int = STEPS) -> Ages:
        """The chance that it came true, now and at so many moments before now."""
        key = (id(block), steps)
        if key not in self._known:
            certain = _down_since(block.since, steps)
            for name in sorted(block.needed):
                certain = _times(certain, self._up(name, steps))
            if block.size > LARGE:
                self.seen = MOST + 1
            if self.exact:
                for cluster in _clusters(block.settled):
                    certain = _times(certain, self._cluster(cluster, steps))
            else:
                factors = block.factors if self._deep else block.settled
                self._deep = True
                certain = _times(certain, self._least(factors, steps))
            self._known[key] = (block, certain)
        return self._known[key][1]

    def _up(self, name: str, steps: int) -> Ages:
        down = 1 - self.values[name]
        return tuple(1 - down * (1 - at / STEPS) for at in range(steps + 1))

    def _cluster(self, factors: list[tuple[Factor, int]], steps: int) -> Ages:
        asked = Counter(
            name for factor, times in factors for name in factor.names for _ in range(min(times, 2))
        )
        if len(factors) == 1 and factors[0][1] == 1:
            asked = Counter(name for way in factors[0][0].ways for name in way.names)
            if all(count == 1 for count in asked.values()):
                return self._one(factors[0][0], steps)
        elif not asked:
            made = (1.0,) * (steps + 1)
            for factor, times in factors:
                made = _times(made, tuple(each**times for each in self._one(factor, steps)))
            return made
        if not self.exact:
            return self._least(factors, steps)
        pivot = min(asked, key=lambda name: (-asked[name], name))
        up = self._up(pivot, steps)
        total = self._given(factors, pivot, up=True, steps=steps)
        if any(pivot in factor.kept for factor, _ in factors):
            # Caches hold its answers: when it went down decides which of them still have one.
            chance = self.values[pivot]
            total = tuple(chance * each for each in total)
            for since in range(STEPS) if chance < 1 else ():
                part = self._given(factors, pivot, up=False, steps=steps, since=since)
                total = tuple(a + (1 - chance) / STEPS * b for a, b in zip(total, part, strict=True))
            return total
        total = _times(up, total)
        if up[0] < 1:
            part = self._given(factors, pivot, up=False, steps=steps)
            total = tuple(a + (1 - u) * b for a, u, b in zip(total, up, part, strict=True))
        return total

    def _given(
        self, factors: Sequence[tuple[Factor, int]], name: str, up: bool, steps: int, since: int = -1
    ) -> Ages:
        known, seen = given(factors, frozenset([name]), up, since)
        # Only the first of the steps is counted: the others look at the same.
        self.seen += seen if since <= 0 else 0
        return self.before(Block(factors=known), steps)

    def _one(self, factor: Factor, steps: int) -> Ages:
        fails = (1 - factor.free,) * (steps + 1)
        for way in factor.ways:
            fails = _times(fails, tuple(1 - each for each in self.before(way, steps)))
        made = tuple(1 - each for each in fails)
        return made if factor.keep is None else factor.keep.of(made)

    def _least(self, factors: Sequence[tuple[Factor, int]], steps: int) -> Ages:
        """A lower bound: what rises with every component is positively correlated (Harris), so the product is one."""
        least = (1.0,) * (steps + 1)
        for factor, times in factors:
            best = (0.0,) * (steps + 1)
            for way in factor.ways:
                best = tuple(map(max, best, self.before(way, steps)))
            if factor.keep is not None:
                best = factor.keep.of(best)
            least = _times(least, tuple((factor.free + (1 - factor.free) * each) ** times for each in best))
        return least


def _times(a: Ages, b: Ages) -> Ages:
    return tuple(map(operator.mul, a, b))


def _down_since(since: int, steps: int) -> Ages:
    """Down from that step of time before now on, up before."""
    return tuple(1.0 if at > since else 0.0 for at in range(steps + 1))


def given(
    factors: Sequence[tuple[Factor, int]], names: frozenset[str], up: bool, since: int = -1
) -> tuple[tuple[tuple[Factor, int], ...], int]:
    """The factors where it is known of some components that they are up, or down; and how many had to be looked at.

    Args:
        factors: of one block.
        names: the components.
        up: they are up; what is up now was up before, too.
        since: the step of time before now in which they went down, where caches look back.
    """
    known: dict[int, Factor] = {}

    def of(factor: Factor) -> Factor:
        if names.isdisjoint(factor.names):
            return factor
        if id(factor) not in known:
            known[id(factor)] = known_of(factor)
        return known[id(factor)]

    def known_of(factor: Factor) -> Factor:
        ways: list[Block] = []
        for way in factor.ways:
            if names.isdisjoint(way.names):
                ways.append(way)
            elif up or since >= 0 or names.isdisjoint(way.needed):
                inner = Block(
                    way.needed - names,
                    tuple((of(each), times) for each, times in way.factors),
                    way.since if up or names.isdisjoint(way.needed) else max(way.since, since),
                )
                if not inner.needed and inner.since < 0 and all(each.free >= 1 for each, _ in inner.factors):
                    return Factor(1.0)
                ways.append(inner)
        return Factor(factor.free, tuple(ways), factor.keep)

    return tuple((of(factor), times) for factor, times in factors), len(known)


def made(block: Block, name: str) -> Block:
    """The block of those runs in which all calls that lead to a component are made."""
    return Block(
        block.needed,
        tuple(
            (Factor(0.0, tuple(made(way, name) for way in factor.ways), factor.keep), times)
            if name in factor.names
            else (factor, times)
            for factor, times in block.factors
        ),
        block.since,
    )


def _clusters(factors: Sequence[tuple[Factor, int]]) -> list[list[tuple[Factor, int]]]:
    """Factors that share no component with those of another cluster."""
    found: list[tuple[set[str], list[tuple[Factor, int]]]] = []
    for factor, times in factors:
        names, members = set(factor.names), [(factor, times)]
        rest: list[tuple[set[str], list[tuple[Factor, int]]]] = []
        for other, inside in found:
            if names & other:
                names |= other
                members = inside + members
            else:
                rest.append((other, inside))
        found = [*rest, (names, members)]
    return [members for _, members in found]
