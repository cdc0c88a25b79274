"""`mainstay demo` keeps its promise: three edges seen and proven in the shop, its safe edition clean."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from mainstay.architect import catalog
from mainstay.architect.demo import run_demo
from mainstay.architect.diagnose import replay


def test_the_demo_keeps_its_promise(tmp_path: Path) -> None:
    """Each edge is one finding that both engines stand behind: review's path, diagnose's witness."""
    demo = asyncio.run(run_demo(database_url=None, witness_directory=tmp_path, progress=lambda text: None))
    assert demo.as_promised, demo.rows
    assert {finding.edge for finding in demo.report.findings} == {row[0] for row in demo.rows}
    for finding in demo.report.findings:
        assert finding.verdict == "proven" and finding.witness, finding.message
        assert finding.location.file.startswith("sharp/"), (
            "the proof was not joined with the path through the code"
        )
        assert len(finding.path) > 1
        assert json.loads(Path(finding.witness_file).read_text())["edge"] == finding.edge

    # The shop's seed holds clocks: set up anew, its rows tell other times, and the outcome is the same all the same.
    (race,) = (Path(f.witness_file) for f in demo.report.findings if f.edge == "check-then-act")
    again = asyncio.run(replay(race, catalog.edges(), progress=lambda text: None))
    assert again.reproduced and again.same_outcome, again.lines
