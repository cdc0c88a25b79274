"""Conditions: what must hold for a test to come out one way, and what it tells of the names in it."""

from __future__ import annotations

from mainstay.architect.effects import Condition, Origin
from mainstay.architect.review import facts as f
from mainstay.architect.review.arguments import word_of
from mainstay.architect.review.evaluation.annotations import instance
from mainstay.architect.review.evaluation.frame import Frame
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import UNKNOWN, Value
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.program import NONE

_LOADED = {"dict", "__dict__", "_prefetched_objects_cache", "fields_cache"}
"""Attributes of a row, or of its state, in which stands what was loaded."""


_OTHERS = {"mysql", "mariadb", "sqlite", "oracle", "mssql"}
"""What drivers and ORMs call databases other than PostgreSQL."""
_DIALECTS = {"vendor", "name", "drivername"}
"""Attributes of a connection or dialect that name the database."""


def decision(frame: Frame, test: Facts) -> frozenset[Origin]:
    return frame.expression(test).o if test is not None else NONE


def required(frame: Frame, test: Facts, held: bool) -> frozenset[Condition]:
    """What must hold of the parameters for `test` to come out as `held`."""
    if not test:
        return NONE
    kind = test[0]
    if kind == f.NOT:
        return required(frame, test[1], not held)
    if kind == (f.AND if held else f.OR):
        return frozenset().union(*(required(frame, part, held) for part in test[1]))
    if kind == f.WALRUS:
        look_up(frame, test[1], test[2])
        return required(frame, (f.NAME, test[1]), held)
    if kind == f.NAME:
        return _of_name(frame, test[1], "true" if held else "false", held)
    if _is_switch(test):
        return frozenset([(-1, "switch")])
    if kind == f.COMPARE and len(test[1]) == 2:
        (left, right), operator = test[1], test[2][0]
        if operator in ("Eq", "NotEq") and _is_other_database(left, right, held == (operator == "Eq")):
            return frozenset([(-1, "other-database")])
        if operator in ("In", "NotIn") and right:
            there = held == (operator == "In")
            if there and right[0] == f.ATTR and right[2] in _LOADED:
                return frozenset([(-1, "detached")])  # asked first whether it is loaded
            if right[0] in (f.NAME, f.ATTR):
                t = frame.expression(right).t
                if t and t[0] == "lib" and "Session" in t[1]:
                    return NONE if there else frozenset([(-1, "detached")])
            return NONE if there else frozenset([(-1, f"miss:{render(right)}")])
        if right == (f.CONST, None) and left and left[0] in (f.NAME, f.WALRUS):
            if left[0] == f.WALRUS:
                look_up(frame, left[1], left[2])
            none = held == (operator in ("Is", "Eq"))
            return _of_name(frame, left[1], "none" if none else "some", not none)
        if left and right and left[0] == f.CONST:
            left, right = right, left
        if operator in ("Eq", "NotEq", "Is", "IsNot") and _is_parameter(frame, left) and right:
            return _of_constant(frame, left[1], right, held == (operator in ("Eq", "Is")))
    if held and test[0] == f.CALL and test[1] == (f.NAME, "isinstance") and test[2]:
        return _of_name(frame, test[2][0][1], "some", True) if _is_parameter(frame, test[2][0]) else NONE
    return NONE


def _is_parameter(frame: Frame, expression: Facts) -> bool:
    """Whether it is a parameter that still is what was passed."""
    if not expression or expression[0] != f.NAME:
        return False
    own = frame.own.get(expression[1])
    return own is not None and frame.names.get(expression[1]) is own[1]


def _of_constant(frame: Frame, name: str, constant: Facts, same: bool) -> frozenset[Condition]:
    """What holds of parameter `name` where it equals a constant, or does not."""
    value = constant[1] if constant[0] == f.CONST else None
    if type(value) not in (str, int, float, bool):
        return NONE
    word = word_of(value) if same else f"not:{value!r}"
    return frozenset([(frame.own[name][0], word)])


def _is_switch(test: Facts) -> bool:
    """``settings.FEATURE`` or ``getattr(settings, "FEATURE", False)`` as a test: set once for the whole program."""
    if test[0] == f.ATTR:
        return bool(test[2].isupper())
    if test[0] == f.CALL and test[1] == (f.NAME, "getattr") and len(test[2]) > 1:
        name = test[2][1]
        return bool(name) and name[0] == f.CONST and type(name[1]) is str and name[1].isupper()
    return False


def _is_other_database(left: Facts, right: Facts, same: bool) -> bool:
    """Whether ``connection.vendor == "…"``, come out as `same`, means another database than PostgreSQL."""
    if not (left and left[0] == f.ATTR and left[2] in _DIALECTS and right and right[0] == f.CONST):
        return False
    return right[1] in _OTHERS if same else right[1] in ("postgresql", "postgres")


def _of_name(frame: Frame, name: str, word: str, there: bool) -> frozenset[Condition]:
    own = frame.own.get(name)
    if own is not None and frame.names.get(name) is own[1]:
        return frozenset([(own[0], word)])
    looked_up = frame.looked_up.get(name)
    if looked_up is not None and looked_up[1] != there:
        return frozenset([(-1, f"miss:{looked_up[0]}")])
    return NONE


def look_up(frame: Frame, name: str, expression: Facts) -> None:
    """Keep whether variable `name` tells that a collection has an entry (``x = known.get(key)``)."""
    frame.looked_up.pop(name, None)
    if not expression:
        return
    if expression[0] == f.CALL and expression[1] and expression[1][0] == f.ATTR and expression[1][2] == "get":
        frame.looked_up[name] = (render(expression[1][1]), True)
    elif expression[0] == f.COMP:
        for _, _, conditions in expression[3]:
            for condition in conditions:
                if condition and condition[0] == f.COMPARE and condition[2] == ("NotIn",):
                    frame.looked_up[name] = (render(condition[1][1]), False)


def narrowing(frame: Frame, test: Facts) -> dict[str, Value]:
    """``isinstance(x, Y)`` tells the type of x."""
    if test and test[0] == f.CALL and test[1] == (f.NAME, "isinstance") and len(test[2]) == 2:
        subject, kind = test[2]
        if subject and subject[0] == f.NAME and kind and kind[0] in (f.NAME, f.ATTR):
            found = frame.expression(kind).t
            if found and found[0] == "cls":
                old = frame.names.get(subject[1], UNKNOWN)
                before = frame.program.classes.get(old.t[1]) if old.t and old.t[0] == "obj" else None
                narrower = before is not None and any(
                    one.id == found[1] for one in frame.program.ancestry(before)[0]
                )
                if not narrower:
                    return {subject[1]: Value(instance(frame, frame.program.classes[found[1]]), old.o)}
    return {}
