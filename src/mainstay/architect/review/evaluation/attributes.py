"""Attributes: what ``value.name`` is, and the query that a relation of a row may cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mainstay.architect.effects import Kind, Origin
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.frame import DEEPEST, Frame, hinted_type
from mainstay.architect.review.evaluation.functions import PROPERTY, parameter_value
from mainstay.architect.review.evaluation.invocations import invoke
from mainstay.architect.review.evaluation.operations import type_given
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import UNKNOWN, Value, of_field
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.program import NONE, Class, Function, Relation, Type

_SETUP = {"__init__", "__enter__", "__aenter__", "setup", "connect", "start", "__attrs_post_init__", "__post_init__",
          "dispatch", "initialize", "begin", "open"}  # fmt: skip
"""Methods in which a class gives its instances their attributes."""


def attribute(frame: Frame, expression: Facts) -> Value:
    """The value of ``value.name``."""
    _, base_expression, name, place = expression
    base = frame.expression(base_expression)
    frame.here = place
    t = base.t
    if t is None:
        hinted = hinted_type(frame, name)
        if hinted is not None:
            return Value(hinted, base.o)
        if not base.o:
            return UNKNOWN
        return Value(None, of_field(base.o, name))
    kind = t[0]
    if kind == "obj":
        return _member(frame, base, frame.program.classes[t[1]], name, place, expression)
    if kind == "lib":
        return _library_member(frame, base, t, name)
    if kind == "mod":
        found = frame.program.lookup(frame.program.modules[t[1]], name)
        if found is None:
            below = f"{t[1]}.{name}"
            found = ("mod", below) if below in frame.program.modules else None
        return Value(found) if found else UNKNOWN
    if kind == "ext":
        full = f"{t[1]}.{name}"
        named = frame.libraries.names.get(full)
        if named == "DjangoConnection":
            return Value(("lib", named, None, NONE, None))
        return Value(("ext", full))
    if kind == "cls":
        return _class_member(frame, base, frame.program.classes[t[1]], name)
    if kind == "fun":
        function = frame.libraries.types.get("Function")
        if function is not None and name in function.methods:
            return Value(("op", function.methods[name], ("name", frame.program.functions[t[1]].name), name))
        return UNKNOWN
    if kind == "col":
        return Value(("colmethod", t[1], t[2], name), base.o)
    if kind in ("list", "dict"):
        return Value(("listmethod", name, t), base.o)
    if kind == "const" or kind == "str":
        return Value(("listmethod", name, t), base.o)
    if kind == "rowvalue":
        return Value(None, of_field(base.o, name))
    if kind == "super":
        return _super_member(frame, base, t, name)
    return Value(None, base.o)


def _member(frame: Frame, base: Value, klass: Class, name: str, place: Any, expression: Facts) -> Value:
    """An attribute of an instance."""
    models = frame.program.models_of(klass)
    t = base.t
    if models is not None:
        relation = frame.program.relation(klass, name)
        if relation is not None:
            return _follow(frame, base, relation, models, place, expression)
    method = frame.program.method(klass, name)
    if method is not None:
        if method.decorated & PROPERTY:
            return _property(frame, method, base, name, place)
        return Value(("fun", method.id, t), base.o)
    if models is not None:
        if name in models.methods:
            return Value(("op", models.methods[name], t, name), base.o)
        if name.endswith("_set") and models.reverse:
            return Value(None, base.o)
        return Value(None, of_field(base.o, name))
    found = _instance_attribute(frame, klass, name)
    if found is None and name == "get_object":
        return _object_of_view(frame, klass, base)
    if found is None:
        found = hinted_type(frame, name)
    if found is None and base.o:
        return Value(None, of_field(base.o, name))
    return Value(found, base.o)


def _property(frame: Frame, method: Function, base: Value, name: str, place: Any) -> Value:
    """A property of an instance; a prefetch may have put rows in its stead (``to_attr``)."""
    traits: frozenset[str] = base.t[2]
    if f"loads:{name}" in traits:
        _, found = frame.inside(lambda: invoke(frame, method, base, [], {}, frame.place(place)))
        if found.t and found.t[0] == "lib":
            return Value((*found.t[:3], found.t[3] | {"related", "prefetched", "known"}, found.t[4]), found.o)
        return Value(found.t, found.o)
    found = invoke(frame, method, base, [], {}, frame.place(place))
    if found.t and found.t[0] == "lib" and "known" not in traits:
        return Value((*found.t[:3], (found.t[3] - {"known"}) | {f"relation:{name}"}, found.t[4]), found.o)
    return Value(found.t, found.o)


def _follow(
    frame: Frame, base: Value, relation: Relation, models: Any, place: Any, expression: Facts
) -> Value:
    """``row.relation``: what it gives, and the query it costs unless it is loaded already."""
    traits: frozenset[str] = base.t[2]
    loaded = f"loads:{relation.name}" in traits or "loads:*" in traits or relation.eager or "new" in traits
    # An async session loads nothing by being looked at: such rows came with it, or were never stored.
    loaded = loaded or (models.pending and _is_async(frame))
    kept = frozenset(x for x in traits if x.startswith("loads:") or x in ("known", "async"))
    if relation.kind == "many" and models.many != "rows":
        extra = {"related", f"relation:{relation.name}", *(("prefetched",) if loaded else ())}
        extra |= {x for x in traits if x.startswith("from:")}
        target = relation.target or None
        back = frame.program.relation(frame.program.classes[target], relation.back) if target else None
        if back is not None and back.kind == "one":
            extra |= {f"loads:{relation.back}", f"back:{relation.back}"}
        manager = None
        if target:
            found = _class_member(frame, UNKNOWN, frame.program.classes[target], "objects").t
            manager = found[4] if found and found[0] == "lib" else None
        return Value(("lib", models.many, target, kept | extra, manager), base.o)
    where = frame.place(place)
    if relation.kind == "one":
        if models.pending and _all_of_one(base.o, relation.name):
            base = Value(base.t, frozenset(o for o in base.o if o.loop is None))
        base = Value(base.t, of_field(base.o, relation.name))
    inner: Type = None
    if relation.target:
        extra_loads = {f"loads:{relation.back}", f"back:{relation.back}"} if relation.back else set()
        if "known" not in kept and models.many != "rows":
            extra_loads.add(f"from:{relation.name}")
        inner = ("obj", relation.target, kept | extra_loads)
    if not loaded and "async" not in traits:
        words = {"lazy", f"relation:{relation.name}"}
        words |= {x for x in traits if x == "known" or x.startswith("from:")}
        if models.pending:
            words.add("autobegin")
        if relation.kind == "one":
            words.add("one")
        target = frame.program.title(relation.target) or relation.name
        frame.do(Kind.READ, target, render(expression), place, base.o, words)
        read = Origin(where, frame.program.title(relation.target), traits=frozenset({relation.kind}))
        origins = base.o | {read}
    else:
        origins = base.o
    if f"back:{relation.name}" in traits:
        # Back to the row whose relation is walked: the same one in every turn.
        origins = frozenset(o for o in origins if o.loop is None)
    return Value(("list", inner) if relation.kind == "many" else inner, origins)


def _is_async(frame: Frame) -> bool:
    """Whether the function works with an async session."""
    return any(v.t and v.t[0] == "lib" and v.t[1] == "AsyncSession" for v in frame.names.values())


def _all_of_one(origins: frozenset[Origin], relation: str) -> bool:
    """Whether rows were chosen by one value of the key behind `relation`: it leads all of them to one row."""
    key = f"where:{relation}_id"
    return any(o.read is not None and key in o.traits and f"{key}~" not in o.traits for o in origins)


def _object_of_view(frame: Frame, klass: Class, base: Value) -> Value:
    """``self.get_object()`` of a class-based view: one row of the view's queryset or model, without a lock."""
    own = frame.program.method(klass, "get_queryset")
    rows = (
        frame.evaluation.function(own).gives
        if own is not None
        else _instance_attribute(frame, klass, "queryset")
    )
    if rows is None:
        model = _instance_attribute(frame, klass, "model")
        rows = ("lib", "QuerySet", model[1], NONE, None) if model and model[0] == "cls" else None
    if rows is None or rows[0] != "lib" or "get" not in frame.libraries.types[rows[1]].methods:
        return Value(None, base.o)
    return Value(("op", frame.libraries.types[rows[1]].methods["get"], rows, "get"), base.o)


