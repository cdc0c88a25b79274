"""Evaluation: the body of each function, walked once, becomes an effect tree.

On the way every value carries a type (what it is, where that can be told without running anything) and its
origins (which reads, parameters and loops it rests on). Calls of functions of the program become `Invoke`;
what they return is worked out on demand, so that a session, queryset or row is followed through helpers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

from mainstay.architect.effects import (
    Attempt,
    Branch,
    Condition,
    Do,
    Effect,
    Invoke,
    Kind,
    Loop,
    Origin,
    Scope,
    Sequence,
    Tree,
)
from mainstay.architect.findings import Location, Problem
from mainstay.architect.review import facts as f
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.libraries import LibraryType, Operation
from mainstay.architect.review.program import (
    NONE,
    Class,
    Function,
    Module,
    Program,
    Relation,
    Type,
    last_name,
)
from mainstay.architect.review.sql import read_sql

T = TypeVar("T")

DEEPEST = 60
"""How far return types are followed on demand, in calls."""

FEW = 10
"""A query limited to so many rows, written as a number in the code, does not grow with data."""

_BATCH = re.compile(r"batch|chunk|page|slice|window|group", re.IGNORECASE)
_LOCK = re.compile(r"(^|_)(lock|mutex)s?(_|$|ed)|Lock$")
_RETRY = re.compile(r"attempt|retr|tries|backoff", re.IGNORECASE)
_LISTS = {"list", "List", "Sequence", "Iterable", "Iterator", "set", "Set", "frozenset", "Collection", "tuple", "Tuple",
          "AsyncIterator", "AsyncGenerator", "Generator", "AsyncIterable", "MutableSequence", "FrozenSet", "deque",
          "Page", "InstrumentedList", "WriteOnlyMapped", "DynamicMapped"}  # fmt: skip
_THROUGH = {"Optional", "Annotated", "Awaitable", "Coroutine", "Mapped", "Final", "ClassVar", "Required", "NotRequired",
            "Union", "Depends"}  # fmt: skip
_LOADED = {"dict", "__dict__", "_prefetched_objects_cache", "fields_cache"}
"""Attributes of a row, or of its state, in which stands what was loaded."""
_CONTEXTS = {"AbstractContextManager", "AbstractAsyncContextManager", "ContextManager", "AsyncContextManager"}
_SAME = {"list", "tuple", "set", "sorted", "reversed", "frozenset", "iter", "aiter"}
_APPLY = {"map": 0, "filter": 0}
_KEYED = {"sorted", "min", "max"}
_SCALARS = {"len", "sum", "any", "all", "bool", "int", "str", "float", "min", "max", "next", "anext"}
_PROPERTY = {"property", "cached_property", "hybrid_property", "computed_field"}
_MANAGERS = {"contextmanager", "asynccontextmanager"}


class Value:
    """What is known of a value: its type and where it came from."""

    __slots__ = ("o", "t")

    def __init__(self, t: Type, o: frozenset[Origin] = NONE) -> None:
        self.t = t
        self.o = o


UNKNOWN = Value(None)
CONSTANT = Value(("const",))


class Evaluation:
    """All functions of a program, evaluated on demand."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.depth = 0
        program.evaluate_at = self.evaluate_at  # type: ignore[method-assign]
        self._lambdas: list[tuple[Facts, dict[str, Value], Body]] = []
        self.lost: list[Problem] = []
        """Functions that could not be followed."""

    def evaluate_at(self, module: Module, value: Facts, annotation: Facts) -> Type:
        body = Body(self, module, None)
        if annotation is not None:
            found = body.annotated(annotation)
            if found is not None:
                return found
        if value is None:
            return None
        return body.expression(value).t

    def function(self, function: Function) -> Function:
        """Evaluate `function` unless that was done."""
        if function.state == 0 and self.depth < DEEPEST:
            function.state = 1
            self.depth += 1
            try:
                Body(self, function.module, function).run()
            except Exception as error:  # code odder than anything met before must not end the whole review
                function.tree = Sequence()
                self.lost.append(Problem(function.module.path, _lost(function, error), function.place[0]))
            finally:
                self.depth -= 1
                function.state = 2
        return function


