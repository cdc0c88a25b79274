"""Calls: who is called, and what the call gives where no table and no function of the program tells."""

from __future__ import annotations

from mainstay.architect.effects import Kind, Origin
from mainstay.architect.findings import Location
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.built_ins import call_built_in, call_built_in_method
from mainstay.architect.review.evaluation.frame import Frame
from mainstay.architect.review.evaluation.invocations import arguments_of, invoke, run_lambda
from mainstay.architect.review.evaluation.operations import call_operation, model_of, note_loads, type_given
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import UNKNOWN, Value, origins_of
from mainstay.architect.review.facts import Facts, last_name
from mainstay.architect.review.program import NONE, Class, Type


def call(frame: Frame, expression: Facts) -> Value:
    _, function, arguments, _, place = expression
    if function is None:
        for part in arguments:
            frame.expression(part)
        return UNKNOWN
    if function[0] == f.ATTR and function[2] in ("add", "setdefault", "set") and arguments:
        frame.fill(function[1])
    if last_name(function) in ("get_model", "get_class", "get_user_model"):
        named_model = _model_by_name(frame, expression)
        if named_model is not None:
            return named_model
    if function[0] == f.NAME and function[1] not in frame.names:
        built_in = call_built_in(frame, function[1], expression)
        if built_in is not None:
            return built_in
    callee = frame.expression(function)
    t = callee.t
    if t is not None:
        kind = t[0]
        if kind == "op":
            return call_operation(frame, t[1], t[3], callee, t[2], expression)
        if kind == "ext":
            operation = frame.libraries.function(t[1])
            if operation is not None:
                return call_operation(frame, operation, t[1], UNKNOWN, ("name", t[1]), expression)
            named = frame.libraries.names.get(t[1])
            if named is not None:
                return _construct_library(frame, named, expression)
            return _unknown_call(frame, t[1], expression)
        if kind == "lib":
            library = frame.libraries.types.get(t[1])
            if library is not None and library.call is not None:
                arguments_of(frame, expression)
                return Value(type_given(frame, library.call.gives, t), callee.o)
    values, named_values = arguments_of(frame, expression)
    where = frame.place(place)
    if t is None:
        joined = callee.o | origins_of(values) | origins_of(named_values.values())
        return _unresolved(frame, function, values, joined)
    if t[0] == "fun":
        target = frame.program.functions[t[1]]
        receiver = Value(t[2], callee.o) if t[2] is not None else None
        return invoke(frame, target, receiver, values, named_values, where)
    if t[0] == "cls":
        return _construct(frame, frame.program.classes[t[1]], values, named_values, where)
    if t[0] == "lam":
        return run_lambda(frame, t, values)
    if t[0] == "obj":
        method = frame.program.method(frame.program.classes[t[1]], "__call__")
        if method is not None:
            return invoke(frame, method, callee, values, named_values, where)
    if t[0] == "colmethod":
        return _column_method(t, values)
    if t[0] == "listmethod":
        return call_built_in_method(frame, t, callee, values, function)
    return Value(None, callee.o | origins_of(values) | origins_of(named_values.values()))


def _construct(
    frame: Frame,
    klass: Class,
    values: list[Value],
    named: dict[str, Value],
    where: Location,
) -> Value:
    origins = origins_of(values) | origins_of(named.values())
    if frame.program.models_of(klass) is not None:
        return Value(("obj", klass.id, frozenset({"loads:*", "new"})), origins)
    library = frame.program.library_type(klass)
    init = frame.program.method(klass, "__init__")
    if library is not None and frame.libraries.types[library].methods:
        if init is not None:
            invoke(frame, init, Value(("lib", library, None, NONE, klass.id)), values, named, where)
        return Value(("lib", library, None, NONE, klass.id), origins)
    made = Value(("obj", klass.id, NONE), origins)
    if init is not None:
        invoke(frame, init, made, values, named, where)
    return made


def _construct_library(frame: Frame, name: str, expression: Facts) -> Value:
    kind = frame.libraries.types[name]
    made = ("lib", name, None, NONE, None)
    if kind.new is not None and kind.new.runs:
        call_operation(frame, kind.new, name, UNKNOWN, made, expression)
        return Value(made)
    values, _ = arguments_of(frame, expression)
    if kind.new is not None and kind.new.model >= 0:
        made = ("lib", name, model_of(values, kind.new.model, set()), NONE, None)
    return Value(made, origins_of(values))


def _model_by_name(frame: Frame, expression: Facts) -> Value | None:
    """``get_model("app", "Model")`` and ``get_user_model()`` of Django."""
    texts = [part[1] for part in expression[2] if part and part[0] == f.CONST and isinstance(part[1], str)]
    if last_name(expression[1]) == "get_user_model":
        texts = [frame.program.user_model]
    found = frame.program.find_class(".".join(texts[:2]), frame.module) if texts and texts[0] else ""
    return Value(("cls", found)) if found else None


def _column_method(t: Type, values: list[Value]) -> Value:
    if t[3] in ("label", "asc", "desc"):
        return Value(("col", t[1], t[2]), origins_of(values))
    # `~` marks a condition that several values meet.
    return Value(("cond", frozenset([t[2], f"{t[2]}~"])), origins_of(values))


def _unknown_call(frame: Frame, full: str, expression: Facts) -> Value:
    """A call of something outside the program that no table knows."""
    values, named = arguments_of(frame, expression)
    last = full.rpartition(".")[2]
    if full.endswith(("post_migrate.connect", "pre_migrate.connect")):
        frame.program.by_hand |= {value.t[1] for value in values if value.t and value.t[0] == "fun"}
    if last == "from_queryset" and values and values[0].t and values[0].t[0] == "cls":
        return Value(values[0].t)
    if last == "declarative_base" or last == "registry":
        return Value(("ext", "sqlalchemy.orm.DeclarativeBase"))
    if (
        full in ("copy.copy", "copy.deepcopy", "typing.cast", "itertools.chain", "itertools.islice")
        and values
    ):
        return values[-1] if last == "cast" else values[0]
    if full.startswith("asyncio.") and last in ("gather", "wait_for", "shield", "wait", "run") and values:
        return Value(values[0].t if last != "gather" else None, origins_of(values))
    changed = last in ("lower", "upper", "trim", "coalesce") and ".func." in full
    if changed and values and values[0].t and values[0].t[0] == "col":
        return values[0]  # compared without regard to case: still that column
    if full == "collections.defaultdict":
        return Value(("dict", ("list", None)), NONE)
    return Value(None, origins_of(values) | origins_of(named.values()))


def _unresolved(frame: Frame, function: Facts, values: list[Value], joined: frozenset[Origin]) -> Value:
    """A call of something unknown: what may be said by the method's name alone."""
    if function[0] == f.ATTR:
        name = function[2]
        kind = frame.libraries.types.get("Function")
        if name in ("select_related", "prefetch_related"):
            # Of rows that are not known: remembered by the relations' names.
            note_loads(frame, values, {}, set())
        if kind is not None and name in ("delay", "apply_async", "delay_on_commit") and function[1]:
            frame.do(Kind.SEND, last_name(function[1]), f"{render(function)}(…)", function[3], joined, set())
            return UNKNOWN
        if name in ("append", "add", "extend") and function[1] and function[1][0] == f.NAME:
            receiver = function[1][1]
            if receiver in frame.names and values:
                outer = frozenset(o for o in joined if o.loop is None)
                frame.names[receiver] = Value(("list", values[-1].t if name != "extend" else None), outer)
    return Value(None, joined)
