"""The law of the house: one test for all sharp edges.

Review finds the edge in ``sharp.py`` and is silent on ``safe.py``; diagnose proves it on ``sharp.py`` with a
witness that replays, and the same experiment passes on ``safe.py``. An edge for which a part cannot exist
says why in the ``reason`` of its page.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from mainstay.architect import catalog
from mainstay.architect.diagnose import Budget, diagnose, load_scenario, replay
from mainstay.architect.findings import Report
from mainstay.architect.review import review

EDGES = catalog.edges()


@pytest.mark.parametrize("name", EDGES)
def test_every_edge_is_complete(name: str) -> None:
    """The folder has its page, its validation, its experiment and both services, or the page says why not."""
    edge = EDGES[name]
    for part in ("validation.py", "experiment.py", "sharp.py", "safe.py", "scenario.yaml"):
        assert (edge.folder / part).is_file() or edge.page.meta.get("reason"), (
            f"{name} has no {part} and gives no reason"
        )
    assert edge.remedy
    for pattern in edge.patterns:
        assert pattern in catalog.patterns(), f"{name} names the pattern {pattern}, which has no page"
    assert all(f"## {section}" in edge.page.text for section in ("Situation", "Symptoms", "Remedy")), name


def _reviewed(service: Path, folder: Path) -> Report:
    """Review one service file on its own, as a user's checkout would hold it."""
    shutil.copy(service, folder / "service.py")
    return review([folder], validations=EDGES, root=folder, cache=None, workers=1)


@pytest.mark.parametrize("name", EDGES)
def test_review_finds_it_in_sharp_and_is_silent_on_safe(name: str, tmp_path: Path) -> None:
    """Review names the edge, and only it, in the sharp service; of the safe one it says nothing at all."""
    edge = EDGES[name]
    (tmp_path / "sharp").mkdir()
    (tmp_path / "safe").mkdir()
    sharp = _reviewed(edge.folder / "sharp.py", tmp_path / "sharp")
    assert {finding.edge for finding in sharp.findings} == {name}
    assert all(finding.path for finding in sharp.findings)
    assert not sharp.problems
    safe = _reviewed(edge.folder / "safe.py", tmp_path / "safe")
    assert [finding.message for finding in safe.findings] == []


@pytest.mark.parametrize("name", EDGES)
def test_diagnose_proves_it_on_sharp_and_clears_safe(name: str, tmp_path: Path) -> None:
    """The experiment proves the edge on the sharp service, the witness replays, and the safe service is cleared."""
    edge = EDGES[name]
    scenario = load_scenario(edge.folder / "scenario.yaml")

    def command(service: str) -> list[str]:
        return [part.replace("sharp:app", f"{service}:app") for part in scenario.service.command or ()]

    def run(service: str) -> Report:
        return asyncio.run(
            diagnose(
                scenario,
                {name: edge},
                command=command(service),
                database_url=None,
                witness_directory=tmp_path / service,
                budget=Budget(),
                progress=lambda text: None,
            )
        )

    sharp = run("sharp")
    assert {finding.edge for finding in sharp.findings} == {name}
    assert all(finding.verdict == "proven" and finding.witness for finding in sharp.findings)

    witnesses = sorted((tmp_path / "sharp").glob("*.json"))
    assert len(witnesses) == len(sharp.findings)
    assert all(json.loads(file.read_text())["edge"] == name for file in witnesses)
    again = asyncio.run(replay(witnesses[0], EDGES, progress=lambda text: None))
    assert again.reproduced and again.same_outcome, again.lines
    gone = asyncio.run(replay(witnesses[0], EDGES, command=command("safe"), progress=lambda text: None))
    assert not gone.reproduced, gone.lines

    safe = run("safe")
    assert [finding.message for finding in safe.findings] == []
    assert {check.verdict for check in safe.checks} == {"cleared"}
    assert all(check.bound for check in safe.checks)
