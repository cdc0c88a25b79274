"""A service that is not Python, Node.js with `pg`, goes through the same laboratory by the same front door."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parent / "node_withdraw"
SAFE = ["--", "node", "safe.js", "$PORT"]
REPLAYS = 3


def mainstay(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the front door as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mainstay", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def diagnose(service: Path, edge: str, *command: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON report of one edge's experiment on the service."""
    report = service / f"{edge}.json"
    done = mainstay(
        *(
            "diagnose",
            "scenario.yaml",
            "--select",
            edge,
            "--format",
            "json",
            "--output",
            str(report),
            "--quiet",
        ),
        *command,
        cwd=service,
    )
    assert report.exists(), done.stderr
    return done.returncode, json.loads(report.read_text())


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


def test_a_race_in_node_is_proven_and_its_witness_replays_every_time(node_service: Path) -> None:
    """Two withdrawals of 80 from 100 both succeed under one schedule, and again in each of three replays."""
    code, report = diagnose(node_service, "check-then-act")
    assert code == 1
    (finding,) = report["findings"]
    assert (finding["edge"], finding["verdict"]) == ("check-then-act", "proven")
    assert finding["location"]["file"].endswith("scenario.yaml")
    observed = finding["witness"]["observed"]
    assert [reply.split()[0] for reply in observed["replies"].values()] == ["201", "201"]
    replays = [
        mainstay("replay", finding["witness_file"], "--quiet", cwd=node_service) for _ in range(REPLAYS)
    ]
    assert [replay.returncode for replay in replays] == [1] * REPLAYS, replays[0].stdout + replays[0].stderr


def test_a_row_lock_in_node_is_cleared(node_service: Path) -> None:
    """With FOR UPDATE the same scenario finds nothing, and the race is cleared within a stated bound."""
    code, report = diagnose(node_service, "check-then-act", *SAFE)
    assert (code, report["findings"]) == (0, [])
    assert {check["verdict"] for check in report["checks"]} == {"cleared"}
    assert all(check["bound"] for check in report["checks"])


@pytest.mark.parametrize("edge", ["n-plus-one", "external-call-in-transaction"])
def test_other_edges_in_node_are_proven_and_their_safe_version_is_clean(
    node_service: Path, edge: str
) -> None:
    """Queries that grow with the rows, and a call between BEGIN and COMMIT, need no knowledge of the language."""
    code, report = diagnose(node_service, edge)
    assert code == 1
    assert [(finding["edge"], finding["verdict"]) for finding in report["findings"]] == [(edge, "proven")]
    code, report = diagnose(node_service, edge, *SAFE)
    assert (code, report["findings"]) == (0, [])
    assert {check["verdict"] for check in report["checks"]} == {"cleared"}
