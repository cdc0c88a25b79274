"""The numeric risks by numbers that can be worked out by hand, and by laws that hold for every blueprint."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest
from blueprint_random import blueprints, study_of
from blueprint_text import result_of, risks_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstay.architect.design.chances import (
    Block,
    Chance,
    Chances,
    Factor,
    Keep,
    perhaps,
    repeated,
    together,
)
from mainstay.architect.design.risks import Risk, Study
from mainstay.architect.design.risks.hot_row import hottest, waiting
from mainstay.architect.design.risks.pool_size import demand, erlang_c, wait_p99
from mainstay.architect.design.risks.retry_amplification import Attempts
from mainstay.architect.design.stages import NOTHING, Spread, lognormal, mixed
from mainstay.architect.design.times import Times
from mainstay.architect.findings import Severity

QUICK = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

SHOP = """
needs: {availability: 99.9%, p99: 800ms}
actors:
  shopper: {auth: oidc}
depends:
  stripe: {availability: 99.95%, p99: 600ms, limit: 100/s}
services:
  orders:
    does:
      place: {by: shopper, load: 50/s peak 300/s, gives: text, calls: [inventory.reserve, payments.authorise]}
  inventory:
    does:
      reserve: {timeout: 200ms}
  payments:
    does:
      authorise: {calls: [stripe], timeout: 700ms, retry: 2}
