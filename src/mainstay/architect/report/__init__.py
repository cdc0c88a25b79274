"""Reports: one module a format, found by walking this folder.

A format is a module (or package) with ``NAME`` (as given to ``--format``) and
``render(report, context) -> str``. Adding one is adding a file. A format reads nothing but the report, the
source files under `Context.root`, and the pages that the front door hands over; it knows no edge by name.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Protocol, cast

from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Report
from mainstay.architect.nearest import nearest
from mainstay.architect.report.context import Context, ManualPage

__all__ = ["Context", "Format", "ManualPage", "formats", "render"]


class Format(Protocol):
    """What a module of this folder is, if it is a format."""

    NAME: str

    def render(self, report: Report, context: Context) -> str:
        """The report as text that can be encoded as UTF-8, whatever strings it holds."""


@cache
def formats() -> dict[str, Format]:
    """All formats by name, in alphabetical order."""
    modules = [importlib.import_module(f"{__name__}.{item.name}") for item in pkgutil.iter_modules(__path__)]
    found = {module.NAME: cast(Format, module) for module in modules if hasattr(module, "NAME")}
    return dict(sorted(found.items()))


def render(name: str, report: Report, context: Context | None = None) -> str:
    """`report` in the format `name`. Raises `MainstayError` with the nearest name for an unknown one."""
    known = formats()
    if name not in known:
        raise MainstayError(
            f"there is no report format named {name!r}{nearest(name, known)}; choose from: {', '.join(known)}"
        )
    return known[name].render(report, context or Context())
