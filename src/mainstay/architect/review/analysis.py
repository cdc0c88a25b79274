"""What validations look at: effect trees of all functions, and what each may reach through calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from mainstay.architect.effects import Do, Invoke, Kind, Loop, Origin, Scope, Tree, children, walk
from mainstay.architect.findings import Location, Severity, Step, Verdict
from mainstay.architect.review.program import Function, Program


@dataclass(frozen=True, slots=True)
class Match:
    """What a validation says: a finding without what the edge's page knows."""

    verdict: Verdict
    message: str
    location: Location
    path: tuple[Step, ...]
    subject: str
    """The function that the finding is about."""
    severity: Severity | None = None
    """Where it differs from the edge's."""
    function: str = ""
    """The id of the function, where `validate` still needs it."""


class Validation(Protocol):
    """What review needs to know of an edge; an `Edge` of the catalog is one."""

    @property
    def severity(self) -> Severity: ...

    @property
    def remedy(self) -> str: ...

    @property
    def patterns(self) -> tuple[str, ...]: ...

    def validation(self) -> Callable[[Analysis], Iterable[Match]] | None:
        """The edge's `validate`, or None where it has none."""


@dataclass(frozen=True, slots=True)
class Reached:
    """An effect that a function may have, itself or through calls."""

    do: Do
    uses: frozenset[int]
    """Parameters of the function (by position) that decide which rows the effect is about."""
    calls: tuple[tuple[str, Location, str], ...]
    """The way there: (function that calls, place of the call, function called)."""
    function: str
    """The function that has the effect."""


MOST = 24
"""Different effects kept a function; a function with more does everything anyway."""
DEEPEST = 12
"""Longest way to an effect, in calls."""


class Analysis:
    """The program with its trees, ready for validations."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.functions = program.functions
        self._reached: dict[str, tuple[Reached, ...]] = {}
        self._kinds: dict[str, frozenset[Kind]] = {}
        self._locks: dict[str, bool] = {}
        self._callers: dict[str, list[tuple[str, Invoke]]] | None = None

    def printed(self) -> Iterator[Function]:
        """Functions in which findings are printed: those with effects, outside tests and migrations."""
        for function in self.functions.values():
            if not function.module.quiet and self.kinds(function.id):
                yield function

    # ----------------------------------------------------------------------------------- summaries

    def link(self) -> None:
        """Which kinds of effects each function may have, itself or through calls, to a fixpoint."""
        own: dict[str, set[Kind]] = {}
        callers: dict[str, list[str]] = {}
        for function in self.functions.values():
            kinds: set[Kind] = set()
            for item in walk(function.tree):
                if type(item) is Do:
                    kinds.add(item.effect.kind)
                elif type(item) is Invoke:
                    for name in item.functions:
                        callers.setdefault(name, []).append(function.id)
                elif type(item) is Scope and item.kind == "transaction":
                    kinds.add(Kind.BEGIN)
            if kinds:
                own[function.id] = kinds
        waiting = list(own)
        while waiting:
            name = waiting.pop()
            for caller in callers.get(name, ()):
                there = own.setdefault(caller, set())
                if not own[name] <= there:
                    there |= own[name]
                    waiting.append(caller)
        self._kinds = {name: frozenset(kinds) for name, kinds in own.items()}

    def kinds(self, name: str) -> frozenset[Kind]:
        """The kinds of effects that a function may have."""
        return self._kinds.get(name, frozenset())

    def reached(self, name: str) -> tuple[Reached, ...]:
        """Reads and writes that a function may do, each by the shortest way, that are not in a loop of its own."""
        known = self._reached.get(name)
        if known is not None:
            return known
        self._reached[name] = ()  # cuts circles
        function = self.functions.get(name)
        if function is None or not self.kinds(name) & {Kind.READ, Kind.WRITE}:
            return ()
        best: dict[object, Reached] = {}
        for item, scopes in self.straight(function.tree):
            if "thread" in scopes or "after-commit" in scopes:
                continue
            if type(item) is Do:
                if item.effect.kind in (Kind.READ, Kind.WRITE):
                    uses = frozenset(o.parameter for o in item.uses if o.parameter >= 0)
                    self._keep(best, Reached(item, uses, (), name))
            elif type(item) is Invoke:
                for called in item.functions:
                    for inner in self.reached(called):
                        if len(inner.calls) >= DEEPEST:
                            continue
                        uses = frozenset(
                            o.parameter
                            for p in inner.uses
                            if p < len(item.arguments)
                            for o in item.arguments[p]
                            if o.parameter >= 0
                        )
                        way = ((name, item.location, called), *inner.calls)
                        self._keep(best, Reached(inner.do, uses, way, inner.function))
        found = tuple(best.values())[:MOST]
        self._reached[name] = found
        return found

    def takes_lock(self, name: str) -> bool:
        """Whether a function takes a lock that is still held when it returns."""
        known = self._locks.get(name)
        if known is not None:
            return known
        self._locks[name] = False  # cuts circles
        function = self.functions.get(name)
        if function is None or not self.kinds(name) & {Kind.READ, Kind.LOCK}:
            return False
        for item, scopes in self.straight(function.tree):
            if set(scopes) & {"transaction", "session", "thread", "after-commit", "lock"}:
                continue
            taken = (
                item.effect.kind is Kind.LOCK or "locks-rows" in item.traits
                if type(item) is Do
                else type(item) is Invoke and any(self.takes_lock(called) for called in item.functions)
            )
            if taken:
                self._locks[name] = True
                return True
        return False

    @staticmethod
    def _keep(best: dict[object, Reached], one: Reached) -> None:
        key = (one.do.effect.kind, one.do.effect.location, one.uses)
        old = best.get(key)
        if old is None or len(one.calls) < len(old.calls):
            best[key] = one

    def straight(self, tree: Tree) -> Iterator[tuple[Tree, tuple[str, ...]]]:
        """Effects and calls of a tree that are in no loop, each with the kinds of scopes around it."""
        waiting: list[tuple[Tree, tuple[str, ...]]] = [(tree, ())]
        while waiting:
            item, scopes = waiting.pop()
            if type(item) is Loop:
                continue
            if type(item) is Scope:
                scopes = (*scopes, item.kind)
            if type(item) in (Do, Invoke):
                yield item, scopes
            else:
                waiting.extend((child, scopes) for child in reversed(children(item)))

    def callers(self, name: str) -> list[tuple[str, Invoke]]:
        """Where a function is called: (calling function, call)."""
        if self._callers is None:
            self._callers = {}
            for function in self.functions.values():
                for item in walk(function.tree):
                    if type(item) is Invoke:
                        for called in item.functions:
                            self._callers.setdefault(called, []).append((function.id, item))
        return self._callers.get(name, [])

    # ---------------------------------------------------------------------------------------- steps

    def name(self, function: str) -> str:
        return self.functions[function].name

    def call_steps(self, calls: Iterable[tuple[str, Location, str]]) -> list[Step]:
        """One step a call: caller → callee."""
        return [
            Step(place, f"{self.name(caller)}() calls {self.name(called)}()", self.name(caller))
            for caller, place, called in calls
        ]


def loops_of(uses: Iterable[Origin]) -> set[Location]:
    """The loops whose turns a value rests on."""
    return {o.loop for o in uses if o.loop is not None}
