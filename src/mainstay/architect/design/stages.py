"""Times as mixtures of lognormals: what calls in order, at the same time, in some runs and behind a cache add up to.

99th percentiles do not add: that two calls are both slow is rarer than that one is. Each stage is a lognormal, given
by its 99th percentile and how many times its median that is; a sum of two is again taken as a lognormal with the exact
mean and variance (Fenton and Wilkinson); the longer of two as one with the mean and the 99th percentile of the
product of their distributions. What happens in some runs only stays apart, as a component of a mixture with its
weight: the 99th percentile behind a cache that answers 90 % is the 90th of what it does not answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

Z99 = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""
MOST = 8
"""Components of a mixture; beyond it the most alike are made one."""
POINTS = 48
"""Of the quadrature, evenly spaced in the logarithm of time."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One component: its weight in the mixture, the mean in seconds and the variance in seconds squared."""

    weight: float
    mean: float
    variance: float
    most: float = math.inf
    """It never takes longer, in seconds: what a timeout cuts off."""

    def shape(self) -> tuple[float, float]:
        """Mean and standard deviation of the logarithm."""
        squared = math.log1p(self.variance / self.mean**2)
        return math.log(self.mean) - squared / 2, math.sqrt(squared)

    def below(self, seconds: float) -> float:
        """The share that takes at most so long."""
        if seconds >= self.most:
            return 1.0
        if self.mean <= 0 or self.variance <= self.mean**2 * 1e-12:
            return 1.0 if seconds >= self.mean else 0.0
        if seconds <= 0:
            return 0.0
        mu, sigma = self.shape()
        return _normal((math.log(seconds) - mu) / sigma)

    def reach(self, deviations: float) -> float:
        """The time that lies so many deviations above the median."""
        if self.mean <= 0:
            return 0.0
        mu, sigma = self.shape()
        return min(self.most, math.exp(mu + deviations * sigma))


@dataclass(frozen=True)
class Spread:
    """How long something takes: a mixture, whose weights add up to 1."""

    stages: tuple[Stage, ...]

    @cached_property
    def mean(self) -> float:
        """Seconds on average."""
        return sum(stage.weight * stage.mean for stage in self.stages)

    def below(self, seconds: float) -> float:
        """The share that takes at most so long."""
        return sum(stage.weight * stage.below(seconds) for stage in self.stages)

    def quantile(self, share: float) -> float:
        """The time within which this share is done, in seconds."""
        low, high = 0.0, max(stage.reach(6.0) for stage in self.stages)
        if self.below(0.0) >= share:
            return 0.0
        for _ in range(60):
            middle = (low + high) / 2
            if self.below(middle) < share:
                low = middle
            else:
                high = middle
            if high - low < 1e-6 * high:
                break
        return high

    @cached_property
    def p99(self) -> float:
        """The 99th percentile, in seconds."""
        return self.quantile(0.99)

    def plus(self, other: Spread) -> Spread:
        """One after the other."""
        if other is NOTHING:
            return self
        if self is NOTHING:
            return other
        return _few(
            Stage(a.weight * b.weight, a.mean + b.mean, a.variance + b.variance, a.most + b.most)
            for a in self.stages
            for b in other.stages
        )

    def later(self, seconds: float) -> Spread:
        """The same, after a fixed wait."""
        return Spread(
            tuple(Stage(s.weight, s.mean + seconds, s.variance, s.most + seconds) for s in self.stages)
        )

    def repeated(self, times: int) -> Spread:
        """So many, one after the other."""
        if len(self.stages) == 1:
            (only,) = self.stages
            return Spread((Stage(1.0, only.mean * times, only.variance * times, only.most * times),))
        made, square = NOTHING, self
        while times:
            if times & 1:
                made = made.plus(square)
            square = square.plus(square)
            times >>= 1
        return made

    def beside(self, other: Spread) -> Spread:
        """Both at the same time: the longer of the two."""
        return _few(_longer(a, b) for a in self.stages for b in other.stages)

    def cut(self, seconds: float) -> tuple[float, Spread]:
        """The share that takes at most so long, and how long that share takes."""
        kept: list[Stage] = []
        for stage in self.stages:
            if (share := stage.below(seconds)) <= 1e-9:
                continue
            if share > 1 - 1e-9 or stage.variance == 0:
                kept.append(Stage(stage.weight * share, stage.mean, stage.variance, stage.most))
                continue
            mu, sigma = stage.shape()
            at = (math.log(seconds) - mu) / sigma
            mean = stage.mean * _normal(at - sigma) / share
            square = (stage.variance + stage.mean**2) * _normal(at - 2 * sigma) / share
            kept.append(Stage(stage.weight * share, mean, max(0.0, square - mean**2), seconds))
        total = sum(stage.weight for stage in kept)
        if total <= 0:
            return 0.0, NOTHING
        return total, Spread(tuple(Stage(s.weight / total, s.mean, s.variance, s.most) for s in kept))


