"""Expressions: the value of each kind of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mainstay.architect.effects import Branch, Condition, Do, Effect, Kind, Origin, Sequence
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.annotations import THROUGH, annotated
from mainstay.architect.review.evaluation.attributes import attribute
from mainstay.architect.review.evaluation.calls import call
from mainstay.architect.review.evaluation.conditions import decision, required
from mainstay.architect.review.evaluation.frame import Frame, hinted_type, is_empty
from mainstay.architect.review.evaluation.loops import comprehension, item_of
from mainstay.architect.review.evaluation.operations import operate
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import CONSTANT, UNKNOWN, Value, join, of_field, origins_of
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.libraries import Operation
from mainstay.architect.review.program import NONE, Type, Yield

FEW = 10
"""A query limited to so many rows, written as a number in the code, does not grow with data."""


def _name(frame: Frame, expression: Facts) -> Value:
    found = frame.names.get(expression[1])
    if found is not None:
        if found.t is None:
            hinted = hinted_type(frame, expression[1])
            if hinted is not None:
                return Value(hinted, found.o)
        return found
    t = frame.program.lookup(frame.module, expression[1])
    if t is None:
        t = hinted_type(frame, expression[1])
        if t is None and expression[1].isupper():
            return CONSTANT
    elif t[0] == "ext" and t[1] in frame.libraries.names:
        kind = frame.libraries.names[t[1]]
        if kind in ("DjangoConnection",):
            t = ("lib", kind, None, NONE, None)
    return Value(t) if t is not None else UNKNOWN


def _constant(frame: Frame, expression: Facts) -> Value:
    value = expression[1]
    if type(value) is str:
        return Value(("str", value))
    if type(value) is int:
        return Value(("const", "few" if 0 <= value <= FEW else "many", value))
    if value is None:
        return Value(("const", "none"))
    if type(value) is bool:
        return Value(("const", "true" if value else "false"))
    return CONSTANT


def _items(frame: Frame, expression: Facts) -> Value:
    values = [frame.expression(part) for part in expression[1]]
    if not values:
        return Value(("list", None))
    return Value(("tuple", tuple(v.t for v in values)), origins_of(values))


def _dict(frame: Frame, expression: Facts) -> Value:
    values = [frame.expression(part) for pair in expression[1] for part in pair]
    kind: Type = ("dict", None) if not expression[1] else ("const",)
    if expression[1] and values[1].t:
        kind = ("dict", values[1].t)
    return Value(kind, origins_of(values))


def _any(frame: Frame, expression: Facts) -> Value:
    values = [frame.expression(part) for part in expression[1]]
    for value in values:  # Q(...) | Q(...), queryset & queryset, Model.column + 1
        if value.t and value.t[0] in ("lib", "col", "cond"):
            if value.t[0] == "lib" and value.t[1] == "Condition":
                traits = frozenset().union(*(v.t[3] for v in values if v.t and v.t[0] == "lib"))
                return Value((*value.t[:3], traits, value.t[4]), origins_of(values))
            return Value(value.t, origins_of(values))
    return Value(None, origins_of(values))


def _and_or(frame: Frame, expression: Facts) -> Value:
    values: list[Value] = []
    when: frozenset[Condition] = NONE
    for part in expression[1]:
        tree, value = frame.inside(lambda part=part: frame.expression(part))  # type: ignore[misc]
        if not is_empty(tree):
            way = Branch((tree, Sequence()), origins_of(values), ("", ""), None, (when, NONE))
            frame.out.append(way if when else tree)
        when |= required(frame, part, expression[0] == f.AND)
        values.append(value)
    joined = join(values)
    return Value(joined.t if joined.t and joined.t[0] != "const" else None, joined.o)


def _not(frame: Frame, expression: Facts) -> Value:
    return Value(None, frame.expression(expression[1]).o)


def _compare(frame: Frame, expression: Facts) -> Value:
    values = [frame.expression(part) for part in expression[1]]
    fields = frozenset(v.t[2] for v in values if v.t and v.t[0] == "col")
    if fields:
        if expression[2] != ("Eq",):
            fields |= {f"{name}~" for name in fields}
        return Value(("cond", fields), origins_of(v for v in values if not (v.t and v.t[0] == "col")))
    if len(values) == 2 and expression[2][0] in ("In", "NotIn") and values[1].t and values[1].t[0] == "lib":
        item_of(frame, values[1], expression[1][1], frame.anywhere(expression[1][1]))
    origins = origins_of(values)
    if expression[2][0] in ("Lt", "LtE", "Gt", "GtE") and not any(
        part in ((f.CONST, 0), (f.CONST, 1)) for part in expression[1]
    ):
        origins = frozenset(_as_total(o) for o in origins)  # fewer than so many: not whether there is one
    return Value(None, origins)


def _as_total(origin: Origin) -> Origin:
    return replace(origin, traits=origin.traits | {"total"}) if "presence" in origin.traits else origin


def _text(frame: Frame, expression: Facts) -> Value:
    values = [frame.expression(part) for part in expression[1]]
    texts = [v.t[1] if v.t and v.t[0] == "str" else "{}" for v in values]
    return Value(("str", "".join(texts)), origins_of(values))


def _choice(frame: Frame, expression: Facts) -> Value:
    on = decision(frame, expression[1])
    when = (required(frame, expression[1], True), required(frame, expression[1], False))
    one, first = frame.inside(lambda: frame.expression(expression[2]))
    other, second = frame.inside(lambda: frame.expression(expression[3]))
    if not (is_empty(one) and is_empty(other)):
        frame.out.append(Branch((one, other), on, ("", ""), None, when))
    joined = join([first, second])
    return Value(joined.t, joined.o | on)


def _await(frame: Frame, expression: Facts) -> Value:
    value = frame.expression(expression[1])
    if value.t and value.t[0] == "ctx" and value.t[1] in ("transaction",):
        frame.out.append(Do(Effect(Kind.BEGIN, "", "begin", value.t[3])))
        return Value(value.t[2], value.o)
    return value


def _yield(frame: Frame, expression: Facts) -> Value:
    value = frame.expression(expression[1])
    frame.yielded.append(value)
    frame.yields.append(Yield(frame.holds, tuple(frame.scopes)))
    return UNKNOWN


def _walrus(frame: Frame, expression: Facts) -> Value:
    value = frame.expression(expression[2])
    frame.names[expression[1]] = value
    return value


def _star(frame: Frame, expression: Facts) -> Value:
    return frame.expression(expression[1])


def _is_few(value: Value) -> bool:
    return value.t is not None and value.t[:2] == ("const", "few")


def _slice(frame: Frame, expression: Facts) -> Value:
    parts = [frame.expression(part) for part in expression[1]]
    few = expression[1][1] is not None and _is_few(parts[1])
    return Value(("slice", few), origins_of(parts))


def _lambda(frame: Frame, expression: Facts) -> Value:
    frame.evaluation.lambdas.append((expression, dict(frame.names), frame))
    return Value(("lam", len(frame.evaluation.lambdas) - 1))


def _subscript(frame: Frame, expression: Facts) -> Value:
    base = frame.expression(expression[1])
    if base.t and base.t[0] == "ext" and base.t[1].rpartition(".")[2] in THROUGH:
        return Value(annotated(frame, expression))  # an alias: SessionDep = Annotated[Session, Depends(...)]
    index = frame.expression(expression[2]) if expression[2] is not None else UNKNOWN
    t = base.t
    origins = base.o | index.o
    if t is None:
        return Value(None, origins)
    sliced = bool(index.t and index.t[0] == "slice")
    if t[0] == "lib":
        kind = frame.libraries.types.get(t[1])
        if sliced:
            return Value((*t[:3], t[3] | {"limited"} if index.t[1] else t[3], t[4]), origins)
        if kind is not None and kind.iterate is not None and t[3] is not None:
            once = Operation(kind.iterate.kind, kind.iterate.traits | {"one"}, kind.iterate.gives)
            place = frame.place(expression[3])
            return operate(frame, once, "[]", base, [], {}, place, render(expression))
        return Value(None, origins)
    if t[0] == "list":
        return Value(t if sliced else t[1], origins)
    if t[0] == "dict":
        return Value(t[1], origins)
    if (
        t[0] == "tuple"
        and expression[2]
        and expression[2][0] == f.CONST
        and isinstance(expression[2][1], int)
        and -len(t[1]) <= expression[2][1] < len(t[1])
    ):
        return Value(t[1][expression[2][1]], origins)
    if t[0] == "rowvalue" and index.t and index.t[0] == "str":
        return Value(None, of_field(base.o, index.t[1]) | index.o)
    if t[0] == "cls":
        return Value(t, origins)  # Generic[...]
    return Value(None, origins)


EXPRESSIONS: dict[int, Callable[[Frame, Facts], Value]] = {
    f.NAME: _name, f.ATTR: attribute, f.CALL: call, f.CONST: _constant, f.ITEMS: _items, f.DICT: _dict,
    f.SUB: _subscript, f.ANY: _any, f.COMPARE: _compare, f.TEXT: _text, f.COMP: comprehension,
    f.LAMBDA: _lambda, f.AWAIT: _await, f.YIELD: _yield, f.CHOICE: _choice, f.WALRUS: _walrus, f.SLICE: _slice,
    f.AND: _and_or, f.STAR: _star, f.OR: _and_or, f.NOT: _not,
}  # fmt: skip
"""What each kind of expression gives."""
