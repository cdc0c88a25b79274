"""Pages and sentences of the manual as markup. Raw HTML and pictures in a page are not passed on."""

from __future__ import annotations

from functools import lru_cache

from markdown_it import MarkdownIt
from markupsafe import Markup

from mainstay.architect.report.text import visible

BELOW = 3
"""Headings of a page stand below those of a finding: ``##`` becomes ``h5``."""


@lru_cache(maxsize=64)
def prose(markdown: str) -> Markup:
    """CommonMark with tables as HTML."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(visible(markdown))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + BELOW, 6)}"
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def sentence(text: str) -> Markup:
    """A sentence in which backticks mean code and nothing else means anything."""
    return Markup(MarkdownIt("zero").enable("backticks").renderInline(visible(text)))
