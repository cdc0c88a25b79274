"""What if, and which numbers matter most."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from blueprint_text import result_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mainstay.architect.design import what_if
from mainstay.architect.design.sensitivity import sensitivity
from mainstay.architect.design.study import Result
from mainstay.architect.errors import MainstayError

MAINSTAY = Path(sys.executable).parent / "mainstay"
SHOP = """\
blueprint: shop
needs: {availability: 99.9%}
actors: {shopper: {auth: oidc}}
depends:
  stripe: {availability: 99.95%, limit: 100/s, retry: 2}
parts: {broker: kafka}
services:
  payments:
    owns: {Payment: {id: uuid, amount: money}}
    does:
      pay: {by: shopper, takes: {amount: money}, gives: Payment, load: 20/s peak 60/s, calls: [stripe], timeout: 3s}
"""
RISK = "retry-amplification:stripe"


def moved(result: Result, *changes: str) -> dict[str, what_if.Moved]:
    """What moves, by risk."""
    other = what_if.study(result.study.system.source, changes)
    return {one.id: one for one in what_if.compare(result.risks, other.risks)}


def test_a_risk_goes_moves_and_appears() -> None:
    """With its number before and after, and what it is held against."""
    result = result_of(SHOP)
    assert moved(result, "stripe.limit=200/s")[RISK].how == "gone"
    worse = moved(result, "payments.pay.load=20/s peak 90/s")[RISK]
    assert (worse.how, worse.before, worse.after, worse.need) == ("worse", "180/s", "270/s", "100/s")
    assert moved(result, "stripe.limit=120/s")[RISK].how == "better"
    appears = moved(result, "payments.pool=1", "payments.copies=1")["pool-size:payments"]
    assert appears.how == "appears" and appears.before == ""


def test_keys_are_those_that_risks_are_printed_with() -> None:
    """The peak of a load, an assumption, a part that was written as one word."""
    result = result_of(SHOP)
    assert moved(result, "payments.pay.load peak=90/s")[RISK].after == "270/s"
    assert moved(result, "payments.pay.calls=[stripe retry 0]")[RISK].how == "gone"
    other = what_if.study(result.study.system.source, ["broker.availability=99%"])
    assert str(other.study.system.parts["broker"].spec.availability) == "99%"
    for risk in result.risks:
        for figure in risk.inputs:
            if "->" not in figure.key and "." in figure.key:
                what_if.resolve(result.study.system.source, figure.key)


@pytest.mark.parametrize(
    ("change", "told"),
    {
        "payments.pya.timeout=1s": "payments has no 'pya' (did you mean 'pay'?)",
        "paymnts.pay.timeout=1s": "nothing in the blueprint is named 'paymnts' (did you mean 'payments'?)",
        "payments.pay.timeot=1s": "payments.pay has no 'timeot' (did you mean 'timeout'?)",
        "strip.limit=1/s": "(did you mean 'stripe'?)",
        "assume.hodl=1s": "assume has no 'hodl' (did you mean 'hold'?)",
        "needs.p98=1s": "needs has no 'p98' (did you mean 'p99'?)",
        "stripe.limit=400": "'400' is not a rate such as 100/s, 50/min or 10/d; write 400/s",
        "payments.pay.calls=[strip]": "(did you mean 'stripe'?)",
        "payments.pay.calls=[stripe": "this is not YAML",
        "payments.pay.calls.7=stripe": "payments.pay.calls has no '7'",
        "stripe.limit": "KEY=VALUE",
        "=1s": "KEY=VALUE",
        "services=1": "services",
        "payments.pay=1": "must be",
    }.items(),
)
def test_a_wrong_change_is_refused_in_one_sentence(change: str, told: str) -> None:
    """With the nearest name, and the change itself."""
    with pytest.raises(MainstayError) as refused:
        what_if.study(result_of(SHOP).study.system.source, [change])
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(["payments", "payments.pay", "stripe", "assume", "needs", "broker", "shopper", "x", ""]),
    st.sampled_from(
        ["", ".timeout", ".limit", ".load", ".load peak", ".calls", ".calls.0", ".takes.amount", ".p99"]
    ),
    st.one_of(
        st.sampled_from(["1s", "99%", "100/s", "[", "{}", "[[]]", "{a: 1}", "2", "null"]), st.text(max_size=8)
    ),
)
@example("payments", "", "0\n")  # a value with a line of its own
def test_any_change_is_made_or_refused(name: str, key: str, value: str) -> None:
    """Never anything else."""
    try:
        what_if.study(result_of(SHOP).study.system.source, [f"{name}{key}={value}"])
    except MainstayError as error:
        assert "\n" not in str(error)


def test_the_verb_prints_the_table_and_only_the_risks_that_appear(tmp_path: Path) -> None:
    """Exit code 1 where some do, 0 where none does."""
    (tmp_path / "shop.yaml").write_text(SHOP)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [MAINSTAY, "design", "shop.yaml", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    good = run("--what-if", "stripe.limit=200/s")
    assert good.returncode == 0, good
    assert f"gone {RISK} 180/s 100/s" in " ".join(good.stdout.split())
    bad = run("--what-if", "payments.pool=1", "--what-if", "payments.copies=1")
    assert bad.returncode == 1, bad
    assert "pool-size:payments" in bad.stdout and f"HIGH  {RISK}" not in bad.stdout
    told = run("--sensitivity", "--select", "retry-amplification")
    assert "Numbers that matter most, each turned by 10%" in told.stdout
    assert "stripe.limit" in told.stdout


# ------------------------------------------------------------------------------------------- sensitivity


def test_the_number_nearest_to_flipping_a_risk_comes_first() -> None:
    """190/s against 180/s is met; 5 % more load is not."""
    result = result_of(SHOP.replace("limit: 100/s", "limit: 170/s"))
    found = sensitivity(result)
    flipping = {turn.figure.key: turn for turn in found.turns if turn.flips}
    assert RISK in flipping["stripe.limit"].gone
    assert flipping["stripe.limit"].better == "187/s"
    assert flipping["payments.pay.load peak"].better == "54/s"
    flips = [turn.flips for turn in found.turns]
    assert flips == sorted(flips, reverse=True)


def test_turning_a_figure_leaves_the_result_as_it_was() -> None:
    """The risks are computed anew each time."""
    result = result_of(SHOP)
    before = [(risk.id, risk.value) for risk in result.risks]
    assert sensitivity(result).turns == sensitivity(result).turns
    assert [(risk.id, risk.value) for risk in result.risks] == before


def test_what_takes_too_long_is_left_out_and_said() -> None:
    """A large system is not waited for."""
    found = sensitivity(result_of(SHOP), seconds=0.0)
    assert found.left > 0 and len(found.turns) <= 1