"""


def one(text: str, kind: str) -> Risk:
    """The only risk of a kind."""
    (risk,) = risks_of(text, kind)
    return risk


def changed(*pairs: tuple[str, str]) -> str:
    """SHOP with some text in place of other text."""
    text = SHOP
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


# ---------------------------------------------------------------------------------------- availability


def test_a_chain_of_four_is_the_product_of_four() -> None:
    risk = one(SHOP, "availability-chain")
    assert risk.subject == "orders.place"
    assert risk.value == pytest.approx(0.9995**4, abs=1e-12)
    assert "gives 99.8%, need 99.9%: it waits for orders, inventory, payments and stripe" in risk.message
    assert "each of 3 services would need 99.984%" in risk.remedy
    assert pytest.approx(0.99983, abs=1e-5) == (0.9990 / 0.9995) ** (1 / 3)
    assert "hand over payments.authorise (99.90003%)" in risk.remedy


def test_what_no_number_of_ours_can_reach_is_said_so() -> None:
    risk = one(changed(("availability: 99.95%", "availability: 99.5%")), "availability-chain")
    assert risk.remedy.startswith("no number of ours can reach it while stripe (99.5%) is waited for")


@pytest.mark.parametrize(
    ("change", "by_hand"),
    [
        (("calls: [stripe]", "calls: [stripe later]"), 0.9995**3),
        (("calls: [stripe]", "calls: [stripe else nothing]"), 0.9995**3),
        (("calls: [stripe]", "calls: [stripe 40%]"), 0.9995**3 * (0.6 + 0.4 * 0.9995)),
        (("calls: [stripe]", "calls: [stripe x5]"), 0.9995**4),
        (("calls: [stripe]", "calls: [stripe, stripe 50%]"), 0.9995**4),
        (("calls: [stripe]", "calls: [stripe retry 5]"), 0.9995**4),
        (("calls: [stripe]", "calls: [[stripe, inventory.reserve]]"), 0.9995**4),
        (("calls: [stripe]", "calls: [stripe else inventory.reserve]"), 0.9995**3),
    ],
)
def test_the_chance_by_hand(change: tuple[str, str], by_hand: float) -> None:
    risk = one(changed(change, ("availability: 99.9%", "availability: 99.99%")), "availability-chain")
    assert risk.value == pytest.approx(by_hand, abs=1e-12)


def test_a_cache_bridges_what_is_fresh_and_stale_all_while_it_is_warm() -> None:
    # Fresh for as long as an outage lasts: of hits that are 0 to 10 minutes old, 1/e are still there on average.
    assert Keep(1, 1).bridged == pytest.approx(1 / math.e)
    assert Keep(1, 1e7).bridged == pytest.approx(1, abs=1e-5)
    assert Keep(1, 1 / 600).bridged == pytest.approx(1 / 1200, rel=1e-2)
    fresh = changed(("reserve: {timeout: 200ms}", "reserve: {timeout: 200ms, cache: 10m hit 80%}"))
    by_hand = 0.9995**3 * (0.8 / math.e + (1 - 0.8 / math.e) * 0.9995)
    assert one(fresh, "availability-chain").value == pytest.approx(by_hand, abs=1e-9)
    stale = fresh.replace("hit 80%", "hit 80% stale 1y")
    assert one(stale, "availability-chain").value == pytest.approx(0.9995**3, abs=1e-9)


def test_shared_components_count_once() -> None:
    values = {"a": 0.9, "b": 0.8, "c": 0.7}

    def needs(*names: str) -> Block:
        return Block(frozenset(names))

    def chance(block: Block) -> float:
        return Chance(values).of(block)

    assert chance(together(needs("a"), needs("b"), needs("a"))) == pytest.approx(0.72)
    assert chance(together(perhaps(0.5, needs("b")), perhaps(0.5, needs("b")))) == pytest.approx(
        0.8 + 0.2 * 0.25
    )
    assert chance(perhaps(0, needs("a", "b"), needs("a", "c"))) == pytest.approx(0.9 * (1 - 0.2 * 0.3))
    assert chance(repeated(perhaps(0.5, needs("a")), 3)) == pytest.approx(0.9 + 0.1 / 8)
    # a and (b or c) and (b or a): the last follows from the first.
    both = together(needs("a"), perhaps(0, needs("b"), needs("c")), perhaps(0, needs("b"), needs("a")))
    assert chance(both) == pytest.approx(0.9 * (1 - 0.2 * 0.3))


def without_caches(value: dict[str, Any]) -> dict[str, Any]:
    """The same blueprint, no operation of which has a cache."""
    for service in value["services"].values():
        for does in service["does"].values():
            does.pop("cache", None)
    return value


@QUICK
@given(blueprints())
def test_the_chance_is_that_of_all_states_counted_one_by_one(value: dict[str, Any]) -> None:
    study = study_of(without_caches(value))
    chances = Chances(study)
    values = availabilities(chances)
    for op in (study.system.ops["a.one"], study.system.ops["a.two"]):
        block = chances.entry(op)
        chance = Chance(values)
        assert chance.of(block) == pytest.approx(_enumerated(block, values), abs=1e-9)
        assert chance.exact


def _enumerated(block: Block, values: dict[str, float]) -> float:
    """Over every combination of up and down: what is drawn is independent once these are known."""
    names = sorted(block.names)

    def holds(block: Block, up: frozenset[str]) -> float:
        if not block.needed <= up:
            return 0.0
        found = 1.0
        for factor, times in block.factors:
            fails = math.prod(1 - holds(way, up) for way in factor.ways)
            found *= (factor.free + (1 - factor.free) * (1 - fails)) ** times
        return found

    total = 0.0
    for state in range(2 ** len(names)):
        up = frozenset(name for at, name in enumerate(names) if state >> at & 1)
        weight = math.prod(values[name] if name in up else 1 - values[name] for name in names)
        total += weight * holds(block, up)
    return total


@QUICK
@given(blueprints())
def test_the_chance_with_caches_is_that_of_outages_drawn_one_by_one(value: dict[str, Any]) -> None:
    study = study_of(value)
    chances = Chances(study)
    values = availabilities(chances)
    for op in (study.system.ops["a.one"], study.system.ops["a.two"]):
        block = chances.entry(op)
        if block.looks_back:
            chance, draws = Chance(values), random.Random(1)
            failed = sum(_down_for(block, _Outages(values, draws)) > 0 for _ in range(1500))
            given = 1 - chance.of(block)
            tolerance = 0.01 * given + 5 * math.sqrt(max(given, 0.002) / 1500)
            assert failed / 1500 <= given + tolerance
            assert not chance.exact or failed / 1500 >= given - tolerance


class _Outages(dict[str, float]):
    """How long each component has been down, in mean outages; 0 where it is up."""

    def __init__(self, values: dict[str, float], draws: random.Random) -> None:
        self.values_, self.draws = values, draws

    def __missing__(self, name: str) -> float:
        up = self.draws.random() < self.values_[name]
        self[name] = 0.0 if up else self.draws.expovariate(1)
        return self[name]


def _down_for(block: Block, outages: _Outages) -> float:
    """For how long it has not come true, in mean outages."""
    found = [outages[name] for name in sorted(block.needed)]
    for factor, times in block.factors:
        for _ in range(times):
            if outages.draws.random() >= factor.free:
                down = min((_down_for(way, outages) for way in factor.ways), default=math.inf)
                found.append(_bridged(factor.keep, down, outages.draws))
    return max(found, default=0.0)


def _bridged(keep: Keep | None, down: float, draws: random.Random) -> float:
    if keep is None:
        return down
    age = draws.random() * keep.fresh
    if keep.stale is not None:
        return max(0.0, down - keep.stale - age)
    return max(0.0, down - age) if draws.random() < keep.hit else down


def availabilities(chances: Chances) -> dict[str, float]:
    """Of every component."""
    system = chances.study.system
    return {name: chances.figure(name).value for name in (*system.services, *system.deps, *system.parts)}


def cached(block: Block, keep: Keep) -> Block:
    """It, behind a cache."""
    return Block(factors=((Factor(0.0, (block,), keep), 1),))


def test_caches_see_the_same_outage() -> None:
    x, keep = Block(frozenset(["x"])), Keep(0.8, 1.0)
    once = Chance({"x": 0.7}).of(cached(x, keep))
    assert once == pytest.approx(1 - 0.3 * (1 - 0.8 / math.e))
    twice = Chance({"x": 0.7}).of(together(cached(x, keep), cached(x, keep)))
    # Both bridge it in 0.8 squared of the runs, where the outage is younger than two entries: 1 - 2/e of them.
    both = 0.8**2 * (1 - 2 / math.e)
    assert twice == pytest.approx(0.7 + 0.3 * both, abs=2e-3)
    assert twice > 0.7 + 0.3 * (0.8 / math.e) ** 2 + 0.02  # what it would be if each saw an outage of its own


def test_a_cache_behind_a_cache_is_filled_from_it() -> None:
    x = Block(frozenset(["x"]))
    twice = cached(cached(x, Keep(1.0, 1.0)), Keep(1.0, 1.0))
    # An entry of an entry: as old as the sum of two ages, so that 1 - (1 - 1/e)^2 of the outages are bridged.
    assert Chance({"x": 0.7}).of(twice) == pytest.approx(1 - 0.3 * (1 - 1 / math.e) ** 2, abs=1e-3)


def availability(study: Study, op: str) -> float:
    """Computed, of an operation."""
    chances = Chances(study)
    return Chance(availabilities(chances)).of(chances.entry(study.system.ops[op]))


@QUICK
@given(
    blueprints(),
    st.sampled_from(["b.one", "c.two", "dep0"]),
    st.sampled_from(["", " 30%", " x2", " retry 3"]),
)
def test_one_more_call_never_makes_a_run_likelier_or_shorter(
    value: dict[str, Any], to: str, how: str
) -> None:
    more = copy.deepcopy(value)
    does = more["services"]["a"]["does"]["one"]
    does["calls"] = [*does.get("calls", []), to + how]
    before, after = study_of(value), study_of(more)
    assert availability(after, "a.one") <= availability(before, "a.one") + 1e-12
    op = "a.one"
    assert Times(after).of(after.system.ops[op]).mean >= Times(before).of(before.system.ops[op]).mean - 1e-12


@QUICK
@given(blueprints(), st.sampled_from(["b.one", "dep1"]))
def test_an_optional_call_costs_no_availability_and_handing_over_costs_no_time(
    value: dict[str, Any], to: str
) -> None:
    for how in (" else nothing", " later"):
        more = copy.deepcopy(value)
        does = more["services"]["a"]["does"]["one"]
        does["calls"] = [*does.get("calls", []), to + how]
        before, after = study_of(value), study_of(more)
        assert availability(after, "a.one") == pytest.approx(availability(before, "a.one"), abs=1e-12)
    op = "a.one"
    assert Times(after).of(after.system.ops[op]).p99 == pytest.approx(
        Times(before).of(before.system.ops[op]).p99
    )


@QUICK
@given(blueprints(), st.sampled_from(["a", "b", "c", "d", "dep0", "dep1", "dep2"]))
def test_a_better_component_never_makes_it_worse(value: dict[str, Any], name: str) -> None:
    better = copy.deepcopy(value)
    better["depends" if name.startswith("dep") else "services"][name]["availability"] = "100%"
    for op in ("a.one", "a.two"):
        assert availability(study_of(better), op) >= availability(study_of(value), op) - 1e-12


def test_beyond_what_can_be_told_apart_it_is_a_lower_bound() -> None:
    names = [f"n{at}" for at in range(9)]
    values = dict.fromkeys(names, 0.9)
    draws = random.Random(3)
    block = together(
        *(perhaps(draws.random() / 2, Block(frozenset(draws.sample(names, 3)))) for _ in range(35))
    )
    chance = Chance(values)
    least = chance.of(block)
    assert not chance.exact
    assert 0 < least <= _enumerated(block, values) + 1e-12


# ---------------------------------------------------------------------------------------- times


def test_a_lognormal_is_given_by_its_p99_and_its_tail() -> None:
    spread = lognormal(0.8, 4.0)
    assert spread.p99 == pytest.approx(0.8, rel=1e-3)
    assert spread.quantile(0.5) == pytest.approx(0.2, rel=1e-3)


def test_percentiles_do_not_add_but_means_do() -> None:
    a, b = lognormal(0.6, 4), lognormal(0.2, 4)
    assert max(a.p99, b.p99) < a.plus(b).p99 < a.p99 + b.p99
    assert a.plus(b).mean == pytest.approx(a.mean + b.mean)
    assert max(a.p99, b.p99) <= a.beside(b).p99 * 1.02 < a.plus(b).p99
    assert a.repeated(3).mean == pytest.approx(3 * a.mean)


def test_behind_a_cache_the_p99_is_the_90th_of_what_it_does_not_answer() -> None:
    slow = lognormal(1.0, 4)
    cached = mixed((0.9, NOTHING), (0.1, slow))
    assert cached.p99 == pytest.approx(slow.quantile(0.9), rel=1e-3)


def test_what_is_cut_off_takes_no_longer_than_the_timeout() -> None:
    share, answered = lognormal(1.0, 4).cut(0.5)
    assert share == pytest.approx(lognormal(1.0, 4).below(0.5))
    assert answered.quantile(0.9999) <= 0.5
    assert answered.mean < lognormal(1.0, 4).mean


@QUICK
@given(st.lists(st.floats(0.001, 2), min_size=2, max_size=4), st.floats(1.5, 6), st.booleans())
def test_sums_and_longest_against_numbers_drawn(stages: list[float], tail: float, together: bool) -> None:
    spread = lognormal(stages[0], tail)
    for each in stages[1:]:
        spread = spread.beside(lognormal(each, tail)) if together else spread.plus(lognormal(each, tail))
    drawn = random.Random(5)

    def draw(p99: float) -> float:
        return p99 / tail * math.exp(math.log(tail) / 2.3263 * drawn.gauss(0, 1))

    join = max if together else sum
    times = sorted(join([draw(each) for each in stages]) for _ in range(6000))
    assert spread.mean == pytest.approx(sum(times) / len(times), rel=0.06)
    assert spread.p99 == pytest.approx(times[5940], rel=0.12)


def test_the_latency_of_a_chain_is_below_the_naive_sum_and_above_its_longest_part() -> None:
    risk = one(changed(("p99: 800ms", "p99: 500ms")), "latency-budget")
    assert risk.value is not None
    assert 0.6 < risk.value < 0.02 + 0.022 + 0.626
    assert "naive sum is" in risk.formula
    assert "payments.authorise handed over" in risk.remedy
    assert "stripe within" in risk.remedy
    assert not risks_of(SHOP, "latency-budget")


def test_what_stands_in_is_cut_off_at_its_own_timeout() -> None:
    text = changed(("calls: [stripe]", "calls: [stripe within 1ms else other]")).replace(
        "depends:\n", "depends:\n  other: {p99: 600ms, timeout: 200ms}\n"
    )
    study = result_of(text).study
    assert Times(study).run(study.system.ops["payments.authorise"]).p99 < 0.2 + 0.1


def test_what_stands_in_may_wait_for_what_it_stands_in_for() -> None:
    text = changed(
        ("calls: [inventory.reserve, payments.authorise]", "calls: payments.authorise else orders.again")
    )
    text = text.replace("      place:", "      again: {calls: payments.authorise}\n      place:")
    result = result_of(text.replace("availability: 99.9%", "availability: 99.99%"))
    (risk,) = (risk for risk in result.risks if risk.id == "availability-chain:orders.place")
    assert risk.value == pytest.approx(0.9995**3, abs=1e-9)


def test_one_call_for_all_is_what_many_in_a_row_are_told() -> None:
    many = changed(("calls: [inventory.reserve,", "calls: [inventory.reserve x80,"))
    assert "inventory.reserve asked once for all 80" in one(many, "latency-budget").remedy


def test_the_bearable_p99_is_bearable() -> None:
    risk = one(changed(("p99: 800ms", "p99: 500ms")), "latency-budget")
    bearable = risk.remedy.partition("stripe within ")[2].partition(" ")[0]
    assert not risks_of(
        changed(("p99: 800ms", "p99: 500ms"), ("p99: 600ms", f"p99: {bearable}")), "latency-budget"
    )


# ---------------------------------------------------------------------------------------- timeouts


def test_timeouts_of_the_sketch_do_not_nest() -> None:
    authorise, place = sorted(risks_of(SHOP, "timeout-nesting"), key=lambda risk: risk.subject, reverse=True)
    assert place.subject == "orders.place"
    assert place.value == pytest.approx(0.02 + 0.2 + 3 * 0.7)
    assert place.need == 1.0
    assert "payments.authorise 700ms × 3" in place.message
    assert authorise.subject == "payments.authorise"
    assert authorise.value == pytest.approx(1.02)
    assert "stripe within 680ms" in authorise.remedy


def test_the_timeouts_that_are_advised_nest() -> None:
    inside = changed(
        ("calls: [stripe]", "calls: [stripe within 680ms]"), ("gives: text", "gives: text, timeout: 2.4s")
    )
    assert not risks_of(inside, "timeout-nesting")


def test_waits_between_attempts_and_a_fallback_count() -> None:
    text = changed(
        ("retry: 2", "retry: 2 first 100ms"), ("calls: [stripe]", "calls: [stripe within 300ms else mail]")
    )
    text = text.replace("depends:\n", "depends:\n  mail: {timeout: 350ms}\n")
    place = next(risk for risk in risks_of(text, "timeout-nesting") if risk.subject == "orders.place")
    assert place.value == pytest.approx(0.02 + 0.2 + 3 * 0.7 + 0.1 + 0.2)
    assert not [risk for risk in risks_of(text, "timeout-nesting") if risk.subject == "payments.authorise"]
    text = text.replace("350ms", "400ms")
    assert [risk for risk in risks_of(text, "timeout-nesting") if risk.subject == "payments.authorise"]


def test_nothing_written_is_nothing_contradicted() -> None:
    text = changed(("reserve: {timeout: 200ms}", "reserve: {}"), (", timeout: 700ms, retry: 2", ""))
    assert not risks_of(text, "timeout-nesting")


def test_a_timeout_below_the_p99_gives_up_what_is_only_slow() -> None:
    risk = next(
        risk
        for risk in risks_of(changed(("calls: [stripe]", "calls: [stripe within 300ms]")), "timeout-nesting")
        if risk.subject == "payments.authorise->stripe"
    )
    # 300 ms is ln(2)/ln(4) = half of the 2.326 deviations above the median of 150 ms; the hop adds a little.
    assert risk.value == pytest.approx(0.5 * math.erfc(2.3263 / 2 / math.sqrt(2)), rel=0.05)
    for caught in ("calls: [stripe within 300ms else nothing]", "calls: [stripe within 600ms]"):
        found = risks_of(changed(("calls: [stripe]", caught)), "timeout-nesting")
        assert "payments.authorise->stripe" not in [risk.subject for risk in found]


# ---------------------------------------------------------------------------------------- retries


@pytest.mark.parametrize(
    ("change", "attempts"),
    [
        ((), 300 * 3),
        ((("calls: [stripe]", "calls: [stripe retry 1]"),), 300 * 3 * 2),
        ((("retry: 2", "retry: 2 budget 10%"),), 300 * 1.1),
        ((("calls: [stripe]", "calls: [stripe retry 1 else nothing]"),), 300 * 2),
        ((("calls: [stripe]", "calls: [stripe 50%]"),), 150 * 3),
        ((("authorise]", "authorise else nothing]"),), 300 * 3),
        ((("authorise: {", "authorise: {cache: 10m hit 80%, "),), 300 * 3 * (1 - 0.8 / math.e)),
        ((("payments.authorise]", "payments.authorise later]"),), 300 * 3),
        (
            (
                ("payments.authorise]", "payments.authorise later]"),
                ("calls: [stripe]", "calls: [stripe retry 1]"),
            ),
            1800,
        ),
        ((("calls: [stripe]", "calls: [stripe retry 1 else nothing, stripe]"),), 300 * 3 * 3),
    ],
)
def test_attempts_multiply_along_the_way(change: tuple[tuple[str, str], ...], attempts: float) -> None:
    risk = one(changed(*change), "retry-amplification")
    assert risk.value == pytest.approx(attempts)
    assert risk.need == 100


def test_what_stands_in_and_needs_the_same_is_told_of_and_no_budget_helps() -> None:
    text = changed(
        ("calls: [inventory.reserve, payments.authorise]", "calls: [payments.authorise else payments.other]"),
        (", timeout: 700ms, retry: 2}", "}\n      other: {calls: [stripe]}"),
        ("limit: 100/s", "limit: 320/s"),
    )
    risk = one(text, "retry-amplification")
    assert risk.value == pytest.approx(600)
    assert risk.message == (
        "stripe may be asked 600/s when what stands in asks it too, more than its limit of 320/s"
    )
    assert "300/s (payments.other, which stands in)" in risk.formula
    assert risk.remedy == (
        "let what stands in for orders.place's call of payments.authorise do without stripe; or ask for a limit of "
        "600/s or more"
    )
    assert not risks_of(text.replace("limit: 320/s", "limit: 600/s"), "retry-amplification")


def test_what_runs_empty_is_asked_as_often_as_without_a_cache_even_by_a_call_that_may_fail() -> None:
    text = changed(
        (
            "authorise: {calls: [stripe], timeout: 700ms, retry: 2}",
            "authorise: {calls: [stripe else nothing, stripe]}",
        ),
        ("gives: text, calls", "gives: text, cache: 1s hit 90%, calls"),
    )
    kept = 0.9 * (1 / 1200)
    assert one(text, "retry-amplification").value == pytest.approx(2 * 300 * (1 - kept), rel=1e-3)


def test_a_handler_that_is_given_its_event_again_asks_again() -> None:
    text = changed(
        ("payments.authorise]", "inventory.reserve], emits: Placed"),
        ("authorise: {calls: [stripe]", "authorise: {on: Placed, calls: [stripe]"),
    )
    assert one(text, "retry-amplification").value == pytest.approx(300 * 3)


def test_two_ways_to_it_add_up_and_are_not_both_taken_as_the_worst() -> None:
    text = changed(
        (
            "      place:",
            "      quick: {by: shopper, load: 1/s peak 10/s, gives: text, calls: payments.authorise retry "
            "0}\n      place:",
        )
    )
    assert one(text, "retry-amplification").value == pytest.approx(300 * 3 + 10)


@QUICK
@given(blueprints())
def test_attempts_are_never_fewer_than_calls(value: dict[str, Any]) -> None:
    study = study_of(value)
    for dep in study.system.deps.values():
        attempts = Attempts(study, dep)
        for edge in dep.edges:
            assert attempts.over(edge) >= study.flows.over(edge).peak - 1e-9


# ---------------------------------------------------------------------------------------- pools and rows


def test_erlang_c_by_the_book() -> None:
    assert erlang_c(1, 0.5) == pytest.approx(0.5)  # M/M/1: the share of time that it is busy
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(10, 7.0) == pytest.approx(0.2217, abs=1e-4)
    assert erlang_c(3, 3.0) == 1.0
    assert wait_p99(0.5, 1.0, 1) == pytest.approx(math.log(50) / 0.5)
    assert wait_p99(1, 0.001, 10) == 0.0
    assert math.isinf(wait_p99(20, 1.0, 10))


POOL = """
actors: {user: {auth: oidc}}
services:
  api: {copies: 2, pool: 5, does: {read: {by: user, load: 100/s peak 600/s, hold: 15ms, gives: text}}}
