"""The formulas against the simulation, over random blueprints; and the simulation against what is known by hand."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from blueprint_random import blueprint, study_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from judge import rows_of, text_of

from mainstay.architect.design import trees
from mainstay.architect.design.chances import Block, Chance
from mainstay.architect.design.risks import Study, hot_row, single_point_of_failure
from mainstay.architect.design.risks.timeout_nesting import held
from mainstay.architect.design.simulation import judge, simulate
from mainstay.architect.design.simulation.measure import mean_in_time, quantile, quantile_in_time
from mainstay.architect.design.simulation.world import Regime, Tally, World
from mainstay.architect.design.times import Times

FEW = settings(
    max_examples=6,
    phases=(Phase.explicit, Phase.generate),  # a seed does not get simpler by being smaller
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def plain(**more: Any) -> dict[str, Any]:
    """One service that calls a dependency."""
    does = {"read": {"by": "user", "load": "20/s peak 50/s", "gives": "text", "calls": "bank", **more}}
    return {
        "blueprint": "plain",
        "actors": {"user": {"auth": "oidc"}},
        "depends": {"bank": {"availability": "90%", "p99": "100ms"}},
        "services": {"api": {"availability": "95%", "copies": "1", "pool": "2", "does": does}},
    }


@FEW
@given(st.integers(0, 2**32 - 1))
def test_every_formula_is_within_its_tolerance(seed: int) -> None:
    # tests/design/judge.py --show SEED --seconds 20 --steps 1000 has all rows of one that fails.
    assert not [row for row in rows_of(seed, 20, 1000) if not row.holds]


def test_random_blueprints_have_what_real_ones_have() -> None:
    text = "".join(text_of(seed) for seed in range(40))
    for word in ("cache", "stale", "hottest", "emits_in", "later", "else nothing", "else dep", "retry", "budget",
                 "first", "within", "peak", "gateway", "hold", "robot", "'on'", "- - ", " x2", "%"):  # fmt: skip
        assert word in text
    assert blueprint(7) == blueprint(7) != blueprint(8)
    assert {service["copies"] for at in range(9) for service in blueprint(at)["services"].values()} >= set(
        "123"
    )
    loads = {row.what.partition(",")[0] for seed in range(2) for row in rows_of(seed, 4, 400)}
    assert len(loads) == 14, loads


def test_the_same_seed_gives_the_same_numbers() -> None:
    study = study_of(plain())
    assert simulate(study, 4, 3, steps=1000) == simulate(study, 4, 3, steps=1000)
    assert simulate(study, 4, 3, steps=1000).operations != simulate(study, 4, 4, steps=1000).operations


def test_availability_and_attempts_by_hand() -> None:
    seen = simulate(study_of(plain(calls="bank retry 2")), 60, 1, steps=6000)
    counted = seen.operations["api.read"].availability
    assert counted.value == pytest.approx(0.95 * 0.9, abs=4 * counted.error)
    attempts = seen.attempts["bank"]
    assert attempts.value == pytest.approx(150, rel=0.08)


def test_a_call_that_nobody_waits_for_and_one_with_a_fallback_cost_nothing() -> None:
    for how in ("bank later", "bank else nothing", "bank else cached"):
        counted = simulate(study_of(plain(calls=how)), 40, 1, steps=4000).operations["api.read"].availability
        assert counted.value == pytest.approx(0.95, abs=4 * counted.error)


def test_a_timeout_cuts_off_and_the_attempt_after_it_counts() -> None:
    # The median of the bank is 25 ms: within 25 ms half the attempts answer, of two in a row three quarters.
    def share(calls: str) -> float:
        world = World(study_of(plain(calls=calls)), 1, Regime())
        (op,) = world.system.ops.values()
        world.arrive(op, 100, 60)
        world.run()
        return world.good[op] / world.runs[op]

    hop = 0.03  # it takes a little of the time
    assert share("bank within 25ms") == pytest.approx(0.5, abs=0.03 + hop)
    assert share("bank within 25ms retry 1") == pytest.approx(0.75, abs=0.03 + hop)
    assert share("bank within 2s") == 1.0


def test_a_pool_is_queued_for_as_erlang_says() -> None:
    # One connection, half used: the mean wait is half of M/M/1's, times (1 + the squared variation of a hold).
    value = plain(hold="10ms", calls=[], load="1/s peak 50/s")
    value["services"]["api"]["pool"] = "1"
    seen = simulate(study_of(value), 300, 1, steps=15_000).pools["api"]
    assert seen.busy.value == pytest.approx(0.5, rel=0.06)
    by_hand = 0.010 * 0.5 / (1 - 0.5) * (1 + 0.426) / 2  # Pollaczek and Khinchine; exp(sigma²) - 1 = 0.426
    assert seen.wait_mean.value == pytest.approx(by_hand, rel=0.2)


def test_a_hot_row_is_locked_for_its_share() -> None:
    value = plain(changes="Row.n hottest 50%", calls=[])
    value["services"]["api"] |= {"owns": {"Row": {"id": "uuid", "n": "int"}}, "pool": "20"}
    seen = simulate(study_of(value), 200, 1, steps=10_000)
    row = seen.locks["api.Row"]
    assert row.locked.value == pytest.approx(50 * 0.5 * 0.005, rel=0.1)
    by_hand = 25 * 0.005**2 * 1.426 / 2 / (1 - 0.125)  # Pollaczek and Khinchine; exp(sigma²) = 1.426
    assert row.wait_mean.value == pytest.approx(by_hand, rel=0.3)


def test_a_retry_budget_holds() -> None:
    value = plain(calls="bank")
    value["depends"]["bank"]["retry"] = "3 budget 20%"
    assert simulate(study_of(value), 60, 1, steps=8000).attempts["bank"].value == pytest.approx(
        50 * 1.2, rel=0.08
    )


def test_a_wrong_formula_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(plain(calls=["bank", "bank x2"]))
    assert all(row.holds for row in judge(study, 60, 1, 8000))
    given = Chance.of

    def twice(self: Chance, block: Block) -> float:
        return given(self, block) * 0.8  # as if the bank were asked of twice

    monkeypatch.setattr(Chance, "of", twice)
    wrong = {row.what.split(",")[0] for row in judge(study, 60, 1, 8000) if not row.holds}
    assert {"share that fails"} <= wrong <= {"share that fails", "share that answers"}


def test_a_wrong_time_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    study: Study = study_of(plain(calls=["bank", "bank"]))
    monkeypatch.setattr(Times, "of", lambda self, op: self.run(op).repeated(4))
    assert {row.what for row in judge(study, 60, 1, 6000) if not row.holds} >= {"p50", "p99"}


def test_quantiles_and_their_errors() -> None:
    counted = quantile([float(at) for at in range(10_001)], 0.99)
    assert counted.value == 9900
    assert counted.error == pytest.approx(10, abs=1.5)  # the square root of n p (1 - p)


# ---------------------------------------------------------------------------------------- what is judged


def chain(**reserve: Any) -> dict[str, Any]:
    """An operation that calls another, which calls a dependency."""
    return {
        "blueprint": "chain",
        "needs": {"availability": "99%"},
        "actors": {"user": {"auth": "oidc"}},
        "depends": {"bank": {"p99": "100ms", "timeout": "300ms"}},
        "services": {
            "shop": {
                "does": {"buy": {"by": "user", "gives": "text", "calls": "stock.take", "timeout": "5s"}}
            },
            "stock": {"does": {"take": {"calls": "bank retry 1", "timeout": "400ms", **reserve}}},
        },
    }


def test_a_silent_dependency_holds_its_callers_for_all_their_attempts() -> None:
    measured = simulate(study_of(chain(retry="1 first 50ms")), 5, 1, steps=2000)
    (buy,), (take,) = measured.silent["shop.buy"], measured.silent["stock.take"]
    # Two attempts of 300 ms; the caller waits 400 ms for each of two, and 50 ms between.
    assert take.lasted.value == pytest.approx(0.6, abs=1e-6)
    assert buy.lasted.value == pytest.approx(0.4 * 2 + 0.05, abs=1e-6)
    # Those that buy called are given up on; as many were begun by themselves.
    assert take.outlasted.value == pytest.approx(2 / 3, abs=0.01)
    patient = simulate(study_of(chain(timeout="700ms")), 5, 1, steps=2000)
    assert patient.silent["stock.take"][0].outlasted.value == 0


def test_calls_that_answer_at_the_last_moment_take_what_is_computed() -> None:
    value = chain(calls=[["bank x2 retry 1 else stock.spare", "bank within 1s 1%"]], work="100ms")
    value["services"]["stock"]["does"]["spare"] = {"timeout": "50ms"}
    study = study_of(value)
    assert held(study, study.system.ops["stock.take"]).seconds == pytest.approx(2 * (0.3 * 2 + 0.05) + 0.1)
    seen = simulate(study, 5, 1, steps=1000).at_last["stock.take"]
    assert seen.value == pytest.approx(1.4, abs=0.03)


def test_what_is_taken_away_stops_what_waits_for_it_and_nothing_else() -> None:
    value = chain()
    value["services"]["shop"]["does"]["look"] = {
        "by": "user",
        "gives": "text",
        "calls": "stock.take else cached",
    }
    value["services"]["shop"]["does"]["ask"] = {"by": "user", "gives": "text", "calls": "bank 40%"}
    without = simulate(study_of(value), 5, 1, steps=12_000).without
    assert [without["stock", f"shop.{op}"].value for op in ("buy", "look", "ask")] == [0, 1, 1]
    assert [without["bank", f"shop.{op}"].value for op in ("buy", "look")] == [0, 1]
    assert without["bank", "shop.ask"].value == pytest.approx(0.6, abs=0.15)
    assert without["shop", "shop.look"].value == 0


def test_a_cache_is_filled_by_a_cache() -> None:
    value = chain(cache="1000s hit 100%", calls="bank")
    value["services"]["shop"]["does"]["buy"]["cache"] = "1000s hit 100%"
    value["assume"] = {"outage": "1000s"}
    given = simulate(study_of(value), 5, 1, steps=30_000).without["bank", "shop.buy"]
    # An entry of an entry: 1 - (1 - 1/e)^2 of the outages are younger than both together.
    assert given.value == pytest.approx(1 - (1 - 1 / math.e) ** 2, abs=0.1)
    del value["services"]["shop"]["does"]["buy"]["cache"]
    given = simulate(study_of(value), 5, 1, steps=30_000).without["bank", "shop.buy"]
    assert given.value == pytest.approx(1 / math.e, abs=0.1)


def test_attempts_of_what_fails_every_second_time() -> None:
    seen = simulate(study_of(plain(calls="bank retry 2")), 60, 1, steps=6000)
    assert seen.partly["bank"].value == pytest.approx(50 * 1.75, rel=0.08)
    assert seen.calls["bank"].value == pytest.approx(50, rel=0.08)


def test_the_error_of_what_comes_in_bunches_is_that_of_the_bunches() -> None:
    tally = Tally()
    for root in range(100):
        tally.by_root[root] = 10.0
    assert tally.error == pytest.approx(100, rel=0.25)  # the square root of 100 bunches, of 10 each
    drawn = random.Random(2)
    level, line = 0.0, []
    for at in range(4000):
        level = 0.98 * level + drawn.gauss(0, 1)  # each is much like the one before
        line.append((float(at), level))
    alone = math.sqrt(sum(value**2 for _, value in line)) / len(line)
    assert mean_in_time(line).error > 4 * alone
    median = quantile_in_time(line, 0.5)
    assert median.error > 2 * quantile(sorted(value for _, value in line), 0.5).error


@pytest.mark.parametrize(
    ("what", "where", "name", "wrong"),
    [
        ("attempts a second while it is down", trees, "repeats", lambda retry: 1.0),
        ("longest at work", trees, "pauses", lambda edge: []),
        ("mean wait for the hottest row", hot_row, "varied", lambda tail: -0.95),
        ("share that answers", single_point_of_failure.Chance, "of", lambda self, block: 1.0),
    ],
)
def test_other_wrong_formulas_are_found_out(
    monkeypatch: pytest.MonkeyPatch, what: str, where: Any, name: str, wrong: Any
) -> None:
    value = chain(retry="1 first 200ms", changes="Row.n hottest 50%")
    value["services"]["stock"] |= {"owns": {"Row": {"id": "uuid", "n": "int"}}, "pool": "20"}
    value["services"]["shop"]["does"]["buy"]["load"] = "50/s peak 200/s"
    study = study_of(value)
    assert all(row.holds for row in judge(study, 20, 1, 4000))
    monkeypatch.setattr(where, name, wrong)
    assert what in {row.what.split(",")[0] for row in judge(study, 20, 1, 4000) if not row.holds}
