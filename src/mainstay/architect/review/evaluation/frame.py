"""A frame: how far the evaluation of one body has come.

It holds what the names of the body stand for and the tree that grows. Which kind of expression or statement
does what is told by the tables of `expressions` and `statements`, which rest on all else here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from mainstay.architect.effects import Condition, Do, Effect, Kind, Origin, Sequence, Tree
from mainstay.architect.findings import Location
from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.rendering import render
from mainstay.architect.review.evaluation.values import UNKNOWN, Value
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.program import NONE, Function, Module, Type, Yield

if TYPE_CHECKING:
    from mainstay.architect.review.evaluation import Evaluation

T = TypeVar("T")

DEEPEST = 60
"""How far return types are followed on demand, in calls."""


class Frame:
    """One function body (or the top level of a module) being evaluated."""

    def __init__(self, evaluation: Evaluation, module: Module, function: Function | None) -> None:
        self.evaluation = evaluation
        self.program = evaluation.program
        self.libraries = evaluation.program.libraries
        self.module = module
        self.function = function
        self.names: dict[str, Value] = {}
        self.out: list[Tree] = []
        self.scopes: list[tuple[str, frozenset[Condition]]] = []
        """Kinds of the scopes around what is evaluated, each with what must hold for it to be opened."""
        self.holds: frozenset[Condition] = NONE
        """What holds of the parameters for what is evaluated to be reached."""
        self.loops: list[Location] = []
        self.returned: list[Value] = []
        self.yielded: list[Value] = []
        self.yields: list[Yield] = []
        self.own: dict[str, tuple[int, Value]] = {}
        """Parameters, with the value they had at first."""
        self.looked_up: dict[str, tuple[str, bool]] = {}
        """Variables that tell whether a collection has an entry: the collection, and whether they mean yes."""
        self.here: tuple[int, int, int, int] = function.place if function else (1, 1, 1, 1)
        """The place last passed, for what has none of its own."""
        self.assigned: dict[str, tuple[set[str], frozenset[Origin]]] = {}
        self.expressions = evaluation.expressions
        self.statements = evaluation.statements

    def expression(self, expression: Facts) -> Value:
        if expression is None:
            return UNKNOWN
        return self.expressions[expression[0]](self, expression)

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

    def do(
        self, kind: Kind, target: str, text: str, place: Any, uses: frozenset[Origin], traits: Iterable[str]
    ) -> None:
        where = place if isinstance(place, Location) else self.place(place)
        self.out.append(Do(Effect(kind, target, text, where), uses, frozenset(traits)))

    def fill(self, collection: Facts) -> None:
        """Note that the function puts entries into `collection`."""
        if self.function is not None and collection:
            self.function.fills.add(render(collection))

    def anywhere(self, expression: Facts) -> Location:
        """The place of an expression, or the place last passed where it has none."""
        return self.place(_place_of(expression) or self.here)


def hinted_type(frame: Frame, name: str) -> Type:
    """What a variable is taken for by its name alone, where nothing else is known."""
    hint = frame.libraries.hints.get(name)
    if hint is not None and hint[1] in frame.program.packages:
        return ("lib", hint[0], None, NONE, None)
    return None


def is_empty(tree: Tree) -> bool:
    return isinstance(tree, Sequence) and not tree.items


def _place_of(expression: Facts) -> Any:
    if expression and expression[0] in (f.ATTR, f.CALL, f.COMP, f.SUB):
        return expression[-1]
    if expression and expression[0] == f.AWAIT:
        return _place_of(expression[1])
    return None