"""


def test_a_pool_by_littles_law() -> None:
    risk = one(POOL, "pool-size")
    assert risk.value == pytest.approx(600 * 0.015 / 10)
    assert "api needs 9 connections at once at peak and has 10 (2 copies × 5), 90% busy" in risk.message
    assert risk.severity is Severity.HIGH
    pool = int(risk.remedy.removeprefix("pool: ").split()[0])
    needed = demand(result_of(POOL).study, "api")
    assert needed.suffices(2, pool, 0.7) and not needed.suffices(2, pool - 1, 0.7)
    assert not risks_of(POOL.replace("pool: 5", f"pool: {pool}"), "pool-size")
    copies = int(risk.remedy.partition("copies: ")[2].split()[0])
    assert not risks_of(POOL.replace("copies: 2", f"copies: {copies}"), "pool-size")


def test_a_pool_that_cannot_keep_up_is_critical_and_one_beyond_the_database_is_said() -> None:
    risk = one(POOL.replace("600/s", "60k/s"), "pool-size")
    assert risk.severity is Severity.CRITICAL
    assert "the queue for them grows" in risk.message
    assert "above PostgreSQL's 100 by default" in risk.remedy
    assert not risks_of(POOL.replace("copies: 2,", "copies: 2, store: none,"), "pool-size")


def test_a_connection_held_across_a_call_is_named() -> None:
    text = POOL.replace("hold: 15ms,", "hold: 400ms, calls: bank,").replace(
        "services:", "depends: {bank: {p99: 400ms}}\nservices:"
    )
    assert "let api.read hold none while it waits for bank" in one(text, "pool-size").remedy


@settings(QUICK, max_examples=200)
@given(st.floats(0.1, 500), st.floats(0.001, 0.5), st.integers(1, 60))
def test_more_servers_never_wait_longer(rate: float, hold: float, servers: int) -> None:
    assert wait_p99(rate, hold, servers + 1) <= wait_p99(rate, hold, servers) + 1e-9
    assert 0 <= erlang_c(servers, rate * hold) <= 1


ROW = """
actors: {user: {auth: oidc}}
services:
  stock:
    owns: {Product: {sku: text, left: int, sold: int}}
    does:
      take: {by: user, load: 100/s peak 1k/s, gives: text, changes: Product.left hottest 16%}
