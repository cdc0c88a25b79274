"""Operations: calls that a library table describes, with their effect and what they give."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from mainstay.architect.effects import Do, Effect, Kind, Origin, Scope
from mainstay.architect.findings import Location
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.frame import Frame, is_empty
from mainstay.architect.review.evaluation.invocations import arguments_of, invoke, run_lambda
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import QUERYSETS, UNKNOWN, Value, origins_of
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.libraries import Operation
from mainstay.architect.review.program import NONE, Class, Type
from mainstay.architect.review.sql import read_sql

_OF_THE_READ = {"one", "locks-rows", "may-lock", "presence", "total", "columns", "limited", "lazy", "serializable",
                "identity", "related", "narrowed"}  # fmt: skip
"""Traits of a query that its rows keep in their origin."""
_STATEMENTS_OF = {
    "Select": Kind.READ,
    "Query": Kind.READ,
    "Insert": Kind.WRITE,
    "Update": Kind.WRITE,
    "Delete": Kind.WRITE,
}


def call_operation(
    frame: Frame, operation: Operation, name: str, callee: Value, receiver: Type, expression: Facts
) -> Value:
    """A call that a library table describes."""
    _, function, _, _, place = expression
    where = frame.place(place)
    shown = render(expression)
    if operation.runs:
        return _run_argument(frame, operation, expression, where, shown)
    values, named = arguments_of(frame, expression)
    base = Value(receiver if receiver and receiver[0] != "name" else None, callee.o)
    if operation.kind in (Kind.CALL, Kind.SEND, Kind.BLOCK) and receiver and receiver[0] == "name":
        base = Value(receiver, callee.o)
    row_name = function[1][1] if function[0] == f.ATTR and function[1] and function[1][0] == f.NAME else ""
    return operate(frame, operation, name, base, values, named, where, shown, row_name)


def _run_argument(
    frame: Frame, operation: Operation, expression: Facts, where: Location, shown: str
) -> Value:
    """A call that runs a function it is handed (``atomic(f)``, ``run_sync(f)``), now, later or in a scope."""
    number, how = operation.runs[0]
    if operation.kind is not None:
        frame.out.append(Do(Effect(operation.kind, "", shown, where)))
    arguments = list(expression[2])
    keywords = dict(expression[3])
    run = arguments[number] if number < len(arguments) else keywords.get("target") or keywords.get("func")
    rest = [a for i, a in enumerate(arguments) if i > number]
    if how == "later":
        for part in arguments:
            frame.expression(part)
        return UNKNOWN

    def walk() -> Value:
        function = frame.expression(run) if run is not None else UNKNOWN
        values = [frame.expression(part) for part in rest]
        if function.t and function.t[0] == "fun":
            target = frame.program.functions[function.t[1]]
            receiver = Value(function.t[2], function.o) if function.t[2] is not None else None
            return invoke(frame, target, receiver, values, {}, where)
        if function.t and function.t[0] == "lam":
            return run_lambda(frame, function.t, values)
        if function.t and function.t[0] == "op":
            base = Value(function.t[2], function.o)
            return operate(frame, function.t[1], function.t[3], base, values, {}, where, shown)
        if function.t and function.t[0] == "ext" and function.t[1] in frame.libraries.functions:
            inner = frame.libraries.functions[function.t[1]]
            base = Value(("name", function.t[1]))
            return operate(frame, inner, function.t[1], base, values, {}, where, shown)
        return function

    tree, result = frame.inside(walk)
    if is_empty(tree):
        return result
    if how == "now":
        frame.out.append(tree)
        return result
    frame.out.append(Scope(how, tree, where, shown))
    return result if how == "transaction" else UNKNOWN


def operate(
    frame: Frame,
    operation: Operation,
    name: str,
    base: Value,
    values: list[Value],
    named: dict[str, Value],
    where: Location,
    shown: str,
    row_name: str = "",
) -> Value:
    """The effect of an operation and the value it gives."""
    t = base.t
    receiver_traits: frozenset[str] = t[3] if t and t[0] == "lib" else NONE
    model = t[2] if t and t[0] == "lib" else t[1] if t and t[0] == "obj" else None
    traits = set(receiver_traits | operation.traits)
    origins = origins_of(values) | origins_of(named.values()) | base.o
    kind = operation.kind
    if operation.model >= 0:
        model = model_of(values, operation.model, traits) or model
    if operation.where:
        asked = values[1 if operation.model >= 0 else 0 :]
        _note_conditions(asked, named, traits)
        if asked or named:
            traits.add("narrowed")
    if operation.sets:
        _note_sets(named, traits)
    if operation.loads:
        note_loads(frame, values, named, traits)
    elif kind is Kind.READ or operation.statement >= 0:
        options = {key: part for key, part in named.items() if key in ("options", "load")}
        if options:
            note_loads(frame, [], options, traits)
    gives = operation.gives
    if "limited" in operation.traits and not (
        values and values[-1].t and values[-1].t[:2] == ("const", "few")
    ):
        traits.discard("limited")
    # A relation that was prefetched is looked at without a query, as long as it is not narrowed.
    if "related" in receiver_traits and name not in ("all", "iterate", "[]"):
        traits.add("known")  # narrowed, it is a query of its own, whatever was loaded before
    if "prefetched" in receiver_traits:
        if kind is None and name != "all":
            traits.discard("prefetched")
        elif kind is Kind.READ and name in ("iterate", "count", "exists", "first", "last", "[]"):
            kind = None
    if 0 <= operation.statement < len(values):
        st = values[operation.statement].t
        if st and st[0] == "lib" and st[1] in _STATEMENTS_OF:
            kind = _STATEMENTS_OF[st[1]]
            model = st[2]
            traits |= st[3]
            if st[1] == "Insert":
                traits.add("insert")
            if st[1] == "Delete":
                traits.add("delete")
            if st[1] in ("Update", "Delete"):
                traits.add("bulk")
        elif st and st[0] == "str":
            kind, model = _sql(st[1], traits)
        elif st is None or st[0] in ("op", "obj"):
            kind = Kind.READ if "one" in operation.traits else None
            traits.add("unresolved")
    elif 0 <= operation.sql < len(values):
        text = values[operation.sql].t
        if text and text[0] == "str":
            kind, model = _sql(text[1], traits)
        elif text and text[0] == "lib" and text[1] in _STATEMENTS_OF:
            kind, model = _STATEMENTS_OF[text[1]], text[2]
            traits |= text[3]
    if 0 <= operation.adds < len(values):
        row = values[operation.adds].t
        if row and row[0] == "list":
            row = row[1]
        if row and row[0] == "tuple":
            row = row[1][0] if row[1] else None
        if row and row[0] == "obj":
            kind, model = Kind.WRITE, row[1]
            traits |= {"pending", "row"}
            if "new" in row[2]:
                traits.add("insert")
        else:
            kind = Kind.WRITE
            traits.add("pending")
    if operation.kind is Kind.WRITE and "row" in traits and t and t[0] == "obj":
        klass = frame.program.classes[t[1]]
        if "new" in t[2]:
            traits.add("insert")
        fields, written = frame.assigned.get(row_name, (set(), NONE))
        traits |= fields
        for part in named.values():
            if part.t and part.t[0] == "tuple":
                traits |= {f"set:{x[1]}" for x in part.t[1] if x and x[0] == "str"}
        origins |= written
        traits |= versioned(frame, klass)
    target = ""
    if kind in (Kind.CALL, Kind.SEND, Kind.BLOCK):
        index = operation.target
        text = values[index].t if 0 <= index < len(values) else None
        target = _host(text[1]) if text and text[0] == "str" else ""
        if not target and t and t[0] == "name":
            target = str(t[1])
    elif model is not None:
        target = frame.program.title(model)
    isolation = named.get("isolation") or named.get("isolation_level")
    strict = bool(
        isolation and isolation.t and isolation.t[0] == "str" and "SERIALIZABLE" in isolation.t[1].upper()
    )
    if operation.scope:
        inner = type_given(frame, gives, t)
        return Value(("ctx", operation.scope, inner, where, ("serializable",) if strict else ()), origins)
    if strict:
        frame.program.serializable = True
    lock = named.get("with_for_update")
    if kind is Kind.READ and lock is not None and lock.t not in (("const", "false"), ("const", "none")):
        traits.add("locks-rows")
    result_origins = origins
    if kind is not None:
        frame.out.append(Do(Effect(kind, target, shown, where), origins, frozenset(traits)))
        if kind is Kind.READ or (kind is Kind.WRITE and gives in ("scalar", "pair", "fetched", "row")):
            words = frozenset(x for x in traits if x in _OF_THE_READ or x.startswith(("where:", "reads:")))
            if kind is Kind.WRITE:
                words |= {"outcome"}
            result_origins = _selects(origins) | {Origin(where, target, traits=words)}
    return _given(frame, gives, t, model, traits, values, result_origins)


def _given(
    frame: Frame,
    gives: str,
    t: Type,
    model: Any,
    traits: set[str],
    values: list[Value],
    origins: frozenset[Origin],
) -> Value:
    """The value that an operation gives."""
    if not gives:
        return Value(None, origins)
    if gives == "self":
        if t and t[0] == "lib":
            return Value(("lib", t[1], model, frozenset(traits), t[4]), origins)
        return Value(t, origins)
    if gives in ("row", "rows"):
        if "columns" in traits or model is None:
            inner: Type = None if gives == "row" else ("rowvalue",)
            if "one" in traits and "one" not in {x for o in origins for x in o.traits}:
                origins = frozenset(_as_one(o) for o in origins)
            return Value(inner if gives == "row" else ("list", inner), origins)
        row: Type = None
        if model in frame.program.classes:
            kept = {x for x in traits if x.startswith(("loads:", "back:"))}
            if "elsewhere" in traits:
                pass
            elif "related" not in traits or "known" in traits:
                kept.add("known")
            else:  # the rows may have come along with one from elsewhere
                kept |= {f"from:{x[9:]}" for x in traits if x.startswith("relation:")}
            if "async" in traits or (t and t[0] == "lib" and t[1].startswith("Async")):
                kept.add("async")
            row = ("obj", model, frozenset(kept))
        if gives == "row":
            if "one" in traits:
                origins = frozenset(_as_one(o) for o in origins)
            return Value(row, origins)
        return Value(("list", row), origins)
    if gives == "fetched":
        if "one" in traits:
            return Value(("rowvalue",), frozenset(_as_one(o) for o in origins))
        return Value(("list", ("rowvalue",)), origins)
    if gives == "pair":
        row = ("obj", model, frozenset({"known", "loads:*"})) if model in frame.program.classes else None
        return Value(("tuple", (row, None)), origins)
    if gives == "mapping":
        row = ("obj", model, frozenset({"known"})) if model in frame.program.classes else None
        return Value(("dict", row), origins)
    if gives == "scalar":
        return Value(None, origins)
    if gives.isdigit():
        index = int(gives)
        return Value(values[index].t if index < len(values) else None, origins)
    if gives in frame.libraries.types:
        of_query = frozenset(x for x in traits if x != "pending")
        if t and t[0] == "lib" and t[1].startswith("Async"):
            of_query |= {"async"}
        return Value(("lib", gives, model, of_query, None), origins)
    return Value(None, origins)


def type_given(frame: Frame, gives: str, t: Type) -> Type:
    """The type that a table names by `gives`, asked of a value of type `t`."""
    if gives == "self":
        return t
    if gives == "rows" and t and t[0] == "lib":
        row = None
        if t[2] in frame.program.classes:
            kept = {x for x in t[3] if x.startswith("loads:") or x == "async"}
            row = ("obj", t[2], frozenset(kept | {"known"}))
        return ("list", row)
    if gives in frame.libraries.types:
        return ("lib", gives, t[2] if t and t[0] == "lib" else None, NONE, None)
    return None


def model_of(values: list[Value], number: int, traits: set[str]) -> Any:
    """The model, or class behind a query, in argument `number`; `traits` learn what of it is read."""
    if number >= len(values):
        return None
    found = values[number].t
    if len(values) > number + 1 and not traits & {"one"}:
        traits.add("columns")
    if found is None:
        traits.add("columns")
        return None
    if found[0] == "cls":
        return found[1]
    if found[0] == "col":
        traits |= {"columns", f"reads:{found[2]}"}
        return found[1]
    if found[0] == "lib":
        traits |= {x for x in found[3] if not x.startswith("where:")}
        return found[2]
    if found[0] == "obj":
        return found[1]
    traits.add("columns")
    return None


def _note_conditions(values: list[Value], named: dict[str, Value], traits: set[str]) -> None:
    for value in values:
        if value.t and value.t[0] == "cond":
            traits |= {f"where:{name}" for name in value.t[1]}
        elif value.t and value.t[0] == "lib":
            traits |= {x for x in value.t[3] if x.startswith("where:")}
    traits |= {
        f"where:{name.partition('__')[0]}"
        for name in named.keys() - {"defaults", "**", "queryset", "to_attr"}
    }


def _note_sets(named: dict[str, Value], traits: set[str]) -> None:
    for name, value in named.items():
        if name in ("defaults", "**"):
            continue
        traits.add(f"set:{name}")
        if not value.o and value.t and value.t[0] in ("str", "const"):
            traits.add("constant")
        if value.t and (value.t[0] in ("col", "cond") or value.t[:2] == ("lib", "Expression")):
            traits.add("in-database")


def note_loads(frame: Frame, values: list[Value], named: dict[str, Value], traits: set[str]) -> None:
    """Note in `traits`, and for the whole program, the relations that a query is told to load along."""
    empty = True
    attribute = named.get("to_attr")
    if attribute is not None and attribute.t and attribute.t[0] == "str":
        traits.add(f"loads:{attribute.t[1]}")
        frame.program.loaded_names.add(attribute.t[1])
    for value in (*values, *(v for k, v in named.items() if k in ("queryset", "load", "options"))):
        if value.t is None:
            empty = False
            traits.add("loads:*")  # a list of names worked out elsewhere: rather quiet than wrong
        elif value.t[0] == "str":
            empty = False
            parts = value.t[1].split("__")
            for part in parts:
                traits.add(f"loads:{part}")
                frame.program.loaded_names.add(part)
            frame.program.loaded_pairs.update(pairwise(parts))
            inner = named.get("queryset") or (values[1] if len(values) == 2 else None)
            if inner is not None and inner.t and inner.t[0] == "lib" and inner.t[1] in QUERYSETS:
                below = [x[6:] for x in inner.t[3] if x.startswith("loads:")]
                frame.program.loaded_pairs.update((parts[-1], x) for x in below)
            if value.t[1] == "*":
                traits.add("loads:*")
        elif value.t[0] == "col":
            empty = False
            traits.add(f"loads:{value.t[2]}")
            frame.program.loaded_names.add(value.t[2])
        elif value.t[0] == "lib":
            empty = False
            traits |= {x for x in value.t[3] if x.startswith("loads:")}
        elif value.t[0] in ("tuple", "list", "const"):
            empty = False
            several = value.t[1] if value.t[0] == "tuple" else ()
            if not several:
                traits.add("loads:*")
            note_loads(frame, [Value(part) for part in several], {}, traits)
    if empty and not named:
        traits.add("loads:*")


def versioned(frame: Frame, klass: Class) -> set[str]:
    """``versioned`` where updates of the model carry a version that the database compares."""
    for one in frame.program.ancestry(klass)[0]:
        mapper = one.attributes.get("__mapper_args__")
        if mapper and "version_id_col" in repr(mapper[0]):
            return {"versioned"}
    return set()


def _sql(text: str, traits: set[str]) -> tuple[Kind | None, str]:
    statement = read_sql(text)
    traits |= statement.traits
    if statement.kind in (Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK):
        traits.discard("autobegin")
    return statement.kind, statement.table


def _selects(origins: frozenset[Origin]) -> frozenset[Origin]:
    """What the result of a query keeps of its parameters: which loop turns and arguments chose its rows."""
    found = set()
    for origin in origins:
        if origin.loop is not None:
            found.add(Origin(loop=origin.loop))
        elif origin.parameter >= 0:
            found.add(Origin(parameter=origin.parameter, traits=frozenset({"selects"})))
    return frozenset(found)


def _as_one(origin: Origin) -> Origin:
    if origin.read is None or "one" in origin.traits:
        return origin
    return Origin(
        origin.read, origin.target, origin.parameter, origin.field, origin.loop, origin.traits | {"one"}
    )


def _host(text: str) -> str:
    found = re.match(r"[a-z]+://([^/{}:]+)", text)
    return found[1] if found else ""
