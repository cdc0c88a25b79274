"""What must be true of every payment after a campaign: its end, each effect once and in order, and the money."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from chaos_sagas import FATES, STUCK
from stub_provider import Asked

if TYPE_CHECKING:
    from chaos_report import Result

Fault = Callable[[str, Sequence[Any]], None]


def audit_sagas(connection: psycopg.Connection[Any], result: Result, asked: Sequence[Asked]) -> None:
    """Compare each payment with its fate; faults and counts go into `result`."""

    def rows(sql: str) -> list[Any]:
        return connection.execute(sql).fetchall()

    def fault(what: str, found: Sequence[Any]) -> None:
        if found:
            result.faults.append(f"{what}: {len(found)}, such as {found[:3]}")

    promised = {row[0]: row[1:] for row in rows("SELECT saga, fate, source, target, amount FROM saga_ledger")}
    status = {row[0]: row[1:] for row in rows("SELECT id, state::text, stuck FROM mainstay.saga_status")}
    done: dict[int, list[str]] = defaultdict(list)
    for saga, what in rows("SELECT saga, what FROM saga_effect ORDER BY id"):
        done[saga].append(what)
    fault("sagas lost", sorted(set(promised) - set(status)))
    fault("sagas that nobody started", sorted((set(status) | set(done)) - set(promised)))

    ends = {saga: (status[saga][0], tuple(done[saga])) for saga in promised if saga in status}
    fault(
        "sagas that did not come to the end that they must, or not with each effect once and in order",
        [
            (saga, fate, *ends[saga])
            for saga, (fate, *_) in promised.items()
            if saga in ends and ends[saga] not in FATES[fate].ends
        ],
    )
    fault(
        "sagas stuck without the reason being told",
        [
            (saga, fate, status[saga][1])
            for saga, (fate, *_) in promised.items()
            if fate in STUCK and saga in status and not (status[saga][1] or "").startswith(STUCK[fate])
        ],
    )
    expected = Counter(dict.fromkeys((row[0] for row in rows("SELECT id FROM purse")), 1000))
    for saga, (_, source, target, amount) in promised.items():
        state = status.get(saga, ("compensated",))[0]
        if state != "compensated":
            expected[source] -= amount
        if state == "completed":
            expected[target] += amount
    fault(
        "purses with money made or lost",
        [row for row in rows("SELECT id, balance FROM purse") if expected[row[0]] != row[1]],
    )
    fault(
        "sagas of one lock at work at the same time",
        rows(
            "SELECT place, saga FROM (SELECT place, saga, min(id) AS first, lag(max(id)) OVER"
            " (PARTITION BY place ORDER BY min(id)) AS before FROM saga_effect JOIN saga_ledger USING (saga)"
            " GROUP BY place, saga) AS followed WHERE before > first"
        ),
    )
    _outside(fault, {saga: state for saga, (state, _) in status.items()}, asked)
    result.sagas.update((fate, status[saga][0]) for saga, (fate, *_) in promised.items() if saga in status)


def _outside(fault: Fault, states: dict[int, str], asked: Sequence[Asked]) -> None:
    """At the provider: whatever was asked for was asked under one key, and what is there is what the end says."""
    by_saga: dict[int, list[Asked]] = defaultdict(list)
    owner: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for one in asked:
        owner[one.key].add((one.about, one.what))
        if one.what != "notify":
            by_saga[int(one.about)].append(one)
    fault("one key for several things outside", [key for key, of in owner.items() if len(of) > 1])
    fault("outside asked for sagas that nobody started", sorted(set(by_saga) - set(states)))
    several, wrong = [], []
    for saga, state in states.items():
        keys: dict[str, set[str]] = defaultdict(set)
        there: dict[str, str] = {}
        revoked: set[str | None] = set()
        for one in by_saga[saga]:
            keys[one.what].add(one.key)
            if one.answer != "no":
                there[one.what] = one.key
                revoked.add(one.undoes)
        several += [(saga, what) for what, found in keys.items() if len(found) > 1]
        reserved = "reserve" in there and there["reserve"] not in revoked
        found = (reserved, "send" in there, "revoke" in there)
        if state in ("completed", "finishing"):
            right = found == (True, True, False)
        elif state == "compensated":
            right = found[:2] == (False, False)
        else:
            right = found == (True, False, False)
        if not right:
            wrong.append((saga, state, *(one for one in by_saga[saga])))
    fault("steps outside asked for under several keys", several)
    fault("sagas whose effects outside are not what their end says", wrong)
