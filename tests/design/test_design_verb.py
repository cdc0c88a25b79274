"""`mainstay design` as a user meets it: real processes, their output, their exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from mainstay.architect.report import schema as report_schema

MAINSTAY = Path(sys.executable).parent / "mainstay"

SHOP = """\
blueprint: shop
needs: {availability: 99.9%, p99: 800ms}
actors:
  shopper: {auth: oidc, limit: 1/s}
depends:
  stripe: {availability: 99.95%, limit: 100/s, idempotency: header}
services:
  payments:
    owns:
      Payment: {id: uuid, amount: money}
    does:
      pay: {by: shopper, takes: {amount: money}, gives: Payment, idempotent: key,
            load: 20/s peak 60/s, calls: [stripe retry 2]}
"""
"""Its retries come to 180/s at peak, more than stripe's limit."""
RISK = "retry-amplification:stripe"


def design(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The verb, as a process."""
    return subprocess.run(
        [MAINSTAY, "design", *arguments],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with one blueprint in it."""
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "shop.yaml").write_text(SHOP)
    return tmp_path


def waived(shop: Path, until: str, risk: str = RISK) -> None:
    """Somebody answers for the risk."""
    waiver = f"waivers:\n  - {{risk: '{risk}', reason: the limit goes up, owner: ada, until: {until}}}\n"
    (shop / "shop.yaml").write_text(SHOP + waiver)


def test_a_risk_is_printed_with_its_formula_inputs_and_remedy(shop: Path) -> None:
    """And ends in one line of counts, with exit code 1."""
    done = design("shop.yaml", "--select", "retry-amplification", cwd=shop)
    assert done.returncode == 1, done
    assert done.stderr == ""
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert f"HIGH  {RISK}" in lines
    assert "shop.yaml:6:3" in lines
    assert "formula  60/s × 3 (payments.pay) = 180/s > 100/s" in lines
    assert any(line.startswith("remedy   a retry budget of 66% keeps within the limit") for line in lines)
    assert any(line.startswith("1 finding: 1 high  (1 service · 1 operation · ") for line in lines)


def test_a_design_without_risks_exits_0(shop: Path) -> None:
    """What is not looked for is not found."""
    done = design("shop.yaml", "--select", "call-cycle", cwd=shop)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no findings")


def test_a_default_that_suffices_is_told_too(shop: Path) -> None:
    """A pool that nobody wrote and that is large enough was judged all the same."""
    done = design("shop.yaml", "--select", "pool-size", cwd=shop)
    assert done.returncode == 0, done
    told = " ".join(done.stdout.split())
    assert re.search(r"enough .*assume\.copies = 2, .*assume\.pool = 10", told), told


@pytest.mark.parametrize("format", ["text", "json", "sarif", "github", "html"])
def test_every_format_tells_the_formula(shop: Path, format: str) -> None:
    """To stdout, or to a file."""
    done = design("shop.yaml", "-f", format, "-o", "out", cwd=shop)
    assert done.returncode == 1, done
    assert done.stdout == ""
    text = (shop / "out").read_text()
    assert "180/s" in text
    if format != "sarif":
        assert "60/s × 3" in text


def test_json_obeys_its_schema_and_names_the_assumptions(shop: Path) -> None:
    """With how many risks rest on each."""
    (shop / "shop.yaml").write_text(SHOP.replace("load: 20/s peak 60/s", "load: 20/s"))
    report = json.loads(design("shop.yaml", "-f", "json", "--select", "retry-amplification", cwd=shop).stdout)
    jsonschema.Draft202012Validator(json.loads(report_schema.FILE.read_text())).validate(report)
    assert report["engine"] == "design"
    assert {"name": "assume.peak", "value": "3", "number": 3.0, "findings": 1} in report["assumptions"]


def test_a_waived_risk_is_shown_apart_with_who_answers_for_it(shop: Path) -> None:
    """And is no finding."""
    waived(shop, "2999-01-01")
    done = design("shop.yaml", "--select", "retry-amplification", cwd=shop)
    assert done.returncode == 0, done
    assert f"waived {RISK} the limit goes up (ada, until 2999-01-01)" in " ".join(done.stdout.split())


def test_a_waiver_that_is_over_lets_the_risk_come_back(shop: Path) -> None:
    """Saying whose waiver it was."""
    waived(shop, "2001-01-01")
    done = design("shop.yaml", "--select", "retry-amplification", cwd=shop)
    assert done.returncode == 1, done
    assert "(waived by ada until 2001-01-01, which is over)" in " ".join(done.stdout.split())


def test_a_waiver_that_meets_nothing_is_said(shop: Path) -> None:
    """With the nearest risk; the exit code stays that of the findings."""
    waived(shop, "2999-01-01", "retry-amplification:strip")
    done = design("shop.yaml", "--select", "retry-amplification", cwd=shop)
    assert done.returncode == 1
    assert f"(did you mean '{RISK}'?)" in " ".join(done.stdout.split())
    quiet = design("shop.yaml", "--select", "call-cycle", cwd=shop)
    assert "note" not in quiet.stdout, "a kind that was not looked for cannot be missed"


def test_a_baseline_leaves_what_is_new(shop: Path) -> None:
    """The same from another folder: places are named from the root of the project."""
    assert design("shop.yaml", "--write-baseline", "known.json", cwd=shop).returncode == 0
    assert design("shop.yaml", "--baseline", "known.json", cwd=shop).returncode == 0
    below = shop / "below"
    below.mkdir()
    assert design("../shop.yaml", "--baseline", "../known.json", cwd=below).returncode == 0


def test_unknown_names_are_refused_in_one_line(shop: Path) -> None:
    """With the nearest."""
    for arguments, told in {
        ("shop.yaml", "--select", "retry-amplifcation"): "did you mean 'retry-amplification'?",
        ("shop.yaml", "-f", "tex"): "did you mean 'text'?",
        ("shpo.yaml",): "shpo.yaml does not exist",
    }.items():
        done = design(*arguments, cwd=shop)
        assert done.returncode == 2, done
        assert done.stdout == "" and done.stderr.count("\n") == 1
        assert told in done.stderr


def test_settings_may_name_sharp_edges_beside_risks(shop: Path) -> None:
    """Both engines read the same table; each takes what it knows."""
    (shop / "pyproject.toml").write_text('[tool.mainstay]\nignore = ["n-plus-one", "retry-amplification"]\n')
    done = design("shop.yaml", cwd=shop)
    assert done.returncode in (0, 1), done
    assert RISK not in done.stdout
