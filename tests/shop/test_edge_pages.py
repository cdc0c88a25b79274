"""The pages of the sharp edges are all built alike."""

from __future__ import annotations

import re

import pytest

from mainstay.architect import catalog

SECTIONS = [
    "Situation",
    "Why it hurts",
    "Symptoms",
    "How review sees it",
    "How diagnose proves it",
    "Remedy",
    "When it is wrong",
    "Sources",
]


@pytest.mark.parametrize("name", catalog.edges())
def test_a_page_has_its_sections_in_the_order_of_the_house(name: str) -> None:
    """A reader finds the same question answered at the same place."""
    page = catalog.edges()[name].page
    assert re.findall(r"^## (.+)$", page.text, re.MULTILINE) == SECTIONS
    assert page.meta["sources"]
    assert "```" not in page.text, "the manual shows sharp.py and safe.py; the page needs no copy of them"


@pytest.mark.parametrize("name", catalog.edges())
def test_an_edge_names_patterns_that_have_a_page(name: str) -> None:
    """The remedy can be looked up."""
    assert set(catalog.edges()[name].patterns) <= set(catalog.patterns())