NOTHING = Spread((Stage(1.0, 0.0, 0.0),))


def lognormal(p99: float, tail: float) -> Spread:
    """A time by its 99th percentile, in seconds, which is `tail` times its median."""
    if p99 <= 0:
        return NOTHING
    sigma = math.log(tail) / Z99
    mean = p99 / tail * math.exp(sigma**2 / 2)
    most = (
        p99 / tail * math.exp(4 * sigma)
    )  # one in 30 000 takes longer; so that sums with what is cut off have an end
    return Spread((Stage(1.0, mean, mean**2 * math.expm1(sigma**2), most),))


def varied(tail: float) -> float:
    """The variance of a lognormal over its squared mean, from how many times its median the 99th percentile is."""
    return math.expm1((math.log(tail) / Z99) ** 2)


def mixed(*parts: tuple[float, Spread]) -> Spread:
    """Either, with these weights; they are scaled to add up to 1."""
    total = sum(weight for weight, _ in parts)
    return _few(
        Stage(weight / total * s.weight, s.mean, s.variance, s.most)
        for weight, spread in parts
        if weight > 0
        for s in spread.stages
    )


def _few(stages: Iterable[Stage]) -> Spread:
    """At most `MOST` components: neighbours whose means lie close are made one, with mean and variance of both."""
    found = sorted((stage for stage in stages if stage.weight > 0), key=lambda s: (s.mean, s.variance))
    close = 1.05
    while len(found) > MOST:
        kept = [found[0]]
        for stage in found[1:]:
            if stage.mean <= kept[-1].mean * close:
                kept[-1] = _merged(kept[-1], stage)
            else:
                kept.append(stage)
        found = kept
        close *= 1.1
    return Spread(tuple(found))


def _merged(a: Stage, b: Stage) -> Stage:
    weight = a.weight + b.weight
    mean = (a.weight * a.mean + b.weight * b.mean) / weight
    square = (a.weight * (a.variance + a.mean**2) + b.weight * (b.variance + b.mean**2)) / weight
    return Stage(weight, mean, max(0.0, square - mean**2), max(a.most, b.most))


def _longer(a: Stage, b: Stage) -> Stage:
    weight = a.weight * b.weight
    for short, long in ((a, b), (b, a)):
        if short.reach(4.0) <= long.reach(-4.0):
            return Stage(weight, long.mean, long.variance, long.most)
    low, high = max(a.reach(-5.0), b.reach(-5.0)), max(a.reach(5.0), b.reach(5.0))
    if low <= 0 or high <= low:
        return Stage(weight, max(a.mean, b.mean), max(a.variance, b.variance), max(a.most, b.most))
    step = math.log(high / low) / POINTS
    mean = before = low  # below the lowest point it is certain that neither is done
    p99 = high
    for at in range(1, POINTS + 1):
        after = low * math.exp(step * at)
        middle = (before + after) / 2
        done = a.below(middle) * b.below(middle)
        mean += (1 - done) * (after - before)
        if p99 == high and done >= 0.99:
            p99 = _product(a, b, before - (after - before), after)
        before = after
    # The lognormal of that mean and that 99th percentile: by its variance its tail would be too thin.
    sigma = Z99 - math.sqrt(max(0.0, Z99**2 - 2 * math.log(max(p99 / mean, 1.0))))
    return Stage(weight, mean, mean**2 * math.expm1(sigma**2), max(a.most, b.most))


def _product(a: Stage, b: Stage, low: float, high: float) -> float:
    """The 99th percentile of the longer of two, which lies between these."""
    for _ in range(12):
        middle = (low + high) / 2
        if a.below(middle) * b.below(middle) < 0.99:
            low = middle
        else:
            high = middle
    return high


def _normal(z: float) -> float:
    """Distribution function of the standard normal."""
    return math.erfc(-z / math.sqrt(2)) / 2
