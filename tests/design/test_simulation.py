"""The formulas against the simulation, over random blueprints; and the simulation against what is known by hand."""

from __future__ import annotations

from typing import Any

import pytest
from blueprint_random import blueprints, study_of
from hypothesis import HealthCheck, Phase, given, settings

from mainstay.architect.design.chances import Block, Chance
from mainstay.architect.design.risks import Study
from mainstay.architect.design.simulation import judge, simulate
from mainstay.architect.design.simulation.measure import quantile
from mainstay.architect.design.simulation.world import Regime, World
from mainstay.architect.design.times import Times

FEW = settings(
    max_examples=8,
    phases=(Phase.explicit, Phase.generate),  # one that fails is small as it is, and each takes its time
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
@given(blueprints())
def test_every_formula_is_within_its_tolerance(value: dict[str, Any]) -> None:
    wrong = [row for row in judge(study_of(value), seconds=20, seed=7, steps=4000) if not row.holds]
    assert not wrong


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
    assert seen.locks["api.Row"].value == pytest.approx(50 * 0.5 * 0.005, rel=0.1)


def test_a_retry_budget_holds() -> None:
    value = plain(calls="bank")
    value["depends"]["bank"]["retry"] = "3 budget 20%"
    assert simulate(study_of(value), 60, 1, steps=8000).attempts["bank"].value == pytest.approx(
        50 * 1.2, rel=0.08
    )


def test_a_wrong_formula_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(plain(calls=["bank", "bank x2"]))
    assert all(row.holds for row in judge(study, 100, 1, 20_000))
    given = Chance.of

    def twice(self: Chance, block: Block) -> float:
        return given(self, block) * 0.8  # as if the bank were asked of twice

    monkeypatch.setattr(Chance, "of", twice)
    assert [row.what.split(",")[0] for row in judge(study, 100, 1, 20_000) if not row.holds] == [
        "availability"
    ]


def test_a_wrong_time_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    study: Study = study_of(plain(calls=["bank", "bank"]))
    monkeypatch.setattr(Times, "of", lambda self, op: self.run(op).plus(self.run(op)))
    assert {row.what for row in judge(study, 60, 1, 6000) if not row.holds} >= {"p50", "p99"}


def test_quantiles_and_their_errors() -> None:
    counted = quantile([float(at) for at in range(10_001)], 0.99)
    assert counted.value == 9900
    assert counted.error == pytest.approx(10, abs=1.5)  # the square root of n p (1 - p)
