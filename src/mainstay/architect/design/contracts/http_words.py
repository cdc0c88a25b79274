"""What OpenAPI says of an operation in words and headers, and when a repetition or a limit is its concern."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

from mainstay.architect.design.contracts.http_headers import HEADERS
from mainstay.architect.design.contracts.json_schema import resolved
from mainstay.architect.design.contracts.naming import STREAMING, article, plural, reads, sentence
from mainstay.architect.design.contracts.routes import Route
from mainstay.architect.design.contracts.security import requirements
from mainstay.architect.design.questions import holds_money, listed
from mainstay.architect.design.system import Dep, Op, System
from mainstay.architect.design.units import Rate


def needs_key(system: System, route: Route) -> bool:
    """A repetition is recognized by an Idempotency-Key: it is written so, or money moves and nothing is written."""
    op = route.op
    if op.spec.idempotent is not None or route.method != "POST" or reads(op):
        return op.spec.idempotent == "key" and route.method in ("POST", "PATCH")
    pays = any(isinstance(edge.target, Dep) and edge.target.spec.kind == "payment" for edge in op.edges)
    takes = any(resolved(system, type, op.service)[0].name == "money" for type in op.spec.takes.values())
    makes = any(write.how == "creates" and holds_money(write.entity) for write in op.writes)
    return pays or makes or (takes and op.mutates)


def succeeds_with(route: Route) -> str:
    """The status of success."""
    op = route.op
    if op.kind == "long":
        return "202"
    if op.kind != "bulk" and route.method == "POST" and any(write.how == "creates" for write in op.writes):
        return "201"
    gives = op.spec.gives is not None and op.spec.gives.type is not None
    return "200" if gives or op.kind in ("bulk", "download") else "204"


def limits(system: System, op: Op) -> dict[str, Rate]:
    """The rate limits that its callers meet: ``caller`` for that of the operation, and that of each actor."""
    made = {} if op.spec.limit is None else {"caller": op.spec.limit}
    for grant in op.spec.by.grants if op.spec.by is not None else ():
        limit = system.actors[grant.actor].spec.limit if grant.actor in system.actors else None
        if limit is not None:
            made[grant.actor] = limit
    return made


def limited(system: System, op: Op) -> bool:
    """Who calls too often is told to wait."""
    return bool(limits(system, op))


def policy(system: System, op: Op) -> dict[str, Any]:
    """The header that tells a caller its limit, with the numbers of the blueprint."""
    values = []
    for who, rate in limits(system, op).items():
        window = next((seconds for seconds in (1, 60, 3600) if rate.per_second * seconds >= 1), 86_400)
        values.append(f'"{who}";q={max(1, round(rate.per_second * window))};w={window}')
    return {**HEADERS["RateLimit-Policy"], "example": values[0]}


def about(system: System, op: Op) -> str:
    """What an operation does, in a few plain sentences."""
    said = [op.spec.about.rstrip(".")] if op.spec.about else _does(op)
    if op.spec.emits:
        said.append(f"Emits {listed(op.spec.emits)}")
    if op.undo is not None:
        said.append(f"Taken back by {op.undo.name}")
    if op.spec.deprecated is not None:
        gone = op.spec.deprecated
        said.append(
            f"Deprecated since {gone.since}"
            + (f", gone on {gone.sunset}" if gone.sunset else "")
            + (f"; use {gone.use}" if gone.use else "")
        )
    for who, rate in limits(system, op).items():
        said.append(
            f"At most {rate} for one caller"
            if who == "caller"
            else f"At most {rate} for one {who}, over all it calls"
        )
    if not requirements(system, op):
        said.append("The blueprint does not say who may call it or how they sign in")
    return ". ".join(said) + "."


def _does(op: Op) -> list[str]:
    said = []
    for write in dict.fromkeys((write.how, write.entity.name, write.field) for write in op.writes):
        how, name, changed = write
        if how == "moves":
            said += [f"Moves {article(name)} to {move.to}" for move in op.spec.moves if move.entity == name]
        else:
            verb = {"creates": "Makes", "deletes": "Deletes", "changes": "Changes"}[how]
            said.append(f"{verb} {f'{changed} of ' if changed else ''}{article(name)}")
    given = op.spec.gives.type if op.spec.gives is not None else None
    if op.kind in STREAMING and given is not None and given.entity:
        return [f"Tells of every change of {article(given.entity)} as it happens"]
    if not said and given is not None:
        name = f"{given.field} of {article(given.entity)}" if given.field else given.entity
        if op.lists and name:
            page = f", {op.spec.page} at a time" if op.spec.page is not None else ""
            return [f"Lists {plural(name)}{page}"]
        if given.entity:
            return [f"Gives {name if given.field else article(name)}"]
    return said or [sentence(op.name)]


def said(op: Op, status: str) -> str:
    """The description of a success."""
    given = op.spec.gives.type if op.spec.gives is not None else None
    if status == "201":
        return "It was made."
    if op.kind == "bulk":
        return "What became of each item."
    if op.kind == "download":
        return "The content of the file."
    if op.kind in STREAMING:
        return "A stream that stays open; each event is sent as it happens."
    if status == "204" or given is None:
        return "It was done." if not reads(op) else "It is so."
    if op.lists:
        return f"One page of {plural(given.entity) or 'values'}." if op.spec.page else "All of them."
    return f"The {given.field or given.entity or sentence(op.name).lower()}."


def ending(op: Op) -> dict[str, Any]:
    """Since when an operation is deprecated (RFC 9745) and when it goes (RFC 8594), with the values it will send."""
    gone = op.spec.deprecated
    if gone is None:
        return {}
    since = int(datetime.combine(gone.since, time(), UTC).timestamp())
    made: dict[str, Any] = {
        "Deprecation": {
            "description": "Since when it is deprecated (RFC 9745).",
            "schema": {"type": "string", "const": f"@{since}"},
        }
    }
    if gone.sunset is not None:
        made["Sunset"] = {
            "description": "When it goes away (RFC 8594).",
            "schema": {"type": "string", "const": http_date(gone.sunset)},
        }
    return made


def http_date(day: date) -> str:
    """Midnight (UTC) of a day as HTTP writes it (RFC 9110, 5.6.7), whatever the locale."""
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{days[day.weekday()]}, {day.day:02} {months[day.month - 1]} {day.year:04} 00:00:00 GMT"


def cached(system: System, op: Op) -> dict[str, Any]:
    """How long an answer may be used (RFC 9111), and when the service is away (RFC 5861)."""
    cache = op.spec.cache
    if cache is None:
        return {}
    shared = any(need == {} for need in requirements(system, op)) and not any(
        grant.scope for grant in (op.spec.by.grants if op.spec.by else ())
    )
    value = f"{'public' if shared else 'private'}, max-age={int(cache.fresh.seconds)}"
    if cache.stale is not None:
        value += f", stale-if-error={int(cache.stale.seconds)}"
    until = f" The service drops its own copy earlier, on {listed(cache.until)}." if cache.until else ""
    return {
        "description": f"How long the answer may be used (RFC 9111).{until}",
        "schema": {"type": "string"},
        "example": value,
    }
