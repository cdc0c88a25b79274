"""A system in motion: requests, calls, timeouts, retries, caches, outages, connections and row locks.

What a run of an operation does, in order: its calls; a connection, where the service has a database; the lock of the
hottest row, with the chance that it is met; its own work. An attempt that a caller gives up on goes on in the
background, as it does where no deadline is passed along.

A cache holds what is hot: as long as what fills it works, an entry of a hot thing is there, as old as chance has it.
Whether it worked when the entry was made follows from how long each component has been down.
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
from mainstay.architect.design.figures import SHARE, Figure
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
    root: int = 0
    """The request from outside that all of it comes from."""
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
    silent: str = ""
    """A dependency that takes every call and never answers."""
    flaky: dict[str, float] = field(default_factory=dict)
    """The share of attempts at a dependency that fail, each by itself."""
    last_moment: bool = False
    """What an operation asked from outside calls is as late as it may be: every attempt but the last runs into its
    timeout, and the last answers just before; all calls are made."""
    patient: bool = False
    """No caller gives up: what fails does so because something is down."""
    queues: bool = False
    """Connections and row locks are waited for."""


@dataclass(slots=True)
class Tally:
    """Something that is added up, by the request from outside that it comes from.

    Requests come independently of each other, so the variance of the sum is the sum of squares. What is seen only a few
    times is uncertain by more than its root: the score interval says how much.
    """

    by_root: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, fate: Fate, much: float = 1.0) -> None:
        """So much more."""
        self.by_root[fate.root] += much

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.by_root.values())

    @property
    def error(self) -> float:
        """A quarter of how far the total may be off, four standard errors out; of nothing, as if each brought 1."""
        squares = sum(each**2 for each in self.by_root.values())
        one = squares / len(self.by_root) if self.by_root else 1.0
        return 2 * math.sqrt(one) + math.sqrt(squares + 4 * one)


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
        self.attempts: defaultdict[str, Tally] = defaultdict(Tally)
        """By dependency, whether it answered or not."""
        self.waits: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        """By service: when each run got a connection, and the seconds that it had waited for it."""
        self.held: defaultdict[str, Tally] = defaultdict(Tally)
        """By service: seconds that connections were held."""
        self.locked: defaultdict[str, Tally] = defaultdict(Tally)
        """By entity: seconds that its hottest row was locked."""
        self.line: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        """By entity: when each writer got its hottest row, and the seconds that it had waited for it."""
        self.lasted: defaultdict[Op, list[float]] = defaultdict(list)
        """Seconds of each run, past the cache, that was begun by a call or from outside."""
        self.outlasted: Counter[Op] = Counter()
        """Runs that were still at work when whoever had called gave up."""
        self._tail = math.log(self.system.assume.tail) / Z99
        self._hop = self.system.assume.hop.seconds
        self._outage = self.system.assume.outage.seconds
        self._pools: dict[str, list[simpy.Resource]] = {}
        self._rows: dict[str, simpy.Resource] = {}
        self._calls: Counter[Edge | Op] = Counter()
        self._repeats: Counter[Edge | Op] = Counter()
        self._groups: dict[Op, list[list[Edge]]] = {}
        self._roots = 0
        self._numbers: dict[tuple[str, Op | Edge], float] = {}
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

    def begin(self, op: Op, times: int, run: bool = False) -> None:
        """So many requests at once, or runs past the operation's cache; for what does not queue."""
        for _ in range(times):
            begun = self._run(op, self._fate(), ("outside",)) if run else self._request(op)
            self.env.process(begun)

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

    def _fate(self, root: int | None = None) -> Fate:
        if root is None:
            self._roots += 1
            root = self._roots
        return Fate(self.random, self._chance, self._outage, root)

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
        age = fate.draw((key, "age")) * cache.fresh.seconds
        if self._hot(op, fate, key) and self._ran(op, fate, key, age):
            yield self.env.timeout(self._time(self._hop))
            return True
        good = yield from self._run(op, fate, key)
        if not good and cache.stale is not None:
            good = self._ran(op, fate, key, cache.stale.seconds + age)
        return bool(good)

    def _hot(self, op: Op, fate: Fate, key: Hashable) -> bool:
        return fate.draw((key, "hit")) < self._number(self.study.flows.hit, "hit", op)

    def _served(self, op: Op, fate: Fate, key: Hashable, ago: float) -> bool:
        """Whether the same request would have been answered so long ago, from its cache or by a run."""
        cache = op.spec.cache
        if self._ran(op, fate, key, ago):
            return True
        if cache is None:
            return False
        age = fate.draw((key, "age")) * cache.fresh.seconds
        if cache.stale is not None:
            return self._ran(op, fate, key, ago + cache.stale.seconds + age)
        return self._hot(op, fate, key) and self._ran(op, fate, key, ago + age)

    def _ran(self, op: Op, fate: Fate, key: Hashable, ago: float) -> bool:
        """Whether a run for the same would have succeeded so long ago: only then was its answer put into the cache."""
        if self.regime.availability is None and not self.regime.down:
            return True
        return not fate.down(op.service, ago) and all(
            self._called(edge, fate, (key, edge.where, at), ago)
            for edge in op.edges
            if edge.waits and not edge.optional and self._made(edge, fate, key)
            for at in range(edge.call.times)
        )

    def _called(self, edge: Edge, fate: Fate, key: Hashable, ago: float) -> bool:
        ways = [(edge.target, key), (edge.fallback, (key, "else"))]
        return any(
            self._served(way, fate, at, ago) if isinstance(way, Op) else not fate.down(way.id, ago)
            for way, at in ways
            if way is not None
        )

    def _run(self, op: Op, fate: Fate, key: Hashable) -> Steps:
        began = self.env.now
        good = yield from self._steps(op, fate, key)
        self.lasted[op].append(self.env.now - began)
        return bool(good)

    def _steps(self, op: Op, fate: Fate, key: Hashable) -> Steps:
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
            yield from self._lock(op, fate)
        if claim:
            hold = self._number(self.system.hold, "hold", op)
            if spans:  # its calls are part of what is said
                hold = max(0.0, hold - self._usual_calls(op, frozenset([op])))
            hold = self._mean(hold)
            self._release_later(*claim[0], hold)
            self.held[op.service].add(fate, self.env.now - began + hold)
        if good:
            yield self.env.timeout(self._time(self._number(self.system.work, "work", op)))
            if self.regime.queues or self.regime.down or self.regime.flaky:
                self._tell(op, fate)
        return good

    def _tell(self, op: Op, fate: Fate) -> None:
        """What is handed over and told by events begins on its own."""
        for edge in op.edges:
            if edge.call.later and (edge.call.share is None or self.random.random() < edge.call.share.value):
                for _ in range(edge.call.times):
                    self.env.process(self._once(edge, self._fate(fate.root), ("later",)))
        for name in op.spec.emits:
            share = op.spec.emits_in.get(name)
            if share is not None and self.random.random() >= share.value:
                continue
            for consumer in self.system.events[name].consumers:
                if consumer.kind in STANDING:
                    continue
                self.env.process(self._deliver(consumer, self._fate(fate.root)))

    def _deliver(self, op: Op, fate: Fate) -> Steps:
        """An event, again for as often as its handler says."""
        retry = op.spec.retry
        self._calls[op] += 1
        good = yield from self._serve(op, fate, ("event",))
        for at in range(retry.times if retry else 0):
            if good or retry is None or not self._may_repeat(op, retry):
                break
            if retry.first is not None:
                yield self.env.timeout(retry.first.seconds * 2**at)
            good = yield from self._serve(op, fate, ("event",))
        return bool(good)

    def _ordered(self, op: Op) -> list[list[Edge]]:
        if op not in self._groups:
            numbers = sorted({edge.group for edge in op.edges})
            ordered = [[edge for edge in op.edges if edge.group == at and edge.waits] for at in numbers]
            self._groups[op] = [group for group in ordered if group]
        return self._groups[op]

    # ------------------------------------------------------------------------------------ one call

    def _made(self, edge: Edge, fate: Fate, key: Hashable) -> bool:
        share = edge.call.share
        return share is None or self.regime.last_moment or fate.draw((key, edge.where)) < share.value

    def _call(self, edge: Edge, fate: Fate, key: Hashable) -> Steps:
        if not self._made(edge, fate, key):
            return True
        for at in range(edge.call.times):
            good = yield from self._once(edge, fate, (key, edge.where, at))
            if not good:
                return False
        return True

    def _once(self, edge: Edge, fate: Fate, key: Hashable) -> Steps:
        self._calls[edge] += 1
        timeout = math.inf if self.regime.patient else self._number(self.system.timeout, "timeout", edge)
        retry = edge.call.retry
        if retry is None and not isinstance(edge.target, Act):
            retry = edge.target.spec.retry
        if self.regime.last_moment:
            return (yield from self._at_last(edge, timeout, retry))
        if (yield from self._attempt(edge.target, edge, fate, key, timeout)):
            return True
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

    def _at_last(self, edge: Edge, timeout: float, retry: Retry | None) -> Steps:
        """Every attempt runs into its timeout; the last, or what stands in for it, answers at its end."""
        for at in range(1 + (retry.times if retry else 0)):
            if at and retry is not None and retry.first is not None:
                yield self.env.timeout(retry.first.seconds * 2 ** (at - 1))
            yield self.env.timeout(timeout)
        if edge.fallback is not None:
            other = edge.fallback.spec.timeout or self.system.assume.timeout
            yield self.env.timeout(other.seconds)
        return True

    def _may_repeat(self, what: Edge | Op, retry: Retry) -> bool:
        if retry.budget is None:
            return True
        if self._repeats[what] + 1 > retry.budget.value * self._calls[what]:
            return False
        self._repeats[what] += 1
        return True

    def _attempt(
        self, target: Op | Dep | Act, edge: Edge, fate: Fate, key: Hashable, timeout: float
    ) -> Steps:
        if isinstance(target, Act):
            return True
        if isinstance(target, Dep):
            self.attempts[target.name].add(fate)
            if target.name == self.regime.silent:
                yield self.env.timeout(timeout)
                return False
            if fate.down(target.name) or self.random.random() < self.regime.flaky.get(target.name, 0.0):
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
        if not answer.processed:
            self.outlasted[target] += 1
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
        return op.spec.hold.seconds >= self._usual_calls(op, frozenset([op]))

    def _usual_calls(self, op: Op, seen: frozenset[Op]) -> float:
        """Seconds that its calls take on average."""
        return sum(max(self._usual(edge, seen) for edge in group) for group in self._ordered(op))

    def _usual(self, edge: Edge, seen: frozenset[Op]) -> float:
        target, mean = edge.target, math.exp(self._tail**2 / 2) / self.system.assume.tail
        if isinstance(target, Dep):
            once = ((target.spec.p99 or self.system.assume.dependency_p99).seconds + self._hop) * mean
        elif isinstance(target, Op) and target not in seen:
            once = self.system.work(target).value * mean + self._usual_calls(target, seen | {target})
            hop = self._hop * mean
            if target.spec.cache is not None:
                hit = self.study.flows.hit(target).value
                once = hit * hop + (1 - hit) * once
            once += hop if target.service != edge.caller.service else 0.0
        else:
            once = 0.0
        return once * edge.call.times * (edge.call.share.value if edge.call.share else 1.0)

    def _connect(self, op: Op) -> Generator[simpy.Event, Any, tuple[simpy.Resource, Any]]:
        pool = self.random.choice(self._pools[op.service])
        began, request = self.env.now, pool.request()
        yield request
        self.waits[op.service].append((self.env.now, self.env.now - began))
        return pool, request

    def _lock(self, op: Op, fate: Fate) -> Generator[simpy.Event, Any, None]:
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
            began, request = self.env.now, row.request()
            yield request
            self.line[write.entity.id].append((self.env.now, self.env.now - began))
            mean = self.system.assume.lock.seconds
            if op.spec.hold is not None and (op.spec.hold.seconds < mean or self._spans(op)):
                mean = op.spec.hold.seconds
            seconds = self._mean(mean)
            self.locked[write.entity.id].add(fate, seconds)
            self._release_later(row, request, seconds)

    def _release_later(self, resource: simpy.Resource, request: Any, seconds: float) -> None:
        def release(event: simpy.Event) -> None:
            resource.release(request)

        done = self.env.timeout(seconds)
        assert done.callbacks is not None
        done.callbacks.append(release)

    def _number(self, of: Callable[[Any], Figure], what: str, node: Op | Edge) -> float:
        """A number of the blueprint, looked up once."""
        key = (what, node)
        if key not in self._numbers:
            self._numbers[key] = of(node).value
        return self._numbers[key]

    # ------------------------------------------------------------------------------------ times

    def _time(self, p99: float) -> float:
        """A lognormal time by its 99th percentile."""
        return (
            p99 / self.system.assume.tail * math.exp(self._tail * self.random.gauss(0, 1)) if p99 > 0 else 0.0
        )

    def _mean(self, mean: float) -> float:
        """A lognormal time by its mean."""
        return mean * math.exp(self._tail * self.random.gauss(0, 1) - self._tail**2 / 2)
