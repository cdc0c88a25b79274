"""The engine: runs the experiments of sharp edges on a service, and runs witnesses again.

It knows no edge. An experiment is a module with two functions::

    async def experiment(lab: Laboratory) -> AsyncIterator[Proof | Check]
    async def replay(lab: Laboratory, witness: Witness) -> Replay
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from mainstay.architect.diagnose.laboratory import Budget, Laboratory, laboratory
from mainstay.architect.diagnose.proof import Proof, Replay
from mainstay.architect.diagnose.scenario import Scenario
from mainstay.architect.diagnose.scheduler import Undecided
from mainstay.architect.diagnose.witness import pack_scenario, read_witness, unpack_scenario, write_witness
from mainstay.architect.document import relative
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Check, Finding, Report, Severity, Verdict
from mainstay.architect.nearest import nearest


class EdgeLike(Protocol):
    """What the engine asks of a sharp edge."""

    @property
    def name(self) -> str: ...
    @property
    def severity(self) -> Severity: ...
    @property
    def remedy(self) -> str: ...
    @property
    def patterns(self) -> tuple[str, ...]: ...
    def experiment(self) -> Any | None: ...


async def diagnose(
    scenario: Scenario,
    experiments: Mapping[str, EdgeLike],
    *,
    command: list[str] | None = None,
    database_url: str | None = None,
    witness_directory: Path,
    budget: Budget | None = None,
    progress: Callable[[str], None] = lambda text: None,
    root: Path | None = None,
) -> Report:
    """Run the experiments on the service of a scenario.

    `command` replaces the scenario's; without `database_url` a PostgreSQL of our own is started. Witnesses of what
    is proven are written to `witness_directory`. Locations are relative to `root`, by default the scenario's folder.
    Raises `MainstayError` where the laboratory cannot do its work; nothing is left running then.
    """
    started = time.monotonic()
    report = Report("diagnose")
    async with laboratory(
        scenario,
        command=command,
        database_url=database_url,
        budget=budget or Budget(),
        progress=progress,
        root=root,
    ) as lab:
        ready = time.monotonic()
        await _check_requests(lab)
        for edge in experiments.values():
            module = edge.experiment()
            if module is None:
                continue
            async for said in module.experiment(lab):
                if isinstance(said, Check):
                    report.checks.append(replace(said, edge=edge.name))
                else:
                    finding = _finding(lab, edge, said, witness_directory, report.findings)
                    report.findings.append(finding)
        report.statistics = {
            "requests": len(scenario.requests),
            "runs": lab.runs,
            "schedules": lab.schedules,
            "setup seconds": round(ready - started, 2),
            "racing seconds": round(lab.racing, 2),
        }
    report.statistics["seconds"] = round(time.monotonic() - started, 2)
    report.sort()
    return report


async def _check_requests(lab: Laboratory) -> None:
    """Send each request once before anything is measured: what is wrong with a scenario is said at once."""
    for name in lab.scenario.requests:
        lab.progress(f"{name}: sent alone")
        with contextlib.suppress(Undecided):  # the experiments say so where it matters to them
            await lab.alone(name)


def _finding(
    lab: Laboratory, edge: EdgeLike, proof: Proof, directory: Path, known: Sequence[Finding]
) -> Finding:
    witness = replace(
        proof.witness,
        edge=edge.name,
        scenario=pack_scenario(lab.scenario, directory),
        command=lab.command,
        starting_state=lab.starting_state(),
    )
    finding = Finding(
        edge.name,
        edge.severity,
        Verdict.PROVEN,
        proof.message,
        proof.location,
        proof.path,
        edge.remedy,
        edge.patterns,
        witness,
        subject=proof.subject,
    )
    taken = {other.fingerprint for other in known}
    number = 1
    while finding.fingerprint in taken:  # the same requests fail in the same place by another statement
        number += 1
        finding = replace(finding, subject=f"{proof.subject} ({number})", fingerprint="")
    return replace(finding, witness_file=relative(write_witness(finding, directory)))


async def replay(
    witness_file: Path,
    experiments: Mapping[str, EdgeLike],
    *,
    command: list[str] | None = None,
    database_url: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Replay:
    """Run one witness again: same start, same schedule. Raises `MainstayError` where that cannot be done."""
    witness = read_witness(witness_file)
    edge = experiments.get(witness.edge)
    module = edge.experiment() if edge is not None else None
    if module is None:
        raise MainstayError(
            f"{witness_file} is about {witness.edge!r}{nearest(witness.edge, experiments)}, "
            "for which this Mainstay has no experiment"
        )
    scenario = unpack_scenario(witness, witness_file)
    async with laboratory(
        scenario,
        command=command or witness.command,
        database_url=database_url,
        budget=Budget(),
        progress=progress,
    ) as lab:
        lines = []
        if lab.starting_state() != witness.starting_state:
            lines.append(
                "The starting state is not that of the witness: the set-up or the schema has changed since."
            )
        result: Replay = await module.replay(lab, witness)
        result.lines = [*lines, *result.lines]
        return result
