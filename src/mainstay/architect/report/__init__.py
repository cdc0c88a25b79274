"""Reports: one module a format, found by walking this folder.

A format is a module (or package) with ``NAME`` (as given to ``--format``) and
``render(report, context) -> str``. Adding one is adding a file. A format reads nothing but the report, the
source files under `Context.root`, and the pages that the front door hands over; it knows no edge by name.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Report
from mainstay.architect.nearest import nearest
from mainstay.architect.report.context import Context, ManualPage

__all__ = ["Context", "Format", "ManualPage", "formats", "names", "render"]


class Format(Protocol):
    """What a module of this folder is, if it is a format."""

    NAME: str

    def render(self, report: Report, context: Context) -> str:
        """The report as text that can be encoded as UTF-8, whatever strings it holds."""


@cache
def names() -> dict[str, str]:
    """The modules of all formats by the format's name, in alphabetical order.

    Their names are read, not imported: some formats take longer to load than a report takes to write.
    """
    found = {}
    for item in pkgutil.iter_modules(__path__):
        file = (
            Path(__path__[0], item.name, "__init__.py")
            if item.ispkg
            else Path(__path__[0], f"{item.name}.py")
        )
        if match := re.search(r'^NAME = "(.+)"', file.read_text(encoding="utf-8"), re.MULTILINE):
            found[match[1]] = f"{__name__}.{item.name}"
    return dict(sorted(found.items()))


@cache
def formats() -> dict[str, Format]:
    """All formats by name, in alphabetical order."""
    return {name: cast(Format, importlib.import_module(module)) for name, module in names().items()}


def render(name: str, report: Report, context: Context | None = None) -> str:
    """`report` in the format `name`. Raises `MainstayError` with the nearest name for an unknown one."""
    known = names()
    if name not in known:
        raise MainstayError(
            f"there is no report format named {name!r}{nearest(name, known)}; choose from: {', '.join(known)}"
        )
    chosen = cast(Format, importlib.import_module(known[name]))
    return chosen.render(report, context or Context())
