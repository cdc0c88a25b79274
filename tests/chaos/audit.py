"""What must be true after a campaign, whatever was killed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from campaign import Result


def audit(connection: psycopg.Connection[Any], result: Result, calls: list[tuple[str, str]]) -> None:
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
        " WHERE state NOT IN ('dead', 'succeeded')",
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
        "SELECT source, id, number FROM (SELECT source, id, number, lag(number) OVER (PARTITION BY source ORDER BY id)"
        " AS before FROM effect WHERE kind = 'keyed') AS followed WHERE before > number",
    )
    none("workers that took no leave", "SELECT id, name FROM mainstay.worker WHERE alive_until > now()")

    keys_of: dict[str, set[str]] = defaultdict(set)
    tokens_of: dict[str, set[str]] = defaultdict(set)
    for key, token in calls:
        keys_of[token].add(key)
        tokens_of[key].add(token)
    promised = {row[0] for row in rows("SELECT token FROM ledger WHERE kind = 'outside'")}
    for what, found in (
        ("called outside under several keys", [token for token, keys in keys_of.items() if len(keys) > 1]),
        ("one key for several things outside", [key for key, tokens in tokens_of.items() if len(tokens) > 1]),
        ("never called outside", sorted(promised - set(keys_of))),
        ("called outside for what was never published", sorted(set(keys_of) - promised)),
    ):
        if found:
            result.faults.append(f"{what}: {len(found)}, such as {found[:3]}")
    result.notes["calls outside that were repeated, under the key of the first"] = len(calls) - len(keys_of)
    history = rows("SELECT count(*) FROM mainstay.worker")[0][0]
    result.notes["rows of workers left behind"] = history
