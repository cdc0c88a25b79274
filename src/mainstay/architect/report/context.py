"""What a format may know beside the report: where the source is, the manual's pages, and who will read it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import mainstay


@dataclass(frozen=True, slots=True)
class ManualPage:
    """What the manual says about one edge, as far as a report shows it. Empty strings where there is nothing."""

    title: str
    text: str = ""
    """Markdown."""
    remedy: str = ""
    """One sentence."""
    severity: str = ""
    sharp: str = ""
    """Source of the small service with the edge."""
    safe: str = ""
    """Source of the same service without it."""


def _no_page(edge: str) -> ManualPage | None:
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """Everything beside the report that a format may use."""

    root: Path = Path()
    """The folder that locations are relative to; source lines are read from it, and from nowhere else."""
    pages: Callable[[str], ManualPage | None] = _no_page
    """The page of an edge by name, or None where there is none."""
    color: bool = False
    unicode: bool = True
    """Whether the reader's terminal shows more than ASCII."""
    width: int = 80
    """Columns of the terminal."""
    quiet: bool = False
    """Findings and problems only, each on its first lines."""
    of_version: str = ""
    """Of Mainstay; the installed one where it is empty."""

    @property
    def version(self) -> str:
        """Of the Mainstay that writes the report."""
        return self.of_version or mainstay.__version__

    @classmethod
    def of(
        cls,
        stream: TextIO | None,
        *,
        root: Path = Path(),
        pages: Callable[[str], ManualPage | None] = _no_page,
        quiet: bool = False,
    ) -> Context:
        """The context for writing to `stream`, or to a file in UTF-8 where it is None.

        Colour on a terminal unless ``NO_COLOR`` is set or it is dumb; width that of the terminal, between 40 and
        120 columns, 80 where it is none.
        """
        if stream is None:
            return cls(root=root, pages=pages, quiet=quiet)
        terminal = stream.isatty()
        color = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        width = min(max(shutil.get_terminal_size((80, 24)).columns, 40), 120) if terminal else 80
        encoding = (stream.encoding or "ascii").lower().replace("-", "").replace("_", "")
        return cls(
            root=root, pages=pages, color=color, unicode=encoding.startswith("utf"), width=width, quiet=quiet
        )
