"""Assignments: names, attributes and entries get a value; a row may get one to be written."""

from __future__ import annotations

from typing import Any

from mainstay.architect.effects import Kind
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.annotations import annotated
from mainstay.architect.review.evaluation.conditions import look_up
from mainstay.architect.review.evaluation.frame import Frame
from mainstay.architect.review.evaluation.operations import versioned
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import UNKNOWN, Value
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.program import NONE, Type


def assign(frame: Frame, statement: Facts) -> str:
    _, targets, expression, annotation, place = statement
    value = frame.expression(expression)
    if annotation is not None:
        declared = annotated(frame, annotation)
        if declared is not None and (value.t is None or value.t[0] == "const"):
            value = Value(declared, value.o)
        if expression is None:
            return ""
    for target in targets:
        if target is not None:
            bind(frame, target, value, place, expression)
            if target[0] == f.NAME:
                look_up(frame, target[1], expression)
    return ""


def augmented(frame: Frame, statement: Facts) -> str:
    _, target, _, expression, place = statement
    if target is None:
        frame.expression(expression)
        return ""
    before = frame.expression(target) if target[0] != f.SUB else (
        frame.expression(target[1]) if target[1] else UNKNOWN)  # fmt: skip
    value = frame.expression(expression)
    joined = Value(before.t if before.t and before.t[0] != "const" else value.t, before.o | value.o)
    if value.t and value.t[0] == "lib":
        joined.t = value.t
    bind(frame, target, joined, place, (f.ANY, (target, expression)))
    return ""


def bind(frame: Frame, target: Facts, value: Value, place: Any, expression: Facts = None) -> None:
    kind = target[0]
    if kind == f.NAME:
        frame.names[target[1]] = value
        frame.assigned.pop(target[1], None)
    elif kind == f.ITEMS:
        parts: tuple[Type, ...] = ()
        if value.t and value.t[0] == "tuple":
            parts = value.t[1]
        for index, part in enumerate(target[1]):
            if part is not None:
                inner = parts[index] if index < len(parts) else None
                if value.t and value.t[0] == "list":
                    inner = value.t[1]
                bind(frame, part, Value(inner, value.o), place)
    elif kind == f.ATTR:
        base = frame.expression(target[1]) if target[1] else UNKNOWN
        _written(frame, base, target, value, place, expression)
    elif kind == f.SUB:
        frame.fill(target[1])
        base = frame.expression(target[1]) if target[1] else UNKNOWN
        key = frame.expression(target[2]) if target[2] else UNKNOWN
        if target[1] and target[1][0] == f.NAME and target[1][1] in frame.names:
            inner = base.t if base.t else ("dict", value.t)
            if inner[0] == "const":
                inner = ("dict", value.t)
            frame.names[target[1][1]] = Value(inner, base.o | value.o | key.o)
    elif kind == f.STAR and target[1]:
        bind(frame, target[1], Value(("list", None), value.o), place)


def _written(frame: Frame, base: Value, target: Facts, value: Value, place: Any, expression: Facts) -> None:
    """``row.column = value``."""
    if not (base.t and base.t[0] == "obj"):
        return
    klass = frame.program.classes[base.t[1]]
    models = frame.program.models_of(klass)
    if models is None or "new" in base.t[2]:
        return
    if target[1][0] == f.NAME and target[1][1] in frame.names and frame.program.relation(klass, target[2]):
        loaded = ("obj", base.t[1], base.t[2] | {f"loads:{target[2]}"})
        frame.names[target[1][1]] = Value(loaded, frame.names[target[1][1]].o)
    traits = {f"set:{target[2]}", "row"}
    if expression and expression[0] in (f.ITEMS, f.DICT) and not expression[1]:
        traits.add("default")
    if value.t and (value.t[0] in ("col", "cond") or value.t[:2] == ("lib", "Expression")):
        traits.add("in-database")
    if target[1][0] == f.NAME:
        fields, origins = frame.assigned.get(target[1][1], (set(), NONE))
        frame.assigned[target[1][1]] = (
            fields | {f"set:{target[2]}"} | (traits & {"in-database"}),
            origins | value.o,
        )
    if models.pending:
        frame.do(
            Kind.WRITE, frame.program.title(base.t[1]), f"{render(target)} = {render(expression) or '…'}", place,
            base.o | value.o, traits | {"pending", "autobegin"} | versioned(frame, klass),
        )  # fmt: skip
