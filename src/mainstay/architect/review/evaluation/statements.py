"""Statements: the ways that a body may take, and how each of them is left."""

from __future__ import annotations

from collections.abc import Callable

from mainstay.architect.effects import Attempt, Branch, Condition, Do, Effect, Kind, Scope, Sequence, Tree
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.assignments import assign, augmented
from mainstay.architect.review.evaluation.conditions import decision, narrowing, required
from mainstay.architect.review.evaluation.contexts import with_
from mainstay.architect.review.evaluation.frame import Frame, is_empty
from mainstay.architect.review.evaluation.loops import for_, while_
from mainstay.architect.review.evaluation.values import CONSTANT, UNKNOWN, Value, merged
from mainstay.architect.review.facts import Facts, last_name
from mainstay.architect.review.program import NONE


def _expression(frame: Frame, statement: Facts) -> str:
    value = frame.expression(statement[1])
    if value.t and value.t[0] == "ctx" and value.t[1] == "transaction":
        frame.out.append(Do(Effect(Kind.BEGIN, "", "begin", value.t[3])))
    return ""


def _return(frame: Frame, statement: Facts) -> str:
    value = _leaving(frame, statement[1]) if statement[1] is not None else CONSTANT
    frame.returned.append(value)
    return "leave" if statement[1] is None or statement[1] == (f.CONST, None) else "answer"


def _raise(frame: Frame, statement: Facts) -> str:
    if statement[1] is not None:
        _leaving(frame, statement[1])
    return "raise"


def _leave(frame: Frame, statement: Facts) -> str:
    return "leave"


def _leaving(frame: Frame, expression: Facts) -> Value:
    """The value that a ``return`` or ``raise`` works out: in a loop, that happens once, not in each turn."""
    if not frame.loops:
        return frame.expression(expression)
    tree, value = frame.inside(lambda: frame.expression(expression))
    if not is_empty(tree):
        frame.out.append(Scope("leaving", tree, frame.anywhere(expression), ""))
    return value


def _if(frame: Frame, statement: Facts) -> str:
    _, test, body, otherwise, place = statement
    # Long chains of elif are nested to the right: walked here, so that they cost no depth.
    on = decision(frame, test)
    when, unless = required(frame, test, True), required(frame, test, False)
    before = dict(frame.names)
    narrowed = narrowing(frame, test)
    if narrowed:
        frame.names.update(narrowed)
    holds = frame.holds
    frame.holds = holds | when
    one, left_one = frame.inside(lambda: frame.block(body))
    after_one, frame.names, frame.holds = frame.names, before, holds | unless
    other, left_other = frame.inside(lambda: frame.block(otherwise)) if otherwise else (Sequence(), "")
    frame.holds = holds | (unless if left_one else when if left_other else NONE)
    if left_one:
        pass
    elif left_other:
        frame.names = after_one
    else:
        frame.names = merged(after_one, frame.names)
    if is_empty(one) and is_empty(other) and not ((left_one or left_other) and (on or when or unless)):
        return left_one and left_other
    then: frozenset[Condition] = NONE
    if left_one or (unless and _may_leave(body)):
        then = unless if left_one else frozenset(c for c in unless if c[0] < 0)
    elif left_other or (when and _may_leave(otherwise)):
        then = when if left_other else frozenset(c for c in when if c[0] < 0)
    where = frame.place(place)
    frame.out.append(Branch((one, other), on, (left_one, left_other), where, (when, unless), then))
    return left_one and left_other


def _may_leave(body: Facts) -> bool:
    """Whether somewhere in `body` the function is left."""
    for statement in body or ():
        if statement[0] in (f.RETURN, f.RAISE, f.CONTINUE):
            return True
        if statement[0] == f.IF and (_may_leave(statement[2]) or _may_leave(statement[3])):
            return True
        if statement[0] == f.WITH and _may_leave(statement[2]):
            return True
    return False


def _match(frame: Frame, statement: Facts) -> str:
    _, subject, bodies, place = statement
    on = decision(frame, subject)
    ways, exits = [], []
    before = frame.names
    result: dict[str, Value] | None = None
    for body in bodies:
        frame.names = dict(before)
        tree, left = frame.inside(lambda body=body: frame.block(body))  # type: ignore[misc]
        ways.append(tree)
        exits.append(left)
        if not left:
            result = frame.names if result is None else merged(frame.names, result)
    frame.names = merged(dict(before), result or dict(before))
    if any(not is_empty(way) for way in ways) or (any(exits) and on):
        frame.out.append(Branch(tuple(ways), on, tuple(exits), frame.place(place)))
    return ""


def _try(frame: Frame, statement: Facts) -> str:
    _, body, handlers, otherwise, final = statement
    before = dict(frame.names)

    def walk() -> str:
        return frame.block(body) or frame.block(otherwise)

    tree, left = frame.inside(walk)
    after = frame.names
    trees: list[Tree] = []
    names: frozenset[str] = NONE
    lefts = [left]
    for exceptions, name, handler in handlers:
        frame.names = merged(dict(before), dict(after))
        if name:
            frame.names[name] = UNKNOWN
        inner, out = frame.inside(lambda handler=handler: frame.block(handler))  # type: ignore[misc]
        trees.append(inner)
        names |= _exceptions(exceptions)
        lefts.append(out)
        if not out:
            after = merged(frame.names, after) if not left else frame.names
    frame.names = after
    ending, _ = frame.inside(lambda: frame.block(final))
    if not (is_empty(tree) and all(is_empty(t) for t in trees) and is_empty(ending)):
        frame.out.append(Attempt(tree, tuple(trees), ending, names))
    return lefts[0] if all(lefts) else ""


def _exceptions(expression: Facts) -> frozenset[str]:
    if not expression:
        return frozenset({"*"})
    if expression[0] == f.ITEMS:
        return frozenset().union(*(_exceptions(part) for part in expression[1])) if expression[1] else NONE
    name = last_name(expression)
    return frozenset({name}) if name else NONE


def _def(frame: Frame, statement: Facts) -> str:
    parent = frame.function.id if frame.function else ""
    facts = statement[1]
    # A function is evaluated again once more is known of its arguments; what is nested in it stays one.
    made = frame.program.functions.get(f"{parent}.{facts[0]}") if parent else None
    if made is None or made.place != facts[5]:
        made = frame.program.add_function(frame.module, None, facts, parent)
    else:
        made.state = 0
    value = Value(("fun", made.id, None))
    frame.names[facts[0]] = value
    made.outer = dict(frame.names)
    return ""


def _class(frame: Frame, statement: Facts) -> str:
    outer = frame.function.name if frame.function else ""
    made = frame.program.add_class(frame.module, statement[1], outer)
    frame.names[made.name] = Value(("cls", made.id))
    return ""


STATEMENTS: dict[int, Callable[[Frame, Facts], str]] = {
    f.EXPR: _expression, f.ASSIGN: assign, f.AUG: augmented, f.RETURN: _return, f.RAISE: _raise,
    f.BREAK: _leave, f.CONTINUE: _leave, f.IF: _if, f.FOR: for_, f.WHILE: while_, f.WITH: with_, f.TRY: _try,
    f.DEF: _def, f.CLASS: _class, f.MATCH: _match,
}  # fmt: skip
"""What each kind of statement does; it tells how it leaves what follows, as `Frame.block` does."""
