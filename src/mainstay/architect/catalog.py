"""The catalog: every sharp edge, every risk of a design and every pattern, found by walking three folders.

An edge is a folder in ``sharp_edges/``: ``page.md`` (what it is), ``validation.py`` (how review sees it),
``experiment.py`` (how diagnose proves it), ``sharp.py`` and ``safe.py`` (one small service with and without
it) and ``scenario.yaml`` (how that service is driven). A pattern is a Markdown page in ``patterns/`` beside
its module, a risk a module in ``design/risks/``. Adding one is adding files: there is no list to edit.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import mainstay
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Severity
from mainstay.architect.nearest import nearest

PACKAGE = Path(mainstay.__file__).parent
EDGES = PACKAGE / "architect" / "sharp_edges"
PATTERNS = PACKAGE / "patterns"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the manual: front matter and Markdown text.

    The front matter of every page has ``title`` (a sentence) and ``sources`` (titles or addresses); that of
    an edge also has ``severity``, ``remedy`` (one sentence, printed with findings), ``patterns`` (names), and
    ``reason`` where one of validation and experiment cannot exist.
    """

    name: str
    title: str
    text: str
    meta: dict[str, Any]
    file: Path
    kind: str = "pattern"
    """``sharp edge``, ``risk`` or ``pattern``."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A sharp edge: its page, and where its four parts are."""

    page: Page
    severity: Severity
    remedy: str
    patterns: tuple[str, ...]
    folder: Path

    @property
    def name(self) -> str:
        """The plain term, as in files, command line, SARIF and manual: ``check-then-act``."""
        return self.page.name

    def validation(self) -> Callable[..., Any] | None:
        """`validate` of the edge's ``validation.py``, or None where the page says there is none."""
        return self._part("validation", "validate")

    def experiment(self) -> Any | None:
        """The module ``experiment.py`` of the edge, or None where the page says there is none."""
        return self._module("experiment")

    def _module(self, part: str) -> Any | None:
        if not (self.folder / f"{part}.py").exists():
            return None
        return importlib.import_module(f"mainstay.architect.sharp_edges.{self.folder.name}.{part}")

    def _part(self, part: str, name: str) -> Any | None:
        module = self._module(part)
        return None if module is None else getattr(module, name)


def read_page(file: Path, name: str, kind: str = "pattern") -> Page:
    """Split a page into front matter and text."""
    match = re.match(r"---\n(.*?)\n---\n(.*)", file.read_text(encoding="utf-8"), re.DOTALL)
    if match is None:
        raise MainstayError(f"{file} has no front matter; begin it with a block between two lines of '---'.")
    meta = yaml.safe_load(match[1])
    return Page(name=name, title=meta["title"], text=match[2].strip(), meta=meta, file=file, kind=kind)


@cache
def edges() -> dict[str, Edge]:
    """All sharp edges by name, in alphabetical order."""
    found = {}
    for file in sorted(EDGES.glob("*/page.md")):
        page = read_page(file, file.parent.name.replace("_", "-"), "sharp edge")
        found[page.name] = Edge(
            page=page,
            severity=Severity(page.meta["severity"]),
            remedy=" ".join(page.meta["remedy"].split()),
            patterns=tuple(page.meta.get("patterns", ())),
            folder=file.parent,
        )
    return found


@cache
def patterns() -> dict[str, Page]:
    """All patterns by name, in alphabetical order."""
    return {
        file.stem.replace("_", "-"): read_page(file, file.stem.replace("_", "-"))
        for file in sorted(PATTERNS.rglob("*.md"))
    }


@cache
def risks() -> dict[str, Page]:
    """All risks of a design by name, in alphabetical order; their pages are made of what the risk says of itself."""
    from mainstay.architect.design import risks as folder  # only here: review and diagnose need none of it

    found = {}
    for name, (kind, _) in folder.kinds().items():
        parts = [
            ("Formula", kind.formula),
            ("Why", kind.why),
            ("When it is wrong", kind.wrong_when),
            ("Remedy", kind.remedy),
        ]
        text = "\n\n".join(f"## {heading}\n\n{sentence}" for heading, sentence in parts)
        if kind.patterns:
            text += "\n\nPatterns: " + ", ".join(f"`{pattern}`" for pattern in kind.patterns)
        if kind.sources:
            text += "\n\n## Sources\n\n" + "\n".join(f"- {source}" for source in kind.sources)
        meta = {"severity": kind.severity.value, "remedy": kind.remedy, "patterns": list(kind.patterns)}
        file = Path(folder.__file__).with_name(f"{name.replace('-', '_')}.py")
        found[name] = Page(name, kind.title, text, {**meta, "sources": list(kind.sources)}, file, "risk")
    return found


def page(name: str) -> Page:
    """The page of an edge, a risk or a pattern. Raises `MainstayError` with the nearest name where there is none."""
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    known = {**patterns(), **{edge.name: edge.page for edge in edges().values()}}
    if wanted not in known:
        known |= risks()
    if wanted in known:
        return known[wanted]
    raise MainstayError(
        f"there is no edge, risk or pattern named {name!r}{nearest(wanted, known)}; see: mainstay catalog"
    )


def select(chosen: list[str], ignored: list[str]) -> list[Edge]:
    """The edges that `--select` and `--ignore` leave. Raises `MainstayError` for an unknown name."""
    known = edges()
    for name in (*chosen, *ignored):
        if name not in known:
            raise MainstayError(
                f"there is no sharp edge named {name!r}{nearest(name, known)}; see: mainstay catalog"
            )
    return [
        edge for edge in known.values() if (not chosen or edge.name in chosen) and edge.name not in ignored
    ]
