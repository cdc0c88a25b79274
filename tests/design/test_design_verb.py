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


def test_against_an_earlier_blueprint_tells_what_breaks_its_callers(shop: Path) -> None:
    """And nothing where nothing does; one that cannot be read is refused at its own place."""
    (shop / "released.yaml").write_text(SHOP)
    same = design("shop.yaml", "--against", "released.yaml", "--select", "breaking-change", cwd=shop)
    assert (same.returncode, same.stderr) == (0, ""), same
    (shop / "shop.yaml").write_text(
        SHOP.replace("takes: {amount: money}", "takes: {amount: money, note: text}")
    )
    done = design("shop.yaml", "--against", "released.yaml", "--select", "breaking-change", cwd=shop)
    assert done.returncode == 1, done
    assert "HIGH  breaking-change:payments.pay" in done.stdout
    assert "payments.pay.takes.note is new and required" in done.stdout
    (shop / "released.yaml").write_text(SHOP.replace("services:", "servces:"))
    broken = design("shop.yaml", "--against", "released.yaml", cwd=shop)
    assert (broken.returncode, broken.stdout) == (2, "")
    assert broken.stderr == "mainstay: released.yaml:7:1: unknown key 'servces' (did you mean 'services'?)\n"
    gone = design("shop.yaml", "--against", "relased.yaml", cwd=shop)
    assert gone.stderr.startswith("mainstay: relased.yaml does not exist (did you mean 'released.yaml'?)")


def test_each_formula_stands_beside_what_a_simulation_measures(shop: Path) -> None:
    """As a table with times in their units; it asks for no exit code of its own."""
    done = design("shop.yaml", "--simulate", "--select", "call-cycle", "-f", "json", cwd=shop)
    assert done.returncode == 0, done
    (table,) = json.loads(done.stdout)["tables"]
    assert table["name"] == "simulation"
    rows = {(row[1], row[2]): row for row in table["rows"]}
    _, _, _, formula, simulated, tolerance = rows["payments", "connections held"]
    assert float(simulated) == pytest.approx(float(formula), abs=float(tolerance))
    assert all(
        re.search(r"\d(us|ms|s|m)$", row[4]) for (_, what), row in rows.items() if what in ("p50", "p99")
    )
    assert {row[0] for row in rows.values()} == {"holds"}


def test_check_says_what_drifted_and_write_mends_it(shop: Path) -> None:
    """A file that was edited, one that went, and a blueprint that says something else; a person's file is safe."""
    assert design("shop.yaml", "--write", "design", "-q", cwd=shop).returncode == 1
    assert design("shop.yaml", "--check", "design", cwd=shop).returncode == 0
    (shop / "design/documents/plan.md").unlink()
    (shop / "design/contracts/payments.openapi.yaml").write_text("mine\n")
    (shop / "design/contracts/notes.txt").write_text("mine too\n")
    drifted = design("shop.yaml", "--check", "design", cwd=shop)
    assert drifted.returncode == 1, drifted
    told = " ".join(drifted.stdout.split())
    assert "design: 2 files not as the blueprint says" in told
    assert "contracts/payments.openapi.yaml changed by another than Mainstay" in told
    assert "documents/plan.md missing" in told
    refused = design("shop.yaml", "--write", "design", "-q", cwd=shop)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "payments.openapi.yaml was changed since Mainstay wrote it" in refused.stderr
    assert (shop / "design/contracts/payments.openapi.yaml").read_text() == "mine\n"
    (shop / "design/contracts/payments.openapi.yaml").unlink()
    assert design("shop.yaml", "--write", "design", "-q", cwd=shop).returncode == 1
    assert (shop / "design/contracts/notes.txt").read_text() == "mine too\n"
    (shop / "shop.yaml").write_text(SHOP.replace("amount: money", "sum: money"))
    changed = design("shop.yaml", "--check", "design", cwd=shop)
    assert "contracts/payments.openapi.yaml the blueprint says otherwise now" in " ".join(
        changed.stdout.split()
    )


def test_wrong_values_of_options_are_refused_in_one_line(shop: Path) -> None:
    """Before any work is done, with what to do; nothing is written."""
    before = sorted(shop.rglob("*"))
    for arguments, told in {
        ("--write", "shop.yaml"): "shop.yaml is a file; name a folder",
        ("--check", "shop.yaml"): "shop.yaml is a file; name a folder",
        ("--check", "nowhere"): "nowhere holds no package; write it first with --write nowhere",
        ("--write", "a", "--check", "b"): "--write and --check contradict each other",
        ("--write", "a", "--select", "call-cycle"): "the package holds every risk",
        ("--write", "a", "--what-if", "stripe.limit=1/s"): "--what-if only compares",
        ("--what-if", "stripe.limt=1/s"): "stripe has no 'limt' (did you mean 'limit'?)",
        ("--what-if", "stripe.limit=1"): "'1' is not a rate such as 100/s, 50/min or 10/d; write 1/s",
        ("--what-if", "assume.hodl=1s"): "assume has no 'hodl' (did you mean 'hold'?)",
        ("--what-if", "stripe.limit"): "--what-if takes KEY=VALUE",
        ("--output", "nowhere/x"): "the folder nowhere does not exist",
        ("--baseline", "none.json"): "the baseline none.json does not exist",
        ("--ignore", "call-cicle"): "did you mean 'call-cycle'?",
    }.items():
        done = design("shop.yaml", *arguments, cwd=shop)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert told in done.stderr and done.stderr.count("\n") == 1, done
        assert "fault of Mainstay" not in done.stderr
    assert sorted(shop.rglob("*")) == before
    (shop / "circle.yaml").symlink_to("circle.yaml")
    for name in ("circle.yaml", "x" * 3000):
        done = design(name, cwd=shop)
        assert done.returncode == 2 and "cannot be read" in done.stderr and done.stderr.count("\n") == 1, done