class Body:
    """One function body (or the top level of a module) being evaluated."""

    def __init__(self, evaluation: Evaluation, module: Module, function: Function | None) -> None:
        self.all = evaluation
        self.program = evaluation.program
        self.libraries = evaluation.program.libraries
        self.module = module
        self.function = function
        self.names: dict[str, Value] = {}
        self.out: list[Tree] = []
        self.scopes: list[str] = []
        self.loops: list[Location] = []
        self.returned: list[Value] = []
        self.yielded: list[Value] = []
        self.yields_in: tuple[str, ...] | None = None
        self.own: dict[str, tuple[int, Value]] = {}
        """Parameters, with the value they had at first."""
        self.looked_up: dict[str, tuple[str, bool]] = {}
        """Variables that tell whether a collection has an entry: the collection, and whether they mean yes."""
        self.here: tuple[int, int, int, int] = function.place if function else (1, 1, 1, 1)
        """The place last passed, for what has none of its own."""
        self.assigned: dict[str, tuple[set[str], frozenset[Origin]]] = {}
        self.expressions = _EXPRESSIONS
        self.statements = _STATEMENTS

    # -------------------------------------------------------------------------------------- function

    def run(self) -> None:
        function = self.function
        assert function is not None
        if function.outer:
            self.names.update(function.outer)
        for index, (name, annotation, default, kind) in enumerate(function.parameters):
            self.names[name] = self.parameter(index, name, annotation, default, kind)
            self.own[name] = (index, self.names[name])
        self.out = []
        self.block(self.program.body(function))
        tree: Tree = Sequence(tuple(self.out))
        tree = self.decorated(tree)
        function.tree = tree
        if self.yielded:
            function.gives = ("list", _join(self.yielded).t)
            function.gives_from = _join(self.yielded).o
            function.yields_in = self.yields_in or ()
        elif self.returned:
            joined = _join(self.returned)
            function.gives, function.gives_from = joined.t, joined.o
        if (function.gives is None and function.returns is not None) or (
            function.returns is not None and function.gives and function.gives[0] in ("const", "str")
        ):
            function.gives = self.annotated(function.returns)
        function.outer = None

    def parameter(self, index: int, name: str, annotation: Facts, default: Facts, kind: str) -> Value:
        function = self.function
        assert function is not None
        found: Type = None
        if (
            index == 0
            and function.klass is not None
            and not kind
            and "staticmethod" not in function.decorated
        ):
            found = (
                ("cls", function.klass.id)
                if "classmethod" in function.decorated
                else self.instance(function.klass)
            )
        if found is None and annotation is not None:
            found = self.annotated(annotation)
        if found is None and default is not None:
            default_type = self.default(default)
            if default_type is not None:
                found = default_type
        if found is None or (found[0] == "obj" and self.program.is_row(found[1])):
            learned = function.learned.get(index)
            if learned is not None and (found is None or found[:2] == learned[:2]):
                found = learned
        if found is not None and found[0] == "lib" and found[1] in _QUERYSETS:
            # Made out of sight: what it loads along is not known, but for what calls tell.
            told = function.learned.get(index)
            more = {x for x in told[3] if x.startswith("loads:")} if told and told[0] == "lib" else NONE
            found = (*found[:3], found[3] | {"elsewhere"} | more, found[4])
        if found is None and default is not None and default[0] == f.CONST and type(default[1]) is int:
            found = self.constant(default).t  # a limit of few, if nobody asks for more
        if found is not None and kind in ("*",):
            found = ("list", found)
        return Value(found, frozenset([Origin(parameter=index)]))

    def default(self, default: Facts) -> Type:
        """``Depends(get_session)`` and what `get_session` gives; other defaults say little."""
        if default[0] == f.CALL and last_name(default[1]) in ("Depends", "Security") and default[2]:
            return self.given_by(default[2][0])
        return None

    def given_by(self, dependency: Facts) -> Type:
        found = self.expression(dependency).t if dependency else None
        if found and found[0] == "fun":
            function = self.all.function(self.program.functions[found[1]])
            gives = function.gives
            if gives and gives[0] == "list" and "generator" in function.flags:
                gives = gives[1]
            return gives
        if found and found[0] == "cls":
            return self.instance(self.program.classes[found[1]])
        return None

    def instance(self, klass: Class) -> Type:
        library = self.program.library_type(klass)
        if library is not None and self.program.models_of(klass) is None:
            return ("lib", library, None, NONE, klass.id)
        return ("obj", klass.id, NONE)

    def decorated(self, tree: Tree) -> Tree:
        """The tree inside the scopes that decorators put around it."""
        function = self.function
        assert function is not None
        for decorator in reversed(function.decorators):
            if not decorator:
                continue
            where = self.place(function.place)
            target = decorator[1] if decorator[0] == f.CALL else decorator
            if last_name(target) in _PROPERTY or last_name(target) in ("staticmethod", "classmethod"):
                continue
            handed = decorator[2][:1] if decorator[0] == f.CALL and last_name(target) == "receiver" else ()
            if any(last_name(part) in ("post_migrate", "pre_migrate") for part in handed):
                self.program.by_hand.add(function.id)
            found = self.expression(target)
            operation = None
            if found.t and found.t[0] == "ext":
                operation = self.libraries.functions.get(found.t[1])
            elif found.t and found.t[0] == "op":
                operation = found.t[1]
            if operation is not None and operation.scope:
                tree = Scope(operation.scope, tree, where, f"@{last_name(target)}")
            elif found.t and found.t[0] == "fun":
                wrapper = self.program.functions[found.t[1]]
                kinds = self.wrapping(wrapper)
                for kind in kinds:
                    tree = Scope(kind, tree, where, f"@{last_name(target)}")
        return tree

    def wrapping(self, wrapper: Function) -> tuple[str, ...]:
        """Scopes that a decorator of the program puts around what it wraps: those in its nested functions."""
        self.all.function(wrapper)
        found: list[str] = []
        for inner in self.nested(wrapper):
            items = inner.tree.items if isinstance(inner.tree, Sequence) else (inner.tree,)
            found.extend(
                item.kind
                for item in items
                if isinstance(item, Scope) and item.kind in ("transaction", "lock", "session")
            )
        return tuple(found)

    def nested(self, function: Function) -> list[Function]:
        prefix = f"{function.id}."
        return [self.all.function(inner) for inner in _nested_in(self.program, prefix)]

    # ------------------------------------------------------------------------------------- statements

    def block(self, body: Facts) -> str:
        """Walk statements; how they leave what follows (as in `Branch.exits`), empty where the end is reached."""
        table = self.statements
        for statement in body:
            left = table[statement[0]](self, statement)
            if left:
                return left
        return ""

    def place(self, place: tuple[int, int, int, int]) -> Location:
        line, column, end_line, end = place
        return Location(self.module.path, line, column, end_line, end)

    def inside(self, walk: Callable[[], T]) -> tuple[Tree, T]:
        """What `walk` adds to the tree, apart from the rest, and what it returns."""
        outer, self.out = self.out, []
        try:
            result = walk()
        finally:
            found, self.out = self.out, outer
        return (found[0] if len(found) == 1 else Sequence(tuple(found))), result

    def expression_statement(self, statement: Facts) -> str:
        value = self.expression(statement[1])
        if value.t and value.t[0] == "ctx" and value.t[1] == "transaction":
            self.out.append(Do(Effect(Kind.BEGIN, "", "begin", value.t[3])))
        return ""

    def assign(self, statement: Facts) -> str:
        _, targets, expression, annotation, place = statement
        value = self.expression(expression)
        if annotation is not None:
            declared = self.annotated(annotation)
            if declared is not None and (value.t is None or value.t[0] == "const"):
                value = Value(declared, value.o)
            if expression is None:
                return ""
        for target in targets:
            if target is not None:
                self.bind(target, value, place, expression)
                if target[0] == f.NAME:
                    self.look_up(target[1], expression)
        return ""

    def bind(self, target: Facts, value: Value, place: Any, expression: Facts = None) -> None:
        kind = target[0]
        if kind == f.NAME:
            self.names[target[1]] = value
            self.assigned.pop(target[1], None)
        elif kind == f.ITEMS:
            parts: tuple[Type, ...] = ()
            if value.t and value.t[0] == "tuple":
                parts = value.t[1]
            for index, part in enumerate(target[1]):
                if part is not None:
                    inner = parts[index] if index < len(parts) else None
                    if value.t and value.t[0] == "list":
                        inner = value.t[1]
                    self.bind(part, Value(inner, value.o), place)
        elif kind == f.ATTR:
            base = self.expression(target[1]) if target[1] else UNKNOWN
            self.written(base, target, value, place, expression)
        elif kind == f.SUB:
            self.fill(target[1])
            base = self.expression(target[1]) if target[1] else UNKNOWN
            key = self.expression(target[2]) if target[2] else UNKNOWN
            if target[1] and target[1][0] == f.NAME and target[1][1] in self.names:
                inner = base.t if base.t else ("dict", value.t)
                if inner[0] == "const":
                    inner = ("dict", value.t)
                self.names[target[1][1]] = Value(inner, base.o | value.o | key.o)
        elif kind == f.STAR and target[1]:
            self.bind(target[1], Value(("list", None), value.o), place)

    def written(self, base: Value, target: Facts, value: Value, place: Any, expression: Facts) -> None:
        """``row.column = value``."""
        if not (base.t and base.t[0] == "obj"):
            return
        klass = self.program.classes[base.t[1]]
        models = self.program.models_of(klass)
        if models is None or "new" in base.t[2]:
            return
        if target[1][0] == f.NAME and target[1][1] in self.names and self.program.relation(klass, target[2]):
            loaded = ("obj", base.t[1], base.t[2] | {f"loads:{target[2]}"})
            self.names[target[1][1]] = Value(loaded, self.names[target[1][1]].o)
        traits = {f"set:{target[2]}", "row"}
        if expression and expression[0] in (f.ITEMS, f.DICT) and not expression[1]:
            traits.add("default")
        if value.t and (value.t[0] in ("col", "cond") or value.t[:2] == ("lib", "Expression")):
            traits.add("in-database")
        if target[1][0] == f.NAME:
            fields, origins = self.assigned.get(target[1][1], (set(), NONE))
            self.assigned[target[1][1]] = (
                fields | {f"set:{target[2]}"} | (traits & {"in-database"}),
                origins | value.o,
            )
        if models.pending:
            self.do(
                Kind.WRITE, self.program.title(base.t[1]), f"{render(target)} = {render(expression) or '…'}", place,
                base.o | value.o, traits | {"pending", "autobegin"} | self.version(klass),
            )  # fmt: skip

    def version(self, klass: Class) -> set[str]:
        """``versioned`` where updates of the model carry a version that the database compares."""
        for one in self.program.ancestry(klass)[0]:
            mapper = one.attributes.get("__mapper_args__")
            if mapper and "version_id_col" in repr(mapper[0]):
                return {"versioned"}
        return set()

    def augmented(self, statement: Facts) -> str:
        _, target, _, expression, place = statement
        if target is None:
            self.expression(expression)
            return ""
        before = self.expression(target) if target[0] != f.SUB else (
            self.expression(target[1]) if target[1] else UNKNOWN)  # fmt: skip
        value = self.expression(expression)
        joined = Value(before.t if before.t and before.t[0] != "const" else value.t, before.o | value.o)
        if value.t and value.t[0] == "lib":
            joined.t = value.t
        self.bind(target, joined, place, (f.ANY, (target, expression)))
        return ""

    def return_(self, statement: Facts) -> str:
        value = self.leaving(statement[1]) if statement[1] is not None else CONSTANT
        self.returned.append(value)
        return "leave" if statement[1] is None or statement[1] == (f.CONST, None) else "answer"

    def raise_(self, statement: Facts) -> str:
        if statement[1] is not None:
            self.leaving(statement[1])
        return "raise"

    def leaving(self, expression: Facts) -> Value:
        """The value that a ``return`` or ``raise`` works out: in a loop, that happens once, not in each turn."""
        if not self.loops:
            return self.expression(expression)
        tree, value = self.inside(lambda: self.expression(expression))
        if not _empty(tree):
            self.out.append(Scope("leaving", tree, self.anywhere(expression), ""))
        return value

    def leave(self, statement: Facts) -> str:
        return "leave"

    def if_(self, statement: Facts) -> str:
        _, test, body, otherwise, place = statement
        # Long chains of elif are nested to the right: walked here, so that they cost no depth.
        on = self.decision(test)
        when, unless = self.required(test, True), self.required(test, False)
        before = dict(self.names)
        narrowed = self.narrowed(test)
        if narrowed:
            self.names.update(narrowed)
        one, left_one = self.inside(lambda: self.block(body))
        after_one, self.names = self.names, before
        other, left_other = self.inside(lambda: self.block(otherwise)) if otherwise else (Sequence(), "")
        if left_one:
            pass
        elif left_other:
            self.names = after_one
        else:
            self.names = self.merged(after_one, self.names)
        if _empty(one) and _empty(other) and not ((left_one or left_other) and on):
            return left_one and left_other
        then: frozenset[Condition] = NONE
        if left_one or (unless and _may_leave(body)):
            then = unless if left_one else frozenset(c for c in unless if c[0] < 0)
        elif left_other or (when and _may_leave(otherwise)):
            then = when if left_other else frozenset(c for c in when if c[0] < 0)
        where = self.place(place)
        self.out.append(Branch((one, other), on, (left_one, left_other), where, (when, unless), then))
        return left_one and left_other

    def required(self, test: Facts, held: bool) -> frozenset[Condition]:
        """What must hold of the parameters for `test` to come out as `held`."""
        if not test:
            return NONE
        kind = test[0]
        if kind == f.NOT:
            return self.required(test[1], not held)
        if kind == (f.AND if held else f.OR):
            return frozenset().union(*(self.required(part, held) for part in test[1]))
        if kind == f.WALRUS:
            self.look_up(test[1], test[2])
            return self.required((f.NAME, test[1]), held)
        if kind == f.NAME:
            return self.of_name(test[1], "true" if held else "false", held)
        if kind == f.COMPARE and len(test[1]) == 2:
            (left, right), operator = test[1], test[2][0]
            if operator in ("In", "NotIn") and right:
                there = held == (operator == "In")
                if there and right[0] == f.ATTR and right[2] in _LOADED:
                    return frozenset([(-1, "detached")])  # asked first whether it is loaded
                if right[0] in (f.NAME, f.ATTR):
                    t = self.expression(right).t
                    if t and t[0] == "lib" and "Session" in t[1]:
                        return NONE if there else frozenset([(-1, "detached")])
                return NONE if there else frozenset([(-1, f"miss:{render(right)}")])
            if right == (f.CONST, None) and left and left[0] in (f.NAME, f.WALRUS):
                if left[0] == f.WALRUS:
                    self.look_up(left[1], left[2])
                none = held == (operator in ("Is", "Eq"))
                return self.of_name(left[1], "none" if none else "some", not none)
        return NONE

    def of_name(self, name: str, word: str, there: bool) -> frozenset[Condition]:
        own = self.own.get(name)
        if own is not None and self.names.get(name) is own[1]:
            return frozenset([(own[0], word)])
        looked_up = self.looked_up.get(name)
        if looked_up is not None and looked_up[1] != there:
            return frozenset([(-1, f"miss:{looked_up[0]}")])
        return NONE

    def look_up(self, name: str, expression: Facts) -> None:
        """Keep whether variable `name` tells that a collection has an entry (``x = known.get(key)``)."""
        self.looked_up.pop(name, None)
        if not expression:
            return
        if (
            expression[0] == f.CALL
            and expression[1]
            and expression[1][0] == f.ATTR
            and expression[1][2] == "get"
        ):
            self.looked_up[name] = (render(expression[1][1]), True)
        elif expression[0] == f.COMP:
            for _, _, conditions in expression[3]:
                for condition in conditions:
                    if condition and condition[0] == f.COMPARE and condition[2] == ("NotIn",):
                        self.looked_up[name] = (render(condition[1][1]), False)

    def fill(self, collection: Facts) -> None:
        if self.function is not None and collection:
            self.function.fills.add(render(collection))

    def decision(self, test: Facts) -> frozenset[Origin]:
        return self.expression(test).o if test is not None else NONE

    def narrowed(self, test: Facts) -> dict[str, Value]:
        """``isinstance(x, Y)`` tells the type of x."""
        if test and test[0] == f.CALL and test[1] == (f.NAME, "isinstance") and len(test[2]) == 2:
            subject, kind = test[2]
            if subject and subject[0] == f.NAME and kind and kind[0] in (f.NAME, f.ATTR):
                found = self.expression(kind).t
                if found and found[0] == "cls":
                    old = self.names.get(subject[1], UNKNOWN)
                    before = self.program.classes.get(old.t[1]) if old.t and old.t[0] == "obj" else None
                    narrower = before is not None and any(
                        one.id == found[1] for one in self.program.ancestry(before)[0]
                    )
                    if not narrower:
                        return {subject[1]: Value(self.instance(self.program.classes[found[1]]), old.o)}
        return {}

    def merged(self, one: dict[str, Value], other: dict[str, Value]) -> dict[str, Value]:
        for name, value in one.items():
            there = other.get(name)
            if there is None:
                other[name] = value
            elif there is not value:
                other[name] = _join([there, value])
        return other

    def match(self, statement: Facts) -> str:
        _, subject, bodies, place = statement
        on = self.decision(subject)
        ways, exits = [], []
        before = self.names
        result: dict[str, Value] | None = None
        for body in bodies:
            self.names = dict(before)
            tree, left = self.inside(lambda body=body: self.block(body))  # type: ignore[misc]
            ways.append(tree)
            exits.append(left)
            if not left:
                result = self.names if result is None else self.merged(self.names, result)
        self.names = self.merged(dict(before), result or dict(before))
        if any(not _empty(way) for way in ways) or (any(exits) and on):
            self.out.append(Branch(tuple(ways), on, tuple(exits), self.place(place)))
        return ""

    def for_(self, statement: Facts) -> str:
        _, target, iterable, body, otherwise, place = statement
        values = self.expression(iterable) if iterable is not None else CONSTANT
        where = self.place(place)
        item, bound = self.item(values, iterable, where)
        if target is not None and _is_batch(target):
            bound = "batches"
        if body and body[-1][0] in (f.RETURN, f.BREAK, f.RAISE):
            bound = "constant"
        turn = frozenset([Origin(loop=where)])
        before = dict(self.names)

        def walk() -> None:
            self.loops.append(where)
            if target is not None:
                self.bind(target, Value(item.t, item.o | turn), place)
            self.block(body)
            self.loops.pop()

        tree, _ = self.inside(walk)
        self.names = self.merged(before, self.names)
        if not _empty(tree):
            text = f"for {render(target) or '…'} in {render(iterable) or '…'}"
            self.out.append(Loop(tree, where, values.o, bound, text))
        if otherwise:
            self.block(otherwise)
        return ""

    def item(self, values: Value, iterable: Facts, where: Location) -> tuple[Value, str]:
        """One item of what a loop walks, and the bound of the loop; evaluates a lazy query."""
        t = values.t
        bound = "unknown"
        if iterable is not None and iterable[0] == f.CALL:
            name = last_name(iterable[1])
            if (
                name in ("enumerate", "zip", "reversed", "tqdm", "sorted", "list", "tuple", "iter", "track")
                and iterable[2]
            ):
                inner, bound = self.item(self.wrapped(iterable, 0, values), iterable[2][0], where)
                if name == "enumerate":
                    return Value(("tuple", (("const",), inner.t)), inner.o), bound
                if name == "zip":
                    others = [self.item(self.wrapped(iterable, i, values), iterable[2][i], where)
                              for i in range(1, len(iterable[2]))]  # fmt: skip
                    bounds = {bound, *(b for _, b in others)}
                    bound = "constant" if "constant" in bounds else "rows" if "rows" in bounds else bound
                    types = (inner.t, *(v.t for v, _ in others))
                    return Value(("tuple", types), values.o), bound
                return inner, bound
            if name == "range":
                if len(iterable[2]) == 3:
                    return Value(("const",), values.o), "batches"
                if all(a is not None and a[0] == f.CONST for a in iterable[2]):
                    return CONSTANT, "constant"
                return Value(("const",), values.o), "unknown"
            if _BATCH.search(name) and not (t and t[0] == "lib"):
                inner_type = t[1] if t and t[0] == "list" else None
                return Value(("list", inner_type), values.o), "batches"
            if name in ("items", "values", "keys") and t and t[0] == "list":
                pass
        if t is None:
            if iterable is not None and _constant_name(iterable):
                return Value(None, values.o), "constant"
            if any(
                o.read is not None and not ({"one", "presence"} & o.traits) and not o.field for o in values.o
            ):
                bound = "rows"
            return Value(None, values.o), bound
        if t[0] == "lib":
            kind = self.libraries.types.get(t[1])
            if kind is not None and kind.iterate is not None:
                value = self.operate(kind.iterate, "iterate", values, [], {}, where, render(iterable) or "…")
                limited = "limited" in t[3]
                return value, "constant" if limited else "rows"
        if t[0] == "list":
            inner = t[1]
            rows = bool(
                inner and ((inner[0] == "obj" and self.program.is_row(inner[1])) or inner[0] == "rowvalue")
            )
            if rows and inner[0] == "obj" and "new" in inner[2]:
                rows = False
            if not rows and any(
                o.read is not None and not ({"one", "presence"} & o.traits) and not o.field for o in values.o
            ):
                rows = True
            if "limited" in (o for origin in values.o for o in origin.traits):
                return Value(inner, values.o), "constant"
            return Value(inner, values.o), "rows" if rows else "unknown"
        if t[0] in ("tuple", "const", "str"):
            if t[0] == "tuple" and t[1] and len({x for x in t[1] if x}) == 1:
                return Value(next(x for x in t[1] if x), values.o), "constant"
            return Value(None, values.o), "constant"
        if t[0] == "dict":
            return Value(None, values.o), "rows" if _from_rows(values.o) else "unknown"
        if t[0] == "cls":
            return Value(None, values.o), "constant"  # an enumeration
        return Value(None, values.o), "unknown"

    def wrapped(self, call: Facts, index: int, whole: Value) -> Value:
        """The value of an argument of ``enumerate`` and friends, without walking it twice for effects."""
        if index >= len(call[2]) or call[2][index] is None:
            return CONSTANT
        _, value = self.inside(lambda: self.expression(call[2][index]))
        return value

    def while_(self, statement: Facts) -> str:
        _, test, body, otherwise, place = statement
        where = self.place(place)
        before = dict(self.names)
        bound = "retry" if _RETRY.search(repr(test)[:2000]) else "unknown"

        def walk() -> None:
            if test is not None:
                self.expression(test)
            self.block(body)

        tree, _ = self.inside(walk)
        self.names = self.merged(before, self.names)
        if not _empty(tree):
            self.out.append(Loop(tree, where, NONE, bound, f"while {render(test) or '…'}"))
        if otherwise:
            self.block(otherwise)
        return ""

    def with_(self, statement: Facts) -> str:
        _, items, body, place = statement
        return self._with(list(items), body, place)

    def _with(self, items: list[Facts], body: Facts, place: Any) -> str:
        if not items:
            return self.block(body)
        expression, target = items[0]
        value = self.expression(expression) if expression is not None else UNKNOWN
        where = self.place(expression[-1]) if expression and expression[0] == f.CALL else self.place(place)
        kinds, inner, leave = self.entered(value, expression, where)
        if target is not None:
            self.bind(target, inner, place)
        self.scopes.extend(kinds)
        tree, left = self.inside(lambda: self._with(items[1:], body, place))
        for kind in reversed(kinds):
            self.scopes.pop()
            if not _empty(tree):
                tree = Scope(kind, tree, where, f"with {render(expression) or '…'}")
        if not _empty(tree):
            self.out.append(tree)
        for invoke in leave:
            self.out.append(invoke)
        return "" if "suppress" in last_name(expression) else str(left)

    def entered(
        self, value: Value, expression: Facts, where: Location
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
            kind = self.libraries.types.get(t[1])
            if kind is not None and kind.enter is not None:
                scope = [kind.enter.scope] if kind.enter.scope else []
                return scope, Value(self.named(kind.enter.gives, t) or t, value.o), []
            return [], value, []
        if t[0] == "manager":  # what a function under @contextmanager gave
            function = self.program.functions[t[1]]
            gives = function.gives[1] if function.gives and function.gives[0] == "list" else function.gives
            scopes = list(function.yields_in)
            if "lock" not in scopes and _LOCK.search(function.name.rpartition(".")[2]):
                scopes.insert(0, "lock")
            return scopes, Value(gives, value.o), []
        if t[0] == "obj":
            klass = self.program.classes[t[1]]
            result, leave = value, []
            for name in ("__aenter__", "__enter__"):
                method = self.method(klass, name)
                if method is not None:
                    result = self.invoke([method], value, [], {}, where)
                    if result.t is None:
                        result = Value(t, result.o)
                    break
            for name in ("__aexit__", "__exit__"):
                method = self.method(klass, name)
                if method is not None:
                    self.all.function(method)
                    leave.append(Invoke((method.id,), where, (value.o,)))
                    break
            return [], result, list(leave)
        return [], value, []

    def try_(self, statement: Facts) -> str:
        _, body, handlers, otherwise, final = statement
        before = dict(self.names)

        def walk() -> str:
            return self.block(body) or self.block(otherwise)

        tree, left = self.inside(walk)
        after = self.names
        caught = []
        lefts = [left]
        for exceptions, name, handler in handlers:
            self.names = self.merged(dict(before), dict(after))
            if name:
                self.names[name] = UNKNOWN
            inner, out = self.inside(lambda handler=handler: self.block(handler))  # type: ignore[misc]
            names = _exceptions(exceptions)
            caught.append(_Handled(inner, names))
            lefts.append(out)
            if not out:
                after = self.merged(self.names, after) if not left else self.names
        self.names = after
        ending, _ = self.inside(lambda: self.block(final))
        trees = tuple(c.tree for c in caught)
        names = frozenset(n for c in caught for n in c.names)
        if not (_empty(tree) and all(_empty(t) for t in trees) and _empty(ending)):
            self.out.append(Attempt(tree, trees, ending, names))
        return lefts[0] if all(lefts) else ""

    def def_(self, statement: Facts) -> str:
        parent = self.function.id if self.function else ""
        facts = statement[1]
        # A function is evaluated again once more is known of its arguments; what is nested in it stays one.
        made = self.program.functions.get(f"{parent}.{facts[0]}") if parent else None
        if made is None or made.place != facts[5]:
            made = self.program._function(self.module, None, facts, parent)
        else:
            made.state = 0
        value = Value(("fun", made.id, None))
        self.names[facts[0]] = value
        made.outer = dict(self.names)
        return ""

    def class_(self, statement: Facts) -> str:
        outer = self.function.name if self.function else ""
        made = self.program._class(self.module, statement[1], outer)
        self.names[made.name] = Value(("cls", made.id))
        return ""

    # ------------------------------------------------------------------------------------ expressions

    def expression(self, expression: Facts) -> Value:
        if expression is None:
            return UNKNOWN
        return self.expressions[expression[0]](self, expression)

    def name(self, expression: Facts) -> Value:
        found = self.names.get(expression[1])
        if found is not None:
            if found.t is None:
                hinted = self.hinted(expression[1])
                if hinted is not None:
                    return Value(hinted, found.o)
            return found
        t = self.program.lookup(self.module, expression[1])
        if t is None:
            t = self.hinted(expression[1])
            if t is None and expression[1].isupper():
                return CONSTANT
        elif t[0] == "ext" and t[1] in self.libraries.names:
            kind = self.libraries.names[t[1]]
            if kind in ("DjangoConnection",):
                t = ("lib", kind, None, NONE, None)
        return Value(t) if t is not None else UNKNOWN

    def hinted(self, name: str) -> Type:
        hint = self.libraries.hints.get(name)
        if hint is not None and hint[1] in self.program.packages:
            return ("lib", hint[0], None, NONE, None)
        return None

    def constant(self, expression: Facts) -> Value:
        value = expression[1]
        if type(value) is str:
            return Value(("str", value))
        if type(value) is int and 0 <= value <= FEW:
            return Value(("const", "few"))
        if value is None:
            return Value(("const", "none"))
        if type(value) is bool:
            return Value(("const", "true" if value else "false"))
        return CONSTANT

    def items(self, expression: Facts) -> Value:
        values = [self.expression(part) for part in expression[1]]
        if not values:
            return Value(("list", None))
        return Value(("tuple", tuple(v.t for v in values)), _origins(values))

    def dict_(self, expression: Facts) -> Value:
        values = [self.expression(part) for pair in expression[1] for part in pair]
        kind: Type = ("dict", None) if not expression[1] else ("const",)
        if expression[1] and values[1].t:
            kind = ("dict", values[1].t)
        return Value(kind, _origins(values))

    def any_(self, expression: Facts) -> Value:
        values = [self.expression(part) for part in expression[1]]
        for value in values:  # Q(...) | Q(...), queryset & queryset, Model.column + 1
            if value.t and value.t[0] in ("lib", "col", "cond"):
                if value.t[0] == "lib" and value.t[1] == "Condition":
                    traits = frozenset().union(*(v.t[3] for v in values if v.t and v.t[0] == "lib"))
                    return Value((*value.t[:3], traits, value.t[4]), _origins(values))
                return Value(value.t, _origins(values))
        return Value(None, _origins(values))

    def and_(self, expression: Facts) -> Value:
        values: list[Value] = []
        when: frozenset[Condition] = NONE
        for part in expression[1]:
            tree, value = self.inside(lambda part=part: self.expression(part))  # type: ignore[misc]
            if not _empty(tree):
                way = Branch((tree, Sequence()), _origins(values), ("", ""), None, (when, NONE))
                self.out.append(way if when else tree)
            when |= self.required(part, expression[0] == f.AND)
            values.append(value)
        joined = _join(values)
        return Value(joined.t if joined.t and joined.t[0] != "const" else None, joined.o)

    def not_(self, expression: Facts) -> Value:
        return Value(None, self.expression(expression[1]).o)

    def compare(self, expression: Facts) -> Value:
        values = [self.expression(part) for part in expression[1]]
        fields = frozenset(v.t[2] for v in values if v.t and v.t[0] == "col")
        if fields:
            if expression[2] != ("Eq",):
                fields |= {f"{name}~" for name in fields}
            return Value(("cond", fields), _origins(v for v in values if not (v.t and v.t[0] == "col")))
        if (
            len(values) == 2
            and expression[2][0] in ("In", "NotIn")
            and values[1].t
            and values[1].t[0] == "lib"
        ):
            self.item(values[1], expression[1][1], self.anywhere(expression[1][1]))
        origins = _origins(values)
        if expression[2][0] in ("Lt", "LtE", "Gt", "GtE") and not any(
            part in ((f.CONST, 0), (f.CONST, 1)) for part in expression[1]
        ):
            origins = frozenset(_as_total(o) for o in origins)  # fewer than so many: not whether there is one
        return Value(None, origins)

    def anywhere(self, expression: Facts) -> Location:
        return self.place(_place(expression) or self.here)

    def text(self, expression: Facts) -> Value:
        values = [self.expression(part) for part in expression[1]]
        texts = [v.t[1] if v.t and v.t[0] == "str" else "{}" for v in values]
        return Value(("str", "".join(texts)), _origins(values))

    def choice(self, expression: Facts) -> Value:
        on = self.decision(expression[1])
        when = (self.required(expression[1], True), self.required(expression[1], False))
        one, first = self.inside(lambda: self.expression(expression[2]))
        other, second = self.inside(lambda: self.expression(expression[3]))
        if not (_empty(one) and _empty(other)):
            self.out.append(Branch((one, other), on, ("", ""), None, when))
        joined = _join([first, second])
        return Value(joined.t, joined.o | on)

    def await_(self, expression: Facts) -> Value:
        value = self.expression(expression[1])
        if value.t and value.t[0] == "ctx" and value.t[1] in ("transaction",):
            self.out.append(Do(Effect(Kind.BEGIN, "", "begin", value.t[3])))
            return Value(value.t[2], value.o)
        return value

    def yield_(self, expression: Facts) -> Value:
        value = self.expression(expression[1])
        self.yielded.append(value)
        if self.yields_in is None:
            self.yields_in = tuple(self.scopes)
        return UNKNOWN

    def walrus(self, expression: Facts) -> Value:
        value = self.expression(expression[2])
        self.names[expression[1]] = value
        return value

    def star(self, expression: Facts) -> Value:
        return self.expression(expression[1])

    def slice(self, expression: Facts) -> Value:
        parts = [self.expression(part) for part in expression[1]]
        few = expression[1][1] is not None and parts[1].t == ("const", "few")
        return Value(("slice", few), _origins(parts))

    def lambda_(self, expression: Facts) -> Value:
        self.all._lambdas.append((expression, dict(self.names), self))
        return Value(("lam", len(self.all._lambdas) - 1))

    def comprehension(self, expression: Facts) -> Value:
        _, kind, element, generators, place = expression
        shadowed = dict(self.names)
        result = self.turns(element, generators, place)
        self.names = shadowed
        if kind == "DictComp":
            inner = result.t[1][1] if result.t and result.t[0] == "tuple" and len(result.t[1]) == 2 else None
            return Value(("dict", inner), result.o)
        return Value(("list", result.t), result.o)

    def turns(self, element: Facts, generators: Facts, place: Any) -> Value:
        """The loops of a comprehension, from the outermost in, and what the innermost gives."""
        if not generators:
            return self.expression(element)
        target, iterable, conditions = generators[0]
        values = self.expression(iterable) if iterable is not None else CONSTANT
        # Loops of one comprehension share its place; the end tells them apart.
        loop = self.place((*place[:3], place[3] - len(generators) + 1))
        item, bound = self.item(values, iterable, loop)
        if target is not None and _is_batch(target):
            bound = "batches"
        outer, self.out = self.out, []
        try:
            if target is not None:
                self.bind(target, Value(item.t, item.o | {Origin(loop=loop)}), place)
            for condition in conditions:
                self.expression(condition)
            result = self.turns(element, generators[1:], place)
        finally:
            found, self.out = self.out, outer
        if found:
            text = f"for {render(target) or '…'} in {render(iterable) or '…'}"
            self.out.append(Loop(Sequence(tuple(found)), loop, values.o, bound, text))
        return Value(result.t, frozenset(o for o in result.o if o.loop != loop) | values.o)

    def subscript(self, expression: Facts) -> Value:
        base = self.expression(expression[1])
        if base.t and base.t[0] == "ext" and base.t[1].rpartition(".")[2] in _THROUGH:
            return Value(
                self.annotated(expression)
            )  # an alias: SessionDep = Annotated[Session, Depends(...)]
        index = self.expression(expression[2]) if expression[2] is not None else UNKNOWN
        t = base.t
        origins = base.o | index.o
        if t is None:
            return Value(None, origins)
        sliced = bool(index.t and index.t[0] == "slice")
        if t[0] == "lib":
            kind = self.libraries.types.get(t[1])
            if sliced:
                return Value((*t[:3], t[3] | {"limited"} if index.t[1] else t[3], t[4]), origins)
            if kind is not None and kind.iterate is not None and t[3] is not None:
                once = Operation(kind.iterate.kind, kind.iterate.traits | {"one"}, kind.iterate.gives)
                place = self.place(expression[3])
                return self.operate(once, "[]", base, [], {}, place, render(expression))
            return Value(None, origins)
        if t[0] == "list":
            return Value(t if sliced else t[1], origins)
        if t[0] == "dict":
            return Value(t[1], origins)
        if (
            t[0] == "tuple"
            and expression[2]
            and expression[2][0] == f.CONST
            and isinstance(expression[2][1], int)
            and -len(t[1]) <= expression[2][1] < len(t[1])
        ):
            return Value(t[1][expression[2][1]], origins)
        if t[0] == "rowvalue" and index.t and index.t[0] == "str":
            return Value(None, self.of_field(base.o, index.t[1]) | index.o)
        if t[0] == "cls":
            return Value(t, origins)  # Generic[...]
        return Value(None, origins)

    @staticmethod
    def of_field(origins: frozenset[Origin], field: str) -> frozenset[Origin]:
        return frozenset(
            Origin(o.read, o.target, o.parameter, field, o.loop, o.traits)
            if (o.read is not None or o.parameter >= 0) and not o.field
            else o
            for o in origins
        )

    # -------------------------------------------------------------------------------------- attributes

    def attribute(self, expression: Facts) -> Value:
        _, base_expression, name, place = expression
        base = self.expression(base_expression)
        self.here = place
        t = base.t
        if t is None:
            hinted = self.hinted(name)
            if hinted is not None:
                return Value(hinted, base.o)
            if not base.o:
                return UNKNOWN
            return Value(None, self.of_field(base.o, name))
        kind = t[0]
        if kind == "obj":
            return self.member(base, self.program.classes[t[1]], name, place, expression)
        if kind == "lib":
            return self.library_member(base, t, name)
        if kind == "mod":
            found = self.program.lookup(self.program.modules[t[1]], name)
            if found is None:
                below = f"{t[1]}.{name}"
                found = ("mod", below) if below in self.program.modules else None
            return Value(found) if found else UNKNOWN
        if kind == "ext":
            full = f"{t[1]}.{name}"
            named = self.libraries.names.get(full)
            if named == "DjangoConnection":
                return Value(("lib", named, None, NONE, None))
            return Value(("ext", full))
        if kind == "cls":
            return self.class_member(base, self.program.classes[t[1]], name)
        if kind == "fun":
            function = self.libraries.types.get("Function")
            if function is not None and name in function.methods:
                return Value(
                    ("op", function.methods[name], ("name", self.program.functions[t[1]].name), name)
                )
            return UNKNOWN
        if kind == "col":
            return Value(("colmethod", t[1], t[2], name), base.o)
        if kind in ("list", "dict"):
            return Value(("listmethod", name, t), base.o)
        if kind == "const" or kind == "str":
            return Value(("listmethod", name, t), base.o)
        if kind == "rowvalue":
            return Value(None, self.of_field(base.o, name))
        if kind == "super":
            return self.super_member(base, t, name)
        return Value(None, base.o)

    def super_member(self, base: Value, t: Type, name: str) -> Value:
        klass = self.program.classes[t[1]]
        for one in self.program.ancestry(klass)[0][1:]:
            if name in one.methods:
                return Value(("fun", one.methods[name], t[2]), base.o)
        library = self.program.library_type(klass)
        if library is not None:
            return self.library_member(
                Value(("lib", library, None, NONE, None), base.o), ("lib", library, None, NONE, None), name
            )
        models = self.program.models_of(klass)
        if models is not None and name in models.methods:
            return Value(("op", models.methods[name], ("obj", klass.id, NONE), name), base.o)
        return UNKNOWN

    def library_member(self, base: Value, t: Type, name: str) -> Value:
        if t[4] is not None:
            klass = self.program.classes[t[4]]
            method = self.method(klass, name)
            if method is not None:
                if method.decorated & _PROPERTY:
                    return self.invoke([method], base, [], {}, method.location)
                return Value(("fun", method.id, t), base.o)
            found = self.instance_attribute(klass, name)
            if found is not None:
                return Value(found, base.o)
        kind = self.libraries.types.get(t[1])
        if kind is None:
            return UNKNOWN
        operation = kind.methods.get(name)
        if operation is not None:
            return Value(("op", operation, t, name), base.o)
        if name in kind.attributes:
            return Value(self.named(kind.attributes[name], t), base.o)
        if "*" in kind.methods:
            return Value(("op", kind.methods["*"], t, name), base.o)
        if "*" in kind.attributes:
            return Value(self.named(kind.attributes["*"], t), base.o)
        hinted = self.hinted(name)
        return Value(hinted, base.o)

    def class_member(self, base: Value, klass: Class, name: str) -> Value:
        method = self.method(klass, name)
        if method is not None:
            bound = ("cls", klass.id) if "classmethod" in method.decorated else None
            return Value(("fun", method.id, bound), base.o)
        models = self.program.models_of(klass)
        if models is not None:
            for one in self.program.ancestry(klass)[0]:
                if name in one.attributes:
                    value, annotation, _ = one.attributes[name]
                    found = self.program.evaluate_at(one.module, value, None) if value else None
                    if found and found[0] == "lib" and found[1] in ("Manager", "QuerySet", "UserManager"):
                        return Value(
                            ("lib", found[1], klass.id, found[3] | self.custom_loads(found, klass), found[4])
                        )
                    return Value(("col", klass.id, name))
            if self.program.relation(klass, name):
                return Value(("col", klass.id, name))
            if name in models.managers:
                kind = models.managers[name]
                if kind == "Query":
                    return Value(("lib", kind, klass.id, frozenset({"autobegin"}), None))
                return Value(("lib", kind, klass.id, NONE, None))
            if name in ("DoesNotExist", "MultipleObjectsReturned"):
                return UNKNOWN
            return Value(("col", klass.id, name)) if models.pending else UNKNOWN
        library = self.program.library_type(klass)
        if library is not None and name in self.libraries.types[library].methods:
            made = ("lib", library, None, NONE, klass.id)
            return Value(("op", self.libraries.types[library].methods[name], made, name), base.o)
        if name in klass.nested:
            return Value(("cls", klass.nested[name]))
        for one in self.program.ancestry(klass)[0]:
            if name in one.nested:
                return Value(("cls", one.nested[name]))
            if name in one.attributes:
                value, annotation, _ = one.attributes[name]
                return Value(self.program.evaluate_at(one.module, value, annotation) or ("const",))
        return UNKNOWN

    def custom_loads(self, manager: Type, klass: Class) -> frozenset[str]:
        """Relations that a manager of the program always loads along, by its `get_queryset`."""
        if manager[4] is None:
            return NONE
        method = self.method(self.program.classes[manager[4]], "get_queryset")
        if method is None:
            return NONE
        gives = self.all.function(method).gives
        return gives[3] if gives and gives[0] == "lib" else NONE

    def method(self, klass: Class, name: str) -> Function | None:
        for one in self.program.ancestry(klass)[0]:
            if name in one.methods:
                return self.program.functions[one.methods[name]]
        return None

    def member(self, base: Value, klass: Class, name: str, place: Any, expression: Facts) -> Value:
        """An attribute of an instance."""
        models = self.program.models_of(klass)
        t = base.t
        if models is not None:
            relation = self.program.relation(klass, name)
            if relation is not None:
                return self.follow(base, relation, models, place, expression)
        method = self.method(klass, name)
        if method is not None:
            if method.decorated & _PROPERTY:
                return self.property(method, base, name, place)
            return Value(("fun", method.id, t), base.o)
        if models is not None:
            if name in models.methods:
                return Value(("op", models.methods[name], t, name), base.o)
            if name.endswith("_set") and models.reverse:
                return Value(None, base.o)
            return Value(None, self.of_field(base.o, name))
        found = self.instance_attribute(klass, name)
        if found is None and name == "get_object":
            return self.object_of_view(klass, base)
        if found is None:
            found = self.hinted(name)
        if found is None and base.o:
            return Value(None, self.of_field(base.o, name))
        return Value(found, base.o)

    def property(self, method: Function, base: Value, name: str, place: Any) -> Value:
        """A property of an instance; a prefetch may have put rows in its stead (``to_attr``)."""
        traits: frozenset[str] = base.t[2]
        if f"loads:{name}" in traits:
            _, found = self.inside(lambda: self.invoke([method], base, [], {}, self.place(place)))
            if found.t and found.t[0] == "lib":
                return Value(
                    (*found.t[:3], found.t[3] | {"related", "prefetched", "known"}, found.t[4]), found.o
                )
            return Value(found.t, found.o)
        found = self.invoke([method], base, [], {}, self.place(place))
        if found.t and found.t[0] == "lib" and "known" not in traits:
            return Value((*found.t[:3], (found.t[3] - {"known"}) | {f"relation:{name}"}, found.t[4]), found.o)
        return Value(found.t, found.o)

    def object_of_view(self, klass: Class, base: Value) -> Value:
        """``self.get_object()`` of a class-based view: one row of the view's queryset or model, without a lock."""
        own = self.method(klass, "get_queryset")
        rows = self.all.function(own).gives if own is not None else self.instance_attribute(klass, "queryset")
        if rows is None:
            model = self.instance_attribute(klass, "model")
            rows = ("lib", "QuerySet", model[1], NONE, None) if model and model[0] == "cls" else None
        if rows is None or rows[0] != "lib" or "get" not in self.libraries.types[rows[1]].methods:
            return Value(None, base.o)
        return Value(("op", self.libraries.types[rows[1]].methods["get"], rows, "get"), base.o)

    def instance_attribute(self, klass: Class, name: str) -> Type:
        if name in klass.members:
            return klass.members[name]
        klass.members[name] = None
        found: Type = None
        for one in self.program.ancestry(klass)[0]:
            if name in one.attributes:
                value, annotation, _ = one.attributes[name]
                found = self.program.evaluate_at(one.module, value, annotation)
                if found and found[0] == "cls" and annotation is None:
                    pass
                if found is not None and found[0] != "const":
                    break
            assigned = self.program.assignments(one)
            if name in assigned:
                value, function_id = assigned[name]
                found = self.in_method(value, self.program.functions[function_id])
                if found is not None:
                    break
        klass.members[name] = found
        return found

    def in_method(self, value: Facts, function: Function) -> Type:
        """Type of an expression in terms of a method's parameters."""
        body = Body(self.all, function.module, function)
        for index, (name, annotation, default, kind) in enumerate(function.parameters):
            body.names[name] = body.parameter(index, name, annotation, default, kind)
        if self.all.depth > DEEPEST:
            return None
        self.all.depth += 1
        try:
            return body.expression(value).t
        finally:
            self.all.depth -= 1

    def is_async(self) -> bool:
        """Whether the function works with an async session."""
        return any(v.t and v.t[0] == "lib" and v.t[1] == "AsyncSession" for v in self.names.values())

    def follow(self, base: Value, relation: Relation, models: Any, place: Any, expression: Facts) -> Value:
        """``row.relation``: what it gives, and the query it costs unless it is loaded already."""
        traits: frozenset[str] = base.t[2]
        loaded = (
            f"loads:{relation.name}" in traits or "loads:*" in traits or relation.eager or "new" in traits
        )
        # An async session loads nothing by being looked at: such rows came with it, or were never stored.
        loaded = loaded or (models.pending and self.is_async())
        kept = frozenset(x for x in traits if x.startswith("loads:") or x in ("known", "async"))
        if relation.kind == "many" and models.many != "rows":
            extra = {"related", f"relation:{relation.name}", *(("prefetched",) if loaded else ())}
            extra |= {x for x in traits if x.startswith("from:")}
            target = relation.target or None
            back = self.program.relation(self.program.classes[target], relation.back) if target else None
            if back is not None and back.kind == "one":
                extra |= {f"loads:{relation.back}", f"back:{relation.back}"}
            manager = None
            if target:
                found = self.class_member(UNKNOWN, self.program.classes[target], "objects").t
                manager = found[4] if found and found[0] == "lib" else None
            return Value(("lib", models.many, target, kept | extra, manager), base.o)
        where = self.place(place)
        if relation.kind == "one":
            if models.pending and _all_of_one(base.o, relation.name):
                base = Value(base.t, frozenset(o for o in base.o if o.loop is None))
            base = Value(base.t, self.of_field(base.o, relation.name))
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
            target = self.program.title(relation.target) or relation.name
            self.do(Kind.READ, target, render(expression), place, base.o, words)
            read = Origin(where, self.program.title(relation.target), traits=frozenset({relation.kind}))
            origins = base.o | {read}
        else:
            origins = base.o
        if f"back:{relation.name}" in traits:
            # Back to the row whose relation is walked: the same one in every turn.
            origins = frozenset(o for o in origins if o.loop is None)
        return Value(("list", inner) if relation.kind == "many" else inner, origins)

    # -------------------------------------------------------------------------------------------- calls

    def call(self, expression: Facts) -> Value:
        _, function, arguments, _, place = expression
        if function is None:
            for part in arguments:
                self.expression(part)
            return UNKNOWN
        if function[0] == f.ATTR and function[2] in ("add", "setdefault", "set") and arguments:
            self.fill(function[1])
        if last_name(function) in ("get_model", "get_class", "get_user_model"):
            named_model = self.model_by_name(expression)
            if named_model is not None:
                return named_model
        if function[0] == f.NAME and function[1] not in self.names:
            built_in = self.built_in(function[1], expression)
            if built_in is not None:
                return built_in
        callee = self.expression(function)
        t = callee.t
        if t is not None:
            kind = t[0]
            if kind == "op":
                return self.call_operation(t[1], t[3], callee, t[2], expression)
            if kind == "ext":
                operation = self.libraries.function(t[1])
                if operation is not None:
                    return self.call_operation(operation, t[1], UNKNOWN, ("name", t[1]), expression)
                named = self.libraries.names.get(t[1])
                if named is not None:
                    return self.construct_library(named, None, expression)
                return self.unknown_call(t[1], callee, expression)
            if kind == "lib":
                library = self.libraries.types.get(t[1])
                if library is not None and library.call is not None:
                    self.arguments(expression)
                    return Value(self.named(library.call.gives, t), callee.o)
        values, named_values = self.arguments(expression)
        where = self.place(place)
        if t is None:
            joined = callee.o | _origins(values) | _origins(named_values.values())
            return self.unresolved(function, callee, values, joined)
        if t[0] == "fun":
            target = self.program.functions[t[1]]
            receiver = Value(t[2], callee.o) if t[2] is not None else None
            return self.invoke([target], receiver, values, named_values, where)
        if t[0] == "cls":
            return self.construct(self.program.classes[t[1]], values, named_values, where, expression)
        if t[0] == "lam":
            return self.run_lambda(t, values)
        if t[0] == "obj":
            method = self.method(self.program.classes[t[1]], "__call__")
            if method is not None:
                return self.invoke([method], callee, values, named_values, where)
        if t[0] == "colmethod":
            return self.column_method(t, values)
        if t[0] == "listmethod":
            return self.list_method(t, callee, values, function)
        return Value(None, callee.o | _origins(values) | _origins(named_values.values()))

    def model_by_name(self, expression: Facts) -> Value | None:
        """``get_model("app", "Model")`` and ``get_user_model()`` of Django."""
        texts = [
            part[1] for part in expression[2] if part and part[0] == f.CONST and isinstance(part[1], str)
        ]
        if last_name(expression[1]) == "get_user_model":
            texts = [self.program.user_model]
        found = self.program.find_class(".".join(texts[:2]), self.module) if texts and texts[0] else ""
        return Value(("cls", found)) if found else None

    def column_method(self, t: Type, values: list[Value]) -> Value:
        if t[3] in ("label", "asc", "desc"):
            return Value(("col", t[1], t[2]), _origins(values))
        # `~` marks a condition that several values meet.
        return Value(("cond", frozenset([t[2], f"{t[2]}~"])), _origins(values))

    def list_method(self, t: Type, callee: Value, values: list[Value], function: Facts) -> Value:
        name, kind = t[1], t[2]
        joined = callee.o | _origins(values)
        if name in ("append", "add", "appendleft", "extend", "insert", "update") and values:
            item = values[-1].t
            if name in ("extend", "update"):
                item = item[1] if item and item[0] == "list" else None
            receiver = function[1]
            if receiver and receiver[0] == f.NAME and receiver[1] in self.names:
                inner = item if kind[0] != "list" or kind[1] is None else kind[1]
                outer = frozenset(o for o in joined if o.loop is None)
                self.names[receiver[1]] = Value(("list", inner) if kind[0] != "dict" else kind, outer)
            return UNKNOWN
        if kind[0] == "dict":
            if name in ("get", "pop", "setdefault"):
                return Value(kind[1], joined)
            if name == "items":
                return Value(("list", ("tuple", (None, kind[1]))), joined)
            if name == "values":
                return Value(("list", kind[1]), joined)
            if name == "keys":
                return Value(("list", None), joined)
        if kind[0] == "list" and name in ("pop", "popleft"):
            return Value(kind[1], joined)
        if name == "copy":
            return Value(kind, joined)
        if kind[0] in ("const", "str") and name in ("items", "keys", "values", "split"):
            return Value(("const",), joined)
        if kind[0] == "str" and name in ("format", "strip", "replace", "lower", "upper", "join"):
            return Value(kind if name in ("format", "strip") else None, joined)
        return Value(None, joined)

    def unresolved(
        self, function: Facts, callee: Value, values: list[Value], joined: frozenset[Origin]
    ) -> Value:
        """A call of something unknown: what may be said by the method's name alone."""
        if function[0] == f.ATTR:
            name = function[2]
            kind = self.libraries.types.get("Function")
            if name in ("select_related", "prefetch_related"):
                # Of rows that are not known: remembered by the relations' names.
                self.loads(values, {}, set())
            if kind is not None and name in ("delay", "apply_async", "delay_on_commit") and function[1]:
                self.do(
                    Kind.SEND, last_name(function[1]), f"{render(function)}(…)", function[3], joined, set()
                )
                return UNKNOWN
            if name in ("append", "add", "extend") and function[1] and function[1][0] == f.NAME:
                receiver = function[1][1]
                if receiver in self.names and values:
                    outer = frozenset(o for o in joined if o.loop is None)
                    self.names[receiver] = Value(("list", values[-1].t if name != "extend" else None), outer)
        return Value(None, joined)

    def unknown_call(self, full: str, callee: Value, expression: Facts) -> Value:
        """A call of something outside the program that no table knows."""
        values, named = self.arguments(expression)
        last = full.rpartition(".")[2]
        if full.endswith(("post_migrate.connect", "pre_migrate.connect")):
            self.program.by_hand |= {value.t[1] for value in values if value.t and value.t[0] == "fun"}
        if last == "from_queryset" and values and values[0].t and values[0].t[0] == "cls":
            return Value(values[0].t)
        if last == "declarative_base" or last == "registry":
            return Value(("ext", "sqlalchemy.orm.DeclarativeBase"))
        if (
            full in ("copy.copy", "copy.deepcopy", "typing.cast", "itertools.chain", "itertools.islice")
            and values
        ):
            return values[-1] if last == "cast" else values[0]
        if full == "typing.cast":
            return Value(self.annotated(expression[2][0]), _origins(values))
        if full.startswith("asyncio.") and last in ("gather", "wait_for", "shield", "wait", "run") and values:
            return Value(values[0].t if last != "gather" else None, _origins(values))
        changed = last in ("lower", "upper", "trim", "coalesce") and ".func." in full
        if changed and values and values[0].t and values[0].t[0] == "col":
            return values[0]  # compared without regard to case: still that column
        if full == "collections.defaultdict":
            return Value(("dict", ("list", None)), NONE)
        return Value(None, _origins(values) | _origins(named.values()))

    def arguments(self, expression: Facts) -> tuple[list[Value], dict[str, Value]]:
        values = [self.expression(part) for part in expression[2]]
        named = {}
        for name, part in expression[3]:
            value = self.expression(part)
            named[name or "**"] = value
        if any(part and part[0] == f.STAR for part in expression[2]):
            named.setdefault("**", UNKNOWN)
        return values, named

    def built_in(self, name: str, expression: Facts) -> Value | None:
        arguments = expression[2]
        if name == "super" and self.function is not None and self.function.klass is not None:
            klass = self.function.klass
            me = self.function.parameters[0][0] if self.function.parameters else "self"
            receiver = self.names.get(me, UNKNOWN)
            return Value(("super", klass.id, receiver.t), receiver.o)
        if name in _SAME and arguments:
            where = self.place(expression[4])
            value = self.expression(arguments[0])
            for _, keyword in expression[3]:
                found = self.expression(keyword)
                self.each(found, value, arguments[0], where)
            if value.t and value.t[0] == "lib":
                item, _ = self.item(value, arguments[0], where)
                origins = item.o
                return Value(("list", item.t), origins)
            if value.t and value.t[0] == "tuple":
                return value
            if value.t and value.t[0] == "list":
                return value
            return Value(value.t if value.t and value.t[0] in ("const",) else ("list", None), value.o)
        if name in _APPLY and len(arguments) >= 2:
            where = self.place(expression[4])
            function = self.expression(arguments[0])
            value = self.expression(arguments[1])
            result = self.each(function, value, arguments[1], where)
            return Value(("list", result.t if name == "map" else None), value.o)
        if name in _SCALARS and arguments:
            value = self.expression(arguments[0])
            where = self.place(expression[4])
            for keyword_name, keyword in expression[3]:
                found = self.expression(keyword)
                if keyword_name == "key":
                    self.each(found, value, arguments[0], where)
            others = [self.expression(part) for part in arguments[1:]]
            item = UNKNOWN
            if value.t and value.t[0] == "lib":
                item, _ = self.item(value, arguments[0], where)
                value = Value(None, value.o | item.o)
            elif value.t and value.t[0] == "list":
                item = Value(value.t[1])
            if name in ("next", "anext", "min", "max"):
                return Value(item.t, value.o | _origins(others))
            return Value(
                ("const",) if name in ("len", "int", "bool") and not value.o else None,
                value.o | _origins(others),
            )
        if name == "getattr" and len(arguments) >= 2:
            values = [self.expression(part) for part in arguments]
            if (
                arguments[1]
                and arguments[1][0] == f.CONST
                and isinstance(arguments[1][1], str)
                and arguments[0]
            ):
                return self.attribute((f.ATTR, arguments[0], arguments[1][1], expression[4]))
            return Value(None, _origins(values))
        if name in ("dict",) and not arguments:
            values, named = self.arguments(expression)
            return Value(("dict", None), _origins(named.values()))
        if name in (
            "print",
            "isinstance",
            "hasattr",
            "repr",
            "id",
            "type",
            "range",
            "enumerate",
            "zip",
            "abs",
            "round",
        ):
            values, named = self.arguments(expression)
            constant = name == "range" and not _origins(values)
            return Value(("const",) if constant else None, _origins(values))
        return None

    def each(self, function: Value, values: Value, expression: Facts, where: Location) -> Value:
        """Run `function` for each item of `values`."""
        if not (function.t and function.t[0] in ("lam", "fun")):
            return UNKNOWN
        item, bound = self.item(values, expression, where)
        turned = Value(item.t, item.o | {Origin(loop=where)})

        def walk() -> Value:
            if function.t[0] == "lam":
                return self.run_lambda(function.t, [turned])
            return self.invoke([self.program.functions[function.t[1]]], None, [turned], {}, where)

        tree, result = self.inside(walk)
        if not _empty(tree):
            self.out.append(Loop(tree, where, values.o, bound, f"for each of {render(expression) or '…'}"))
        return result

    def run_lambda(self, t: Type, values: list[Value]) -> Value:
        expression, names, owner = self.all._lambdas[t[1]]
        outer, self.names = self.names, dict(names)
        outer_module, self.module = self.module, owner.module
        try:
            for index, (name, _, default, _) in enumerate(expression[1]):
                if index < len(values):
                    self.names[name] = values[index]
                else:
                    self.names[name] = self.expression(default) if default else UNKNOWN
            return self.expression(expression[2])
        finally:
            self.names, self.module = outer, outer_module

    def construct(
        self, klass: Class, values: list[Value], named: dict[str, Value], where: Location, expression: Facts
    ) -> Value:
        origins = _origins(values) | _origins(named.values())
        if self.program.models_of(klass) is not None:
            return Value(("obj", klass.id, frozenset({"loads:*", "new"})), origins)
        library = self.program.library_type(klass)
        init = self.method(klass, "__init__")
        if library is not None and self.libraries.types[library].methods:
            if init is not None:
                self.invoke([init], Value(("lib", library, None, NONE, klass.id)), values, named, where)
            return Value(("lib", library, None, NONE, klass.id), origins)
        made = Value(("obj", klass.id, NONE), origins)
        if init is not None:
            self.invoke([init], made, values, named, where)
        return made

    def construct_library(self, name: str, klass: str | None, expression: Facts) -> Value:
        kind = self.libraries.types[name]
        made = ("lib", name, None, NONE, klass)
        if kind.new is not None and kind.new.runs:
            self.call_operation(kind.new, name, UNKNOWN, made, expression)
            return Value(made)
        values, _ = self.arguments(expression)
        if kind.new is not None and kind.new.model >= 0:
            made = ("lib", name, self.model_of(values, kind.new.model, set()), NONE, klass)
        return Value(made, _origins(values))

    def invoke(
        self,
        functions: list[Function],
        receiver: Value | None,
        values: list[Value],
        named: dict[str, Value],
        where: Location,
    ) -> Value:
        """A call of functions of the program."""
        function = functions[0]
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
                self.learn(function, position, value)
        for name, value in named.items():
            found = positions.get(name)
            if found is None:
                found = next((i for i, p in enumerate(parameters) if p[3] == "**"), None)
            if found is not None:
                arguments[found] |= value.o
                passed[found] = value
                self.learn(function, found, value)
        self.all.function(function)
        known = self.known(parameters, passed, "**" in named)
        # A method may be overridden: all versions below the receiver's class may run.
        self.out.append(Invoke((function.id,), where, tuple(arguments), known))
        for value in (*values, *named.values()):
            self.handed(value, where)
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
                                    inner.read,
                                    inner.target,
                                    inner.parameter,
                                    origin.field,
                                    None,
                                    inner.traits,
                                )
                            )
                        else:
                            origins.add(inner)
            elif origin.loop is None:
                origins.add(origin)
        gives = function.gives
        if function.decorated & _MANAGERS:
            return Value(("manager", function.id), frozenset(origins))
        asked = receiver.t if receiver is not None else None
        if gives and gives[0] == "lib" and gives[2] is None and not (asked and asked[0] == "lib"):
            # A helper that is handed a query or the class: what it gives is about the same rows.
            known_types = [v.t for v in passed.values() if v.t]
            queries = [t for t in known_types if t[:2] == gives[:2]]
            rows = {t[1] for t in known_types if t[0] == "cls" and self.program.is_row(t[1])}
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

    def known(
        self, parameters: Facts, passed: dict[int, Value], more: bool
    ) -> tuple[tuple[int, str | int], ...]:
        """What is known of the arguments of a call; `more` where not all of them are told (``*a, **k``)."""
        own = {id(value): position for position, value in self.own.values()}
        found: list[tuple[int, str | int]] = []
        for position, (_, _, default, kind) in enumerate(parameters):
            value = passed.get(position)
            if value is None:
                if default is not None and default[0] == f.CONST and not more:
                    one = default[1]
                    found.append((position, "none" if one is None else "true" if one else "false"))
            elif kind not in ("*", "**"):
                if id(value) in own:
                    found.append((position, own[id(value)]))
                elif value.t in (("const", "none"), ("const", "true"), ("const", "false")):
                    found.append((position, value.t[1]))
                else:
                    found.append((position, "some"))
        return tuple(found)

    def handed(self, value: Value, where: Location) -> None:
        """A function of the program handed to another one: nothing is known of when it runs."""

    def learn(self, function: Function, position: int, value: Value) -> None:
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
            joined = _join([Value(old), Value(t)]).t
            if joined is not None:
                function.learned[position] = _both_known(joined, old, t)

    # --------------------------------------------------------------------------------------- operations

    def call_operation(
        self, operation: Operation, name: str, callee: Value, receiver: Type, expression: Facts
    ) -> Value:
        """A call that a library table describes."""
        _, function, _, _, place = expression
        where = self.place(place)
        shown = render(expression)
        if operation.runs:
            return self.run_argument(operation, callee, expression, where, shown)
        values, named = self.arguments(expression)
        base = Value(receiver if receiver and receiver[0] != "name" else None, callee.o)
        if operation.kind in (Kind.CALL, Kind.SEND, Kind.BLOCK) and receiver and receiver[0] == "name":
            base = Value(receiver, callee.o)
        row_name = (
            function[1][1] if function[0] == f.ATTR and function[1] and function[1][0] == f.NAME else ""
        )
        return self.operate(operation, name, base, values, named, where, shown, row_name)

    def run_argument(
        self, operation: Operation, callee: Value, expression: Facts, where: Location, shown: str
    ) -> Value:
        number, how = operation.runs[0]
        if operation.kind is not None:
            self.out.append(Do(Effect(operation.kind, "", shown, where)))
        arguments = list(expression[2])
        keywords = dict(expression[3])
        run = arguments[number] if number < len(arguments) else keywords.get("target") or keywords.get("func")
        rest = [a for i, a in enumerate(arguments) if i > number]
        if how == "later":
            for part in arguments:
                self.expression(part)
            return UNKNOWN

        def walk() -> Value:
            function = self.expression(run) if run is not None else UNKNOWN
            values = [self.expression(part) for part in rest]
            if function.t and function.t[0] == "fun":
                target = self.program.functions[function.t[1]]
                receiver = Value(function.t[2], function.o) if function.t[2] is not None else None
                return self.invoke([target], receiver, values, {}, where)
            if function.t and function.t[0] == "lam":
                return self.run_lambda(function.t, values)
            if function.t and function.t[0] == "op":
                return self.operate(
                    function.t[1], function.t[3], Value(function.t[2], function.o), values, {}, where, shown
                )
            if function.t and function.t[0] == "ext" and function.t[1] in self.libraries.functions:
                inner = self.libraries.functions[function.t[1]]
                return self.operate(
                    inner, function.t[1], Value(("name", function.t[1])), values, {}, where, shown
                )
            return function

        tree, result = self.inside(walk)
        if _empty(tree):
            return result
        if how == "now":
            self.out.append(tree)
            return result
        self.out.append(Scope(how, tree, where, shown))
        return result if how == "transaction" else UNKNOWN

    def operate(
        self, operation: Operation, name: str, base: Value, values: list[Value], named: dict[str, Value],
        where: Location, shown: str, row_name: str = "",
    ) -> Value:  # fmt: skip
        """The effect of an operation and the value it gives."""
        t = base.t
        receiver_traits: frozenset[str] = t[3] if t and t[0] == "lib" else NONE
        model = t[2] if t and t[0] == "lib" else t[1] if t and t[0] == "obj" else None
        traits = set(receiver_traits | operation.traits)
        origins = _origins(values) | _origins(named.values()) | base.o
        kind = operation.kind
        if operation.model >= 0:
            model = self.model_of(values, operation.model, traits) or model
        if operation.where:
            self.conditions(values[1 if operation.model >= 0 else 0 :], named, traits)
        if operation.sets:
            self.sets(values, named, traits)
        if operation.loads:
            self.loads(values, named, traits)
        elif kind is Kind.READ or operation.statement >= 0:
            options = {key: part for key, part in named.items() if key in ("options", "load")}
            if options:
                self.loads([], options, traits)
        gives = operation.gives
        if "limited" in operation.traits and not (values and values[-1].t == ("const", "few")):
            traits.discard("limited")
        # A relation that was prefetched is looked at without a query, as long as it is not narrowed.
        if "related" in receiver_traits and name not in ("all", "iterate", "[]"):
            traits.add("known")  # narrowed, it is a query of its own, whatever was loaded before
        if "prefetched" in receiver_traits:
            if kind is None and name != "all":
                traits.discard("prefetched")
            elif kind is Kind.READ and name in ("iterate", "count", "exists", "first", "last", "[]"):
                kind = None
        if operation.statement >= 0 and operation.statement < len(values):
            statement = values[operation.statement]
            st = statement.t
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
                kind, model = self.sql(st[1], traits)
            elif st is None or st[0] in ("op", "obj"):
                kind = Kind.READ if "one" in operation.traits else None
                traits.add("unresolved")
        elif operation.sql >= 0 and operation.sql < len(values):
            text = values[operation.sql].t
            if text and text[0] == "str":
                kind, model = self.sql(text[1], traits)
            elif text and text[0] == "lib" and text[1] in _STATEMENTS_OF:
                kind, model = _STATEMENTS_OF[text[1]], text[2]
                traits |= text[3]
        if operation.adds >= 0 and operation.adds < len(values):
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
            elif "delete" in traits:
                kind = Kind.WRITE
                traits.add("pending")
            else:
                traits.add("pending")
                kind = Kind.WRITE
        if operation.kind is Kind.WRITE and "row" in traits and t and t[0] == "obj":
            klass = self.program.classes[t[1]]
            if "new" in t[2]:
                traits.add("insert")
            fields, written = self.assigned.get(row_name, (set(), NONE))
            traits |= fields
            for part in named.values():
                if part.t and part.t[0] == "tuple":
                    traits |= {f"set:{x[1]}" for x in part.t[1] if x and x[0] == "str"}
            origins |= written
            traits |= self.version(klass)
        target = ""
        if kind in (Kind.CALL, Kind.SEND, Kind.BLOCK):
            index = operation.target
            text = values[index].t if 0 <= index < len(values) else None
            target = _host(text[1]) if text and text[0] == "str" else ""
            if not target and t and t[0] == "name":
                target = str(t[1])
        elif model is not None:
            target = self.program.title(model)
        isolation = named.get("isolation") or named.get("isolation_level")
        strict = bool(
            isolation and isolation.t and isolation.t[0] == "str" and "SERIALIZABLE" in isolation.t[1].upper()
        )
        if operation.scope:
            inner = self.named(gives, t)
            return Value(("ctx", operation.scope, inner, where, ("serializable",) if strict else ()), origins)
        if strict:
            self.program.serializable = True
        lock = named.get("with_for_update")
        if kind is Kind.READ and lock is not None and lock.t not in (("const", "false"), ("const", "none")):
            traits.add("locks-rows")
        result_origins = origins
        if kind is not None:
            self.do(
                kind,
                target,
                shown,
                (where.line, where.column, where.end_line, where.end_column),
                origins,
                traits,
            )
            if kind is Kind.READ or (kind is Kind.WRITE and gives in ("scalar", "pair", "fetched", "row")):
                words = frozenset(
                    x for x in traits
                    if x in _OF_THE_READ
                    or x.startswith(("where:", "reads:"))
                )  # fmt: skip
                if kind is Kind.WRITE:
                    words |= {"outcome"}
                result_origins = _selects(origins) | {Origin(where, target, traits=words)}
        return self.given(gives, t, model, traits, values, result_origins)

    def given(
        self,
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
            if model in self.program.classes:
                kept = {x for x in traits if x.startswith(("loads:", "back:"))}
                if "elsewhere" in traits:
                    pass
                elif "related" not in traits or "known" in traits:
                    kept.add("known")
                else:  # the rows may have come along with one from elsewhere
                    kept |= {f"from:{x[9:]}" for x in traits if x.startswith("relation:")}
                if t and t[0] == "lib" and t[1].startswith("Async"):
                    kept.add("async")
                if "async" in traits:
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
            row = ("obj", model, frozenset({"known", "loads:*"})) if model in self.program.classes else None
            return Value(("tuple", (row, None)), origins)
        if gives == "mapping":
            row = ("obj", model, frozenset({"known"})) if model in self.program.classes else None
            return Value(("dict", row), origins)
        if gives == "scalar":
            return Value(None, origins)
        if gives.isdigit():
            index = int(gives)
            return Value(values[index].t if index < len(values) else None, origins)
        if gives in self.libraries.types:
            of_query = frozenset(x for x in traits if x != "pending")
            if t and t[0] == "lib" and t[1].startswith("Async"):
                of_query |= {"async"}
            return Value(("lib", gives, model, of_query, None), origins)
        return Value(None, origins)

    def named(self, gives: str, t: Type) -> Type:
        if gives == "self":
            return t
        if gives == "rows" and t and t[0] == "lib":
            row = None
            if t[2] in self.program.classes:
                row = (
                    "obj",
                    t[2],
                    frozenset({x for x in t[3] if x.startswith("loads:") or x == "async"} | {"known"}),
                )
            return ("list", row)
        if gives in self.libraries.types:
            return ("lib", gives, t[2] if t and t[0] == "lib" else None, NONE, None)
        return None

    def model_of(self, values: list[Value], number: int, traits: set[str]) -> Any:
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

    def conditions(self, values: list[Value], named: dict[str, Value], traits: set[str]) -> None:
        for value in values:
            if value.t and value.t[0] == "cond":
                traits |= {f"where:{name}" for name in value.t[1]}
            elif value.t and value.t[0] == "lib":
                traits |= {x for x in value.t[3] if x.startswith("where:")}
        traits |= {
            f"where:{name.partition('__')[0]}"
            for name in named.keys() - {"defaults", "**", "queryset", "to_attr"}
        }

    def sets(self, values: list[Value], named: dict[str, Value], traits: set[str]) -> None:
        for name, value in named.items():
            if name in ("defaults", "**"):
                continue
            traits.add(f"set:{name}")
            if not value.o and value.t and value.t[0] in ("str", "const"):
                traits.add("constant")
            if value.t and (value.t[0] in ("col", "cond") or value.t[:2] == ("lib", "Expression")):
                traits.add("in-database")

    def loads(self, values: list[Value], named: dict[str, Value], traits: set[str]) -> None:
        empty = True
        attribute = named.get("to_attr")
        if attribute is not None and attribute.t and attribute.t[0] == "str":
            traits.add(f"loads:{attribute.t[1]}")
            self.program.loaded_names.add(attribute.t[1])
        for value in (*values, *(v for k, v in named.items() if k in ("queryset", "load", "options"))):
            if value.t is None:
                empty = False
                traits.add("loads:*")  # a list of names worked out elsewhere: rather quiet than wrong
            elif value.t[0] == "str":
                empty = False
                parts = value.t[1].split("__")
                for part in parts:
                    traits.add(f"loads:{part}")
                    self.program.loaded_names.add(part)
                self.program.loaded_pairs.update(pairwise(parts))
                inner = named.get("queryset") or (values[1] if len(values) == 2 else None)
                if inner is not None and inner.t and inner.t[0] == "lib" and inner.t[1] in _QUERYSETS:
                    below = [x[6:] for x in inner.t[3] if x.startswith("loads:")]
                    self.program.loaded_pairs.update((parts[-1], x) for x in below)
                if value.t[1] == "*":
                    traits.add("loads:*")
            elif value.t[0] == "col":
                empty = False
                traits.add(f"loads:{value.t[2]}")
                self.program.loaded_names.add(value.t[2])
            elif value.t[0] == "lib":
                empty = False
                traits |= {x for x in value.t[3] if x.startswith("loads:")}
            elif value.t[0] in ("tuple", "list", "const"):
                empty = False
                several = value.t[1] if value.t[0] == "tuple" else ()
                if not several:
                    traits.add("loads:*")
                self.loads([Value(part) for part in several], {}, traits)
        if empty and not named:
            traits.add("loads:*")

    def sql(self, text: str, traits: set[str]) -> tuple[Kind | None, str]:
        statement = read_sql(text)
        traits |= statement.traits
        if statement.kind in (Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK):
            traits.discard("autobegin")
        return statement.kind, statement.table

    def do(
        self, kind: Kind, target: str, text: str, place: Any, uses: frozenset[Origin], traits: Iterable[str]
    ) -> None:
        where = place if isinstance(place, Location) else self.place(place)
        self.out.append(Do(Effect(kind, target, text, where), uses, frozenset(traits)))

    # --------------------------------------------------------------------------------------- annotations

    def annotated(self, annotation: Facts, depth: int = 0) -> Type:
        """The type that an annotation promises."""
        if not annotation or depth > 8:
            return None
        kind = annotation[0]
        if kind in (f.NAME, f.ATTR):
            found = (
                self.program.lookup(self.module, annotation[1])
                if kind == f.NAME
                else self.expression(annotation).t
            )
            if found is None and kind == f.NAME and annotation[1] in self.names:
                found = self.names[annotation[1]].t
            return self.instance_of(found)
        if kind == f.CONST and isinstance(annotation[1], str):
            name = annotation[1].strip()
            if name.isidentifier():
                return self.annotated((f.NAME, name), depth + 1)
            return None
        if kind == f.ANY:
            for part in annotation[1]:
                found = self.annotated(part, depth + 1)
                if found is not None:
                    return found
            return None
        if kind == f.SUB:
            outer = last_name(annotation[1])
            inner = annotation[2]
            parts = inner[1] if inner and inner[0] == f.ITEMS else (inner,)
            if outer in _CONTEXTS:
                entered = self.annotated(parts[0], depth + 1)
                return ("ctx", "session", entered, None, ()) if _is_session(entered) else None
            if outer in _THROUGH:
                for part in parts:
                    if part and part[0] == f.CALL and last_name(part[1]) in ("Depends", "Security"):
                        continue
                    found = self.annotated(part, depth + 1)
                    if found is not None:
                        return found
                for part in parts:
                    if (
                        part
                        and part[0] == f.CALL
                        and last_name(part[1]) in ("Depends", "Security")
                        and part[2]
                    ):
                        return self.given_by(part[2][0])
                return None
            if outer in _LISTS:
                return ("list", self.annotated(parts[0], depth + 1)) if parts else None
            if outer in ("dict", "Dict", "Mapping", "defaultdict", "MutableMapping"):
                return ("dict", self.annotated(parts[-1], depth + 1))
            if outer in ("type", "Type"):
                found = self.annotated(parts[0], depth + 1)
                return ("cls", found[1]) if found and found[0] == "obj" else None
            found = self.annotated(annotation[1], depth + 1)
            if found and found[0] == "lib" and found[2] is None and parts and parts[0]:
                model = self.annotated(parts[0], depth + 1)
                if model and model[0] == "obj":
                    return (*found[:2], model[1], found[3], found[4])
            return found
        return None

    def instance_of(self, found: Type) -> Type:
        if found is None:
            return None
        if found[0] == "cls":
            return self.instance(self.program.classes[found[1]])
        if found[0] == "ext":
            named = self.libraries.names.get(found[1])
            return ("lib", named, None, NONE, None) if named else None
        if found[0] in ("obj", "lib", "list", "dict"):
            return found  # an alias: SessionDep = Annotated[Session, Depends(...)]
        return None


class _Handled:
    __slots__ = ("names", "tree")

    def __init__(self, tree: Tree, names: frozenset[str]) -> None:
        self.tree = tree
        self.names = names


_OF_THE_READ = {"one", "locks-rows", "may-lock", "presence", "total", "columns", "limited", "lazy", "serializable",
                "identity"}  # fmt: skip
"""Traits of a query that its rows keep in their origin."""
_QUERYSETS = {"Manager", "UserManager", "QuerySet"}

_STATEMENTS_OF = {
    "Select": Kind.READ,
    "Query": Kind.READ,
    "Insert": Kind.WRITE,
    "Update": Kind.WRITE,
    "Delete": Kind.WRITE,
}


def _lost(function: Function, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"{function.name}() is nested more deeply than review follows"
    return f"{function.name}() could not be followed ({type(error).__name__}: {error}); please report it"


def _nested_in(program: Program, prefix: str) -> list[Function]:
    return [function for name, function in list(program.functions.items()) if name.startswith(prefix)]


def _exceptions(expression: Facts) -> frozenset[str]:
    if not expression:
        return frozenset({"*"})
    if expression[0] == f.ITEMS:
        return frozenset().union(*(_exceptions(part) for part in expression[1])) if expression[1] else NONE
    name = last_name(expression)
    return frozenset({name}) if name else NONE


def _is_session(t: Type) -> bool:
    return bool(t and t[0] == "lib" and t[1] in ("Session", "AsyncSession", "ScopedSession"))


def _all_of_one(origins: frozenset[Origin], relation: str) -> bool:
    """Whether rows were chosen by one value of the key behind `relation`: it leads all of them to one row."""
    key = f"where:{relation}_id"
    return any(o.read is not None and key in o.traits and f"{key}~" not in o.traits for o in origins)


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


def _empty(tree: Tree) -> bool:
    return isinstance(tree, Sequence) and not tree.items


def _origins(values: Iterable[Value]) -> frozenset[Origin]:
    found = NONE
    for value in values:
        if value.o:
            found = found | value.o if found else value.o
    return found


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


def _as_total(origin: Origin) -> Origin:
    return replace(origin, traits=origin.traits | {"total"}) if "presence" in origin.traits else origin


def _from_rows(origins: frozenset[Origin]) -> bool:
    return any(o.read is not None and not ({"one", "presence"} & o.traits) and not o.field for o in origins)


def _join(values: list[Value]) -> Value:
    """One value that may be any of several."""
    if len(values) == 1:
        return values[0]
    best: Type = None
    if len({value.t[1] for value in values if value.t and value.t[0] == "obj"}) > 2:
        return Value(None, _origins(values))  # one of many classes: better none than the first that comes
    for value in values:
        t = value.t
        if t is None or t[0] == "const":
            continue
        if best is None or best == ("list", None):
            best = t
        elif best != t and best[0] == t[0]:
            if best[0] == "obj" and best[1] == t[1]:
                best = ("obj", best[1], best[2] | t[2])
            elif best[0] == "lib" and (best[1] == t[1] or {best[1], t[1]} <= _QUERYSETS):
                best = ("lib", best[1], best[2] or t[2], _either(best[3], t[3]), best[4] or t[4])
            elif (
                best[0] == "list"
                and best[1]
                and t[1]
                and best[1][0] == t[1][0] == "obj"
                and best[1][1] == t[1][1]
            ):
                best = ("list", ("obj", best[1][1], best[1][2] | t[1][2]))
    return Value(best, _origins(values))


def _either(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """Traits of a query built in one of two ways. What only one of them locks, it may lock."""
    if ("locks-rows" in one) != ("locks-rows" in other):
        return ((one | other) - {"locks-rows"}) | {"may-lock"}
    return one | other


def _both_known(joined: Type, one: Type, other: Type) -> Type:
    """`joined` as rows whose query is in sight, only where that holds for both types it was made of."""
    if joined[0] == "list" and joined[1] and one[1] and other[1]:
        return ("list", _both_known(joined[1], one[1], other[1]))
    if joined[0] == one[0] == other[0] == "obj" and not ("known" in one[2] and "known" in other[2]):
        return (*joined[:2], joined[2] - {"known"})
    return joined


def _is_batch(target: Facts) -> bool:
    return target[0] == f.NAME and bool(re.search(r"batch|chunk|page$", target[1]))


def _constant_name(expression: Facts) -> bool:
    """``SETTINGS``, ``settings.LANGUAGES``, ``cls.FIELDS``: what is written in capitals does not grow."""
    name = last_name(expression) if expression[0] in (f.NAME, f.ATTR) else ""
    if (
        expression[0] == f.CALL
        and expression[1]
        and expression[1][0] == f.ATTR
        and expression[1][2] in ("items", "values", "keys")
    ):
        name = last_name(expression[1][1])
    return bool(name) and name.isupper()


def _host(text: str) -> str:
    found = re.match(r"[a-z]+://([^/{}:]+)", text)
    return found[1] if found else ""


def _place(expression: Facts) -> Any:
    if expression and expression[0] in (f.ATTR, f.CALL, f.COMP, f.SUB):
        return expression[-1]
    if expression and expression[0] == f.AWAIT:
        return _place(expression[1])
    return None


def render(expression: Facts, depth: int = 0) -> str:
    """Code for a reader, shortened."""
    if not expression or depth > 6:
        return ""
    kind = expression[0]
    if kind == f.NAME:
        return str(expression[1])
    if kind == f.ATTR:
        return f"{render(expression[1], depth + 1) or '…'}.{expression[2]}"
    if kind == f.CALL:
        parts = [render(a, depth + 3) or "…" for a in expression[2][:2]]
        if len(expression[2]) > 2 or expression[3]:
            parts.append("…")
        return f"{render(expression[1], depth + 1) or '…'}({', '.join(parts)})"
    if kind == f.CONST:
        text = repr(expression[1])
        return text if len(text) <= 60 else text[:57] + "…" + text[0]
    if kind == f.SUB:
        return f"{render(expression[1], depth + 1) or '…'}[{render(expression[2], depth + 2) or '…'}]"
    if kind == f.AWAIT:
        return render(expression[1], depth + 1)
    if kind == f.ITEMS:
        return ", ".join(render(part, depth + 2) or "…" for part in expression[1][:3])
    return ""


_EXPRESSIONS: dict[int, Callable[[Body, Facts], Value]] = {
    f.NAME: Body.name, f.ATTR: Body.attribute, f.CALL: Body.call, f.CONST: Body.constant, f.ITEMS: Body.items,
    f.DICT: Body.dict_, f.SUB: Body.subscript, f.ANY: Body.any_, f.COMPARE: Body.compare, f.TEXT: Body.text,
    f.COMP: Body.comprehension, f.LAMBDA: Body.lambda_, f.AWAIT: Body.await_, f.YIELD: Body.yield_,
    f.CHOICE: Body.choice, f.WALRUS: Body.walrus, f.SLICE: Body.slice, f.AND: Body.and_, f.STAR: Body.star,
    f.OR: Body.and_, f.NOT: Body.not_,
}  # fmt: skip
_STATEMENTS: dict[int, Callable[[Body, Facts], str]] = {
    f.EXPR: Body.expression_statement, f.ASSIGN: Body.assign, f.AUG: Body.augmented, f.RETURN: Body.return_,
    f.RAISE: Body.raise_, f.BREAK: Body.leave, f.CONTINUE: Body.leave, f.IF: Body.if_, f.FOR: Body.for_,
    f.WHILE: Body.while_, f.WITH: Body.with_, f.TRY: Body.try_, f.DEF: Body.def_, f.CLASS: Body.class_,
    f.MATCH: Body.match,
}  # fmt: skip
_ = LibraryType
