"""Decisions that the blueprint poses, each with what was computed for it and what was turned down (MADR 4.0).

Only what is really at hand is written: a saga where an operation writes in several services, a broker or none where
there are events, a cache where there is one. The numbers are those of the risks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mainstay.architect.design.figures import PER_SECOND, SECONDS, show
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.questions import brokers, entered, holds_money, listed, waited, waited_for
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Dep, Op, System


@dataclass(frozen=True, slots=True)
class Option:
    """One way, with what speaks for and against it."""

    name: str
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. The first option is the one taken."""

    title: str
    context: str
    options: tuple[Option, ...]
    because: str
    consequences: tuple[str, ...]
    risks: tuple[str, ...] = ()
    """Ids of risks that it answers or that stand against it."""


def generate(result: Result) -> Iterator[Generated]:
    """One file a decision, numbered in the order below."""
    made = [
        *_messages(result),
        *_sagas(result),
        *_chains(result),
        *_caches(result),
        *_repetition(result),
        *_tenants(result),
    ]
    for number, decision in enumerate(made, 1):
        slug = re.sub(r"[^a-z0-9]+", "-", decision.title.lower()).strip("-")
        yield Generated(
            f"decisions/{number:04}-{slug[:60].rstrip('-')}.md",
            _text(decision),
            decision.title,
            "markdown",
            decision.because,
            "Decisions",
        )


