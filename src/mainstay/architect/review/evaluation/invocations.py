"""Invocations: a call of a function of the program, from its arguments to what it gives."""

from __future__ import annotations

from mainstay.architect.effects import Invoke, Origin
from mainstay.architect.findings import Location
from mainstay.architect.review import facts as f
from mainstay.architect.review.arguments import word_of
from mainstay.architect.review.evaluation.frame import Frame
from mainstay.architect.review.evaluation.values import SESSIONS, UNKNOWN, Value, join
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.program import NONE, Function, Type

_MANAGERS = {"contextmanager", "asynccontextmanager"}


def arguments_of(frame: Frame, expression: Facts) -> tuple[list[Value], dict[str, Value]]:
    """The values of a call's arguments, by position and by name; ``**`` stands for those not told."""
    values = [frame.expression(part) for part in expression[2]]
    named = {}
    for name, part in expression[3]:
        value = frame.expression(part)
        named[name or "**"] = value
    if any(part and part[0] == f.STAR for part in expression[2]):
        named.setdefault("**", UNKNOWN)
    return values, named


def invoke(
    frame: Frame,
    function: Function,
    receiver: Value | None,
    values: list[Value],
    named: dict[str, Value],
    where: Location,
) -> Value:
    """A call of a function of the program."""
    parameters = function.parameters
    arguments: list[frozenset[Origin]] = [NONE] * len(parameters)
    passed: dict[int, Value] = {}
    given: list[Value] = list(values)
    method = function.klass is not None and "staticmethod" not in function.decorated
    if receiver is not None and method:
        given.insert(0, receiver)
    elif receiver is None and method and "classmethod" in function.decorated:
        given.insert(0, UNKNOWN)
    positions = {parameter[0]: index for index, parameter in enumerate(parameters)}
    for index, value in enumerate(given):
        position = index
        if position >= len(parameters) or parameters[position][3] in ("k", "*", "**"):
            position = next((i for i, p in enumerate(parameters) if p[3] == "*"), -1)
        if 0 <= position < len(parameters):
            arguments[position] |= value.o
            passed[position] = value
            _learn(function, position, value)
    for name, value in named.items():
        found = positions.get(name)
        if found is None:
            found = next((i for i, p in enumerate(parameters) if p[3] == "**"), None)
        if found is not None:
            arguments[found] |= value.o
            passed[found] = value
            _learn(function, found, value)
    frame.evaluation.function(function)
    known = _known(frame, parameters, passed, "**" in named)
    frame.out.append(Invoke((function.id,), where, tuple(arguments), known))
    origins: set[Origin] = set()
    for origin in function.gives_from:
        if origin.parameter >= 0:
            if origin.parameter < len(arguments):
                for inner in arguments[origin.parameter]:
                    if "selects" in origin.traits:
                        if inner.loop is not None:
                            origins.add(inner)
                        elif inner.parameter >= 0:
                            origins.add(Origin(parameter=inner.parameter, traits=frozenset({"selects"})))
                    elif origin.field and not inner.field and inner.loop is None:
                        origins.add(
                            Origin(
                                inner.read, inner.target, inner.parameter, origin.field, None, inner.traits
                            )
                        )
                    else:
                        origins.add(inner)
        elif origin.loop is None:
            origins.add(origin)
    gives = function.gives
    if function.decorated & _MANAGERS:
        return Value(("manager", function.id, known), frozenset(origins))
    asked = receiver.t if receiver is not None else None
    if gives and gives[0] == "lib" and gives[2] is None and not (asked and asked[0] == "lib"):
        # A helper that is handed a query or the class: what it gives is about the same rows.
        known_types = [v.t for v in passed.values() if v.t]
        queries = [t for t in known_types if t[:2] == gives[:2]]
        rows = {t[1] for t in known_types if t[0] == "cls" and frame.program.is_row(t[1])}
        if len(queries) == 1 and queries[0][2]:
            gives = (*gives[:2], queries[0][2], (gives[3] - {"columns"}) | queries[0][3], gives[4])
        elif len(rows) == 1 and not queries:
            gives = (*gives[:2], rows.pop(), gives[3] - {"columns"}, gives[4])
    if (
        gives
        and gives[0] == "lib"
        and gives[2] is None
        and asked
        and asked[0] == "lib"
        and asked[2] is not None
    ):
        # A method of a custom queryset: what it gives is about the receiver's model.
        own = gives[3] if "elsewhere" in asked[3] else gives[3] - {"elsewhere"}
        gives = (*gives[:2], asked[2], own | asked[3], gives[4] or asked[4])
    return Value(gives, frozenset(origins))


def _known(
    frame: Frame, parameters: Facts, passed: dict[int, Value], more: bool
) -> tuple[tuple[int, str | int], ...]:
    """What is known of the arguments of a call; `more` where not all of them are told (``*a, **k``)."""
    own = {id(value): position for position, value in frame.own.values()}
    found: list[tuple[int, str | int]] = []
    for position, (_, _, default, kind) in enumerate(parameters):
        value = passed.get(position)
        if value is None:
            if default is not None and default[0] == f.CONST and not more:
                one = default[1]
                found.append((position, word_of(one)))
        elif kind not in ("*", "**"):
            if id(value) in own:
                found.append((position, own[id(value)]))
            else:
                found.append((position, _word(value)))
    return tuple(found)


def _word(value: Value) -> str:
    """What is known of a value that is passed."""
    t = value.t
    if t and t[0] == "str" and not value.o and "{}" not in t[1]:
        return word_of(t[1])
    if t and t[0] == "const" and len(t) > 1:
        return word_of(t[2]) if len(t) > 2 else str(t[1])
    if t and t[0] == "lib" and t[1] in SESSIONS:
        return "true"
    return "some"


def _learn(function: Function, position: int, value: Value) -> None:
    t = value.t
    if t is None or t[0] not in ("obj", "list", "lib", "tuple"):
        return
    if t[0] == "tuple" or (t[0] == "list" and not (t[1] and t[1][0] == "obj")):
        t = ("list", None)
    old = function.learned.get(position)
    if position not in function.learned:
        function.learned[position] = t
    elif old is None or old[0] != t[0]:
        function.learned[position] = None  # rows here, a query there: nothing is certain
    elif old != t:
        joined = join([Value(old), Value(t)]).t
        if joined is not None:
            function.learned[position] = _both_known(joined, old, t)


def _both_known(joined: Type, one: Type, other: Type) -> Type:
    """`joined` as rows whose query is in sight, only where that holds for both types it was made of."""
    if joined[0] == "list" and joined[1] and one[1] and other[1]:
        return ("list", _both_known(joined[1], one[1], other[1]))
    if joined[0] == one[0] == other[0] == "obj" and not ("known" in one[2] and "known" in other[2]):
        return (*joined[:2], joined[2] - {"known"})
    return joined


def run_lambda(frame: Frame, t: Type, values: list[Value]) -> Value:
    expression, names, owner = frame.evaluation.lambdas[t[1]]
    outer, frame.names = frame.names, dict(names)
    outer_module, frame.module = frame.module, owner.module
    try:
        for index, (name, _, default, _) in enumerate(expression[1]):
            if index < len(values):
                frame.names[name] = values[index]
            else:
                frame.names[name] = frame.expression(default) if default else UNKNOWN
        return frame.expression(expression[2])
    finally:
        frame.names, frame.module = outer, outer_module
