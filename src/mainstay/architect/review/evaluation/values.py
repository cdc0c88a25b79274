"""Values: what is known of a value, and how several of them become one."""

from __future__ import annotations

from collections.abc import Iterable

from mainstay.architect.effects import Origin
from mainstay.architect.review.program import NONE, Type

QUERYSETS = {"Manager", "UserManager", "QuerySet"}
"""Types of a library that stand for rows not yet asked for, and mix."""
SESSIONS = {"Session", "AsyncSession", "ScopedSession"}
"""Types of a library that stand for a session: always true."""


class Value:
    """What is known of a value: its type and where it came from."""

    __slots__ = ("o", "t")

    def __init__(self, t: Type, o: frozenset[Origin] = NONE) -> None:
        self.t = t
        self.o = o


UNKNOWN = Value(None)
CONSTANT = Value(("const",))


def origins_of(values: Iterable[Value]) -> frozenset[Origin]:
    """All that several values rest on."""
    found = NONE
    for value in values:
        if value.o:
            found = found | value.o if found else value.o
    return found


def of_field(origins: frozenset[Origin], field: str) -> frozenset[Origin]:
    """The origins of attribute or column `field` of what has `origins`."""
    return frozenset(
        Origin(o.read, o.target, o.parameter, field, o.loop, o.traits)
        if (o.read is not None or o.parameter >= 0) and not o.field
        else o
        for o in origins
    )


def join(values: list[Value]) -> Value:
    """One value that may be any of several."""
    if len(values) == 1:
        return values[0]
    best: Type = None
    if len({value.t[1] for value in values if value.t and value.t[0] == "obj"}) > 2:
        return Value(None, origins_of(values))  # one of many classes: better none than the first that comes
    for value in values:
        t = value.t
        if t is None or t[0] == "const":
            continue
        if best is None or best == ("list", None):
            best = t
        elif best != t and best[0] == t[0]:
            if best[0] == "obj" and best[1] == t[1]:
                best = ("obj", best[1], best[2] | t[2])
            elif best[0] == "lib" and (best[1] == t[1] or {best[1], t[1]} <= QUERYSETS):
                best = ("lib", best[1], best[2] or t[2], _either(best[3], t[3]), best[4] or t[4])
            elif (
                best[0] == "list"
                and best[1]
                and t[1]
                and best[1][0] == t[1][0] == "obj"
                and best[1][1] == t[1][1]
            ):
                best = ("list", ("obj", best[1][1], best[1][2] | t[1][2]))
    return Value(best, origins_of(values))


def _either(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """Traits of a query built in one of two ways. What only one of them locks, it may lock."""
    if ("locks-rows" in one) != ("locks-rows" in other):
        return ((one | other) - {"locks-rows"}) | {"may-lock"}
    return one | other


def merged(one: dict[str, Value], other: dict[str, Value]) -> dict[str, Value]:
    """`other`, become what the names stand for where either of two ways was taken."""
    for name, value in one.items():
        there = other.get(name)
        if there is None:
            other[name] = value
        elif there is not value:
            other[name] = join([there, value])
    return other
