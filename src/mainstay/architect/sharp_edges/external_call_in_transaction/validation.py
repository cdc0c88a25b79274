"""How review sees it: a call to another system that may be reached while a transaction is open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mainstay.architect.effects import Attempt, Branch, Do, Invoke, Kind, Loop, Scope, Sequence, Tree
from mainstay.architect.findings import Location, Severity, Step, Verdict
from mainstay.architect.review.analysis import Analysis, Match
from mainstay.architect.review.arguments import Known, at_least, excluded, handed, required
from mainstay.architect.review.program import Function

# States of the transaction on the way through a function, from harmless to harmful.
NONE, PENDING, READ, WRITTEN, SCOPED, LOCKED = range(6)


@dataclass(slots=True)
class _Outcome:
    """What a function does with the transaction it meets in one state."""

    leaves: int
    calls: list[tuple[Do, int, tuple[tuple[str, Location, str], ...], str]] = field(default_factory=list)
    """Calls to other systems: (effect, state, way there, function that calls)."""


def validate(analysis: Analysis) -> Iterator[Match]:
    """All calls to other systems inside a transaction, said once, where the transaction was opened."""
    outcomes: _Outcomes = {}
    for function in analysis.printed():
        if Kind.CALL not in analysis.kinds(function.id):
            continue
        yield from _Walk(analysis, outcomes, function, required(function)).matches()


_Outcomes = dict[tuple[str, int, frozenset[tuple[int, str]]], _Outcome]
"""By function, the state it meets, and what is known of the parameters that it tests."""


class _Walk:
    """Follows the state of the transaction through one function, called with what is known of its parameters."""

    def __init__(self, analysis: Analysis, outcomes: _Outcomes, function: Function, known: Known) -> None:
        self.analysis = analysis
        self.outcomes = outcomes
        self.function = function
        self.known = known
        self.left = False
        """Whether what follows is not reached: of a branch, only ways that leave it can be taken."""
        self.result = _Outcome(NONE)
        self.opened: list[tuple[Location, str]] = []
        self.found: list[tuple[Do, int, tuple[tuple[str, Location, str], ...], str, Location, str]] = []

    def matches(self) -> Iterator[Match]:
        state = NONE
        if self.analysis.in_request_transaction(self.function):
            state = SCOPED
            self.opened.append(
                (self.function.location, "runs in the transaction of its request: ATOMIC_REQUESTS")
            )
        self.tree(self.function.tree, state)
        said: set[str] = set()
        for do, state, way, where, opened, text in self.found:
            assert do.effect.location is not None
            key = f"{opened}{do.effect.location}"
            if key in said:
                continue
            said.add(key)
            yield self.match(do, state, way, where, opened, text)

    def match(
        self,
        do: Do,
        state: int,
        way: tuple[tuple[str, Location, str], ...],
        where: str,
        opened: Location,
        text: str,
    ) -> Match:
        name = self.function.name
        place = way[0][1] if way else do.effect.location
        assert place is not None and do.effect.location is not None
        path = (
            Step(opened, text, name),
            *self.analysis.call_steps(way),
            Step(
                do.effect.location, f"waits for another system: {do.effect.text}", self.analysis.name(where)
            ),
        )
        sure = (
            state in (WRITTEN, SCOPED, LOCKED)
            and not self.analysis.by_hand(self.function.id)
            and "process" not in do.traits
        )
        what = do.effect.target or do.effect.text
        held = "holds a row lock" if state == LOCKED else "has a transaction open"
        return Match(
            Verdict.LIKELY if sure else Verdict.POSSIBLE,
            f"{name}() {held} while it waits for {what}",
            place, path, name,
            Severity.CRITICAL if state == LOCKED and "payment" in do.traits else None,
        )  # fmt: skip

    # -------------------------------------------------------------------------------------- the walk

    def tree(self, tree: Tree, state: int) -> int:
        """The state after `tree`, met in `state`."""
        kind = type(tree)
        if kind is Sequence:
            for item in tree.items:  # type: ignore[union-attr]
                state = self.tree(item, state)
                if self.left:
                    break
            return state
        if isinstance(tree, Do):
            return self.do(tree, state)
        if isinstance(tree, Invoke):
            return self.invoke(tree, state)
        if isinstance(tree, Branch):
            return self.branch(tree, state)
        if isinstance(tree, Loop):
            for _ in range(2):
                state = self.tree(tree.body, state)
                self.left = False
            return state
        if isinstance(tree, Scope):
            return self.scope(tree, state)
        if isinstance(tree, Attempt):
            after_body = self.tree(tree.body, state)
            left, self.left = self.left, False
            for handler in tree.handlers:
                self.tree(handler, NONE if state < SCOPED else state)
                self.left = False
            after = self.tree(tree.finally_, after_body)
            self.left = left and not tree.handlers
            return after
        return state

    def branch(self, branch: Branch, state: int) -> int:
        after, leaving, certain = [], [], False
        for index, way in enumerate(branch.ways):
            if self.known and index < len(branch.when) and excluded(branch.when[index], self.known):
                certain = True
                continue
            there = self.tree(way, state)
            left, self.left = self.left, False
            certain = certain or left
            if index < len(branch.exits) and branch.exits[index]:
                leaving.append((branch.exits[index], there))
            elif left:
                leaving.append(("leave", there))
            else:
                after.append(there)
        if (
            after or not certain
        ):  # what one of several ways leaves open when it returns is not taken as certain
            return max(after, default=state)
        self.left = True
        return max((there for exit, there in leaving if exit != "raise"), default=state)

    def scope(self, scope: Scope, state: int) -> int:
        if scope.kind in ("thread", "after-commit"):
            return state
        if scope.when and excluded(scope.when, at_least(self.function, self.known)):
            return self.tree(scope.body, state)
        if scope.kind == "transaction":
            depth = len(self.opened)
            self.opened.append((scope.location, f"opens a transaction: {scope.text}"))
            self.tree(scope.body, max(state, SCOPED))
            del self.opened[depth:]
            return state
        if scope.kind == "session":
            depth = len(self.opened)
            self.tree(scope.body, NONE if state < SCOPED else state)
            del self.opened[depth:]
            return state
        return self.tree(scope.body, state)

    def do(self, do: Do, state: int) -> int:
        kind, traits = do.effect.kind, do.traits
        where = do.effect.location
        assert where is not None
        if kind is Kind.CALL:
            if state >= READ and self.opened:
                opened, text = self.opened[-1]
                self.found.append((do, state, (), self.function.id, opened, text))
            self.result.calls.append((do, state, (), self.function.id))
            return state
        if kind in (Kind.COMMIT, Kind.ROLLBACK):
            if state < SCOPED or state == LOCKED:
                self.opened.clear()
                return NONE
            return state
        after = state
        if kind is Kind.BEGIN:
            after = max(state, SCOPED)
        elif "pending" in traits:
            after = max(state, PENDING)
        elif kind is Kind.READ:
            if "locks-rows" in traits and ("autobegin" in traits or state >= SCOPED):
                after = LOCKED
            elif "autobegin" in traits:
                after = WRITTEN if state in (PENDING, WRITTEN) else max(state, READ)
        elif kind is Kind.LOCK:
            after = LOCKED if "autobegin" in traits or state >= SCOPED else state
        elif kind is Kind.WRITE and "autobegin" in traits:
            after = max(state, WRITTEN) if "flush" not in traits or state != NONE else state
        if after > state and after >= READ:
            verb = {READ: "reads, so a transaction is open", WRITTEN: "writes, so a transaction is open",
                    SCOPED: "opens a transaction", LOCKED: "locks rows"}[after]  # fmt: skip
            self.opened.append((where, f"{verb}: {do.effect.text}"))
        return after

    def invoke(self, invoke: Invoke, state: int) -> int:
        after = state
        for called in invoke.functions:
            outcome = self.outcome(called, state, handed(invoke, self.known))
            for do, inner_state, way, where in outcome.calls:
                if state >= READ and inner_state >= READ and self.opened:
                    opened, text = self.opened[-1]
                    here = (self.function.id, invoke.location, called)
                    self.found.append((do, inner_state, (here, *way), where, opened, text))
                if len(way) < 8 and len(self.result.calls) < 12:
                    self.result.calls.append(
                        (do, inner_state, ((self.function.id, invoke.location, called), *way), where)
                    )
            if outcome.leaves > after and outcome.leaves >= READ:
                self.opened.append(
                    (
                        invoke.location,
                        f"calls {self.analysis.name(called)}(), which leaves a transaction open",
                    )
                )
            if outcome.leaves == NONE and state < SCOPED:
                self.opened.clear()
            after = outcome.leaves
        return after

    def outcome(self, called: str, state: int, known: Known) -> _Outcome:
        tested = self.analysis.tested(called)
        known = {position: word for position, word in known.items() if position in tested}
        key = (called, state, frozenset(known.items()))
        before = self.outcomes.get(key)
        if before is not None:
            return before
        self.outcomes[key] = _Outcome(state)  # cuts circles
        function = self.analysis.functions.get(called)
        if function is None or not self.analysis.kinds(called):
            return self.outcomes[key]
        walk = _Walk(self.analysis, self.outcomes, function, known)
        walk.result.leaves = walk.tree(function.tree, state)
        self.outcomes[key] = walk.result
        return walk.result
