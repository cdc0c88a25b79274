"""Loops: what runs once for each item, how often that may be, and what one item is."""

from __future__ import annotations

import re
from typing import Any

from mainstay.architect.effects import Loop, Origin, Sequence
from mainstay.architect.findings import Location
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.assignments import bind
from mainstay.architect.review.evaluation.frame import Frame, is_empty
from mainstay.architect.review.evaluation.invocations import invoke, run_lambda
from mainstay.architect.review.evaluation.operations import operate
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import CONSTANT, UNKNOWN, Value, merged
from mainstay.architect.review.facts import Facts, last_name
from mainstay.architect.review.program import NONE

_BATCH = re.compile(r"batch|chunk|page|slice|window|group", re.IGNORECASE)
_RETRY = re.compile(r"attempt|retr|tries|backoff", re.IGNORECASE)


def for_(frame: Frame, statement: Facts) -> str:
    _, target, iterable, body, otherwise, place = statement
    values = frame.expression(iterable) if iterable is not None else CONSTANT
    where = frame.place(place)
    item, bound = item_of(frame, values, iterable, where)
    if target is not None and _is_batch(target):
        bound = "batches"
    if body and body[-1][0] in (f.RETURN, f.BREAK, f.RAISE):
        bound = "constant"
    turn = frozenset([Origin(loop=where)])
    before = dict(frame.names)

    def walk() -> None:
        frame.loops.append(where)
        if target is not None:
            bind(frame, target, Value(item.t, item.o | turn), place)
        frame.block(body)
        frame.loops.pop()

    tree, _ = frame.inside(walk)
    frame.names = merged(before, frame.names)
    if not is_empty(tree):
        text = f"for {render(target) or '…'} in {render(iterable) or '…'}"
        frame.out.append(Loop(tree, where, _walked(values, item, where), bound, text))
    if otherwise:
        frame.block(otherwise)
    return ""


def while_(frame: Frame, statement: Facts) -> str:
    _, test, body, otherwise, place = statement
    where = frame.place(place)
    before = dict(frame.names)
    bound = "retry" if _RETRY.search(repr(test)[:2000]) else "unknown"

    def walk() -> None:
        if test is not None:
            frame.expression(test)
        frame.block(body)

    tree, _ = frame.inside(walk)
    frame.names = merged(before, frame.names)
    if not is_empty(tree):
        frame.out.append(Loop(tree, where, NONE, bound, f"while {render(test) or '…'}"))
    if otherwise:
        frame.block(otherwise)
    return ""


def comprehension(frame: Frame, expression: Facts) -> Value:
    _, kind, element, generators, place = expression
    shadowed = dict(frame.names)
    result = _turns(frame, element, generators, place)
    frame.names = shadowed
    if kind == "DictComp":
        inner = result.t[1][1] if result.t and result.t[0] == "tuple" and len(result.t[1]) == 2 else None
        return Value(("dict", inner), result.o)
    return Value(("list", result.t), result.o)


def _turns(frame: Frame, element: Facts, generators: Facts, place: Any) -> Value:
    """The loops of a comprehension, from the outermost in, and what the innermost gives."""
    if not generators:
        return frame.expression(element)
    target, iterable, conditions = generators[0]
    values = frame.expression(iterable) if iterable is not None else CONSTANT
    # Loops of one comprehension share its place; the end tells them apart.
    loop = frame.place((*place[:3], place[3] - len(generators) + 1))
    item, bound = item_of(frame, values, iterable, loop)
    if target is not None and _is_batch(target):
        bound = "batches"
    outer, frame.out = frame.out, []
    try:
        if target is not None:
            bind(frame, target, Value(item.t, item.o | {Origin(loop=loop)}), place)
        for condition in conditions:
            frame.expression(condition)
        result = _turns(frame, element, generators[1:], place)
    finally:
        found, frame.out = frame.out, outer
    if found:
        text = f"for {render(target) or '…'} in {render(iterable) or '…'}"
        frame.out.append(Loop(Sequence(tuple(found)), loop, _walked(values, item, loop), bound, text))
    return Value(result.t, frozenset(o for o in result.o if o.loop != loop) | values.o)


def each(frame: Frame, function: Value, values: Value, expression: Facts, where: Location) -> Value:
    """Run `function` for each item of `values`."""
    if not (function.t and function.t[0] in ("lam", "fun")):
        return UNKNOWN
    item, bound = item_of(frame, values, expression, where)
    turned = Value(item.t, item.o | {Origin(loop=where)})

    def walk() -> Value:
        if function.t[0] == "lam":
            return run_lambda(frame, function.t, [turned])
        return invoke(frame, frame.program.functions[function.t[1]], None, [turned], {}, where)

    tree, result = frame.inside(walk)
    if not is_empty(tree):
        text = f"for each of {render(expression) or '…'}"
        frame.out.append(Loop(tree, where, _walked(values, item, where), bound, text))
    return result


