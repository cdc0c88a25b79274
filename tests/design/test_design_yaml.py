"""YAML that people can read, and that every reader reads back as what was written."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.architect.design.contracts.yaml_text import dump

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(),
    st.sampled_from((
        "yes", "No", "1.0", "1_0", "12:30", "0x1f", "~", "null", "a: b", "a #b", "- a",
        "2026-01-01", "=", "<<", "{a", "[a", "*a", "&a", "!a", "%a", "@a", "`a", "a:", ":a", "'",
        '"', "word "*40, "one\ntwo\n", " lead", "trail ", "tab\tin", "two\n\nlines", "a\n b", "\n",
        "x"*300, "1e3", ".5", "+1", "true",
    )),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
        ),
        max_size=5,
    ).filter(bool)
)
def test_yaml_reads_back_as_what_was_written(value: dict[str, Any]) -> None:
    text = dump(value)
    assert yaml.safe_load(text) == value
    assert max(map(len, text.splitlines())) < 10_000
