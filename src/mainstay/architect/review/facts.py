"""Facts: what review keeps of a source file, small enough to cache and to send between processes.

Facts are nested tuples of strings, integers and None (so that `marshal` can write them), and keep of the
syntax only what can matter for effects: names, attributes, calls, control flow. The first item of every
tuple says what it is. A place is ``(line, column, end line, end column)``, counted from 1.

Expressions (None where nothing in it matters)::

    (NAME, identifier)                      (ATTR, expression, name, place)
    (CALL, function, arguments, ((name, expression), …), place)       name is None for **mapping
    (CONST, value)                          (ITEMS, expressions)      tuple, list, set display
    (DICT, ((key, value), …))               (SUB, expression, index, place)
    (ANY, expressions)                      operators: the value rests on all of them
    (COMPARE, expressions, operators)       (TEXT, pieces)            f-string or concatenation
    (COMP, kind, element, ((target, iterable, conditions), …), place)
    (LAMBDA, parameters, body)              (AWAIT, expression)       (YIELD, expression)
    (CHOICE, test, one, other)              (WALRUS, name, expression) (SLICE, expressions)
    (AND, expressions)                      (OR, expressions)
    (NOT, expression)                       (STAR, expression)

Statements::

    (EXPR, expression)                      (ASSIGN, targets, value, annotation, place)
    (AUG, target, operator, value, place)   (RETURN, expression, place)
    (RAISE, expression)                     (BREAK,)                  (CONTINUE,)
    (IF, test, body, otherwise, place)      (FOR, target, iterable, body, otherwise, place)
    (WHILE, test, body, otherwise, place)   (WITH, ((expression, target), …), body, place)
    (TRY, body, ((exceptions, name, body), …), otherwise, finally)
    (DEF, function)                         (CLASS, class)            (MATCH, subject, bodies, place)

A function is ``(name, parameters, returns, decorators, body, place, flags)`` with parameters
``(name, annotation, default, kind)`` (kind ``""``, ``"*"``, ``"**"`` or ``"k"`` for keyword only), flags
``async``, ``generator``, and the body as marshalled bytes, which are unpacked when it is looked at.
A class is ``(name, bases, keywords, decorators, body, place)``.
A module is ``(imports, body, lines)`` with imports ``(alias, module, name, level)``, name None for
``import module`` and ``*`` for all names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FACTS_VERSION = 3
"""Part of every cache key; it changes with the form or meaning of facts."""

Facts = Any
"""Nested tuples as above."""

(
    NAME, ATTR, CALL, CONST, ITEMS, DICT, SUB, ANY, COMPARE, TEXT, COMP, LAMBDA, AWAIT, YIELD, CHOICE, WALRUS,
    SLICE, AND, STAR, OR, NOT,
) = range(21)  # fmt: skip
(
    EXPR, ASSIGN, AUG, RETURN, RAISE, BREAK, CONTINUE, IF, FOR, WHILE, WITH, TRY, DEF, CLASS, MATCH,
) = range(15)  # fmt: skip


def last_name(expression: Facts) -> str:
    """The last name of ``a.b.c`` or ``a.b.c(...)``."""
    while expression:
        if expression[0] == NAME:
            return str(expression[1])
        if expression[0] == ATTR:
            return str(expression[2])
        if expression[0] in (CALL, SUB):
            expression = expression[1]
            continue
        break
    return ""


def annotation_names(annotation: Facts) -> Iterator[str]:
    """All names in an annotation, outermost first."""
    if not annotation:
        return
    if annotation[0] == NAME:
        yield annotation[1]
    elif annotation[0] == ATTR:
        yield annotation[2]
    elif annotation[0] == CONST and isinstance(annotation[1], str):
        for separator in "[]|, ":
            annotation = (CONST, annotation[1].replace(separator, " "))
        yield from (part.rpartition(".")[2] for part in annotation[1].split())
    elif annotation[0] == SUB:
        yield from annotation_names(annotation[1])
        yield from annotation_names(annotation[2])
    elif annotation[0] in (ANY, ITEMS):
        for part in annotation[1]:
            yield from annotation_names(part)