def item_of(frame: Frame, values: Value, iterable: Facts, where: Location) -> tuple[Value, str]:
    """One item of what a loop walks, and the bound of the loop; evaluates a lazy query."""
    t = values.t
    bound = "unknown"
    if iterable is not None and iterable[0] == f.CALL:
        name = last_name(iterable[1])
        if (
            name in ("enumerate", "zip", "reversed", "tqdm", "sorted", "list", "tuple", "iter", "track")
            and iterable[2]
        ):
            inner, bound = item_of(frame, _wrapped(frame, iterable, 0), iterable[2][0], where)
            if name == "enumerate":
                return Value(("tuple", (("const",), inner.t)), inner.o), bound
            if name == "zip":
                others = [item_of(frame, _wrapped(frame, iterable, i), iterable[2][i], where)
                          for i in range(1, len(iterable[2]))]  # fmt: skip
                bounds = {bound, *(b for _, b in others)}
                bound = "constant" if "constant" in bounds else "rows" if "rows" in bounds else bound
                types = (inner.t, *(v.t for v, _ in others))
                return Value(("tuple", types), values.o), bound
            return inner, bound
        if name == "range":
            if len(iterable[2]) == 3:
                return Value(("const",), values.o), "batches"
            if all(a is not None and a[0] == f.CONST for a in iterable[2]):
                return CONSTANT, "constant"
            return Value(("const",), values.o), "unknown"
        if _BATCH.search(name) and not (t and t[0] == "lib"):
            inner_type = t[1] if t and t[0] == "list" else None
            return Value(("list", inner_type), values.o), "batches"
    if t is None:
        if iterable is not None and _constant_name(iterable):
            return Value(None, values.o), "constant"
        return Value(None, values.o), "rows" if _from_rows(values.o) else bound
    if t[0] == "lib":
        kind = frame.libraries.types.get(t[1])
        if kind is not None and kind.iterate is not None:
            value = operate(frame, kind.iterate, "iterate", values, [], {}, where, render(iterable) or "…")
            limited = "limited" in t[3]
            return value, "constant" if limited else "rows"
    if t[0] == "list":
        inner = t[1]
        rows = bool(
            inner and ((inner[0] == "obj" and frame.program.is_row(inner[1])) or inner[0] == "rowvalue")
        )
        if rows and inner[0] == "obj" and "new" in inner[2]:
            rows = False
        rows = rows or _from_rows(values.o)
        if "limited" in (o for origin in values.o for o in origin.traits):
            return Value(inner, values.o), "constant"
        return Value(inner, values.o), "rows" if rows else "unknown"
    if t[0] in ("tuple", "const", "str"):
        if t[0] == "tuple" and t[1] and len({x for x in t[1] if x}) == 1:
            return Value(next(x for x in t[1] if x), values.o), "constant"
        return Value(None, values.o), "constant"
    if t[0] == "dict":
        return Value(None, values.o), "rows" if _from_rows(values.o) else "unknown"
    if t[0] == "cls":
        return Value(None, values.o), "constant"  # an enumeration
    return Value(None, values.o), "unknown"


def _walked(values: Value, item: Value, where: Location) -> frozenset[Origin]:
    """What a loop walks: the values, and the read that the loop itself makes of a query not yet asked."""
    return values.o | {o for o in item.o if o.read == where}


def _wrapped(frame: Frame, call: Facts, index: int) -> Value:
    """The value of an argument of ``enumerate`` and friends, without walking it twice for effects."""
    if index >= len(call[2]) or call[2][index] is None:
        return CONSTANT
    _, value = frame.inside(lambda: frame.expression(call[2][index]))
    return value


def _from_rows(origins: frozenset[Origin]) -> bool:
    """Whether there is one for each row that a query read."""
    return any(o.read is not None and not ({"one", "presence"} & o.traits) and not o.field for o in origins)


def _is_batch(target: Facts) -> bool:
    return target[0] == f.NAME and bool(re.search(r"batch|chunk|page$", target[1]))


def _constant_name(expression: Facts) -> bool:
    """``SETTINGS``, ``settings.LANGUAGES``, ``cls.FIELDS``: what is written in capitals does not grow."""
    name = last_name(expression) if expression[0] in (f.NAME, f.ATTR) else ""
    if (
        expression[0] == f.CALL
        and expression[1]
        and expression[1][0] == f.ATTR
        and expression[1][2] in ("items", "values", "keys")
    ):
        name = last_name(expression[1][1])
    return bool(name) and name.isupper()
