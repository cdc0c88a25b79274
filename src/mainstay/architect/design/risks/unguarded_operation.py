"""An operation that more may call than should, or nobody at all."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import (
    behind,
    belongs,
    checks_secret,
    end_user,
    listed,
    open_to_all,
    written,
)
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.risks.personal_data import given_by
from mainstay.architect.design.system import Entity, Op, System, Write
from mainstay.architect.findings import Severity

KIND = Kind(
    name="unguarded-operation",
    title="Who may call an operation is not said, or is everybody, or is everybody for everybody's data",
    severity=Severity.HIGH,
    formula="no by, no caller and nothing it reacts to; or by anyone and it changes rows or gives personal "
    "data; or an end user without own or tenant on rows that belong to somebody; or tenants and no tenant "
    "scope",
    why="Whoever guesses another id reads or changes another one's row: broken object-level authorization is "
    "the most common fault of APIs, and no scanner sees it, since each single request is well formed.",
    wrong_when="Where the actor is staff or a machine that may see everything: give it roles, or auth "
    "api_key or mtls.",
    remedy="Say by whom, and over what: by: shopper own.",
    sources=("OWASP API Security Top 10 (2023): API1 Broken Object Level Authorization, API5",),
)


def assess(study: Study) -> Iterator[Risk]:
    """At most one risk for each operation, and one for each actor whose sign-in is not said."""
    system = study.system
    stood_in = {op.spec.deprecated.use for op in system.ops.values() if op.spec.deprecated}
    undos = {op.undo for op in system.ops.values() if op.undo}
    fallbacks = {edge.fallback for op in system.ops.values() for edge in op.edges if edge.fallback}
    for op in system.ops.values():
        if op.spec.by is None:
            called = (
                op.callers
                or op.spec.on
                or op.spec.every
                or op in undos
                or op in fallbacks
                or op.name in stood_in
            )
            if not called:
                yield _risk(
                    system,
                    op,
                    f"nothing says who may call {op.id}, and nothing calls it",
                    "0 actors, 0 callers, 0 events, no schedule",
                    "say by whom, or what it reacts to; leave it out where nobody needs it",
                    Severity.MEDIUM,
                )
            continue
        if (found := _too_open(system, op)) is not None:
            yield found
    used = {grant.actor for op in system.ops.values() if op.spec.by for grant in op.spec.by.grants}
    for actor in system.actors.values():
        if actor.spec.auth is None and actor.name in used:
            yield Risk(
                KIND,
                actor.name,
                f"nothing says how {actor.name} signs in",
                "auth is not written",
                (),
                f"say {actor.name}.auth: oidc, session, jwt, api_key, mtls, or none where it is meant",
                system.at(*actor.where),
                severity=Severity.MEDIUM,
            )


def _too_open(system: System, op: Op) -> Risk | None:
    made, changes = _made(op), changed(op)
    given = op.spec.gives.type.entity if op.spec.gives and op.spec.gives.type else ""
    echo = bool(given) and system.entity(given, op.service, op.where) in made  # gives back what it was given
    personal = [] if echo else given_by(system, op)
    opened = open_to_all(system, op)
    if opened and (personal or changes) and not checks_secret(system, op):
        if personal:
            what = f"gives {listed(personal[:3])}"
        else:
            by, write = changes[0]
            what = f"{write.how} {write.entity.name}" + (f" by {by.id}" if by is not op else "")
        return _risk(
            system,
            op,
            f"{op.id} is open to {listed(opened)} and {what}",
            f"{len(opened)} without sign-in × {len(personal)} personal fields given, {len(changes)} kinds of "
            "rows changed",
            "let only those call it who have signed in, and over their own",
            Severity.CRITICAL if changes else Severity.HIGH,
        )
    if opened and not changes:
        return None  # whoever signs in sees no more than everybody does
    touched = _touched(system, op)
    owned = [entity for entity in touched if belongs(system, entity)]
    tenancy = system.blueprint.tenancy
    for grant in op.spec.by.grants if op.spec.by else ():
        actor = system.actors.get(grant.actor)
        if actor is None or grant.scope:
            continue
        if tenancy is not None and actor.spec.tenant and touched:
            return _risk(
                system,
                op,
                f"{op.id} gives or changes {touched[0].name}, and {actor.name} of one tenant is not kept from "
                "another's",
                f"tenancy by {tenancy.isolation}, 0 tenant scopes",
                f"say by: {actor.name} tenant, and set the tenant for the transaction (row-level security)",
                Severity.CRITICAL,
            )
        if owned and not actor.spec.tenant and end_user(actor):
            return _risk(
                system,
                op,
                f"any {actor.name} may reach any {owned[0].name} by {op.id}: nothing says own",
                f"{op.id} × {owned[0].name} × every {actor.name}",
                f"say by: {actor.name} own, and look rows up by owner and id together; or all, where all may",
                Severity.HIGH,
            )
    return None


def _made(op: Op) -> set[Entity]:
    return {write.entity for each in behind(op) for write in each.writes if write.how == "creates"}


def changed(op: Op) -> list[tuple[Op, Write]]:
    """The existing rows that it changes, and who does it: itself or, as a front that writes nothing, what it calls.

    Where something is created behind a front, what else is changed there goes with it: a timeline with its post.
    """
    if not op.writes and _made(op):
        return []
    return [(each, write) for each, write in written(op) if write.how != "creates"]


def _touched(system: System, op: Op) -> list[Entity]:
    """Entities whose existing rows it gives or changes."""
    made = _made(op)
    found = [write.entity for _, write in changed(op)]
    given = op.spec.gives.type if op.spec.gives else None
    if given is not None and given.entity and not given.field:
        entity = system.entity(given.entity, op.service, op.where)
        if entity not in made and entity.service:
            found.append(entity)
    return [entity for entity in dict.fromkeys(found) if entity not in made]


def _risk(system: System, op: Op, message: str, formula: str, remedy: str, severity: Severity) -> Risk:
    place = system.at(*op.where, "by") if op.spec.by else system.at(*op.where)
    return Risk(KIND, op.id, message, formula, (), remedy, place, severity=severity)
