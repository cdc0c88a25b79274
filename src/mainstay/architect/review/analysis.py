"""What validations look at: effect trees of all functions, and what each may reach through calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from mainstay.architect.effects import (
    Attempt,
    Branch,
    Condition,
    Do,
    Invoke,
    Kind,
    Loop,
    Origin,
    Scope,
    Sequence,
    Tree,
    children,
    walk,
)
from mainstay.architect.findings import Location, Severity, Step, Verdict
from mainstay.architect.review import facts as f
from mainstay.architect.review.arguments import cannot
from mainstay.architect.review.facts import last_name
from mainstay.architect.review.program import Function, Program
from mainstay.architect.review.sources import is_migration


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
    when: frozenset[Condition] = frozenset()
    """What must hold for it to happen."""
    depth: int = 0
    """How many branches are taken on the way there."""
    error: bool = False
    """Whether it happens only once an error was met."""
    apart: bool = False
    """Whether it is part of a unit of work that the function begins and ends itself, with what it writes."""


CACHED = {
    "lru_cache",
    "cache",
    "cached",
    "cachedmethod",
    "memoize",
    "cached_property",
    "alru_cache",
    "ttl_cache",
}
"""Last names of decorators that keep what a function returned."""

_MISSING = (
    "DoesNotExist",
    "KeyError",
    "IndexError",
    "AttributeError",
    "NoResultFound",
    "NotFound",
    "ValueError",
)

MOST = 24
"""Different effects kept a function; a function with more does everything anyway."""
_VIEW_METHODS = {"get", "post", "put", "patch", "delete", "create", "update", "destroy", "list", "retrieve",
                 "partial_update", "form_valid", "dispatch"}  # fmt: skip
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
        self._tested: dict[str, frozenset[int]] = {}

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
        if function is None or not self.kinds(name) & {Kind.READ, Kind.WRITE} or function.decorated & CACHED:
            return ()
        best: dict[object, Reached] = {}
        writes = Kind.WRITE in self.kinds(name)
        commits = any(type(i) is Do and i.effect.kind is Kind.COMMIT for i in walk(function.tree))

        def apart(scopes: tuple[str, ...]) -> bool:
            return writes and (commits or "transaction" in scopes or "session" in scopes)

        for item, scopes, when in self.straight(function.tree):
            if "thread" in scopes or "after-commit" in scopes:
                continue
            when = frozenset(c for c in when if c[0] >= 0 or c == EARLY or self.remembers(function, c))
            if type(item) is Do:
                if item.effect.kind in (Kind.READ, Kind.WRITE):
                    uses = frozenset(o.parameter for o in item.uses if o.parameter >= 0)
                    depth, error = scopes.count("branch"), "error" in scopes
                    self._keep(best, Reached(item, uses, (), name, when, depth, error, apart(scopes)))
            elif type(item) is Invoke:
                for called in item.functions:
                    for inner in self.reached(called):
                        holds = self.holds(inner, item)
                        if len(inner.calls) >= DEEPEST or holds is None:
                            continue
                        uses = frozenset(
                            o.parameter
                            for p in inner.uses
                            if p < len(item.arguments)
                            for o in item.arguments[p]
                            if o.parameter >= 0
                        )
                        way = ((name, item.location, called), *inner.calls)
                        depth, error = inner.depth + scopes.count("branch"), inner.error or "error" in scopes
                        own = inner.apart or apart(scopes)
                        self._keep(
                            best,
                            Reached(inner.do, uses, way, inner.function, when | holds, depth, error, own),
                        )
        found = tuple(best.values())[:MOST]
        self._reached[name] = found
        return found

    def tested(self, name: str) -> frozenset[int]:
        """Parameters that a function tests, itself or in calls: with these its effects may be others."""
        known = self._tested.get(name)
        if known is not None:
            return known
        function = self.functions.get(name)
        found: set[int] = set()
        self._tested[name] = frozenset()  # cuts circles
        for item in walk(function.tree) if function is not None and self.kinds(name) else ():
            if type(item) is Branch:
                found.update(position for when in item.when for position, _ in when if position >= 0)
            elif type(item) is Scope:
                found.update(position for position, _ in item.when if position >= 0)
            elif type(item) is Invoke:
                handed = [pair for pair in item.known if type(pair[1]) is int]
                if handed:
                    below = frozenset[int]().union(*map(self.tested, item.functions))
                    found.update(given for position, given in handed if position in below)  # type: ignore[misc]
        self._tested[name] = frozenset(found)
        return self._tested[name]

    def takes_lock(self, name: str) -> bool:
        """Whether a function takes a lock that is still held when it returns."""
        known = self._locks.get(name)
        if known is not None:
            return known
        self._locks[name] = False  # cuts circles
        function = self.functions.get(name)
        if function is None or not self.kinds(name) & {Kind.READ, Kind.LOCK}:
            return False
        for item, scopes, _ in self.straight(function.tree):
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
        key = (one.do.effect.kind, one.do.effect.location, one.uses, one.when)
        old = best.get(key)
        if old is None or len(one.calls) < len(old.calls):
            best[key] = one

    def holds(self, reached: Reached, invoke: Invoke) -> frozenset[Condition] | None:
        """What must hold in the caller for `reached` to happen in this call; None where it cannot."""
        if not reached.when:
            return reached.when
        known = dict(invoke.known)
        found = set()
        for position, word in reached.when:
            if position < 0:
                found.add((position, word))
                continue
            given = known.get(position)
            if type(given) is int:
                found.add((given, word))
            elif given is not None and cannot(str(given), word):
                return None
        return frozenset(found)

    def never(self, name: str, when: frozenset[Condition]) -> bool:
        """Whether `when` holds in no call of a function that the program makes."""
        asked = [c for c in when if c[0] >= 0]
        callers = [c for c in self.callers(name) if not self.functions[c[0]].module.quiet] if asked else []
        return bool(callers) and all(
            any(
                type(given) is str and cannot(given, word)
                for position, word in asked
                for given in (dict(invoke.known).get(position),)
            )
            for _, invoke in callers
        )

    @staticmethod
    def remembers(function: Function, condition: Condition) -> bool:
        """Whether what must hold seldom does: a look that found nothing is followed by putting it there, so that the
        next look finds it; a switch of the settings is on; the database is another one than PostgreSQL.
        """
        word = condition[1]
        return condition in _SELDOM_SO or word.removeprefix("miss:") in function.fills

    def straight(self, tree: Tree) -> Iterator[tuple[Tree, tuple[str, ...], frozenset[Condition]]]:
        """Effects and calls of a tree that are in no loop, each with the kinds of scopes around it."""
        waiting: list[tuple[Tree, tuple[str, ...], frozenset[Condition]]] = [(tree, (), frozenset())]
        while waiting:
            item, scopes, when = waiting.pop()
            if type(item) is Loop:
                continue
            if type(item) is Scope:
                scopes = (*scopes, item.kind)
            elif type(item) is Branch:
                scopes = (*scopes, "branch")
            if type(item) in (Do, Invoke):
                yield item, scopes, when
            elif type(item) is Attempt and unexpected(item):
                waiting.append((item.finally_, scopes, when))
                waiting.extend((handler, (*scopes, "error"), when) for handler in reversed(item.handlers))
                waiting.append((item.body, scopes, when))
            else:
                waiting.extend((child, scopes, there) for child, there in reversed(inside(item, when)))

    def in_request_transaction(self, function: Function) -> bool:
        """Whether the framework opens a transaction around the function (Django's ATOMIC_REQUESTS)."""
        if not self.program.atomic_requests or "non_atomic_requests" in function.decorated or function.parent:
            return False
        if function.klass is None:
            first = function.parameters[0][0] if function.parameters else ""
            return first == "request" and not self.callers(function.id)
        name = function.name.rpartition(".")[2]
        outside = self.program.ancestry(function.klass)[1]
        return name in _VIEW_METHODS and any(base.endswith(("View", "ViewSet", "Mixin")) for base in outside)

    def by_hand(self, name: str) -> bool:
        """Whether all ways to a function begin in a script or a migration, as far as the program shows."""
        return self._begins(name, self._is_by_hand)

    def in_background(self, name: str) -> bool:
        """Whether nobody waits for a function: all ways to it begin in a script, a migration or a background job."""
        return self._begins(name, lambda one: self._is_by_hand(one) or _is_job(one))

    def unhurried(self, name: str) -> bool:
        """Whether nobody waits for a function, or it is seldom run: a merge, a copy, a clean-up."""
        return self._begins(name, lambda one: self._is_by_hand(one) or _is_job(one) or _is_seldom(one))

    def deletes_one(self, name: str) -> bool:
        """Whether a function deletes one record with what hangs on it: a view or service, no method of the row."""
        function = self.functions[name]
        is_row = function.klass is not None and self.program.is_row(function.klass.id)
        return function.name.rpartition(".")[2] in ("delete", "destroy") and not is_row

    def _is_by_hand(self, function: Function) -> bool:
        path = function.module.path
        return function.module.script or function.id in self.program.by_hand or is_migration(path)

    def _begins(
        self, name: str, there: Callable[[Function], bool], seen: frozenset[str] = frozenset()
    ) -> bool:
        """Whether a function is one of those that `there` names, or all that call it are."""
        if there(self.functions[name]):
            return True
        if len(seen) > 6 or self.functions[name].decorated & _BY_NAME:
            return False
        callers = {
            caller
            for caller, _ in self.callers(name)
            if caller != name and caller not in seen
            and (not self.functions[caller].module.quiet or is_migration(self.functions[caller].module.path))
        }  # fmt: skip
        return bool(callers) and all(self._begins(caller, there, seen | {name}) for caller in callers)

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


_JOB = re.compile(r"(^|_)(task|job|actor)$")
"""Decorators of Celery, Dramatiq, RQ, Huey and their kin, by their last name."""

_BY_NAME = {"property", "cached_property", "hybrid_property"}
"""Decorators of what serializers and templates ask for by name, so that not all its callers are in sight."""
_TASKS = re.compile(r"(^|/)tasks(/|\.py$)")
"""Modules that hold background jobs, by the convention of Celery and its kin."""
_SELDOM = re.compile(
    r"(^|_)(copy|clone|duplicate|merge|repair|purge|prune|vacuum|reclaim|reconcile|cancel|cleanup|clean_up|migrate"
    r"|backfill|populate|retire|unlink|archive|restore|anonymi[sz]e|shred)(_|$)"
)
"""Names of functions that do work on the data now and then: copies, merges, clean-ups, repairs, cancellations."""


def _is_job(function: Function) -> bool:
    """Whether a queue, a timer or the start of the program runs it."""
    if any(map(_JOB.search, function.decorated)) or _TASKS.search(function.module.path):
        return True
    if any(name == "app_configs" for name, _, _, _ in function.parameters[:1]):
        return True  # a system check of Django
    handed = [
        part
        for decorator in function.decorators
        if decorator and decorator[0] == f.CALL and last_name(decorator[1]) == "receiver"
        for part in (*decorator[2][:1], *(value for name, value in decorator[3] if name == "signal"))
    ]
    return any(_JOB.search(last_name(part)) for part in handed if part)


def _is_seldom(function: Function) -> bool:
    return _SELDOM.search(function.name.rpartition(".")[2]) is not None


def unexpected(attempt: Attempt) -> bool:
    """Whether the handlers run for errors only, rather than where a row or key is missing."""
    return not any(name.endswith(_MISSING) for name in attempt.handles)


SWITCH: Condition = (-1, "switch")
"""A switch of the settings is on, or off."""
_SELDOM_SO = {SWITCH, (-1, "detached"), (-1, "other-database")}

EARLY: Condition = (-2, "")
"""Something was looked at before, and might have been answer enough."""


def inside(tree: Tree, when: frozenset[Condition]) -> list[tuple[Tree, frozenset[Condition]]]:
    """The trees directly inside `tree`, in order, each with what must hold for it to happen."""
    if type(tree) is Branch and tree.when:
        return [(way, when | there) for way, there in zip(tree.ways, tree.when, strict=True)]
    if type(tree) is not Sequence:
        return [(child, when) for child in children(tree)]
    found = []
    for item in tree.items:
        found.append((item, when))
        if type(item) is Branch:
            when |= item.then
            if item.on and "answer" in item.exits:
                when |= {EARLY}
    return found


def loops_of(uses: Iterable[Origin]) -> set[Location]:
    """The loops whose turns a value rests on."""
    return {o.loop for o in uses if o.loop is not None}
