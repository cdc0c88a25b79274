"""Writing Mermaid: names and labels that no text can break out of."""

from __future__ import annotations

import re

RESERVED = {
    "end",
    "graph",
    "subgraph",
    "class",
    "state",
    "note",
    "style",
    "click",
    "default",
    "direction",
    "flowchart",
}
MOST_NODES = 40
"""A picture with more is not read; it is split or summed up."""


def node(name: str) -> str:
    """An identifier for a node: letters, digits and underscores, and no word of Mermaid's own."""
    made = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"{made}_" if made.lower() in RESERVED else made


def label(text: str) -> str:
    """A label in quotes; what Mermaid would read as its own becomes an entity of it."""
    escaped = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    return '"' + escaped.replace("#", "#35;").replace("`", "'") + '"'


def message(text: str) -> str:
    """The text of a message in a sequence: one line, without what ends a statement."""
    return text.replace(";", ",").replace("#", "no. ").replace("\n", " ").strip()


def words(name: str) -> str:
    """A name as people write it: ``place_order`` is place order, ``OrderPlaced`` stays."""
    return name.replace("_", " ")


def title(name: str) -> str:
    """A name at the beginning of a heading: ``order_management`` is Order management."""
    text = words(name)
    return text[:1].upper() + text[1:]
