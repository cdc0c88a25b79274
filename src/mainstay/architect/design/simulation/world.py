"""A system in motion: requests, calls, timeouts, retries, caches, outages, connections and row locks.

What a run of an operation does, in order: its calls; a connection, where the service has a database; the lock of the
hottest row, with the chance that it is met; its own work. An attempt that a caller gives up on goes on in the
background, as it does where no deadline is passed along.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import simpy

from mainstay.architect.design.blueprint import Service
from mainstay.architect.design.figures import SECONDS, SHARE
from mainstay.architect.design.phrases import Retry
from mainstay.architect.design.risks import Study
from mainstay.architect.design.system import Act, Dep, Edge, Op

Steps = Generator[simpy.Event, Any, bool]
"""A simpy process that ends with whether it succeeded."""
Z99 = 2.3263478740408408
STANDING = ("subscription", "stream")
"""Kinds whose callers are connected already: an event is handed to them, and nothing is asked for anew."""


@dataclass(slots=True)
class Fate:
    """What is down for one request, and what chance decides in it; a repetition meets the same."""

    random: Random
    chance: Callable[[str], float]
    """The availability of a component."""
    outage: float
    """Mean length of an outage, in seconds."""
    ages: dict[str, float] = field(default_factory=dict)
    """For each component asked so far: how long it has been down, in seconds; -1 where it is up."""
    draws: dict[Hashable, float] = field(default_factory=dict)

    def down(self, name: str, ago: float = 0.0) -> bool:
        """Whether a component is down, and was so long ago. The age of an exponential outage is exponential."""
        if name not in self.ages:
            up = self.random.random() < self.chance(name)
            self.ages[name] = -1.0 if up else self.random.expovariate(1 / self.outage)
        return self.ages[name] > ago if self.ages[name] >= 0 else False

    def draw(self, key: Hashable) -> float:
        """A number between 0 and 1, the same each time for one key."""
        if key not in self.draws:
            self.draws[key] = self.random.random()
        return self.draws[key]


@dataclass(slots=True)
class Regime:
    """The conditions of one run of a world."""

    availability: dict[str, float] | None = None
    """Of each component; None: all are up."""
    down: str = ""
    """A component that is down throughout."""
    patient: bool = False
    """No caller gives up: what fails does so because something is down."""
    queues: bool = False
    """Connections and row locks are waited for."""


class World:
    """One system under one regime.

    Args:
        study: the system.
        seed: of all that is random.
        regime: what is up, down and queued for.
    """

    def __init__(self, study: Study, seed: int, regime: Regime) -> None:
        self.study, self.system, self.regime = study, study.system, regime
        self.env, self.random = simpy.Environment(), Random(seed)
        self.runs: Counter[Op] = Counter()
        self.good: Counter[Op] = Counter()
        self.took: dict[Op, list[float]] = {}
        """Seconds of each run from outside that succeeded."""
        self.attempts: Counter[str] = Counter()
        """By dependency, whether it answered or not."""
        self.waits: dict[str, list[float]] = {}
        """By service: seconds that each run waited for a connection."""
        self.held: defaultdict[str, float] = defaultdict(float)
        """By service: seconds that connections were held."""
        self.locked: defaultdict[str, float] = defaultdict(float)
        """By entity: seconds that its hottest row was locked."""
        self._tail = math.log(self.system.assume.tail) / Z99
        self._hop = self.system.assume.hop.seconds
        self._outage = self.system.assume.outage.seconds
        self._pools: dict[str, list[simpy.Resource]] = {}
        self._rows: dict[str, simpy.Resource] = {}
        self._calls: Counter[Edge] = Counter()
        self._repeats: Counter[Edge] = Counter()
        self._groups: dict[Op, list[list[Edge]]] = {}
        for name, service in self.system.services.items():
            if service.store == "postgresql":
                self._pools[name] = self._pool(name, service)

    def _pool(self, name: str, service: Service) -> list[simpy.Resource]:
        size = int(self.system.pool(name).value)
        return [simpy.Resource(self.env, size) for _ in range(int(self.system.copies(name).value))]

    # ------------------------------------------------------------------------------------ from outside

    def arrive(self, op: Op, rate: float, until: float) -> None:
        """Requests for an operation as a Poisson process, a second, until then."""
        if rate > 0:
            self.env.process(self._arrivals(op, rate, until))

    def run(self, until: float | None = None) -> None:
        """Until that time; or until nothing is left to happen."""
        self.env.run(until)

    def _arrivals(self, op: Op, rate: float, until: float) -> Generator[simpy.Event, Any, None]:
        while True:
            wait = self.random.expovariate(rate)
            if self.env.now + wait >= until:
                return
            yield self.env.timeout(wait)
            self.env.process(self._request(op))

    def _request(self, op: Op) -> Steps:
        fate, began = self._fate(), self.env.now
        self.runs[op] += 1
        gates = op.spec.by is not None and any(
            fate.down(part.name)
            for part in self.system.parts.values()
            if part.spec.kind in ("gateway", "balancer", "proxy", "ingress", "api_gateway")
        )
        good = not gates and (yield from self._serve(op, fate, ("outside",)))
        if good:
            self.good[op] += 1
            self.took.setdefault(op, []).append(self.env.now - began)
        return bool(good)

    def _fate(self) -> Fate:
        return Fate(self.random, self._chance, self._outage)

    def _chance(self, name: str) -> float:
        if name == self.regime.down:
            return 0.0
        return 1.0 if self.regime.availability is None else self.regime.availability[name]

    def asked(self, op: Op) -> float:
        """How often an operation is begun from outside, a second at peak: by actors, and by events of dependencies.

        A dependency tells of what it was asked, as often as its busiest caller asks; else as often as is assumed.
        """
        flows, assume = self.study.flows, self.system.assume
        rate = flows.own(op).peak
        for name in op.spec.on if op.kind not in STANDING else ():
            for emitter in self.system.events[name].emitters:
                if isinstance(emitter, Dep):
                    calls = [flows.over(edge).peak for edge in emitter.edges]
                    rate += max(calls) if calls else assume.load.per_second * assume.peak
        return rate

    # ------------------------------------------------------------------------------------ one operation

    def _serve(self, op: Op, fate: Fate, key: Hashable) -> Steps:
        """From its cache, where it has one; a stale answer where no new one can be had."""
        cache = op.spec.cache
        if cache is None:
            return (yield from self._run(op, fate, key))
        if fate.draw((key, "hit")) < self.study.flows.hit(op).value:
            age = fate.draw((key, "age")) * cache.fresh.seconds
            if self._worked(op, fate, age):
                yield self.env.timeout(self._time(self._hop))
                return True
        good = yield from self._run(op, fate, key)
        if not good and cache.stale is not None:
            age = cache.stale.seconds + fate.draw((key, "age")) * cache.fresh.seconds
            good = self._worked(op, fate, age)
        return bool(good)

    def _worked(self, op: Op, fate: Fate, ago: float) -> bool:
        """Whether a run would have succeeded so long ago: only then can its answer be in the cache."""
        if self.regime.availability is None and not self.regime.down:
            return True
        if fate.down(op.service, ago):
            return False
        for edge in op.edges:
            if not edge.waits or edge.optional:
                continue
            if edge.call.share is not None and self.random.random() >= edge.call.share.value:
                continue
            ways = [edge.target, *([edge.fallback] if edge.fallback is not None else [])]
            if not any(
                self._worked(way, fate, ago) if isinstance(way, Op) else not fate.down(way.id, ago)
                for way in ways
            ):
                return False
        return True

    def _run(self, op: Op, fate: Fate, key: Hashable) -> Steps:
        if fate.down(op.service):
            yield self.env.timeout(0)
            return False
        queued = self.regime.queues and op.service in self._pools
        spans = queued and self._spans(op)
        claim: list[tuple[simpy.Resource, Any]] = []
        if spans:
            claim.append((yield from self._connect(op)))
        began = self.env.now
        good = True
        for group in self._ordered(op):
            if len(group) == 1:
                good = yield from self._call(group[0], fate, key)
            else:
                calls = [self.env.process(self._call(edge, fate, key)) for edge in group]
                yield self.env.all_of(calls)
                good = all(call.value for call in calls)
            if not good:
                break
        if queued and good and not spans:
            claim.append((yield from self._connect(op)))
            began = self.env.now
        if queued and good:
            yield from self._lock(op, began)
        if claim:
            hold = self._mean(self._hold(op))
            if spans:
                hold = max(0.0, hold - (self.env.now - began))
            self._release_later(*claim[0], hold)
            self.held[op.service] += self.env.now - began + hold
        if good:
            yield self.env.timeout(self._time(self.system.work(op).value))
            if self.regime.queues or self.regime.down:
                self._tell(op)
        return good

    def _tell(self, op: Op) -> None:
        """What is handed over and told by events begins on its own."""
        for edge in op.edges:
            if edge.call.later and (edge.call.share is None or self.random.random() < edge.call.share.value):
                for _ in range(edge.call.times):
                    self.env.process(self._once(edge, self._fate(), ("later",)))
        for name in op.spec.emits:
            share = op.spec.emits_in.get(name)
            if share is not None and self.random.random() >= share.value:
                continue
            for consumer in self.system.events[name].consumers:
                if consumer.kind in STANDING:
                    continue
                self.env.process(self._serve(consumer, self._fate(), ("event",)))

    def _ordered(self, op: Op) -> list[list[Edge]]:
        if op not in self._groups:
            numbers = sorted({edge.group for edge in op.edges})
            ordered = [[edge for edge in op.edges if edge.group == at and edge.waits] for at in numbers]
            self._groups[op] = [group for group in ordered if group]
        return self._groups[op]

    # ------------------------------------------------------------------------------------ one call

    def _call(self, edge: Edge, fate: Fate, key: Hashable) -> Steps:
        if edge.call.share is not None and fate.draw((key, edge.where)) >= edge.call.share.value:
            return True
        for at in range(edge.call.times):
            good = yield from self._once(edge, fate, (key, edge.where, at))
            if not good:
                return False
        return True

    def _once(self, edge: Edge, fate: Fate, key: Hashable) -> Steps:
        self._calls[edge] += 1
        timeout = math.inf if self.regime.patient else self.system.timeout(edge).value
        if (yield from self._attempt(edge.target, edge, fate, key, timeout)):
            return True
        retry = edge.call.retry
        if retry is None and not isinstance(edge.target, Act):
            retry = edge.target.spec.retry
        for at in range(retry.times if retry else 0):
            if retry is None or not self._may_repeat(edge, retry):
                break
            if retry.first is not None:
                yield self.env.timeout(retry.first.seconds * 2**at)
            if (yield from self._attempt(edge.target, edge, fate, key, timeout)):
                return True
        if edge.optional:
            return True
        if edge.fallback is None:
            return False
        other = edge.fallback.spec.timeout
        seconds = other.seconds if other is not None else self.system.assume.timeout.seconds
        if self.regime.patient:
            seconds = math.inf
        return (yield from self._attempt(edge.fallback, edge, fate, (key, "else"), seconds))

    def _may_repeat(self, edge: Edge, retry: Retry) -> bool:
        if retry.budget is None:
            return True
        if self._repeats[edge] + 1 > retry.budget.value * self._calls[edge]:
            return False
        self._repeats[edge] += 1
        return True

    def _attempt(
        self, target: Op | Dep | Act, edge: Edge, fate: Fate, key: Hashable, timeout: float
    ) -> Steps:
        if isinstance(target, Act):
            return True
        if isinstance(target, Dep):
            self.attempts[target.name] += 1
            if fate.down(target.name):
                yield self.env.timeout(self._time(self._hop))
                return False
            p99 = target.spec.p99 or self.system.assume.dependency_p99
            seconds = self._time(p99.seconds) + self._time(self._hop)
            yield self.env.timeout(min(seconds, timeout))
            return seconds <= timeout
        hop = self._time(self._hop) if target.service != edge.caller.service else 0.0
        if math.isinf(timeout):
            return (yield from self._remote(target, hop, fate, key))
        answer = self.env.process(self._remote(target, hop, fate, key))
        yield answer | self.env.timeout(timeout)
        return bool(answer.processed and answer.value)

    def _remote(self, target: Op, hop: float, fate: Fate, key: Hashable) -> Steps:
        if hop:
            yield self.env.timeout(hop)
        return (yield from self._serve(target, fate, key))

    # ------------------------------------------------------------------------------------ queues

    def _spans(self, op: Op) -> bool:
        """It holds its connection while it waits for its calls, by what is said of its hold."""
        if op.spec.hold is None or not self._ordered(op):
            return False
        waits = 0.0
        for group in self._ordered(op):
            waits += max(
                (edge.target.spec.p99 or self.system.assume.dependency_p99).seconds * edge.call.times
                if isinstance(edge.target, Dep)
                else 0.0
                for edge in group
            )
        return op.spec.hold.seconds >= waits / self.system.assume.tail

    def _connect(self, op: Op) -> Generator[simpy.Event, Any, tuple[simpy.Resource, Any]]:
        pool = self.random.choice(self._pools[op.service])
        began, request = self.env.now, pool.request()
        yield request
        self.waits.setdefault(op.service, []).append(self.env.now - began)
        return pool, request

    def _lock(self, op: Op, began: float) -> Generator[simpy.Event, Any, None]:
        """Where it changes the hottest row of an entity, it waits for those before it."""
        met: set[str] = set()
        for write in sorted(op.writes, key=lambda each: -(each.hottest.value if each.hottest else 0.0)):
            if write.how != "changes" or write.entity.service not in self._pools or write.entity.id in met:
                continue
            met.add(write.entity.id)
            share = self.system.figure((*write.where, "hottest"), write.hottest, "hottest", SHARE).value
            if self.random.random() >= share:
                continue
            row = self._rows.setdefault(write.entity.id, simpy.Resource(self.env, 1))
            request = row.request()
            yield request
            mean = self.system.assume.lock.seconds
            if op.spec.hold is not None and (op.spec.hold.seconds < mean or self._spans(op)):
                mean = op.spec.hold.seconds
            seconds = self._mean(mean)
            self.locked[write.entity.id] += seconds
            self._release_later(row, request, seconds)

    def _release_later(self, resource: simpy.Resource, request: Any, seconds: float) -> None:
        def release(event: simpy.Event) -> None:
            resource.release(request)

        done = self.env.timeout(seconds)
        assert done.callbacks is not None
        done.callbacks.append(release)

    def _hold(self, op: Op) -> float:
        return self.system.figure((*op.where, "hold"), op.spec.hold, "hold", SECONDS).value

    # ------------------------------------------------------------------------------------ times

    def _time(self, p99: float) -> float:
        """A lognormal time by its 99th percentile."""
        return (
            p99 / self.system.assume.tail * math.exp(self._tail * self.random.gauss(0, 1)) if p99 > 0 else 0.0
        )

    def _mean(self, mean: float) -> float:
        """A lognormal time by its mean."""
        return mean * math.exp(self._tail * self.random.gauss(0, 1) - self._tail**2 / 2)