def _instance_attribute(frame: Frame, klass: Class, name: str) -> Type:
    if name in klass.members:
        return klass.members[name]
    klass.members[name] = None
    found: Type = None
    for one in frame.program.ancestry(klass)[0]:
        if name in one.attributes:
            value, annotation, _ = one.attributes[name]
            found = frame.program.evaluate_at(one.module, value, annotation)
            if found is not None and found[0] != "const":
                break
        assigned = _assignments(frame, one)
        if name in assigned:
            value, function_id = assigned[name]
            found = _in_method(frame, value, frame.program.functions[function_id])
            if found is not None:
                break
    klass.members[name] = found
    return found


def _assignments(frame: Frame, klass: Class) -> dict[str, tuple[Facts, str]]:
    """``self.name = value`` in the methods of a class, `__init__` first."""
    if klass.assigned is None:
        klass.assigned = {}
        names = [n for n in klass.methods if n in _SETUP]
        names.sort(key=lambda n: n != "__init__")
        for name in names:
            function = frame.program.functions[klass.methods[name]]
            if not function.parameters:
                continue
            me = function.parameters[0][0]
            for target, value in _assigned(frame.program.body(function)):
                if target[0] == f.ATTR and target[1] == (f.NAME, me):
                    klass.assigned.setdefault(target[2], (value, function.id))
    return klass.assigned


