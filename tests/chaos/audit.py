"""What must be true after a campaign, whatever was killed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from saga_audit import audit_sagas
from stub_provider import Asked

from mainstay.patterns.brokers import CloudEvent

if TYPE_CHECKING:
    from chaos_report import Result


def audit(connection: psycopg.Connection[Any], result: Result, asked: Sequence[Asked]) -> None:
    """Compare what was promised with what was done; faults and counts go into `result`."""

    def rows(sql: str) -> list[Any]:
        return connection.execute(sql).fetchall()

    def none(what: str, sql: str) -> None:
        found = rows(sql)
        if found:
            result.faults.append(f"{what}: {len(found)}, such as {found[:3]}")

    result.published.update(dict(rows("SELECT kind, count(*)::int FROM ledger GROUP BY kind")))
    none(
        "stuck",
        "SELECT id, kind, state::text, leased_by, attempts, key FROM mainstay.message"
        " WHERE state NOT IN ('dead', 'succeeded') AND NOT (kind LIKE 'saga/%' AND EXISTS ("
        "SELECT FROM mainstay.saga WHERE ended_at IS NULL AND 'mainstay.saga:' || saga.id = unique_key))",
    )
    none(
        "lost: published, and without effect",
        "SELECT token, kind FROM ledger LEFT JOIN effect USING (token, kind)"
        " WHERE effect.id IS NULL AND kind NOT IN ('doomed', 'outside', 'blocking')",
    )
    none("doubled: more than one effect", "SELECT token, kind FROM effect GROUP BY 1, 2 HAVING count(*) > 1")
    none(
        "effects of what was never published",
        "SELECT token, kind FROM effect LEFT JOIN ledger USING (token, kind) WHERE ledger.token IS NULL",
    )
    none("effects of attempts that failed", "SELECT token FROM effect WHERE kind = 'doomed'")
    none(
        "given up though it is not doomed, or without history",
        "SELECT id, kind, errors FROM mainstay.message"
        " WHERE state = 'dead' AND (kind <> 'doomed' OR jsonb_array_length(errors) = 0)",
    )
    none(
        "doomed and not there as dead",
        "SELECT ledger.token FROM ledger LEFT JOIN mainstay.message"
        " ON message.kind = 'doomed' AND message.payload ->> 'token' = ledger.token AND state = 'dead'"
        " WHERE ledger.kind = 'doomed' AND message.id IS NULL",
    )
    none("money made or lost", "SELECT sum(balance) FROM account HAVING sum(balance) <> 20000")
    none(
        "out of order under a key",
        "SELECT kind, source, id, number FROM (SELECT kind, source, id, number,"
        " lag(number) OVER (PARTITION BY kind, source ORDER BY id) AS before"
        " FROM effect WHERE kind IN ('keyed', 'told')) AS followed WHERE before > number",
    )
    none("workers that took no leave", "SELECT id, name FROM mainstay.worker WHERE alive_until > now()")

    calls = [one for one in asked if one.what == "notify"]
    keys_of: dict[str, set[str]] = defaultdict(set)
    for one in calls:
        keys_of[one.about].add(one.key)
    promised = {row[0] for row in rows("SELECT token FROM ledger WHERE kind = 'outside'")}
    for what, found in (
        ("called outside under several keys", [token for token, keys in keys_of.items() if len(keys) > 1]),
        ("never called outside", sorted(promised - set(keys_of))),
        ("called outside for what was never published", sorted(set(keys_of) - promised)),
    ):
        if found:
            result.faults.append(f"{what}: {len(found)}, such as {found[:3]}")
    repeated = len(asked) - len({one.key for one in asked})
    result.notes["calls outside that were repeated, under the key of the first"] = repeated
    history = rows("SELECT count(*) FROM mainstay.worker")[0][0]
    result.notes["rows of workers left behind"] = history
    audit_sagas(connection, result, asked)


def audit_broker(
    result: Result, kind: str, kept: Sequence[CloudEvent], told: int, unacknowledged: int
) -> None:
    """What a broker has kept must be all that was told, and of each key in order, by the first sight of each event.

    Args:
        kept: in the broker's order, with what it has twice.
        told: events that committed transactions had published.
        unacknowledged: deliveries that consumers have not taken, or not acknowledged.
    """
    first = {event.id: event for event in kept}  # a dict keeps the place of the first
    last: dict[str | None, int] = {}
    late = []
    for event in first.values():
        number = json.loads(event.data or b"")["number"]
        if number < last.get(event.key, 0):
            late.append((event.key, number, last[event.key]))
        last[event.key] = max(number, last.get(event.key, 0))
    if late:
        result.faults.append(f"sent to {kind} out of order under a key: {len(late)}, such as {late[:3]}")
    if len(first) != told:
        result.faults.append(f"{kind} has {len(first)} different events, and {told} were told")
    if unacknowledged:
        result.faults.append(f"{kind} has {unacknowledged} deliveries that nobody has acknowledged")
    result.notes[f"events that {kind} was sent, of {told} told"] = len(kept)
