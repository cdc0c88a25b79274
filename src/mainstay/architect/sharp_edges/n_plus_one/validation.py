"""How review sees it: a query about the turn of a loop over rows, in the loop or any number of calls below."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from mainstay.architect.effects import Attempt, Branch, Condition, Do, Invoke, Kind, Loop, Scope, Tree, walk
from mainstay.architect.findings import Location, Step, Verdict
from mainstay.architect.review.analysis import (
    CACHED,
    EARLY,
    SWITCH,
    Analysis,
    Match,
    Reached,
    inside,
    loops_of,
    unexpected,
)
from mainstay.architect.review.program import Function

BRANCHES, CALLS = 4, 5
"""From so many branches on the way on, or branches and calls, a query hardly happens in every turn."""
WRITING = {"save", "delete", "clean", "full_clean"}
"""Methods of a row that write or check it."""
MOST = 3
"""Findings that are printed for one and the same query; further loops that reach it are possible ones."""
_TELLS = re.compile(r"(^|\.)_*(warn|complain|raise)(_|$)|(warning|error)_message")
"""Names of functions that tell what is wrong, which is not so in every turn."""
_AGAIN = re.compile(r"(^|[._])(refresh|reload|legacy|deprecated)(_|$)")
"""Names of functions that read a row again on purpose, or serve rows and clients of an older kind."""
_Waiting = tuple[Tree, tuple[Loop, ...], frozenset[Condition], int]
"""A tree still to be walked, the loops around it, what must hold for it, the branches since the innermost loop."""
_Found = tuple[Match, object, str, int]
"""A finding, the rows that its loop walks, what it queries, the branches below."""


def validate(analysis: Analysis) -> Iterator[Match]:
    """All queries that run once for each row."""
    matches = [match for function in analysis.printed() for match in _in_function(analysis, function)]
    matches.sort(key=lambda match: (match[1], len(match[0].path)))  # the surest first
    seen: Counter[Location] = Counter()
    for match, _ in matches:
        query = match.path[-1].location
        seen[query] += match.verdict is Verdict.LIKELY
        yield replace(match, verdict=Verdict.POSSIBLE) if seen[query] > MOST else match


def _in_function(analysis: Analysis, function: Function) -> Iterator[tuple[Match, int]]:
    """Findings of one function, each with the number of branches on the way from the loop to the query."""
    waiting: list[_Waiting] = [(function.tree, (), frozenset(), 0)]
    said: set[tuple[object, str]] = set()
    while waiting:
        item, loops, when, branches = waiting.pop()
        if isinstance(item, Scope) and item.kind in ("thread", "after-commit", "leaving"):
            loops = ()
        if isinstance(item, Scope) and item.kind in ("transaction", "lock"):
            loops = _less_sure(loops)  # each turn is a unit of work of its own, and reads what it needs again
        if isinstance(item, Loop):
            loops, branches = (*loops, *(_less_sure((item,)) if _is_unit(item) else (item,))), 0
            when -= {SWITCH}  # what is asked once before the loop says nothing of its turns
        branches += isinstance(item, Branch)
        if loops and isinstance(item, Do):
            match = _own(analysis, function, item, loops)
        elif loops and isinstance(item, Invoke):
            match = _below(analysis, function, item, loops)
        else:
            match = None
            if isinstance(item, Attempt) and unexpected(item):
                waiting.append((item.finally_, loops, when, branches))
                less = _less_sure(loops)
                waiting.extend((handler, less, when, branches) for handler in reversed(item.handlers))
                waiting.append((item.body, loops, when, branches))
            else:
                parts = reversed(inside(item, when))
                waiting.extend((child, loops, there, branches) for child, there in parts)
        if match is not None and any(c[0] < 0 and analysis.remembers(function, c) for c in when):
            match = (replace(match[0], verdict=Verdict.POSSIBLE), *match[1:])  # once for each different key
        if match is not None:
            key = (match[1], match[2])
            if key not in said:
                said.add(key)
                yield match[0], branches + match[3]


def _is_unit(loop: Loop) -> bool:
    """Whether a turn is a unit of work of its own: it opens a session or transaction, locks or commits."""
    return any(
        item.kind in ("transaction", "session", "lock")
        if isinstance(item, Scope)
        else isinstance(item, Do) and item.effect.kind is Kind.COMMIT
        for item in walk(loop.body)
    )


def _less_sure(loops: tuple[Loop, ...]) -> tuple[Loop, ...]:
    return tuple(replace(loop, bound="unknown") if loop.bound == "rows" else loop for loop in loops)


def _turned(loops: tuple[Loop, ...], turns: set[Location]) -> Loop | None:
    """The innermost loop whose turns decide, where it grows with data."""
    for loop in reversed(loops):
        if loop.location in turns:
            return loop if loop.bound in ("rows", "unknown") else None
    return None


def _own(analysis: Analysis, function: Function, do: Do, loops: tuple[Loop, ...]) -> _Found | None:
    loop = _turned(loops, loops_of(do.uses))
    if loop is None or not _counts(do, ()):
        return None
    assert do.effect.location is not None
    path = (
        Step(loop.location, f"loops: {loop.text}", function.name),
        Step(do.effect.location, f"{_verb(do)} {do.effect.text} in every turn", function.name),
    )
    match = Match(
        _verdict(analysis, function, loop, do),
        _message(function.name, loop, do, 0),
        do.effect.location,
        path,
        function.name,
    )
    return match, _rows(loop), _what(do), 0


def _below(analysis: Analysis, function: Function, invoke: Invoke, loops: tuple[Loop, ...]) -> _Found | None:
    best = None
    for called in invoke.functions:
        if analysis.functions[called].decorated & CACHED:
            continue
        for reached in analysis.reached(called):
            when = analysis.holds(reached, invoke)
            if when is None or analysis.never(function.id, when):
                continue
            turns: set[Location] = set()
            for position in reached.uses:
                if position < len(invoke.arguments):
                    turns |= loops_of(invoke.arguments[position])
            loop = _turned(loops, turns)
            if loop is None or not _counts(reached.do, reached.calls):
                continue
            if best is None or _order(reached) < _order(best[0]):
                best = (reached, loop, called)
    if best is None:
        return None
    reached, loop, called = best
    assert reached.do.effect.location is not None
    calls = ((function.id, invoke.location, called), *reached.calls)
    path = (
        Step(loop.location, f"loops: {loop.text}", function.name),
        *analysis.call_steps(calls),
        Step(
            reached.do.effect.location,
            f"{_verb(reached.do)} {reached.do.effect.text}",
            analysis.name(reached.function),
        ),
    )
    verdict = _verdict(analysis, function, loop, reached.do)
    names = [analysis.name(called) for _, _, called in calls]
    seldom = reached.error or _deep(reached) or any(_TELLS.search(n) or _AGAIN.search(n) for n in names)
    part = _writes(calls) or reached.apart or _serves_a_write(analysis, calls, reached.do)
    if _remembered(reached) or seldom or part:
        verdict = Verdict.POSSIBLE
    message = _message(function.name, loop, reached.do, len(calls))
    match = Match(verdict, message, invoke.location, path, function.name)
    return match, _rows(loop), _what(reached.do), reached.depth + (EARLY in reached.when)


def _deep(reached: Reached) -> bool:
    return reached.depth >= BRANCHES or (
        reached.depth > 0 and reached.depth + len(reached.calls) + 1 >= CALLS
    )


def _writes(calls: tuple[tuple[str, Location, str], ...]) -> bool:
    """Whether the query is part of writing the row: what one statement for all rows would leave out on purpose."""
    return any(called.rpartition(".")[2].partition("#")[0] in WRITING for _, _, called in calls)


def _serves_a_write(analysis: Analysis, calls: tuple[tuple[str, Location, str], ...], do: Do) -> bool:
    """Whether the loop calls an operation on one row that writes, at once, to the table that the query reads.

    It reads what it changes: a unit of work for one row, which no query for all rows can stand for. A write
    that waits for the flush of an ORM goes out together with others and does not count.
    """
    return bool(do.effect.target) and any(
        other.do.effect.kind is Kind.WRITE
        and other.do.effect.target == do.effect.target
        and not other.do.traits & {"pending", "flush"}
        for _, _, called in calls
        for other in analysis.reached(called)
    )


def _of_one_event(function: Function, loop: Loop) -> bool:
    """Whether a handler of a signal walks rows chosen by what the signal hands it: those of one row, few as a rule."""
    names = [name for name, _, _, _ in function.parameters]
    rest = bool(function.parameters) and function.parameters[-1][3] == "**"
    if "receiver" not in function.decorated and not ("sender" in names[:2] and rest):
        return False
    return any(o.parameter >= 0 and names[o.parameter] not in ("self", "sender") for o in loop.over)


def _is_part_of_one(loop: Loop) -> bool:
    """Whether a loop walks a part of the children of one record (``order.payments.filter(…)``): few, as a rule.

    A relation that loads lazily is worth its mend even so, for it costs a word. Another query costs a new design.
    """
    return any({"related", "narrowed"} <= o.traits and "one" not in o.traits for o in loop.over)


def _remembered(reached: Reached) -> bool:
    """Whether the query runs only for a key that was not met before."""
    return any(position == -1 for position, _ in reached.when)


def _order(reached: Reached) -> tuple[bool, bool, int, int]:
    """What certainly happens in every turn is said first, then what is near."""
    return _remembered(reached), bool(reached.when), reached.depth, len(reached.calls)


def _counts(do: Do, calls: tuple[object, ...]) -> bool:
    """Reads count, and writes of single rows; what is bulk, pending or a lock taken row by row does not."""
    traits = do.traits
    if do.effect.kind is Kind.READ:
        return not traits & {"locks-rows", "bulk", "refresh"}  # a refresh reads the row again on purpose
    if do.effect.kind is Kind.WRITE:
        return not traits & {"pending", "bulk", "flush", "atomic"} and not calls
    return False


def _verdict(analysis: Analysis, function: Function, loop: Loop, do: Do) -> Verdict:
    if loop.bound != "rows" or do.effect.kind is Kind.WRITE:
        return Verdict.POSSIBLE
    if analysis.unhurried(function.id) or analysis.deletes_one(function.id) or _of_one_event(function, loop):
        return Verdict.POSSIBLE
    if "lazy" not in do.traits and _is_part_of_one(loop):
        return Verdict.POSSIBLE
    if {"lazy", "one", "autobegin"} <= do.traits and _fetched(analysis, function, do):
        return Verdict.POSSIBLE
    if "known" not in do.traits:
        # The rows come from elsewhere: where the program loads this relation along anywhere, it may do so there.
        program = analysis.program
        relations = {t[9:] for t in do.traits if t.startswith("relation:")}
        above = {t[5:] for t in do.traits if t.startswith("from:")}
        if above and relations:
            if any((one, "*") in program.loaded_pairs for one in above):
                return Verdict.POSSIBLE
            if any((one, other) in program.loaded_pairs for one in above for other in relations):
                return Verdict.POSSIBLE
        elif relations & program.loaded_names:
            return Verdict.POSSIBLE
    return Verdict.LIKELY


def _fetched(analysis: Analysis, function: Function, do: Do) -> bool:
    """Whether the function has the related rows read in one query by their keys: the session knows them then."""
    return any(
        reached.do.effect.target == do.effect.target
        and "lazy" not in reached.do.traits
        and any(t.startswith("where:") and t.endswith("~") for t in reached.do.traits)
        for reached in analysis.reached(function.id)
    )


def _verb(do: Do) -> str:
    if do.effect.kind is Kind.WRITE:
        return "writes:"
    return "loads lazily:" if "lazy" in do.traits else "queries:"


def _rows(loop: Loop) -> object:
    """The rows that a loop walks. A second loop over the same ones finds loaded what the first one loaded."""
    reads = frozenset(o.read for o in loop.over if o.read not in (None, loop.location))
    return reads or loop.location


def _what(do: Do) -> str:
    return f"{do.effect.kind}:{do.effect.target}"


def _message(function: str, loop: Loop, do: Do, calls: int) -> str:
    what = do.effect.target or "the database"
    verb = "writes" if do.effect.kind is Kind.WRITE else "queries"
    far = f", {calls} call{'s' if calls > 1 else ''} below the loop" if calls else ""
    return f"{function}() {verb} {what} once for each turn of '{loop.text}'{far}"
