"""Contexts: the scopes that a ``with`` opens."""

from __future__ import annotations

import re
from typing import Any

from mainstay.architect.effects import Condition, Invoke, Scope, Tree
from mainstay.architect.findings import Location
from mainstay.architect.review import facts as f
from mainstay.architect.review.arguments import cannot
from mainstay.architect.review.evaluation.assignments import bind
from mainstay.architect.review.evaluation.frame import Frame, hinted_type, is_empty
from mainstay.architect.review.evaluation.invocations import invoke
from mainstay.architect.review.evaluation.operations import type_given
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import SESSIONS, UNKNOWN, Value
from mainstay.architect.review.facts import Facts, last_name
from mainstay.architect.review.program import NONE, Function

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
    if not kinds and value.t is None and _is_session(frame, target):
        kinds = [("session", NONE)]  # opened by what is not at hand: it ends with the block
    if target is not None:
        bind(frame, target, inner, place)
    frame.scopes.extend(kinds)
    tree, left = frame.inside(lambda: _with(frame, items[1:], body, place))
    for kind, when in reversed(kinds):
        frame.scopes.pop()
        if not is_empty(tree):
            tree = Scope(kind, tree, where, f"with {render(expression) or '…'}", when)
    if not is_empty(tree):
        frame.out.append(tree)
    frame.out.extend(leave)
    return "" if "suppress" in last_name(expression) else str(left)


def _entered(
    frame: Frame, value: Value, expression: Facts, where: Location
) -> tuple[list[tuple[str, frozenset[Condition]]], Value, list[Tree]]:
    """Scopes that ``with value`` opens, what ``as`` gives, and what runs at the end."""
    t = value.t
    if t is None or t[0] not in ("ctx", "lib", "manager"):
        # A lock by its name: of a cache, a file, a thread. What it protects is not looked into.
        named = last_name(expression) if expression else ""
        if _LOCK.search(named):
            return [("lock", NONE)], Value(t, value.o), []
    if t is None:
        return [], Value(None, value.o), []
    if t[0] == "ctx":
        return [(kind, NONE) for kind in (*t[4], t[1])], Value(t[2], value.o), []
    if t[0] == "lib":
        kind = frame.libraries.types.get(t[1])
        if kind is not None and kind.enter is not None:
            scope = [(kind.enter.scope, NONE)] if kind.enter.scope else []
            return scope, Value(type_given(frame, kind.enter.gives, t) or t, value.o), []
        return [], value, []
    if t[0] == "manager":  # what a function under @contextmanager gave
        function = frame.program.functions[t[1]]
        gives = function.gives[1] if function.gives and function.gives[0] == "list" else function.gives
        scopes = _around_the_yield(function, t[2])
        if _LOCK.search(function.name.rpartition(".")[2]) and not any(kind == "lock" for kind, _ in scopes):
            scopes.insert(0, ("lock", NONE))
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


def _is_session(frame: Frame, target: Facts) -> bool:
    """Whether ``as`` gives what is taken for a session by its name."""
    hinted = hinted_type(frame, target[1]) if target and target[0] == f.NAME else None
    return hinted is not None and hinted[1] in SESSIONS


def _around_the_yield(
    function: Function, known: tuple[tuple[int, str | int], ...]
) -> list[tuple[str, frozenset[Condition]]]:
    """The scopes that a context manager of the program opens in one call, each with what must hold for that.

    Where several yields may be reached, the first tells; a session of its own that another opens counts too.
    """
    arguments = dict(known)
    found: dict[str, frozenset[Condition]] = {}
    first = True
    for one in function.yields:
        here = _in_caller(one.when, arguments)
        if here is None:
            continue
        for kind, when in one.scopes:
            there = _in_caller(when, arguments)
            if there is not None and (first or kind == "session") and kind not in found:
                found[kind] = here | there
        first = False
    return list(found.items())


def _in_caller(when: frozenset[Condition], arguments: dict[int, str | int]) -> frozenset[Condition] | None:
    """What `when` asks of the caller's own parameters; None where it cannot hold in this call."""
    found = set()
    for position, word in when:
        given = arguments.get(position) if position >= 0 else None
        if isinstance(given, int):
            found.add((given, word))
        elif given is not None and cannot(given, word):
            return None
    return frozenset(found)
