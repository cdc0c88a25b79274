"""Blueprints as text in tests: read as files are, without the file."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

from mainstay.architect.design.risks import Risk
from mainstay.architect.design.study import Result, study_file

TODAY = date(2026, 11, 21)
HEAD = "blueprint: test\n"


def result_of(text: str, today: date = TODAY) -> Result:
    """The result of a blueprint; ``blueprint: test`` is put before it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "test.yaml"
        file.write_text(text if text.lstrip().startswith("blueprint:") else HEAD + text, encoding="utf-8")
        return study_file(file, today)


def risks_of(text: str, kind: str) -> list[Risk]:
    """The risks of one kind."""
    return [risk for risk in result_of(text).risks if risk.kind.name == kind]
