"""A function evaluated: its parameters, its body, and what its decorators put around it."""

from __future__ import annotations

from mainstay.architect.effects import Origin, Scope, Sequence, Tree
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.annotations import annotated, given_by, instance
from mainstay.architect.review.evaluation.frame import Frame, hinted_type
from mainstay.architect.review.evaluation.values import QUERYSETS, Value, join
from mainstay.architect.review.facts import Facts, last_name
from mainstay.architect.review.program import NONE, Function, Type

PROPERTY = {"property", "cached_property", "hybrid_property", "computed_field"}


def run(frame: Frame) -> None:
    """Evaluate the function of `frame`: its tree and what it gives."""
    function = frame.function
    assert function is not None
    if function.outer:
        frame.names.update(function.outer)
    for index, (name, annotation, default, kind) in enumerate(function.parameters):
        value = parameter_value(frame, index, annotation, default, kind)
        if value.t is None:
            value.t = hinted_type(frame, name)
        frame.names[name] = value
        frame.own[name] = (index, frame.names[name])
    frame.out = []
    frame.block(frame.program.body(function))
    tree: Tree = Sequence(tuple(frame.out))
    tree = _decorated(frame, tree)
    function.tree = tree
    if frame.yielded:
        function.gives = ("list", join(frame.yielded).t)
        function.gives_from = join(frame.yielded).o
        function.yields = tuple(frame.yields)
    elif frame.returned:
        joined = join(frame.returned)
        function.gives, function.gives_from = joined.t, joined.o
    if (function.gives is None and function.returns is not None) or (
        function.returns is not None and function.gives and function.gives[0] in ("const", "str")
    ):
        function.gives = annotated(frame, function.returns)
    function.outer = None


def parameter_value(frame: Frame, index: int, annotation: Facts, default: Facts, kind: str) -> Value:
    function = frame.function
    assert function is not None
    found: Type = None
    if index == 0 and function.klass is not None and not kind and "staticmethod" not in function.decorated:
        found = (
            ("cls", function.klass.id)
            if "classmethod" in function.decorated
            else instance(frame, function.klass)
        )
    if found is None and annotation is not None:
        found = annotated(frame, annotation)
    if found is None and default is not None:
        default_type = _default(frame, default)
        if default_type is not None:
            found = default_type
    if found is None or (found[0] == "obj" and frame.program.is_row(found[1])):
        learned = function.learned.get(index)
        if learned is not None and (found is None or found[:2] == learned[:2]):
            found = learned
    if found is not None and found[0] == "lib" and found[1] in QUERYSETS:
        # Made out of sight: what it loads along is not known, but for what calls tell.
        told = function.learned.get(index)
        more = {x for x in told[3] if x.startswith("loads:")} if told and told[0] == "lib" else NONE
        found = (*found[:3], found[3] | {"elsewhere"} | more, found[4])
    if found is None and default is not None and default[0] == f.CONST and type(default[1]) is int:
        found = frame.expression(default).t  # a limit of few, if nobody asks for more
    if found is not None and kind == "*":
        found = ("list", found)
    return Value(found, frozenset([Origin(parameter=index)]))


def _default(frame: Frame, default: Facts) -> Type:
    """``Depends(get_session)`` and what `get_session` gives; other defaults say little."""
    if default[0] == f.CALL and last_name(default[1]) in ("Depends", "Security") and default[2]:
        return given_by(frame, default[2][0])
    return None


def _decorated(frame: Frame, tree: Tree) -> Tree:
    """The tree inside the scopes that decorators put around it."""
    function = frame.function
    assert function is not None
    for decorator in reversed(function.decorators):
        if not decorator:
            continue
        where = frame.place(function.place)
        target = decorator[1] if decorator[0] == f.CALL else decorator
        if last_name(target) in PROPERTY or last_name(target) in ("staticmethod", "classmethod"):
            continue
        handed = decorator[2][:1] if decorator[0] == f.CALL and last_name(target) == "receiver" else ()
        if any(last_name(part) in ("post_migrate", "pre_migrate") for part in handed):
            frame.program.by_hand.add(function.id)
        found = frame.expression(target)
        operation = None
        if found.t and found.t[0] == "ext":
            operation = frame.libraries.functions.get(found.t[1])
        elif found.t and found.t[0] == "op":
            operation = found.t[1]
        if operation is not None and operation.scope:
            tree = Scope(operation.scope, tree, where, f"@{last_name(target)}")
            if decorator[0] == f.CALL and _is_strict(frame, decorator[3]):
                tree = Scope("serializable", tree, where, f"@{last_name(target)}")
        elif found.t and found.t[0] == "fun":
            wrapper = frame.program.functions[found.t[1]]
            kinds = _wrapping(frame, wrapper)
            for kind in kinds:
                tree = Scope(kind, tree, where, f"@{last_name(target)}")
    return tree


def _is_strict(frame: Frame, named: Facts) -> bool:
    """Whether a decorator's arguments ask for serializable transactions."""
    asked = [frame.expression(value).t for name, value in named if name in ("isolation", "isolation_level")]
    return any(t and t[0] == "str" and "SERIALIZABLE" in t[1].upper() for t in asked)


def _wrapping(frame: Frame, wrapper: Function) -> tuple[str, ...]:
    """Scopes that a decorator of the program puts around what it wraps: those in its nested functions."""
    frame.evaluation.function(wrapper)
    found: list[str] = []
    for inner in _nested(frame, wrapper):
        items = inner.tree.items if isinstance(inner.tree, Sequence) else (inner.tree,)
        found.extend(
            item.kind
            for item in items
            if isinstance(item, Scope) and item.kind in ("transaction", "lock", "session")
        )
    return tuple(found)


def _nested(frame: Frame, function: Function) -> list[Function]:
    prefix = f"{function.id}."
    inner = [one for name, one in frame.program.functions.items() if name.startswith(prefix)]
    return [frame.evaluation.function(one) for one in inner]