"""


def test_a_hot_row_by_hand() -> None:
    risk = one(ROW, "hot-row")
    assert risk.value == pytest.approx(1000 * 0.16 * 0.005)
    assert risk.subject == "stock.Product"
    assert "is written 160/s at peak and is locked 5ms each time, 80% of the time" in risk.message
    assert "a write waits 14ms on average" in risk.message
    assert risk.remedy.startswith("2 rows in its place")
    assert not risks_of(ROW.replace("16%", "14%"), "hot-row")
    assert one(ROW.replace("16%", "20%"), "hot-row").severity is Severity.CRITICAL


def test_a_line_before_a_row_by_pollaczek_and_khinchine() -> None:
    study = result_of(ROW).study
    ((_, writers),) = hottest(study).items()
    varied = math.exp((math.log(4) / 2.3263) ** 2)  # the mean square of a lognormal over its squared mean
    assert waiting(study, writers) == pytest.approx(160 * 0.005**2 * varied / 2 / (1 - 0.8), rel=1e-3)
    # One writer in a hundred that keeps it a hundred times as long makes all wait.
    changes = "changes: Product.left hottest 16%"
    more = f"      slow: {{by: user, load: 1/s, gives: text, {changes}, hold: 500ms, calls: bank}}\n"
    text = ROW.replace("services:", "depends: {bank: {p99: 500ms}}\nservices:").replace("1k/s", "100/s")
    alone = waiting((alone := result_of(text).study), next(iter(hottest(alone).values())))
    both = result_of(text + more).study
    assert waiting(both, next(iter(hottest(both).values()))) > 50 * alone


def test_who_waits_for_a_row_holds_a_connection_and_mixed_holds_wait_longer() -> None:
    study = result_of(ROW).study
    ((_, writers),) = hottest(study).items()
    assert demand(study, "stock").hold == pytest.approx(0.015 + 0.16 * waiting(study, writers))
    assert demand(study, "stock").variation == pytest.approx(1.0, abs=0.2)
    more = "      slow: {by: user, load: 1/s peak 10/s, gives: text, hold: 500ms}\n"
    assert demand(result_of(ROW + more).study, "stock").variation > 4
    calls = "calls: [[stock.take, stock.take, stock.take]], "
    bunch = ROW.replace("hottest 16%}", "hottest 0%}").replace(
        "100/s peak 1k/s, gives: text", "1/s, gives: text"
    )
    bunch += f"  shop:\n    does:\n      buy: {{{calls}by: user, load: 10/s peak 50/s, gives: text}}\n"
    one_copy = result_of(bunch.replace("  stock:\n", "  stock:\n    copies: 1\n"))
    assert demand(one_copy.study, "stock").variation == pytest.approx(
        (1 + 2 * 150 / 153 + 0.426) / 2, abs=0.01
    )


def test_two_fields_of_a_row_are_one_lock_and_two_operations_are_two() -> None:
    two = ROW.replace("Product.left hottest 16%", "[Product.left hottest 16%, Product.sold hottest 16%]")
    assert one(two, "hot-row").value == pytest.approx(0.8)
    more = (
        ROW + "      give: {by: user, load: 1/s peak 100/s, gives: text, changes: Product.left hottest 10%}\n"
    )
    assert one(more, "hot-row").value == pytest.approx(0.8 + 100 * 0.1 * 0.005)


def test_a_lock_held_across_a_call_is_as_long_as_the_connection() -> None:
    across = ROW.replace("gives: text,", "gives: text, hold: 200ms, calls: bank,").replace(
        "services:", "depends: {bank: {p99: 200ms}}\nservices:"
    )
    assert one(across, "hot-row").value == pytest.approx(160 * 0.2)
    assert one(across.replace("hold: 200ms", "hold: 20ms"), "hot-row").value == pytest.approx(0.8)


# ---------------------------------------------------------------------------------------- standing alone


def test_one_copy_one_gateway_one_dependency() -> None:
    text = changed(("  inventory:\n", "  inventory:\n    copies: 1\n"))
    (copy,) = risks_of(text, "single-point-of-failure")
    assert copy.subject == "inventory"
    assert "leaves 43m a month" in copy.message
    assert not risks_of(text.replace("copies: 1", "copies: 2"), "single-point-of-failure")
    assert not risks_of(text.replace("availability: 99.9%, ", "", 1), "single-point-of-failure")
    door = changed(
        ("services:", "parts: {door: gateway}\nservices:"), ("availability: 99.9%", "availability: 99.95%")
    )
    assert one(door, "single-point-of-failure").subject == "door"
    assert not risks_of(
        door.replace("door: gateway", "door: {kind: gateway, availability: 99.99%}"),
        "single-point-of-failure",
    )
    # What goes on without it does not wait for it, and a part that most calls pass by stops few.
    for passed in ("inventory.reserve else nothing", "inventory.reserve later", "inventory.reserve 0.01%"):
        assert not risks_of(text.replace("inventory.reserve", passed, 1), "single-point-of-failure")
    every = (
        "needs: {availability: 99.9%}\nactors: {u: {auth: oidc}}\ndepends: {idp: {}}\nservices:\n  s:\n    does:\n"
        + "".join(f"      op{at}: {{by: u, gives: text, calls: idp}}\n" for at in range(3))
    )
    assert "all 3 operations that actors call wait for idp" in one(every, "single-point-of-failure").message
    assert not risks_of(
        every.replace(
            "op2: {by: u, gives: text, calls: idp", "op2: {by: u, gives: text, calls: idp else cached"
        ),
        "single-point-of-failure",
    )


def test_a_spread_of_many_components_keeps_its_mean() -> None:
    spread = NOTHING
    for at in range(6):
        spread = spread.plus(mixed((0.3, lognormal(0.1 * (at + 1), 4)), (0.7, NOTHING)))
    exact = sum(0.3 * lognormal(0.1 * (at + 1), 4).mean for at in range(6))
    assert isinstance(spread, Spread)
    assert len(spread.stages) <= 8
    assert spread.mean == pytest.approx(exact)


def test_what_takes_the_place_of_a_dependency_and_needs_it_too_is_no_help() -> None:
    text = (
        "needs: {availability: 99.9%}\nactors: {u: {auth: oidc}}\ndepends: {idp: {}}\nservices:\n  s:\n    does:\n"
        "      check: {calls: idp}\n      other: {calls: idp}\n"
        + "".join(f"      op{at}: {{by: u, gives: text, calls: check else other}}\n" for at in range(3))
    )
    assert one(text, "single-point-of-failure").subject == "idp"
    assert not risks_of(text.replace("other: {calls: idp}", "other: {}"), "single-point-of-failure")


def test_own_work_counts_to_the_time_that_a_caller_waits() -> None:
    text = changed(
        ("calls: [stripe]", "calls: [stripe within 650ms], work: 200ms"), ("timeout: 700ms", "timeout: 800ms")
    )
    risk = next(risk for risk in risks_of(text, "timeout-nesting") if risk.subject == "payments.authorise")
    assert "may take 850ms: own work 200ms + stripe 650ms" in risk.message
    assert not [
        risk
        for risk in risks_of(text.replace("200ms, t", "100ms, t"), "timeout-nesting")
        if risk.subject == "payments.authorise"
    ]