def _assigned(body: Facts) -> Iterator[tuple[Facts, Facts]]:
    for statement in body:
        kind = statement[0]
        if kind == f.ASSIGN:
            for target in statement[1]:
                if target:
                    yield target, statement[2]
        elif kind == f.IF:
            yield from _assigned(statement[2])
            yield from _assigned(statement[3])
        elif kind in (f.FOR, f.WHILE):
            yield from _assigned(statement[-3])
        elif kind == f.WITH:
            for value, target in statement[1]:
                if target:
                    yield target, value
            yield from _assigned(statement[2])
        elif kind == f.TRY:
            yield from _assigned(statement[1])
            for handler in statement[2]:
                yield from _assigned(handler[2])


def _in_method(frame: Frame, value: Facts, function: Function) -> Type:
    """Type of an expression in terms of a method's parameters."""
    method = Frame(frame.evaluation, function.module, function)
    for index, (name, annotation, default, kind) in enumerate(function.parameters):
        method.names[name] = parameter_value(method, index, annotation, default, kind)
    if frame.evaluation.depth > DEEPEST:
        return None
    frame.evaluation.depth += 1
    try:
        return method.expression(value).t
    finally:
        frame.evaluation.depth -= 1


def _class_member(frame: Frame, base: Value, klass: Class, name: str) -> Value:
    method = frame.program.method(klass, name)
    if method is not None:
        bound = ("cls", klass.id) if "classmethod" in method.decorated else None
        return Value(("fun", method.id, bound), base.o)
    models = frame.program.models_of(klass)
    if models is not None:
        for one in frame.program.ancestry(klass)[0]:
            if name in one.attributes:
                value, annotation, _ = one.attributes[name]
                found = frame.program.evaluate_at(one.module, value, None) if value else None
                if found and found[0] == "lib" and found[1] in ("Manager", "QuerySet", "UserManager"):
                    return Value(
                        ("lib", found[1], klass.id, found[3] | _custom_loads(frame, found), found[4])
                    )
                return Value(("col", klass.id, name))
        if frame.program.relation(klass, name):
            return Value(("col", klass.id, name))
        if name in models.managers:
            kind = models.managers[name]
            if kind == "Query":
                return Value(("lib", kind, klass.id, frozenset({"autobegin"}), None))
            return Value(("lib", kind, klass.id, NONE, None))
        if name in ("DoesNotExist", "MultipleObjectsReturned"):
            return UNKNOWN
        return Value(("col", klass.id, name)) if models.pending else UNKNOWN
    library = frame.program.library_type(klass)
    if library is not None and name in frame.libraries.types[library].methods:
        made = ("lib", library, None, NONE, klass.id)
        return Value(("op", frame.libraries.types[library].methods[name], made, name), base.o)
    if name in klass.nested:
        return Value(("cls", klass.nested[name]))
    for one in frame.program.ancestry(klass)[0]:
        if name in one.nested:
            return Value(("cls", one.nested[name]))
        if name in one.attributes:
            value, annotation, _ = one.attributes[name]
            return Value(frame.program.evaluate_at(one.module, value, annotation) or ("const",))
    return UNKNOWN


def _custom_loads(frame: Frame, manager: Type) -> frozenset[str]:
    """Relations that a manager of the program always loads along, by its `get_queryset`."""
    if manager[4] is None:
        return NONE
    method = frame.program.method(frame.program.classes[manager[4]], "get_queryset")
    if method is None:
        return NONE
    gives = frame.evaluation.function(method).gives
    return gives[3] if gives and gives[0] == "lib" else NONE


def _super_member(frame: Frame, base: Value, t: Type, name: str) -> Value:
    klass = frame.program.classes[t[1]]
    for one in frame.program.ancestry(klass)[0][1:]:
        if name in one.methods:
            return Value(("fun", one.methods[name], t[2]), base.o)
    library = frame.program.library_type(klass)
    if library is not None:
        return _library_member(
            frame, Value(("lib", library, None, NONE, None), base.o), ("lib", library, None, NONE, None), name
        )
    models = frame.program.models_of(klass)
    if models is not None and name in models.methods:
        return Value(("op", models.methods[name], ("obj", klass.id, NONE), name), base.o)
    return UNKNOWN


def _library_member(frame: Frame, base: Value, t: Type, name: str) -> Value:
    if t[4] is not None:
        klass = frame.program.classes[t[4]]
        method = frame.program.method(klass, name)
        if method is not None:
            if method.decorated & PROPERTY:
                return invoke(frame, method, base, [], {}, method.location)
            return Value(("fun", method.id, t), base.o)
        found = _instance_attribute(frame, klass, name)
        if found is not None:
            return Value(found, base.o)
    kind = frame.libraries.types.get(t[1])
    if kind is None:
        return UNKNOWN
    operation = kind.methods.get(name)
    if operation is not None:
        return Value(("op", operation, t, name), base.o)
    if name in kind.attributes:
        return Value(type_given(frame, kind.attributes[name], t), base.o)
    if "*" in kind.methods:
        return Value(("op", kind.methods["*"], t, name), base.o)
    if "*" in kind.attributes:
        return Value(type_given(frame, kind.attributes["*"], t), base.o)
    hinted = hinted_type(frame, name)
    return Value(hinted, base.o)
