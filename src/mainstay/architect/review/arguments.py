"""Arguments: what a call says of what it passes, and which tests in the called function that answers."""

from __future__ import annotations

from collections.abc import Mapping

from mainstay.architect.effects import Condition, Invoke
from mainstay.architect.review.facts import CONST
from mainstay.architect.review.program import Function

Known = Mapping[int, str]
"""What is known of a function's parameters, by position: ``none``, ``some`` (something is passed), ``true``,
``false``, ``is:VALUE`` for a text or number, or ``passed`` (something is, for there is no default: it may be None)."""

_IMPOSSIBLE = {
    "none": {"true", "some"},
    "false": {"true", "none", "not:False"},
    "true": {"false", "none", "not:True"},
    "some": {"none"},
    "passed": set(),
}
_EMPTY = {"''", "0", "0.0", "b''"}


def word_of(value: object) -> str:
    """The word for a constant."""
    if value is None:
        return "none"
    if type(value) is bool:
        return "true" if value else "false"
    return f"is:{value!r}"


def cannot(given: str, word: str) -> bool:
    """Whether `word` (as in `Condition`) cannot hold of an argument of which `given` is known."""
    if given.startswith("is:"):
        if word in ("true", "false"):
            return (given[3:] in _EMPTY) == (word == "true")
        return word == "none" or (word.startswith("is:") and word != given) or word == f"not:{given[3:]}"
    if word.startswith("is:"):
        return given == "none"
    return word in _IMPOSSIBLE[given]


def excluded(when: frozenset[Condition], known: Known) -> bool:
    """Whether one of the conditions cannot hold."""
    return any(
        position >= 0 and position in known and cannot(known[position], word) for position, word in when
    )


def required(function: Function) -> dict[int, str]:
    """What is known of the parameters where nothing is known of the call: those without a default are passed."""
    return {
        position: "passed"
        for position, (_, _, default, kind) in enumerate(function.parameters)
        if default is None and kind not in ("*", "**")
    }


def at_least(function: Function, known: Known) -> dict[int, str]:
    """`known`, and the defaults for the rest; what is passed without more being known is not None."""
    found = {
        position: word_of(default[1])
        for position, (_, _, default, _) in enumerate(function.parameters)
        if default is not None and default[0] == CONST
    }
    found.update((position, "some" if word == "passed" else word) for position, word in known.items())
    return found


def handed(invoke: Invoke, known: Known) -> dict[int, str]:
    """What is known of the called function's parameters in this call, made where `known` is known."""
    found = {}
    for position, given in invoke.known:
        word = known.get(given) if isinstance(given, int) else given
        if word is not None:
            found[position] = word
    return found
