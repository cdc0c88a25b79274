"""What flows through a system: how often each operation and dependency is called, and which trees of calls wait.

Loads add up along calls: a call is made as often as its caller runs, times ``xN``, times its share. Behind a cache only
the misses go on. An operation that handles events runs as often as they are emitted. Repetitions are not counted
here: ``risks/retry_amplification.py`` does. A ring of calls (a risk of its own) is walked once.
"""

from __future__ import annotations

from dataclasses import dataclass

from mainstay.architect.design.figures import PER_SECOND, SHARE, Figure
from mainstay.architect.design.system import Dep, Edge, Op, System


@dataclass(frozen=True, slots=True)
class Flow:
    """Calls a second."""

    usual: float
    peak: float
    inputs: tuple[Figure, ...]
    """The figures it was computed from."""


class Flows:
    """The loads of one system, each computed once."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._known: dict[Op, Flow] = {}
        self._open: set[Op] = set()

    def of(self, op: Op) -> Flow:
        """How often an operation is asked for, before its own cache."""
        if op in self._known:
            return self._known[op]
        if op in self._open:
            return Flow(0.0, 0.0, ())
        self._open.add(op)
        flow = self._sum([self.own(op), *(self.over(edge) for edge in op.callers), *self._events(op)])
        self._open.discard(op)
        self._known[op] = flow
        return flow

    def runs(self, op: Op) -> Flow:
        """How often it really runs: what its cache lets through."""
        flow = self.of(op)
        if op.spec.cache is None:
            return flow
        hit = self.hit(op)
        miss = 1 - hit.value
        return Flow(flow.usual * miss, flow.peak * miss, (*flow.inputs, hit))

    def missed(self, op: Op) -> float:
        """Share of calls that its cache lets through; 1 where it has none."""
        return 1.0 if op.spec.cache is None else 1 - self.hit(op).value

    def hit(self, op: Op) -> Figure:
        """Share of calls that an operation's cache answers."""
        cache = op.spec.cache
        written = cache.hit if cache is not None else None
        return self.system.figure((*op.where, "cache"), written, "cache_hit", SHARE)

    def over(self, edge: Edge) -> Flow:
        """How often one call is made."""
        runs = self.runs(edge.caller)
        factor = edge.call.times * (edge.call.share.value if edge.call.share else 1.0)
        return Flow(runs.usual * factor, runs.peak * factor, runs.inputs)

    def to(self, dep: Dep) -> Flow:
        """How often a dependency is called, by all."""
        return self._sum([self.over(edge) for edge in dep.edges])

    def own(self, op: Op) -> Flow:
        """How often those outside ask for an operation: what other operations ask is not in it."""
        system, load = self.system, op.spec.load
        where = (*op.where, "load")
        if load is None:
            if op.spec.by is None:
                return Flow(0.0, 0.0, ())
            usual = system.assumption("load", PER_SECOND)
        else:
            usual = system.stated(where, load.usual, PER_SECOND) or system.assumption("load", PER_SECOND)
            if load.peak is not None:
                peak = system.known(
                    Figure(f"{usual.key} peak", load.peak.per_second, PER_SECOND, usual.location)
                )
                return Flow(usual.value, peak.value, (peak,))
        factor = system.assumption("peak", "")
        return Flow(usual.value, usual.value * factor.value, (usual, factor))

    def told(self, op: Op) -> Flow:
        """How often events ask for it."""
        return self._sum(self._events(op))

    def _events(self, op: Op) -> list[Flow]:
        flows: list[Flow] = []
        if op.kind in ("subscription", "stream"):
            return flows  # an event is handed to who is connected: nothing is asked for anew
        for name in op.spec.on:
            emitters = self.system.events[name].emitters
            flows += [
                self._emitted(node, name) if isinstance(node, Op) else self._told_by(node)
                for node in emitters
            ]
        return flows

    def _emitted(self, op: Op, name: str) -> Flow:
        runs, share = self.runs(op), op.spec.emits_in.get(name)
        if share is None:
            return runs
        written = self.system.stated((*op.where, "emits_in", name), share, SHARE)
        inputs = runs.inputs if written is None else (*runs.inputs, written)
        return Flow(runs.usual * share.value, runs.peak * share.value, inputs)

    def _told_by(self, dep: Dep) -> Flow:
        """Events of a dependency: it tells of what it was asked, so as often as its busiest caller asks."""
        asked = [self.over(edge) for edge in dep.edges]
        if not asked:
            usual, factor = self.system.assumption("load", PER_SECOND), self.system.assumption("peak", "")
            return Flow(usual.value, usual.value * factor.value, (usual, factor))
        return max(asked, key=lambda flow: flow.peak)

    @staticmethod
    def _sum(flows: list[Flow]) -> Flow:
        inputs: dict[str, Figure] = {figure.key: figure for flow in flows for figure in flow.inputs}
        return Flow(
            sum(flow.usual for flow in flows), sum(flow.peak for flow in flows), tuple(inputs.values())
        )
