"""Built-ins: what Python's own functions and the methods of its collections give."""

from __future__ import annotations

from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.attributes import attribute
from mainstay.architect.review.evaluation.frame import Frame
from mainstay.architect.review.evaluation.invocations import arguments_of
from mainstay.architect.review.evaluation.loops import each, item_of
from mainstay.architect.review.evaluation.values import UNKNOWN, Value, origins_of
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.program import Type

_SAME = {"list", "tuple", "set", "sorted", "reversed", "frozenset", "iter", "aiter"}
_PLAIN = {"print", "isinstance", "hasattr", "repr", "id", "type", "range", "enumerate", "zip", "abs", "round"}
_SCALARS = {"len", "sum", "any", "all", "bool", "int", "str", "float", "min", "max", "next", "anext"}


def call_built_in(frame: Frame, name: str, expression: Facts) -> Value | None:
    arguments = expression[2]
    if name == "super" and frame.function is not None and frame.function.klass is not None:
        klass = frame.function.klass
        me = frame.function.parameters[0][0] if frame.function.parameters else "self"
        receiver = frame.names.get(me, UNKNOWN)
        return Value(("super", klass.id, receiver.t), receiver.o)
    if name in _SAME and arguments:
        where = frame.place(expression[4])
        value = frame.expression(arguments[0])
        for _, keyword in expression[3]:
            found = frame.expression(keyword)
            each(frame, found, value, arguments[0], where)
        if value.t and value.t[0] == "lib":
            item, _ = item_of(frame, value, arguments[0], where)
            return Value(("list", item.t), item.o)
        if value.t and value.t[0] in ("tuple", "list"):
            return value
        return Value(value.t if value.t and value.t[0] == "const" else ("list", None), value.o)
    if name in ("map", "filter") and len(arguments) >= 2:
        where = frame.place(expression[4])
        function = frame.expression(arguments[0])
        value = frame.expression(arguments[1])
        result = each(frame, function, value, arguments[1], where)
        return Value(("list", result.t if name == "map" else None), value.o)
    if name in _SCALARS and arguments:
        value = frame.expression(arguments[0])
        where = frame.place(expression[4])
        for keyword_name, keyword in expression[3]:
            found = frame.expression(keyword)
            if keyword_name == "key":
                each(frame, found, value, arguments[0], where)
        others = [frame.expression(part) for part in arguments[1:]]
        item = UNKNOWN
        if value.t and value.t[0] == "lib":
            item, _ = item_of(frame, value, arguments[0], where)
            value = Value(None, value.o | item.o)
        elif value.t and value.t[0] == "list":
            item = Value(value.t[1])
        if name in ("next", "anext", "min", "max"):
            return Value(item.t, value.o | origins_of(others))
        return Value(
            ("const",) if name in ("len", "int", "bool") and not value.o else None,
            value.o | origins_of(others),
        )
    if name == "getattr" and len(arguments) >= 2:
        values = [frame.expression(part) for part in arguments]
        if arguments[1] and arguments[1][0] == f.CONST and isinstance(arguments[1][1], str) and arguments[0]:
            return attribute(frame, (f.ATTR, arguments[0], arguments[1][1], expression[4]))
        return Value(None, origins_of(values))
    if name == "dict" and not arguments:
        _, named = arguments_of(frame, expression)
        return Value(("dict", None), origins_of(named.values()))
    if name in _PLAIN:
        values, _ = arguments_of(frame, expression)
        constant = name == "range" and not origins_of(values)
        return Value(("const",) if constant else None, origins_of(values))
    return None


def call_built_in_method(frame: Frame, t: Type, callee: Value, values: list[Value], function: Facts) -> Value:
    name, kind = t[1], t[2]
    joined = callee.o | origins_of(values)
    if name in ("append", "add", "appendleft", "extend", "insert", "update") and values:
        item = values[-1].t
        if name in ("extend", "update"):
            item = item[1] if item and item[0] == "list" else None
        receiver = function[1]
        if receiver and receiver[0] == f.NAME and receiver[1] in frame.names:
            inner = item if kind[0] != "list" or kind[1] is None else kind[1]
            outer = frozenset(o for o in joined if o.loop is None)
            frame.names[receiver[1]] = Value(("list", inner) if kind[0] != "dict" else kind, outer)
        return UNKNOWN
    if kind[0] == "dict":
        if name in ("get", "pop", "setdefault"):
            return Value(kind[1], joined)
        if name == "items":
            return Value(("list", ("tuple", (None, kind[1]))), joined)
        if name == "values":
            return Value(("list", kind[1]), joined)
        if name == "keys":
            return Value(("list", None), joined)
    if kind[0] == "list" and name in ("pop", "popleft"):
        return Value(kind[1], joined)
    if name == "copy":
        return Value(kind, joined)
    if kind[0] in ("const", "str") and name in ("items", "keys", "values", "split"):
        return Value(("const",), joined)
    if kind[0] == "str" and name in ("format", "strip", "replace", "lower", "upper", "join"):
        return Value(kind if name in ("format", "strip") else None, joined)
    return Value(None, joined)
