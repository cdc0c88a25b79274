"""A small program in files, reviewed with one edge or all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from mainstay.architect.findings import Finding, Severity, Verdict
from mainstay.architect.review import review

EDGES = ("n-plus-one", "external-call-in-transaction", "check-then-act")


class OneEdge:
    """What review needs of an edge, without its page."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.severity = Severity.HIGH
        self.remedy = "use the pattern"
        self.patterns: tuple[str, ...] = ("repository",)

    def validation(self) -> Callable[..., Iterable[Any]]:
        module = import_module(f"mainstay.architect.sharp_edges.{self.name.replace('-', '_')}.validation")
        found: Callable[..., Iterable[Any]] = module.validate
        return found


VALIDATIONS = {name: OneEdge(name) for name in EDGES}


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")


Reviewer = Callable[..., list[Finding]]


@pytest.fixture(scope="session", autouse=True)
def frozen() -> None:
    """What is here already is no garbage: review forks, and a fork that looks for garbage would copy all of it."""
    gc.freeze()


@pytest.fixture
def find(tmp_path: Path) -> Reviewer:
    """``find(files)`` or ``find(text)``: the likely findings, of all edges or of `edge`."""

    def run(files: dict[str, str] | str, edge: str = "", *, possible: bool = False) -> list[Finding]:
        write_files(tmp_path, files if isinstance(files, dict) else {"app.py": files})
        chosen = {name: one for name, one in VALIDATIONS.items() if not edge or name == edge}
        report = review([tmp_path], validations=chosen, root=tmp_path, workers=1)
        assert report.problems == []
        return [f for f in report.findings if possible or f.verdict is Verdict.LIKELY]

    return run


@pytest.fixture
def steps() -> Callable[[Finding], list[tuple[str, int]]]:
    """The path of a finding as (file, line)."""
    return lambda finding: [(step.location.file, step.location.line) for step in finding.path]


@pytest.fixture
def edges() -> dict[str, OneEdge]:
    """What `review` takes as `validations`."""
    return VALIDATIONS
