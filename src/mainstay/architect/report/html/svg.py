"""SVG elements as escaped markup."""

from __future__ import annotations

from markupsafe import Markup, escape

from mainstay.architect.report.text import visible


def element(name: str, *children: Markup | str, **attributes: str | float) -> Markup:
    """``<name …>children</name>``; ``class_`` stands for ``class`` and ``_`` in a name for ``-``."""
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"' for key, value in attributes.items()
    )
    inside = Markup("").join(child if isinstance(child, Markup) else visible(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, Markup(listed), inside)


def _value(value: str | float) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else visible(str(value))
