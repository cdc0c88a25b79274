"""Evaluation: the body of each function, walked once, becomes an effect tree.

On the way every value carries a type (what it is, where that can be told without running anything) and its
origins (which reads, parameters and loops it rests on). Calls of functions of the program become `Invoke`;
what they return is worked out on demand, so that a session, queryset or row is followed through helpers.

Each body is walked in a `Frame` of its own, which all functions of these modules take first.
"""

from __future__ import annotations

from mainstay.architect.effects import Sequence
from mainstay.architect.findings import Problem
from mainstay.architect.review.evaluation.annotations import annotated
from mainstay.architect.review.evaluation.expressions import EXPRESSIONS
from mainstay.architect.review.evaluation.frame import DEEPEST, Frame
from mainstay.architect.review.evaluation.functions import run
from mainstay.architect.review.evaluation.statements import STATEMENTS
from mainstay.architect.review.evaluation.values import Value
from mainstay.architect.review.facts import Facts
from mainstay.architect.review.program import Function, Module, Program, Type


class Evaluation:
    """All functions of a program, evaluated on demand."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.depth = 0
        program.evaluate_at = self.evaluate_at
        self.expressions = EXPRESSIONS
        self.statements = STATEMENTS
        self.lambdas: list[tuple[Facts, dict[str, Value], Frame]] = []
        """Their facts, the names around them and where they were met; a value of type `lam` has the number."""
        self.lost: list[Problem] = []
        """Functions that could not be followed."""

    def evaluate_at(self, module: Module, value: Facts, annotation: Facts) -> Type:
        frame = Frame(self, module, None)
        if annotation is not None:
            found = annotated(frame, annotation)
            if found is not None:
                return found
        if value is None:
            return None
        return frame.expression(value).t

    def function(self, function: Function) -> Function:
        """Evaluate `function` unless that was done."""
        if function.state == 0 and self.depth < DEEPEST:
            function.state = 1
            self.depth += 1
            try:
                run(Frame(self, function.module, function))
            except Exception as error:  # code odder than anything met before must not end the whole review
                function.tree = Sequence()
                self.lost.append(Problem(function.module.path, _lost(function, error), function.place[0]))
            finally:
                self.depth -= 1
                function.state = 2
        return function


def _lost(function: Function, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"{function.name}() is nested more deeply than review follows"
    return f"{function.name}() could not be followed ({type(error).__name__}: {error}); please report it"
