"""How review sees it: a read without a lock, a decision on it, and a write that rests on the decision."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mainstay.architect.effects import (
    Attempt,
    Branch,
    Do,
    Invoke,
    Kind,
    Loop,
    Origin,
    Scope,
    Sequence,
    Tree,
    walk,
)
from mainstay.architect.findings import Location, Step, Verdict
from mainstay.architect.review.analysis import Analysis, Match
from mainstay.architect.review.program import Function

_EXPECTED = {"IntegrityError", "UniqueViolation", "UniqueViolationError", "StaleDataError", "SerializationFailure",
             "OperationalError"}  # fmt: skip
"""Errors that say that someone else came first; who handles one has thought of it."""
_NO_RACE = {"locks-rows", "may-lock", "serializable", "outcome", "many"}
"""Traits of a read that no decision goes wrong on: its rows are locked, or it is the answer of a write."""


_ONCE = re.compile(
    r"(^|\.|_)(setup|init|initialize|install|populate|migrate|seed|bootstrap|sync|load|import|upgrade|shred|anonymi[sz]e)(_|$)"
)
"""Names of functions that run alone: at set-up, in a migration, in one scheduler."""


_CLAIM = re.compile(r"^_*(try_|maybe_)?(acquire|claim|lock)(_|$)")


@dataclass(frozen=True, slots=True)
class _Decision:
    """A branch that looked at rows, still in force where the walk is."""

    on: frozenset[Origin]
    location: Location
    refuses: bool = False
    """Whether a way out of it is an error or an answer: who passes it relies on it."""
    matters: bool = False
    """Whether more hangs on it than the row itself: another table, another system."""


@dataclass(frozen=True, slots=True)
class _Act:
    """A decision and a write in one function about a row that it was handed."""

    parameter: int
    field: str
    decision: Location
    do: Do
    function: str
    calls: tuple[tuple[str, Location, str], ...]


def validate(analysis: Analysis) -> Iterator[Match]:
    """All writes that rest on a read which may be out of date by then; one finding a write."""
    acts: dict[str, list[_Act]] = {}
    for function in list(analysis.functions.values()):
        if Kind.WRITE in analysis.kinds(function.id):
            _acts(analysis, function.id, acts)
    found: list[Match] = []
    calls: dict[str, list[tuple[str, bool]]] = {}
    for function in list(analysis.functions.values()):
        if Kind.WRITE in analysis.kinds(function.id):
            walk = _Walk(analysis, function, acts)
            walk.tree(function.tree, ())
            for called, locked in walk.called:
                calls.setdefault(called, []).append((function.id, locked))
            if not function.module.quiet:
                found.extend(walk.matches())
    order = list(Verdict)
    best: dict[Location, Match] = {}
    for match in found:
        if _all_locked(match.function, calls, set()):
            continue
        written = match.path[-1].location
        old = best.get(written)
        if old is None or (order.index(match.verdict), len(match.path)) < (
            order.index(old.verdict),
            len(old.path),
        ):
            best[written] = match
    yield from best.values()


def _all_locked(function: str, calls: dict[str, list[tuple[str, bool]]], seen: set[str]) -> bool:
    """Whether every caller holds a lock when it calls `function`."""
    if function in seen or len(seen) > 50:
        return False
    callers = calls.get(function, [])
    return bool(callers) and all(
        locked or _all_locked(name, calls, seen | {function}) for name, locked in callers
    )


def _acts(analysis: Analysis, name: str, acts: dict[str, list[_Act]]) -> list[_Act]:
    if name in acts:
        return acts[name]
    acts[name] = []
    function = analysis.functions.get(name)
    if function is None or Kind.WRITE not in analysis.kinds(name):
        return []
    walk = _Walk(analysis, function, acts)
    walk.tree(function.tree, ())
    acts[name] = walk.handed[:12]
    return acts[name]


def _in_order(origin: Origin) -> tuple[str, str, int]:
    """The same order in every run, whatever order a set has."""
    return str(origin.read), origin.field, origin.parameter


class _Walk:
    """Goes through one function in order, keeping the decisions that what follows rests on."""

    def __init__(self, analysis: Analysis, function: Function, acts: dict[str, list[_Act]]) -> None:
        self.analysis = analysis
        self.function = function
        self.acts = acts
        self.locked = 0
        self.handles: list[frozenset[str]] = []
        self.found: list[
            tuple[Origin, Location, Do, str, tuple[tuple[str, Location, str], ...], Verdict, str]
        ] = []
        self.handed: list[_Act] = []
        self.inserted: set[str] | None = None
        self.called: list[tuple[str, bool]] = []
        """Functions called, and whether a lock was held."""

    def tree(self, tree: Tree, decisions: tuple[_Decision, ...]) -> tuple[_Decision, ...]:
        """Decisions in force after `tree`."""
        if isinstance(tree, Sequence):
            for item in tree.items:
                decisions = self.tree(item, decisions)
            return decisions
        if isinstance(tree, Do):
            return self.do(tree, decisions)
        if isinstance(tree, Invoke):
            self.invoke(tree)
            return decisions
        if isinstance(tree, Branch):
            on = frozenset(o for o in tree.on if o.read is not None or o.parameter >= 0)
            if not on or tree.location is None or len(decisions) > 40:
                for way in tree.ways:
                    self.tree(way, decisions)
                return decisions
            refuses = any(way in ("raise", "answer") for way in tree.exits)
            targets = {o.target for o in on}
            for way in tree.ways:
                self.tree(way, (*decisions, _Decision(on, tree.location, False, self.matters(way, targets))))
            if any(tree.exits):
                return (*decisions, _Decision(on, tree.location, refuses, False))
            return decisions
        if isinstance(tree, Loop):
            self.tree(tree.body, decisions)
            return decisions
        if isinstance(tree, Scope):
            if tree.kind in ("lock", "process-lock", "serializable"):
                self.locked += 1
                after = self.tree(tree.body, decisions)
                self.locked -= 1
                return after
            return self.tree(tree.body, decisions)
        if isinstance(tree, Attempt):
            self.handles.append(tree.handles)
            after = self.tree(tree.body, decisions)
            self.handles.pop()
            for handler in tree.handlers:
                self.tree(handler, decisions)
            return self.tree(tree.finally_, after)
        return decisions

    def matters(self, tree: Tree, targets: set[str]) -> bool:
        """Whether `tree` does more than change the row that was looked at."""
        for item in walk(tree):
            if isinstance(item, Do):
                kind = item.effect.kind
                if kind in (Kind.CALL, Kind.SEND) or (
                    kind is Kind.WRITE and item.effect.target not in targets and "insert" in item.traits
                ):
                    return True
        return False

    def do(self, do: Do, decisions: tuple[_Decision, ...]) -> tuple[_Decision, ...]:
        if do.effect.kind is Kind.LOCK or (do.effect.kind is Kind.READ and "locks-rows" in do.traits):
            self.locked += 1  # in force until the transaction ends, which is after the function as a rule
            return decisions
        if do.effect.kind is not Kind.WRITE or self.locked:
            return decisions
        if do.traits & {"atomic", "flush", "versioned", "delete"}:
            return decisions
        for decision in decisions:
            for origin in sorted(decision.on, key=_in_order):
                self.judge(origin, decision, do)
        return decisions

    def judge(self, origin: Origin, decision: _Decision, do: Do) -> None:
        sets = {t[4:] for t in do.traits if t.startswith("set:")}
        if origin.parameter >= 0 and origin.read is None:
            if (
                origin.field
                and origin.field in sets
                and self.same_row(origin, do)
                and "selects" not in origin.traits
                and self.relies(origin, decision, do)
            ):
                self.handed.append(
                    _Act(origin.parameter, origin.field, decision.location, do, self.function.id, ())
                )
            return
        if origin.read is None or origin.traits & _NO_RACE:
            return
        if not origin.target or not self.same_model(origin.target, do.effect.target):
            return
        verdict = self.verdict(origin, do, sets)
        if verdict is Verdict.LIKELY and "total" in origin.traits and not decision.refuses:
            verdict = Verdict.POSSIBLE
        if verdict is Verdict.LIKELY and "insert" not in do.traits and not self.relies(origin, decision, do):
            verdict = Verdict.POSSIBLE
        if verdict is Verdict.LIKELY and not self.is_column(origin):
            verdict = None
        if verdict is not None:
            self.found.append((origin, decision.location, do, self.function.id, (), verdict, origin.field))

    def relies(self, origin: Origin, decision: _Decision, do: Do) -> bool:
        """Whether a change in between would be lost, or would break what was decided.

        A new value that is worked out from the old one loses what came between. A constant, such as the next
        status, ends the same whoever comes first, unless the decision refuses and more than the row hangs on
        it. A value from elsewhere (``if row.x != x: row.x = x``) has little to do with the decision.
        """
        if "default" in do.traits:
            return False  # an empty list or mapping where there was none
        same = [o for o in do.uses if (o.read, o.parameter) == (origin.read, origin.parameter)]
        if any(o.field == origin.field for o in same if o.field) or "in-database" in do.traits:
            return decision.refuses or decision.matters or "row" in do.traits
        if "row" in do.traits:
            constant = not any(o for o in do.uses if o.loop is None and (o.field or o not in same))
        else:
            constant = "constant" in do.traits
        return constant and (decision.matters or (decision.refuses and self.does_more({do.effect.target})))

    def does_more(self, targets: set[str]) -> bool:
        """Whether the function does anything for good besides writing to `targets`."""
        if self.analysis.kinds(self.function.id) & {Kind.CALL, Kind.SEND}:
            return True
        if self.inserted is None:
            own = {
                i.effect.target
                for i in walk(self.function.tree)
                if isinstance(i, Do) and "insert" in i.traits
            }
            below = {
                r.do.effect.target for r in self.analysis.reached(self.function.id) if "insert" in r.do.traits
            }
            self.inserted = own | below
        return bool(self.inserted - targets)

    def same_model(self, one: str, other: str) -> bool:
        """Whether both name one model, or one of them a model that the other is derived from."""
        if one == other:
            return True
        program = self.analysis.program
        return any(
            first in program.ancestry(second)[0] or second in program.ancestry(first)[0]
            for first in program.classes_named(one)
            for second in program.classes_named(other)
        )

    def is_column(self, origin: Origin) -> bool:
        """Whether the attribute that was looked at is in the database at all."""
        if not origin.field:
            return True
        classes = self.analysis.program.classes_named(origin.target)
        relations = [self.analysis.program.relation(klass, origin.field) for klass in classes]
        if any(relation is not None and relation.kind == "many" for relation in relations):
            return False
        return not classes or any(self.analysis.program.is_column(klass, origin.field) for klass in classes)

    def same_row(self, origin: Origin, do: Do) -> bool:
        """Whether the write is about the row that the decision looked at."""
        return any(
            (origin.read is not None and o.read == origin.read)
            or (origin.parameter >= 0 and o.parameter == origin.parameter)
            for o in do.uses
            if not o.field  # the row itself, not something read from it
        )

    def verdict(self, origin: Origin, do: Do, sets: set[str]) -> Verdict | None:
        traits = do.traits
        if "insert" in traits:
            return self.insert(origin, sets)
        looked = {origin.field} if origin.field else {t[6:] for t in origin.traits if t.startswith("reads:")}
        conditions = {t[6:] for t in traits if t.startswith("where:")}
        if looked & conditions or sets & conditions:
            return None  # the database compares again: a conditional update
        if "row" in traits:
            if not self.same_row(origin, do):
                return None
            if origin.field and origin.field in sets:
                return Verdict.LIKELY
            return Verdict.POSSIBLE if origin.field and sets else None
        if looked & sets or ("*" in looked and sets):
            asked = {t[6:] for t in origin.traits if t.startswith("where:")}
            named = any(o.read == origin.read and o.field for o in do.uses)
            chosen_otherwise = asked and conditions and not asked & conditions and not named
            return Verdict.POSSIBLE if chosen_otherwise else Verdict.LIKELY
        if "in-database" in traits and sets:
            return Verdict.POSSIBLE
        return Verdict.POSSIBLE if sets and origin.field else None

    def insert(self, origin: Origin, sets: set[str]) -> Verdict | None:
        """A row made because none was there: wrong unless a constraint decides in the end."""
        if any(names & _EXPECTED for names in self.handles):
            return None
        if origin.field and "presence" not in origin.traits:
            return None
        asked = {t[6:] for t in origin.traits if t.startswith("where:")}
        if "identity" in origin.traits or not origin.traits & {"one", "presence"} or not asked:
            return Verdict.POSSIBLE if "presence" in origin.traits else None
        if sets and "*" not in sets and not _bare(sets) & _bare(asked):
            return Verdict.POSSIBLE  # the row that is made is not the one that was looked for
        klass = [
            c.id
            for c in self.analysis.program._by_class_name().get(origin.target, ())
            if self.analysis.program.is_row(c.id)
        ]
        if not klass:
            return Verdict.POSSIBLE
        for columns in self.analysis.program.unique_columns(klass[0]):
            if _bare(columns) & _bare(asked):
                return Verdict.POSSIBLE  # the constraint keeps the data right; the loser gets an error
        return Verdict.LIKELY

    def invoke(self, invoke: Invoke) -> None:
        self.called.extend((called, self.locked > 0) for called in invoke.functions)
        if self.locked:
            return
        if any(self.analysis.takes_lock(called) or self.claims(called) for called in invoke.functions):
            self.locked += 1  # in force until the transaction ends
            return
        for called in invoke.functions:
            for act in _acts(self.analysis, called, self.acts):
                if act.parameter >= len(invoke.arguments):
                    continue
                here = (self.function.id, invoke.location, called)
                for origin in sorted(invoke.arguments[act.parameter], key=_in_order):
                    if origin.field:
                        continue
                    if origin.parameter >= 0 and origin.read is None:
                        if len(act.calls) < 6 and "selects" not in origin.traits:
                            self.handed.append(
                                _Act(
                                    origin.parameter,
                                    act.field,
                                    act.decision,
                                    act.do,
                                    act.function,
                                    (here, *act.calls),
                                )
                            )
                    elif (
                        origin.read is not None
                        and not origin.traits & _NO_RACE
                        and self.same_model(origin.target, act.do.effect.target)
                        and self.is_column(replace(origin, field=act.field))
                    ):
                        way = (here, *act.calls)
                        self.found.append(
                            (origin, act.decision, act.do, act.function, way, Verdict.LIKELY, act.field)
                        )

    def claims(self, called: str) -> bool:
        """Whether a function that writes says by its name that it claims something: rows, a turn, a lock."""
        name = self.analysis.functions[called].name.rpartition(".")[2]
        return _CLAIM.search(name) is not None and Kind.WRITE in self.analysis.kinds(called)

    # ------------------------------------------------------------------------------------- matches

    def matches(self) -> Iterator[Match]:
        said: set[Location] = set()
        order = list(Verdict)
        for origin, decision, do, where, calls, verdict, field in sorted(
            self.found, key=lambda x: (order.index(x[5]), len(x[4]))
        ):
            written = do.effect.location
            assert written is not None and origin.read is not None
            if origin.read in said:
                continue  # one finding for all that rests on one read
            said.add(origin.read)
            name, target = self.function.name, do.effect.target
            what = f"{target}.{field}" if field else target
            path = (
                Step(origin.read, f"reads {what} without a lock", name),
                *self.analysis.call_steps(calls),
                Step(decision, f"decides on what it read of {what}", self.analysis.name(where)),
                Step(written, f"writes {target}: {do.effect.text}", self.analysis.name(where)),
            )
            if verdict is Verdict.LIKELY and (
                self.analysis.in_background(self.function.id)
                or self.analysis.program.serializable
                or _ONCE.search(self.function.name)
            ):
                verdict = Verdict.POSSIBLE
            message = f"{name}() checks {what}, then writes {target} with no lock between: two requests can both pass"
            yield Match(
                verdict, message, calls[0][1] if calls else written, path, name, function=self.function.id
            )


def _bare(columns: Iterable[str]) -> set[str]:
    """Columns by the name of what they point at: a key may be asked for as ``owner`` and as ``owner_id``."""
    return {column.removesuffix("_id") for column in columns}
