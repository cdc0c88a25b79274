"""A service that is not Python, Node.js with `pg`, goes through the same laboratory by the same front door."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parent / "node_withdraw"
REPLAYS = 3


def mainstay(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the front door as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mainstay", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@dataclass(frozen=True)
class Said:
    """What diagnose said of one edition: its exit code and its report, by edge."""

    code: int
    findings: dict[str, list[dict[str, Any]]]
    checks: dict[str, set[str]]


def diagnose(service: Path, *command: str) -> Said:
    """Run all experiments on the service."""
    report = service / "report.json"
    report.unlink(missing_ok=True)
    done = mainstay(
        *("diagnose", "scenario.yaml", "--format", "json", "--output", str(report), "--quiet"),
        *command,
        cwd=service,
    )
    assert report.exists(), done.stderr
    said = json.loads(report.read_text())
    findings: dict[str, list[dict[str, Any]]] = {}
    checks: dict[str, set[str]] = {}
    for finding in said["findings"]:
        findings.setdefault(finding["edge"], []).append(finding)
    for check in said["checks"]:
        checks.setdefault(check["edge"], set()).add(check["verdict"])
        assert check["bound"]
    return Said(done.returncode, findings, checks)


@pytest.fixture(scope="session")
def node_service(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service with its packages, installed from the lock file outside the checkout."""
    folder = tmp_path_factory.mktemp("node") / "withdraw"
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("node_modules"))
    install = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=180
    )
    assert install.returncode == 0, install.stderr
    return folder


@pytest.fixture(scope="session")
def sharp(node_service: Path) -> Said:
    """What diagnose says of the edition with the planted faults."""
    return diagnose(node_service)


@pytest.fixture(scope="session")
def safe(node_service: Path) -> Said:
    """What diagnose says of the mended edition."""
    return diagnose(node_service, "--", "node", "safe.js", "$PORT")


def test_a_race_in_node_is_proven_and_its_witness_replays_every_time(node_service: Path, sharp: Said) -> None:
    """Two withdrawals of 80 from 100 both succeed under one schedule, and again in each of three replays."""
    assert sharp.code == 1
    (finding,) = sharp.findings["check-then-act"]
    assert finding["verdict"] == "proven"
    assert finding["location"]["file"].endswith("scenario.yaml")
    observed = finding["witness"]["observed"]
    assert [reply.split()[0] for reply in observed["replies"].values()] == ["201", "201"]
    replays = [
        mainstay("replay", finding["witness_file"], "--quiet", cwd=node_service) for _ in range(REPLAYS)
    ]
    assert [replay.returncode for replay in replays] == [1] * REPLAYS, replays[0].stdout + replays[0].stderr


@pytest.mark.parametrize("edge", ["n-plus-one", "external-call-in-transaction"])
def test_other_edges_in_node_are_proven(sharp: Said, edge: str) -> None:
    """Queries that grow with the rows, and a call between BEGIN and COMMIT, need no knowledge of the language."""
    assert [finding["verdict"] for finding in sharp.findings[edge]] == ["proven"]


def test_the_mended_edition_in_node_is_cleared(safe: Said) -> None:
    """A row lock, one query for all rows and a call after the commit leave nothing to find, within a stated bound."""
    assert (safe.code, safe.findings) == (0, {})
    assert {edge: verdicts for edge, verdicts in safe.checks.items() if verdicts != {"cleared"}} == {}
    assert {"check-then-act", "n-plus-one", "external-call-in-transaction"} <= safe.checks.keys()
