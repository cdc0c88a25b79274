"""Contexts: the scopes that a ``with`` opens."""

from __future__ import annotations

import re
from typing import Any

from mainstay.architect.effects import Invoke, Scope, Tree
from mainstay.architect.findings import Location
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.assignments import bind
from mainstay.architect.review.evaluation.frame import Frame, is_empty
from mainstay.architect.review.evaluation.invocations import invoke
from mainstay.architect.review.evaluation.operations import type_given
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import UNKNOWN, Value
from mainstay.architect.review.facts import Facts, last_name

_LOCK = re.compile(r"(^|_)(lock|mutex)s?(_|$|ed)|Lock$")


def with_(frame: Frame, statement: Facts) -> str:
    _, items, body, place = statement
    return _with(frame, list(items), body, place)


def _with(frame: Frame, items: list[Facts], body: Facts, place: Any) -> str:
    if not items:
        return frame.block(body)
    expression, target = items[0]
    value = frame.expression(expression) if expression is not None else UNKNOWN
    where = frame.place(expression[-1]) if expression and expression[0] == f.CALL else frame.place(place)
    kinds, inner, leave = _entered(frame, value, expression, where)
    if target is not None:
        bind(frame, target, inner, place)
    frame.scopes.extend(kinds)
    tree, left = frame.inside(lambda: _with(frame, items[1:], body, place))
    for kind in reversed(kinds):
        frame.scopes.pop()
        if not is_empty(tree):
            tree = Scope(kind, tree, where, f"with {render(expression) or '…'}")
    if not is_empty(tree):
        frame.out.append(tree)
    frame.out.extend(leave)
    return "" if "suppress" in last_name(expression) else str(left)


def _entered(
    frame: Frame, value: Value, expression: Facts, where: Location
) -> tuple[list[str], Value, list[Tree]]:
    """Scopes that ``with value`` opens, what ``as`` gives, and what runs at the end."""
    t = value.t
    if t is None or t[0] not in ("ctx", "lib", "manager"):
        # A lock by its name: of a cache, a file, a thread. What it protects is not looked into.
        named = last_name(expression) if expression else ""
        if _LOCK.search(named):
            return ["lock"], Value(t, value.o), []
    if t is None:
        return [], Value(None, value.o), []
    if t[0] == "ctx":
        return [*t[4], t[1]], Value(t[2], value.o), []
    if t[0] == "lib":
        kind = frame.libraries.types.get(t[1])
        if kind is not None and kind.enter is not None:
            scope = [kind.enter.scope] if kind.enter.scope else []
            return scope, Value(type_given(frame, kind.enter.gives, t) or t, value.o), []
        return [], value, []
    if t[0] == "manager":  # what a function under @contextmanager gave
        function = frame.program.functions[t[1]]
        gives = function.gives[1] if function.gives and function.gives[0] == "list" else function.gives
        scopes = list(function.yields_in)
        if "lock" not in scopes and _LOCK.search(function.name.rpartition(".")[2]):
            scopes.insert(0, "lock")
        return scopes, Value(gives, value.o), []
    if t[0] == "obj":
        klass = frame.program.classes[t[1]]
        result, leave = value, []
        for name in ("__aenter__", "__enter__"):
            method = frame.program.method(klass, name)
            if method is not None:
                result = invoke(frame, method, value, [], {}, where)
                if result.t is None:
                    result = Value(t, result.o)
                break
        for name in ("__aexit__", "__exit__"):
            method = frame.program.method(klass, name)
            if method is not None:
                frame.evaluation.function(method)
                leave.append(Invoke((method.id,), where, (value.o,)))
                break
        return [], result, list(leave)
    return [], value, []
