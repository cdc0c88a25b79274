"""The exact chance that one run of an operation succeeds, where what it waits for shares components.

A component (a service with its store, a dependency, a gateway) is up or down during one run, independent of the
others, and counts once however often it is asked. A `Block` comes true when all its components are up and all its
factors come true; a `Factor` when it is not needed (a call made in some runs only, an answer from a cache) or when any
one of its ways comes true (a fallback). Where factors share components their chances do not multiply: the chance is
then found by conditioning on a shared component (Shannon's expansion), which is exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mainstay.architect.design.figures import SECONDS, SHARE, Figure
from mainstay.architect.design.risks import Study
from mainstay.architect.design.system import Act, Dep, Edge, Op
from mainstay.architect.design.trees import below, gateways, groups, kept

MOST, LARGE = 250, 30
"""Factors looked at, and factors in one tree, beyond which the chance is bounded from below rather than computed."""


@dataclass(frozen=True)
class Factor:
    """Comes true without any of its ways with the chance `free`, else when one of them does."""

    free: float
    ways: tuple[Block, ...] = ()

    @cached_property
    def names(self) -> frozenset[str]:
        """Its components."""
        return frozenset().union(*(way.names for way in self.ways))

    @cached_property
    def size(self) -> int:
        """Factors in it, itself too, at most `LARGE` and one more."""
        return min(LARGE + 1, 1 + sum(way.size for way in self.ways))

    @cached_property
    def drawn(self) -> bool:
        """Chance plays a part beyond the state of its components: twice is then not the same as once."""
        return self.free > 0 or any(factor.drawn for way in self.ways for factor, _ in way.factors)

    @cached_property
    def _hash(self) -> int:
        return hash((self.free, self.ways))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Block:
    """Comes true when all its components are up, and each factor does, as often as it says."""

    needed: frozenset[str] = frozenset()
    factors: tuple[tuple[Factor, int], ...] = ()

    @cached_property
    def names(self) -> frozenset[str]:
        """Its components."""
        return self.needed.union(*(factor.names for factor, _ in self.factors))

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
        return hash((self.needed, self.factors))

    def __hash__(self) -> int:
        return self._hash


SURE = Block()


def together(*blocks: Block) -> Block:
    """All of them."""
    needed: frozenset[str] = frozenset()
    factors: dict[Factor, int] = {}
    for block in blocks:
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
        if not way.needed and len(way.factors) == 1 and way.factors[0][1] == 1:
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
        if op.spec.cache is None:
            return self.run(op)
        return perhaps(self.bridged(op)[0], self.run(op))

    def bridged(self, op: Op) -> tuple[float, list[Figure]]:
        """The share of failing runs that an operation's cache answers, and the figures.

        Without `stale` the hits of what is still fresh count (`trees.kept`); with it every call, for as long as the
        entry may be used. Outages are exponential with the mean `assume.outage`.
        """
        system, cache = self.study.system, op.spec.cache
        if cache is None:
            return 0.0, []
        outage, hit = system.assumption("outage", SECONDS), self.study.flows.hit(op)
        fresh = kept(cache.fresh.seconds, outage.value)
        if cache.stale is not None:
            return 1 - math.exp(-cache.stale.seconds / outage.value) * (1 - fresh), [outage]
        return hit.value * fresh, [hit, outage]

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
        self._known: dict[int, tuple[Block, float]] = {}
        """By identity, and the block kept, so that no other takes its place."""

    @property
    def exact(self) -> bool:
        """False: more components are shared than can be told apart, and what was given is a lower bound."""
        return self.seen <= MOST

    def of(self, block: Block) -> float:
        """The chance that a block comes true."""
        if id(block) not in self._known:
            certain = math.prod(self.values[name] for name in sorted(block.needed))
            if block.size > LARGE:
                self.seen = MOST + 1
            if self.exact:
                for cluster in _clusters(block.settled):
                    certain *= self._cluster(cluster)
            else:
                factors = block.factors if self._deep else block.settled
                self._deep = True
                certain *= self._least(factors)
            self._known[id(block)] = (block, certain)
        return self._known[id(block)][1]

    def _cluster(self, factors: list[tuple[Factor, int]]) -> float:
        asked = Counter(
            name for factor, times in factors for name in factor.names for _ in range(min(times, 2))
        )
        if len(factors) == 1 and factors[0][1] == 1:
            asked = Counter(name for way in factors[0][0].ways for name in way.names)
            if all(count == 1 for count in asked.values()):
                return self._one(factors[0][0])
        elif not asked:
            return math.prod(self._one(factor) ** times for factor, times in factors)
        if not self.exact:
            return self._least(factors)
        pivot = min(asked, key=lambda name: (-asked[name], name))
        chance = self.values[pivot]
        total = 0.0
        for up, weight in ((True, chance), (False, 1 - chance)):
            if weight > 0:
                known, seen = given(factors, frozenset([pivot]), up)
                self.seen += seen
                total += weight * self.of(Block(factors=known))
        return total

    def _one(self, factor: Factor) -> float:
        fails = math.prod(1 - self.of(way) for way in factor.ways)
        return factor.free + (1 - factor.free) * (1 - fails)

    def _least(self, factors: Sequence[tuple[Factor, int]]) -> float:
        """A lower bound: what rises with every component is positively correlated (Harris), so the product is one."""
        least = 1.0
        for factor, times in factors:
            best = max((self.of(way) for way in factor.ways), default=0.0)
            least *= (factor.free + (1 - factor.free) * best) ** times
        return least


def given(
    factors: Sequence[tuple[Factor, int]], names: frozenset[str], up: bool
) -> tuple[tuple[tuple[Factor, int], ...], int]:
    """The factors where it is known of some components that they are up, or down; and how many had to be looked at."""
    known: dict[int, Factor] = {}

    def of(factor: Factor) -> Factor:
        if names.isdisjoint(factor.names):
            return factor
        if id(factor) not in known:
            known[id(factor)] = made(factor)
        return known[id(factor)]

    def made(factor: Factor) -> Factor:
        ways: list[Block] = []
        for way in factor.ways:
            if names.isdisjoint(way.names):
                ways.append(way)
            elif up or names.isdisjoint(way.needed):
                inner = Block(way.needed - names, tuple((of(each), times) for each, times in way.factors))
                if not inner.needed and all(each.free >= 1 for each, _ in inner.factors):
                    return Factor(1.0)
                ways.append(inner)
        return Factor(factor.free, tuple(ways))

    return tuple((of(factor), times) for factor, times in factors), len(known)


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
