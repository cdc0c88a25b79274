"""A repeated call does the same thing twice."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import behind, brokers, changes_there, holds_money, listed, waited
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Dep, Entity, Op, System, Write
from mainstay.architect.findings import Severity, Step

KIND = Kind(
    name="missing-idempotency",
    title="A call that may come twice takes effect twice",
    severity=Severity.HIGH,
    formula="the call is repeated (by a client, a retry, a webhook or a broker) × it creates, changes or "
    "pays, itself or, where it is a front that writes nothing, by what it calls × nothing on the way "
    "recognizes the repetition",
    why="A reply that is lost looks like a failure: the shopper presses again, the client retries, the "
    "provider delivers its webhook once more. Two orders, two charges.",
    wrong_when="Where a unique constraint on natural data refuses the second one: say idempotent: natural. A "
    "client's repetition is only asked about where money is in the row, or is paid.",
    remedy="An Idempotency-Key that is stored with the effect, in its transaction.",
    patterns=("idempotency-key", "inbox"),
    sources=(
        "draft-ietf-httpapi-idempotency-key-header",
        "Helland: Idempotence Is Not a Medical Condition (2012)",
    ),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each operation, and one for each dependency call that is repeated blindly."""
    system = study.system
    for op in system.ops.values():
        for edge in op.edges:
            attempts, dep = system.attempts(edge), edge.target
            if attempts.value == 1 or not isinstance(dep, Dep) or not changes_there(dep):
                continue
            if dep.spec.idempotency not in (None, "none"):
                continue
            yield Risk(
                KIND,
                edge.id,
                f"{op.id} calls {dep.name} up to {attempts.value:g} times, and {dep.name} "
                f"{'cannot tell' if dep.spec.idempotency else 'is not said to tell'} that it is the same call",
                f"{attempts.value:g} attempts × no idempotency",
                (attempts,),
                f"send the same key with every attempt and say {dep.name}.idempotency, or do not repeat",
                system.at(*edge.where),
                severity=Severity.CRITICAL if dep.spec.kind == "payment" else None,
            )
        if op.spec.idempotent in ("key", "natural"):
            continue
        if (found := _twice(system, op) or _by_the_front(system, op)) is not None:
            yield found


def _doubled(op: Op) -> list[Write]:
    """What it writes that is there twice where it runs twice."""
    return [
        write for write in op.writes if write.how == "creates" or (write.how == "changes" and write.field)
    ]


def _by_the_front(system: System, op: Op) -> Risk | None:
    """A client enters where nothing is written, and what is called behind it creates what has money in it.

    Whoever is told of by another risk of this kind (its calls are repeated) is left out.
    """
    clients = [g.actor for g in op.spec.by.grants if g.actor in system.actors] if op.spec.by else []
    if not clients or op.writes:
        return None
    known = {each for each in behind(op) if each.spec.idempotent in ("key", "natural")}
    made: dict[Entity, Op] = {}
    for each in behind(op, known):
        if each in known or any(system.attempts(edge).value > 1 for edge in each.callers):
            continue
        paid = any(isinstance(edge.target, Dep) and edge.target.spec.kind == "payment" for edge in each.edges)
        for write in _doubled(each):
            if write.how == "creates" and (holds_money(write.entity) or paid):
                made.setdefault(write.entity, each)
    if not made:
        return None
    what = listed([f"{entity.name} (by {each.id})" for entity, each in made.items()])
    names = listed(list(dict.fromkeys(each.id for each in made.values())))
    return Risk(
        KIND,
        op.id,
        f"{op.id} creates {what}; a {clients[0]} whose reply is lost sends it again, and gets "
        f"{'it' if len(made) == 1 else 'all of it'} twice",
        f"{clients[0]} repeats × creates {listed([entity.name for entity in made])}",
        (),
        f"require an Idempotency-Key header, hand it on to {names}, and say idempotent: key of "
        f"{'it' if len(made) == 1 else 'each'}",
        system.at(*op.where),
        tuple(
            Step(system.at(*each.where), f"{each.id} creates {entity.name}", each.id)
            for entity, each in made.items()
        ),
        severity=Severity.HIGH,
    )


def _twice(system: System, op: Op) -> Risk | None:
    doubled = _doubled(op)
    if not doubled:
        return None
    what = f"{doubled[0].how} {doubled[0].entity.name}{'.' + doubled[0].field if doubled[0].field else ''}"
    money = holds_money(doubled[0].entity) or any(
        isinstance(edge.target, Dep) and edge.target.spec.kind == "payment" for edge in waited(op)
    )
    retried = [edge for edge in op.callers if system.attempts(edge).value > 1]
    senders = [grant.actor for grant in op.spec.by.grants if grant.actor in system.deps] if op.spec.by else []
    told = [e.name for name in op.spec.on for e in system.events[name].emitters if isinstance(e, Dep)]
    clients = (
        [grant.actor for grant in op.spec.by.grants if grant.actor in system.actors] if op.spec.by else []
    )
    if retried:
        attempts = system.attempts(retried[0])
        return _risk(
            system,
            op,
            f"{op.id} {what} and is repeated by {retried[0].caller.id}, up to {attempts.value:g} times in all",
            f"{attempts.value:g} attempts × {what}",
            f"say {op.id} idempotent: key, and store the key with what it {doubled[0].how}",
            Severity.CRITICAL if money else Severity.HIGH,
        )
    if senders or told:
        who = (senders or told)[0]
        return _risk(
            system,
            op,
            f"{op.id} {what} on a webhook of {who}, which delivers at least once",
            f"at least once × {what}",
            f"keep {who}'s delivery id in an inbox, in the same transaction, and say idempotent: key",
            Severity.HIGH,
        )
    if clients and money:
        return _risk(
            system,
            op,
            f"{op.id} {what}; a {clients[0]} whose reply is lost sends it again, and gets it twice",
            f"{clients[0]} repeats × {what}",
            f"say {op.id} idempotent: key, and require an Idempotency-Key header",
            Severity.HIGH,
        )
    if op.spec.on and brokers(system):
        return _risk(
            system,
            op,
            f"{op.id} {what} on {op.spec.on[0]}, which {brokers(system)[0]} delivers at least once",
            f"at least once × {what}",
            "consume it through an inbox, in the same transaction, and say idempotent: key",
            Severity.MEDIUM,
        )
    return None


def _risk(system: System, op: Op, message: str, formula: str, remedy: str, severity: Severity) -> Risk:
    return Risk(KIND, op.id, message, formula, (), remedy, system.at(*op.where), severity=severity)
