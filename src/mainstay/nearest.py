"""The nearest name: what someone who mistyped probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 80
"""Characters of a word that a sentence quotes."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to `word`, or an empty string where none is close."""
    if len(word) > LONGEST:
        return ""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def quoted(word: str) -> str:
    """A word as a sentence quotes it: in quotation marks, on one line, and cut where it is longer than any name."""
    return repr(word) if len(word) <= LONGEST else f"{word[:LONGEST]!r}…"