def _text(decision: Decision) -> str:
    taken = decision.options[0]
    lines = [
        "---",
        "status: proposed",
        "---",
        "",
        f"# {decision.title}",
        "",
        "## Context and Problem Statement",
        "",
    ]
    lines += [decision.context, "", "## Considered Options", ""]
    lines += [f"- {option.name}" for option in decision.options]
    lines += [
        "",
        "## Decision Outcome",
        "",
        f'Chosen option: "{taken.name}", because {decision.because}.',
        "",
    ]
    lines += ["### Consequences", "", *(f"- {text}" for text in decision.consequences), ""]
    if decision.risks:
        lines += ["### Confirmation", "", "`mainstay design` computes these from the blueprint:", ""]
        lines += [f"- `{risk}`" for risk in decision.risks]
        lines.append("")
    lines += ["## Pros and Cons of the Options", ""]
    for option in decision.options:
        lines += [f"### {option.name}", ""]
        lines += [f"- Good, because {text}" for text in option.good]
        lines += [f"- Bad, because {text}" for text in option.bad]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _about(result: Result, *subjects: str, kinds: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Risks about some subjects."""
    return tuple(
        risk.id
        for risk in result.risks
        if risk.subject in subjects and (not kinds or risk.kind.name in kinds)
    )


def _messages(result: Result) -> Iterator[Decision]:
    system, flows = result.study.system, result.study.flows
    emitting = [op for op in system.ops.values() if op.spec.emits]
    if not emitting:
        return
    peak = sum(flows.runs(op).peak * len(op.spec.emits) for op in emitting)
    engine = system.assumption("engine", PER_SECOND)
    events = sum(1 for event in system.events.values() if event.emitters)
    through = brokers(system)
    context = (
        f"{events} kinds of events are emitted by {len(emitting)} operations, {show(peak, PER_SECOND)} at peak. "
        "An event must exist if and only if the change that it tells of was committed."
    )
    outbox = Option(
        "Outbox in PostgreSQL, no broker",
        (
            "the event commits with the change: neither can be lost or be told of alone",
            f"{show(peak, PER_SECOND)} at peak are within the {engine} that one database carries with room",
            "there is no further part to run",
        ),
        (
            "systems of others cannot subscribe to it",
            "a history to be read again and again has to be kept by a consumer",
        ),
    )
    broker = Option(
        f"Outbox, relayed to {system.parts[through[0]].spec.kind}"
        if through
        else "Outbox, relayed to a broker",
        (
            "any number of consumers, of any language, read on their own",
            f"more than {engine} are carried" if peak > engine.value else "there is room beyond the peak",
        ),
        (
            "one more part to run, and one more in what has to be there",
            "delivery is at least once: each consumer needs an inbox",
        ),
    )
    direct = Option(
        "Publish to a broker from the request",
        ("nothing is stored in between",),
        ("the process can die between COMMIT and publish, or publish what is rolled back: a dual write",),
    )
    if through:
        demanded = peak >= engine.value
        because = (
            f"{show(peak, PER_SECOND)} at peak are more than the {engine} that one PostgreSQL is taken to carry"
            if demanded
            else f"the blueprint has {through[0]}; {show(peak, PER_SECOND)} at peak would not ask for it"
        )
        options = (broker, outbox, direct)
    else:
        because = f"{show(peak, PER_SECOND)} at peak do not ask for a broker, and nothing else in the blueprint does"
        options = (outbox, broker, direct)
    yield Decision(
        f"Events go through {options[0].name[:1].lower() + options[0].name[1:]}",
        context,
        options,
        because,
        (
            "Good, because a crash at any point loses no event",
            "Bad, because events arrive a little later than the commit",
        ),
        _about(result, *through, kinds=("needless-part",)),
    )


def _sagas(result: Result) -> Iterator[Decision]:
    system = result.study.system
    for op in system.ops.values():
        if any(edge.waits for edge in op.callers):
            continue
        writers = [each for each in waited_for(op) if each.writes]
        services = list(dict.fromkeys(writer.service for writer in writers))
        if len(services) < 2:
            continue
        undos = [f"{step.id} by {step.undo.name}" for step in writers if step.undo is not None]
        lacking = [step.id for step in writers if step.undo is None and step is not op]
        yield Decision(
            f"{op.id} is a saga",
            f"{op.id} writes in {listed(services)}: "
            f"{', '.join(f'{w.id} {w.writes[0].how} {w.writes[0].entity.name}' for w in writers)}. "
            "Each has a database of its own.",
            (
                Option(
                    "Saga: durable steps with compensation",
                    (
                        "each step commits on its own and survives a crash",
                        *([f"undone are {listed(undos)}"] if undos else []),
                    ),
                    (
                        "others see the state between two steps",
                        *(
                            [f"nothing undoes {listed(lacking)}: it has to come last, or needs an undo"]
                            if lacking
                            else []
                        ),
                    ),
                ),
                Option(
                    "Two-phase commit over the databases",
                    ("all or nothing, at one moment",),
                    (
                        f"rows in {len(services)} databases stay locked while the slowest answers",
                        "a coordinator that dies leaves prepared transactions that somebody has to end by hand",
                    ),
                ),
                Option(
                    "One service for all of it",
                    ("one transaction, and none of this",),
                    (f"{listed(services)} are then built and released together",),
                ),
            ),
            "no transaction spans the databases, and a half-done run has to end by itself",
            (
                "Good, because a crash at any step resumes or undoes",
                "Bad, because each step has to bear being run twice",
            ),
            _about(result, op.id, *(w.id for w in writers), kinds=("saga-missing", "missing-idempotency")),
        )


def _chains(result: Result) -> Iterator[Decision]:
    """Operations whose need is not met while they wait: wait, or hand over."""
    for risk in result.risks:
        if (
            risk.kind.name not in ("availability-chain", "latency-budget")
            or risk.subject not in result.study.system.ops
        ):
            continue
        op = result.study.system.ops[risk.subject]
        waits = [edge for edge in op.edges if edge.waits]
        if not waits:
            continue
        names = listed(list(dict.fromkeys(edge.target.id for edge in waits)))
        what = "availability" if risk.kind.name == "availability-chain" else "latency"
        yield Decision(
            f"{op.id} and its {what}: what is waited for",
            f"{risk.message[:1].upper()}{risk.message[1:]}. Computed: {risk.formula}.",
            (
                Option(
                    "Change the design until the number holds",
                    (f"{risk.remedy}",),
                    ("something has to be handed over, cached, or be done without",),
                ),
                Option(
                    f"Keep waiting for {names}",
                    ("the caller knows at once how it ended",),
                    ("the need that stands in the blueprint is not met",),
                ),
                Option(
                    "Lower the need",
                    ("nothing has to be built",),
                    ("somebody who asked for it has to agree, in a waiver with an owner and a day",),
                ),
            ),
            f"the {what} that is needed is computed not to be reached",
            (
                f"Good, because the {what} needed can be reached",
                "Neutral, because the number moves with each assumption",
            ),
            (risk.id,),
        )


def _caches(result: Result) -> Iterator[Decision]:
    system, flows = result.study.system, result.study.flows
    for op in system.ops.values():
        cache = op.spec.cache
        if cache is None:
            continue
        flow, hit, hold = flows.of(op), flows.hit(op), system.hold(op)
        whole = flow.peak * hold.value
        saved = whole * hit.value
        dropped = f", dropped by {listed(cache.until)}" if cache.until else ""
        yield Decision(
            f"{op.id} is cached for {cache.fresh}",
            f"{op.id} is asked {show(flow.peak, PER_SECOND)} at peak. A cache of {cache.fresh}{dropped} "
            f"answers {hit} of it"
            f"{' (assumed)' if hit.assumed else ''}.",
            (
                Option(
                    f"Cache for {show(cache.fresh.seconds, SECONDS)}",
                    (
                        f"{show(flow.peak * hit.value, PER_SECOND)} at peak do not reach the database: "
                        f"{saved:.2g} connections less",
                        *(
                            [f"for {cache.stale} more it answers while what is behind it is away"]
                            if cache.stale
                            else []
                        ),
                    ),
                    (
                        f"an answer may be {cache.fresh} old"
                        + (" where an event is missed" if cache.until else ""),
                    ),
                ),
                Option(
                    "No cache",
                    ("every answer is as it is now",),
                    (f"{whole:.2g} connections at peak instead of {whole - saved:.2g}",),
                ),
            ),
            f"it takes {hit} of {show(flow.peak, PER_SECOND)} off the database"
            if saved >= 1
            else f"the blueprint has it; by the numbers it saves {saved:.2g} connections, which do not ask for it",
            ("Good, because a peak of reads is borne", "Bad, because what is shown can be old"),
            _about(result, op.id, kinds=("stale-cache", "needless-part")),
        )


def _repetition(result: Result) -> Iterator[Decision]:
    system = result.study.system
    ops = [op for op in system.ops.values() if entered(op) and _pays(op)]
    if not ops:
        return
    keyed = [op.id for op in ops if op.spec.idempotent == "key"]
    names = listed([op.id for op in ops])
    yield Decision(
        "Operations with money recognize a repetition by Idempotency-Key",
        f"{names} create something that costs money. A client whose reply was lost sends the request again.",
        (
            Option(
                "Idempotency-Key, stored with the effect in one transaction",
                (
                    "the second request gets the first reply",
                    "a crash between effect and record cannot happen",
                ),
                ("clients have to make and keep a key",),
            ),
            Option(
                "A unique constraint on natural data",
                ("clients do nothing",),
                (
                    "two equal orders that are meant are refused",
                    "the second request gets an error, not the reply",
                ),
            ),
            Option("Nothing", (), ("the order is there twice, and paid twice",)),
        ),
        f"{len(keyed)} of {len(ops)} say so already" if keyed else "none of them recognizes a repetition yet",
        ("Good, because clients may repeat whatever they do not know the end of",),
        _about(result, *(op.id for op in ops), kinds=("missing-idempotency",)),
    )


def _pays(op: Op) -> bool:
    if any(write.how == "creates" and holds_money(write.entity) for write in op.writes):
        return True
    return any(isinstance(edge.target, Dep) and edge.target.spec.kind == "payment" for edge in waited(op))


def _tenants(result: Result) -> Iterator[Decision]:
    system: System = result.study.system
    tenancy = system.blueprint.tenancy
    if tenancy is None:
        return
    count = f"{tenancy.tenants:,} tenants" if tenancy.tenants else "tenants"
    row = Option(
        "A tenant's column in each table, with row-level security",
        ("one schema to migrate", "any number of tenants"),
        (
            "one forgotten condition shows all tenants, unless the database itself refuses",
            "a large tenant slows the others",
        ),
    )
    schema = Option(
        "A schema for each tenant",
        ("a forgotten condition cannot cross",),
        (f"each migration runs for each of {count}", "catalogs and plan caches grow with their number"),
    )
    database = Option(
        "A database for each tenant",
        ("a tenant can be restored, moved and limited alone",),
        (f"connections are not shared between {count}",),
    )
    options = {
        "row": (row, schema, database),
        "schema": (schema, row, database),
        "database": (database, schema, row),
    }
    because = {
        "row": f"{count} in one set of tables are the least to run",
        "schema": "tenants are kept apart by name, in one database",
        "database": "tenants are to be restored and moved alone",
    }
    yield Decision(
        f"Tenants are kept apart by {tenancy.isolation}",
        f"The system serves {count}" + (f", told apart by {tenancy.by}" if tenancy.by else "") + ".",
        options[tenancy.isolation],
        because[tenancy.isolation],
        ("Neutral, because moving to another way later is a migration of every row",),
        tuple(risk.id for risk in result.risks if "one tenant" in risk.message),
    )
