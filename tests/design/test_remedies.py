"""A law of all risks: what a remedy says, done in the blueprint, makes the finding go.

`WAYS` reads the sentences of remedies, one line a sentence, and does in the blueprint what each says. What is
put between blueprint and sentence is only grammar: the numbers and names are those that the remedy names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blueprint_text import TODAY

from mainstay.architect.design.phrases import Call
from mainstay.architect.design.reading import Source, read_source, way
from mainstay.architect.design.risks import Risk, kinds
from mainstay.architect.design.study import Result, study_source
from mainstay.architect.design.system import Edge, Op
from mainstay.architect.design.trees import below

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "blueprints").glob("*.yaml"))

Change = tuple[tuple[Any, ...], Any]
"""The way to a value, and what is to stand there."""
Do = Callable[[Result, Risk, "re.Match[str]"], Iterator[Change]]


# ------------------------------------------------------------------------------------ what remedies ask for


def key(name: str, value: str) -> Do:
    """A value by its dotted key; both may name groups of the match, and ``{subject}``."""

    def do(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
        words = {"subject": risk.subject, **match.groupdict()}
        yield way(result.study.system.source.value, name.format(**words)), value.format(**words)

    return do


def keys(name: str, value: str) -> Do:
    """The same for every name of a list in words: ``a, b and c``."""

    def do(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
        for each in re.split(r", | and ", match["names"]):
            yield way(result.study.system.source.value, name.format(each=each)), value

    return do


def both(*parts: Do) -> Do:
    def do(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
        for part in parts:
            yield from part(result, risk, match)

    return do


def call(change: Callable[[Call, re.Match[str]], str]) -> Do:
    """The calls of the risk's operation, or of the one that is named, to what is named."""

    def do(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
        words = match.groupdict()
        subject, _, callee = risk.subject.partition("->")
        caller = words.get("caller") or subject
        names = re.split(r", | and ", words.get("names") or words.get("to") or callee)
        for op in result.study.system.ops.values():
            edges = [e for e in op.edges if {e.target.id, e.target.id.partition(".")[0]} & {*names}]
            if edges and op.id == caller:
                yield (*op.where, "calls"), written(op, {edge: change(edge.call, match) for edge in edges})

    return do


def written(op: Op, instead: dict[Edge, str]) -> list[list[str]]:
    """The calls of an operation as they stand in a file, some in other words."""
    groups: dict[int, list[str]] = {}
    for edge in op.edges:
        groups.setdefault(edge.group, []).append(instead.get(edge, str(edge.call)))
    return list(groups.values())


def saying(**other: Any) -> Callable[[Call, re.Match[str]], str]:
    """A call with some of its words replaced: ``within="{time}"``, ``later=True``."""

    def change(call: Call, match: re.Match[str]) -> str:
        text = str(call)
        for word, value in other.items():
            text = re.sub(rf" {word} \S+", "", text)
            if word == "once":
                text = re.sub(r" x\d+", "", text)
            elif word == "times":
                text += f" x{value.format(**match.groupdict())}"
            elif word == "later":
                text = re.sub(r" (else|within|retry) \S+", "", text) + " later"
            elif value:
                text += f" {word} {value.format(**match.groupdict())}"
        return text

    return change


def new(service: str, **spec: str) -> Do:
    """One more operation of a service."""

    def do(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
        words = {"subject": risk.subject, "service": risk.subject.partition(".")[0], **match.groupdict()}
        made = {name: value.format(**words) for name, value in spec.items()}
        yield ("services", service.format(**words), "does", "made_by_the_remedy"), made

    return do


def any_service(**spec: str) -> Do:
    def do(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
        yield from new(next(iter(result.study.system.services)), **spec)(result, risk, match)

    return do


def call_of_risk(change: Callable[[Call, re.Match[str]], str]) -> Do:
    """The call that the risk is of: ``orders.place->stripe``."""

    def do(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
        caller, _, callee = risk.subject.partition("->")
        if not callee:
            return
        op = result.study.system.ops[caller]
        edges = [edge for edge in op.edges if edge.target.id == callee]
        yield (*op.where, "calls"), written(op, {edge: change(edge.call, match) for edge in edges})

    return do


def own_services(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    """Each of our services in the chain, as often up as the remedy says."""
    keys = {figure.key for figure in risk.inputs}
    op = result.study.system.ops[risk.subject]
    for service in {each.service for each in below(op)}:
        assert f"{service}.availability" in keys or "assume.service_availability" in keys
        yield ("services", service, "availability"), match["share"]


def hottest(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    """As many rows in place of one: each takes its part of the writes."""
    assume = result.study.system.assume.hottest.value
    name = risk.subject.rpartition(".")[2]
    for op in result.study.system.ops.values():
        if any(change.entity == name for change in op.spec.changes):
            yield (
                (*op.where, "changes"),
                [
                    f"{change.entity}{'.' + change.field if change.field else ''} hottest "
                    f"{(change.hottest.value if change.hottest else assume) / int(match['rows']) * 100:.6f}%"
                    if change.entity == name
                    else str(change)
                    for change in op.spec.changes
                ],
            )


def budget(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    """A retry budget stands where a target says how it is repeated; a call can only say how often."""
    system = result.study.system
    dep = system.deps[risk.subject]
    times = max(int(system.attempts(edge).value) - 1 for edge in dep.edges)
    for op in system.ops.values():
        if any(edge.target is dep for edge in op.edges):
            instead = {e: re.sub(r" retry \d+", "", str(e.call)) for e in op.edges if e.target is dep}
            yield (*op.where, "calls"), written(op, instead)
    yield (*dep.where, "retry"), f"{times} budget {match['share']}"


def beside(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    """All calls that an operation waits for in one group."""
    op = result.study.system.ops[risk.subject]
    yield (*op.where, "calls"), [[str(edge.call) for edge in op.edges]]


def scoped(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    """The one grant that is named, with its scope; the others as they are."""
    op = result.study.system.ops[risk.subject]
    assert op.spec.by is not None
    grants = [
        str(grant) + (f" {match['scope']}" if grant.actor == match["actor"] and not grant.scope else "")
        for grant in op.spec.by.grants
    ]
    yield (*op.where, "by"), " | ".join(grants)


def cached(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    op = result.study.system.ops[risk.subject]
    assert op.spec.cache is not None
    adding = re.split(r", | and ", match["names"]) if match["names"] else []
    for name in re.split(r", | and ", match["silent"]) if match["silent"] else []:
        yield (*result.study.system.ops[name].where, "emits"), "Changed"
        adding.append("Changed")
    events = dict.fromkeys([*op.spec.cache.until, *adding])
    yield (*op.where, "cache"), f"{op.spec.cache.fresh} until {', '.join(events)}"


def moved(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    for at, move in enumerate(match["moves"].split(", ")):
        where = ("services", risk.subject.partition(".")[0], "does", f"made_by_the_remedy_{at}")
        yield where, {"by": "anyone", "moves": move}


def deleted(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    names = [name.strip() for name in match["names"].strip("[]").split(",")]
    yield ("services", risk.subject, "does", "made_by_the_remedy"), {"every": "0 3 * * *", "deletes": names}


def kept(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    service, entity, field = risk.subject.split(".")
    type = result.study.system.entity(entity, service, ()).fields[field]
    text = re.sub(r" keep \S+", "", str(type)) + f" keep {match['time']}"
    yield ("services", service, "owns", entity, field), text


def limited(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    for name, rate in re.findall(r"(\S+)\.limit: ([^\s,]+)", match["limits"]):
        yield ("actors", name, "limit"), rate


def ring(result: Result, risk: Risk, match: re.Match[str]) -> Iterator[Change]:
    """The calls that are named are made no more, or are handed over."""
    pairs = re.findall(rf"({NAME})->({NAME})", risk.remedy)
    pairs += re.findall(rf"let ({NAME}) hand over to ({NAME})", risk.remedy)
    for caller in dict.fromkeys(caller for caller, _ in pairs):
        op = result.study.system.ops[caller]
        instead = {e: f"{e.call} later" for e in op.edges if (caller, e.target.id) in pairs}
        yield (*op.where, "calls"), written(op, instead)


NAME = r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*"
TIME, RATE, SHARE = r"[0-9.]+(?:us|ms|s|m|h|d|y)", r"[0-9.]+k?/(?:s|min|h|d)", r"[0-9.]+%"
KEYED = r"say (?P<name>\S+) idempotent: key"
WAYS: dict[str, list[tuple[str, Do | None]]] = {
    "availability-chain": [
        (rf"^(?P<name>\S+) would need (?P<share>{SHARE})", key("{name}.availability", "{share}")),
        (rf"each of \d+ services would need (?P<share>{SHARE})", own_services),
        (r"enough: hand over (?P<to>\S+) \([0-9.]+%\)", call(saying(later=True))),
        (
            r"enough: hand over (?P<to>\S+) \(called by (?P<caller>\S+)\) \([0-9.]+%\)",
            call(saying(later=True)),
        ),
        (rf"; (?P<names>[^;]* and \S+) together (?P<share>{SHARE})$", None),  # it may still be too little
        (r"no number of ours", None),  # what is wrong is said, not what to do
    ],
    "call-cycle": [(r"in place of|hand over to", ring)],
    "chatty-boundary": [(r"one call for all", call(saying(once=True)))],
    "dependency-limit": [
        (rf"^a limit of (?P<rate>{RATE}) or more", key("{subject}.limit", "{rate}")),
    ],
    "deprecated-operation": [
        (r"^remove it", None),
        (rf"^let them use (?P<use>{NAME})$", None),
        (r"announce a day: (?P<sunset>.*)$", None),
    ],
    "dual-write": [
        (
            r"call it by a job.*: (?P<to>\S+) later, and say (?P<dep>\S+)\.idempotency",
            call(saying(later=True)),
        ),
        (
            r"call it by a job.*: (?P<to>\S+) later, and say (?P<dep>\S+)\.idempotency",
            key("{dep}.idempotency", "key"),
        ),
    ],
    "event-without-consumer": [(r"\(on: (?P<event>\w+)\)", any_service(on="{event}"))],
    "event-without-emitter": [(r"^emit (?P<event>\w+) where", any_service(by="anyone", emits="{event}"))],
    "forged-webhook": [(r"say (?P<name>\S+): signature$", key("{name}", "signature"))],
    "hot-row": [(r"^(?P<rows>\d+) rows in its place", hottest)],
    "latency-budget": [
        (r"its calls at the same time", beside),
        (r"(?P<to>\S+) asked once for all", call(saying(once=True))),
        (r"(?:^|; or )(?P<to>\S+) handed over: ", call(saying(later=True))),
        (r"(?P<to>\S+) handed over in (?P<caller>\S+): ", call(saying(later=True))),
        (rf"(?P<dep>\S+) within (?P<time>{TIME}) at its 99th", key("{dep}.p99", "{time}")),
        (rf"a cache that answers (?P<share>{SHARE})", key("{subject}.cache", "1h hit {share}")),
        (rf"^its own work within (?P<time>{TIME})", key("{subject}.work", "{time}")),
        (r"^no single call makes up for it", None),
    ],
    "missing-idempotency": [
        (KEYED, key("{name}.idempotent", "key")),
        (r"^consume it through an inbox, .* say idempotent: key$", key("{subject}.idempotent", "key")),
        (r"'s delivery id in an inbox, .* say idempotent: key$", key("{subject}.idempotent", "key")),
        (r"hand it on to (?P<names>.*), and say idempotent: key of", keys("{each}.idempotent", "key")),
        (r"say (?P<name>\S+\.idempotency),", key("{name}", "key")),
        (r"or do not repeat$", call_of_risk(saying(retry=""))),
    ],
    "missing-rate-limit": [
        (r"say (?P<name>\S+) limit: (?P<rate>\S+)$", key("{name}.limit", "{rate}")),
        (r"such as (?P<limits>.*)$", limited),
        (r"say (?P<name>\S+)\.limit, and count it", key("{name}.limit", "1/s")),
    ],
    "needless-part": [
        (r": (?P<name>\S+) why: …$", key("{name}.why", "a number")),
        (r"modules? of", None),  # it is another blueprint then
    ],
    "overlapping-run": [
        (r"^(?P<to>\S+) x(?P<times>\d+) at most", call(saying(once=True, times="{times}"))),
        (r"a limit of (?P<rate>\S+) or more for (?P<dep>[^;\s]+)", key("{dep}.limit", "{rate}")),
        (r"every: (?P<time>[^;]+)", key("{subject}.every", "{time}")),
    ],
    "personal-data": [
        (r"deletes: (?P<names>\[.*?\]|\w+)", deleted),
        (rf"^keep it for (?P<time>{TIME}) at most", kept),
        (r"^carry the id", None),  # another event then
        (r"say (?P<name>\S+\.personal): true", key("{name}", "true")),
        (r"or false where it is given none", key("{subject}.personal", "false")),
        (r"^use a region of (?P<name>\S+) in (?P<region>\S+), ", key("{name}.region", "{region}")),
        (r"^use a region of (?P<name>\S+) in .* say personal: false", key("{name}.personal", "false")),
    ],
    "pool-size": [
        (r"pool: (?P<pool>\d+)", key("{subject}.pool", "{pool}")),
        (r"copies: (?P<copies>\d+)", key("{subject}.copies", "{copies}")),
    ],
    "retry-amplification": [
        (rf"a retry budget of (?P<share>{SHARE})", budget),
        (rf"ask for a limit of (?P<rate>{RATE}) or more", key("{subject}.limit", "{rate}")),
        (r"^a breaker below the cache", None),  # the language has none
    ],
    "saga-missing": [
        (r"say so: (?P<name>\S+) saga: true", key("{name}.saga", "true")),
        (r"then say (?P<op>\S+) saga: true", None),
        (r"say (?P<name>\S+) pivot: true", key("{name}.pivot", "true")),
        (r"^say what \S+ takes back", None),
    ],
    "shared-data": [
        (r"^let one own it", None),
        (r"in its own words", None),
        (r"^call an operation of", None),
    ],
    "single-point-of-failure": [
        (r"^copies: (?P<copies>\d+)", key("{subject}.copies", "{copies}")),
        (rf"beside it: (?P<share>{SHARE}) if", key("{subject}.availability", "{share}")),
        (r"^what goes on without it", None),
    ],
    "stale-cache": [
        (r"^(?:drop it by (?P<names>.*?) too)?(?:; and )?(?:let (?P<silent>.*) emit an event, .*)?$", cached),
    ],
    "state-never-reached": [(r"moves: \[?(?P<moves>[^\]]*)", moved)],
    "table-growth": [(r"deletes: (?P<names>\[.*?\]|\w+)", deleted)],
    "team-load": [(r"or fewer deployables", None)],
    "timeout-nesting": [
        (rf"(?P<to>\S+) within (?P<time>{TIME})(?: an attempt)?(?:, or|$)", call(saying(within="{time}"))),
        (
            rf"(?P<to>\S+) tried once, within (?P<time>{TIME}),",
            call(saying(retry="0", within="{time}")),
        ),
        (rf"a timeout of (?P<time>{TIME}) for (?P<name>\S+)$", key("{name}.timeout", "{time}")),
        (rf"^at least (?P<time>{TIME}); or 'else'", call_of_risk(saying(within="{time}"))),
        (r"; or 'else'", call_of_risk(saying(**{"else": "nothing"}))),
    ],
    "unbounded-list": [
        (r"^say (?P<name>\S+) page: (?P<page>\d+)", key("{name}.page", "{page}")),
        (r"^say (?P<name>\S+) size: (?P<size>[^,]+),", key("{name}.size", "{size}")),
    ],
    "unguarded-operation": [
        (r"say by: (?P<actor>\S+) (?P<scope>own|tenant),", scoped),
        (r"; or (?P<scope>all), where all may$", None),
        (r"^let only those call it who have signed in", None),
        (r"^say by whom", key("{subject}.by", "anyone")),
        (r"^say (?P<name>\S+\.auth): oidc", key("{name}", "oidc")),
    ],
    "breaking-change": [],
}
"""By kind, the sentences of its remedies and what they ask for; None where a blueprint does not hold it."""


def test_no_kind_is_left_out() -> None:
    assert WAYS.keys() == kinds().keys()


# ------------------------------------------------------------------------------------------ the law


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_what_a_remedy_says_makes_the_finding_go(file: Path) -> None:
    check(read_source(file))


def check(source: Source) -> None:
    before = study_source(source, TODAY)
    failed = []
    for risk in before.risks:
        ways = [
            (pattern, match, do)
            for pattern, do in WAYS.get(risk.kind.name, [])
            if (match := re.search(pattern, risk.remedy)) is not None
        ]
        if not ways:
            failed.append(f"{risk.id}: nothing here can do: {risk.remedy}")
        for _, match, do in ways:
            if do is None:
                continue
            changes = list(do(before, risk, match))
            other = source
            for where, value in changes:
                other = other.changed(where, value)
            left = {each.id: each for each in study_source(other, TODAY).risks}
            if risk.id in left or not changes:
                failed.append(f"{risk.id}: {match[0]!r} leaves {left[risk.id].message if changes else 'all'}")
    assert not failed, "\n".join(failed)
