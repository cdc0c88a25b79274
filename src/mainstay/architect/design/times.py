"""How long operations take: the spread of each from its own work, its calls, hops, caches and timeouts.

Waiting for a connection or a lock is no part of it: ``risks/pool_size.py`` and ``risks/hot_row.py`` say where that
begins to count.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from mainstay.architect.design.figures import COUNT, SECONDS, Figure
from mainstay.architect.design.risks import Study
from mainstay.architect.design.stages import NOTHING, Spread, lognormal, mixed
from mainstay.architect.design.system import Act, Dep, Edge, Op
from mainstay.architect.design.trees import below, crosses, dependency_p99, groups, pauses

GENERAL = (("tail", COUNT), ("hop", SECONDS))
"""Assumptions that all times rest on."""


class Times:
    """The times of a system's operations, each computed once.

    Args:
        study: the system.
        without: calls that are taken as handed over.
        beside: operations whose calls are all made at the same time.
        single: calls that are made once in place of several times.
        p99s: other 99th percentiles for dependencies, in seconds; like the others for what a remedy gives.
        base: the times without these changes, of which what they do not touch is taken.
    """

    def __init__(
        self,
        study: Study,
        without: frozenset[Edge] = frozenset(),
        beside: frozenset[Op] = frozenset(),
        single: frozenset[Edge] = frozenset(),
        p99s: Mapping[Op | Dep | Act | None, float] | None = None,
        base: Times | None = None,
    ) -> None:
        self.study, self.without, self.beside, self.single = study, without, beside, single
        self.p99s = p99s or {}
        self.base = base
        self._changed: set[Op | Dep | Act | None] = set()
        self._cut: set[Edge] = set()
        self._known: dict[Op, Spread] = {}
        self._deps: dict[Dep, Spread] = {}
        self.tail = study.system.assumption("tail", COUNT).value
        self.hop = lognormal(study.system.assumption("hop", SECONDS).value, self.tail)

    def of(self, op: Op) -> Spread:
        """An answer of the operation, from its cache or by a run. A hit takes as long as one hop."""
        ran = self.run(op)
        if op.spec.cache is None:
            return ran
        hit = self.study.flows.hit(op).value
        return mixed((hit, self.hop), (1 - hit, ran))

    def figures(self, op: Op) -> dict[str, Figure]:
        """The figures that the times of one operation are computed from, by key."""
        system, found = self.study.system, [self.study.system.assumption(n, u) for n, u in GENERAL]
        for each in below(op):
            found.append(system.work(each))
            if each.spec.cache is not None:
                found.append(self.study.flows.hit(each))
            for edge in (edge for group in groups(each) for edge in group):
                found += [
                    dependency_p99(system, n) for n in (edge.target, edge.fallback) if isinstance(n, Dep)
                ]
                if edge in self._cut:
                    found.append(system.timeout(edge))
        return {figure.key: figure for figure in found}

    def run(self, op: Op) -> Spread:
        """One run of the operation, past its cache."""
        if op not in self._known:
            for each in below(op):
                if each in self._known:
                    continue
                if self.base is not None and each in self.base._known and not self._other(each):
                    self._known[each] = self.base._known[each]
                else:
                    self._changed.add(each)
                    self._known[each] = self._run(each)
        return self._known[op]

    def _other(self, op: Op) -> bool:
        """It, or something that it waits for, is not as in the base."""
        return op in self.beside or any(
            edge in self.without
            or edge in self.single
            or any(node in self._changed or node in self.p99s for node in (edge.target, edge.fallback))
            for edge in op.edges
        )

    def _run(self, op: Op) -> Spread:
        spread = lognormal(self.study.system.work(op).value, self.tail)
        ordered = groups(op)
        if op in self.beside:
            ordered = [[edge for group in ordered for edge in group]]
        for group in ordered:
            calls = [self.call(edge) for edge in group if edge not in self.without]
            if calls:
                spread = spread.plus(reduce(Spread.beside, calls))
        return spread

    def call(self, edge: Edge) -> Spread:
        """A call as its caller meets it: all its repetitions (``xN``), nothing in the runs that do without it."""
        spread = self.once(edge).repeated(1 if edge in self.single else edge.call.times)
        if edge.call.share is None:
            return spread
        return mixed((edge.call.share.value, spread), (1 - edge.call.share.value, NOTHING))

    def once(self, edge: Edge) -> Spread:
        """One call that ends well, or with its fallback: attempts that the timeout cuts off come before it.

        A call that nothing stands in for, and that no attempt answers in time, fails: it counts against the
        availability, and its time is no part of the spread.
        """
        system = self.study.system
        spread = self.attempt(edge)
        timeout = system.timeout(edge)
        share, answered = spread.cut(timeout.value)
        if share > 1 - 1e-6:
            return spread
        (self.base or self)._cut.add(edge)
        if share <= 1e-6 and not edge.call.fallback:
            return spread  # it never answers in time; what it would take says more than nothing
        parts: list[tuple[float, Spread]] = []
        weight, waited = 1.0, 0.0
        for pause in [0.0, *pauses(edge)]:
            waited += pause
            parts.append((weight * share, answered.later(waited)))
            waited += timeout.value
            weight *= 1 - share
        if edge.call.fallback:
            inside, other = self._instead(edge)
            parts.append((weight * inside, other.later(waited)))
        return mixed(*parts)

    def _instead(self, edge: Edge) -> tuple[float, Spread]:
        """What stands in for a call: the share that answers within its own timeout, and how long that takes."""
        other = edge.fallback
        if other is None:
            return 1.0, NOTHING
        spread = self._target(other)
        if isinstance(other, Dep) or other.service != edge.caller.service:
            spread = spread.plus(self.hop)
        timeout = self.study.system.figure((*other.where, "timeout"), other.spec.timeout, "timeout", SECONDS)
        share, answered = spread.cut(timeout.value)
        return (share, answered) if share > 1e-6 else (1.0, spread)

    def attempt(self, edge: Edge) -> Spread:
        """One attempt, with no timeout."""
        spread = self._target(edge.target)
        return spread.plus(self.hop) if crosses(edge) else spread

    def _target(self, target: Op | Dep | Act) -> Spread:
        if isinstance(target, Op):
            # Not yet known is only what a ring of calls comes back to.
            return self.of(target) if target in self._known else NOTHING
        if isinstance(target, Act):
            return NOTHING
        if target not in self._deps:
            p99 = dependency_p99(self.study.system, target).value
            self._deps[target] = lognormal(self.p99s.get(target, p99), self.tail)
        return self._deps[target]
