"""`mainstay messages`: what it shows, and what it does."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operations_help import MAINSTAY, Ended

Sql = Callable[..., list[Any]]
Mainstay = Callable[..., Ended]

REASON = "ValueError: no \x1b[31mroute"
ERROR = json.dumps(
    [
        {
            "at": "2026-01-01T00:00:00+00:00",
            "attempt": 1,
            "worker": "w:1",
            "error": REASON,
            "traceback": f"Traceback (most recent call last):\n  File x\n{REASON}",
        }
    ]
)


@pytest.fixture
def filled(sql: Sql) -> Sql:
    """Messages 1 to 6 in these states, some minutes old; queue slow is paused, queue mail limited."""
    for state, queue, kind, leased, ended, errors in (
        ("dead", "mail", "shop.mail.send_confirmation", None, True, ERROR),
        ("dead", "mail", "shop.mail.send_invoice", None, True, ERROR),
        ("scheduled", "default", "shop.reports.count", None, False, "[]"),
        ("waiting", "slow", "shop.reports.count", None, False, "[]"),
        ("running", "default", "shop.reports.count", 1, False, "[]"),
        ("succeeded", "default", "shop.reports.count", None, True, "[]"),
    ):
        sql(
            "INSERT INTO mainstay.message (state, queue, kind, payload, published_at, ready_at, rank, leased_by,"
            " ended_at, errors, attempts)"
            " SELECT %s::mainstay.message_state, %s, %s, '{\"order\": 7}', past, past, now(), %s,"
            " CASE WHEN %s THEN now() END, %s::jsonb, 1 FROM (SELECT now() - interval '3 min' AS past) AS times",
            *(state, queue, kind, leased, ended, errors),
        )
    sql("UPDATE mainstay.message SET ready_at = now() + interval '5 min' WHERE state = 'scheduled'")
    sql("INSERT INTO mainstay.queue (name, paused) VALUES ('slow', true)")
    sql("INSERT INTO mainstay.queue (name, concurrency, rate, burst) VALUES ('mail', 3, 2.5, 4)")
    sql(
        "INSERT INTO mainstay.worker (name, alive_until, info) VALUES ('host:1', now() + interval '20 s',"
        """ '{"queues": ["default", "reports"], "concurrency": 5, "running": 1, "finished": 9, "failed": 2}')"""
    )
    return sql


def state_of(sql: Sql, id: int) -> str | None:
    rows = sql("SELECT state::text FROM mainstay.message WHERE id = %s", id)
    return rows[0][0] if rows else None


def test_the_list_says_what_is_there(filled: Sql, mainstay: Mainstay) -> None:
    """Newest first, with age and the first line of the last error; nothing that a terminal would obey."""
    listed = mainstay("messages", "list")
    lines = [line.split() for line in listed.out.splitlines()]
    assert [line[0] for line in lines] == ["id", "6", "5", "4", "3", "2", "1"]
    assert "1  dead       mail     shop.mail.send_confirmation" in listed.out
    assert "3 min ago" in listed.out and "in 5 min" in listed.out
    assert "ValueError: no \N{REPLACEMENT CHARACTER}[31mroute" in listed.out
    assert "\x1b" not in listed.out
    assert (listed.code, listed.err) == (0, "")


@pytest.mark.parametrize("columns", [40, 60, 80, 110, 140])
def test_a_table_fits_the_terminal(columns: int, filled: Sql, mainstay: Mainstay) -> None:
    """Errors are cut and kinds go on in the next line, so that states and ids stay whole."""
    out = mainstay("messages", "list", columns=columns).out
    assert max(map(len, out.splitlines())) <= columns
    if columns >= 60:
        assert "succeeded" in out and "scheduled" in out
    if columns >= 80:
        assert "send_confirmation" in "".join(out.split()) or "shop.mail.send_" in out
    assert ("priority" in out, "attempts" in out) == (False, columns >= 110)


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--state", "dead"], [2, 1]),
        (["--state", "dead,running", "--state", "waiting"], [5, 4, 2, 1]),
        (["--queue", "default"], [6, 5, 3]),
        (["--kind", "shop.mail.send_invoice"], [2]),
        (["--error", "ROUTE"], [2, 1]),
        (["--before", "3"], [2, 1]),
        (["-n", "1"], [6]),
        (["--key", "nobody"], []),
    ],
)
def test_filters(arguments: list[str], ids: list[int], filled: Sql, mainstay: Mainstay) -> None:
    """Each does what it says, and what is found is one JSON document."""
    assert [one["id"] for one in mainstay("messages", "list", "--json", *arguments).json] == ids


def test_json_has_times_with_their_zone(filled: Sql, mainstay: Mainstay) -> None:
    """As ISO 8601, and all fields whatever the width."""
    (one,) = mainstay("messages", "list", "--json", "--queue", "slow", columns=40).json
    assert one["published_at"].endswith("+00:00") or "T" in one["published_at"]
    assert one["kind"] == "shop.reports.count" and one["ended_at"] is None


def test_the_next_page_is_named(filled: Sql, mainstay: Mainstay) -> None:
    """Where there may be more."""
    assert "--before 5" in mainstay("messages", "list", "-n", "2").out
    assert "--before" not in mainstay("messages", "list").out


def test_one_message_is_shown_whole(filled: Sql, mainstay: Mainstay) -> None:
    """With payload, idempotency key and the traceback of its last failure; as JSON too."""
    shown = mainstay("messages", "show", 1)
    for part in (
        "shop.mail.send_confirmation",
        '{"order": 7}',
        "idempotency key",
        "Traceback",
        "attempt 1",
        "w:1",
    ):
        assert part in shown.out
    assert "\x1b" not in shown.out
    assert mainstay("messages", "show", 1, "--json").json["errors"][0]["worker"] == "w:1"


def test_queues_are_counted(filled: Sql, mainstay: Mainstay) -> None:
    """With how long the oldest waits, pause, limits and who serves it; and the command that comes next."""
    table, _, hints = mainstay("messages", "stats").out.partition("\n\n")
    lines = {line.split()[0]: line.rstrip() for line in table.splitlines()}
    assert "3 at once, 2.5/s, bursts of 4" in lines["mail"]
    assert "paused" in lines["slow"] and "3 min" in lines["slow"]
    assert lines["default"].endswith("1") and lines["slow"].endswith("none")
    assert hints.splitlines() == [
        "no worker serves slow: mainstay worker MODULE:APP",
        "paused: mainstay messages resume slow",
        "dead in mail: mainstay messages list --state dead --queue mail",
    ]
    by_queue = {one["queue"]: one for one in mainstay("messages", "stats", "--json").json}
    assert by_queue["default"]["states"] == {"scheduled": 1, "running": 1, "succeeded": 1}
    assert [by_queue[queue]["workers"] for queue in ("default", "mail")] == [1, 0]
    filled("UPDATE mainstay.worker SET alive_until = now()")
    assert "no worker serves default, slow: " in mainstay("messages", "stats").out


def test_a_message_says_what_can_be_done_with_it(filled: Sql, mainstay: Mainstay) -> None:
    """By its state; of a saga's step, to look at the saga."""

    def last(id: int) -> str:
        return mainstay("messages", "show", id).out.splitlines()[-1]

    assert last(1) == "to start it over: mainstay messages redrive 1"
    assert last(3) == "to have it tried now: mainstay messages retry 3"
    assert last(4) == "its queue is paused: mainstay messages resume slow"
    assert last(5) == "to have it stopped: mainstay messages cancel 5"
    filled("UPDATE mainstay.queue SET paused = false")
    assert last(4) == "no worker serves slow: mainstay worker MODULE:APP"
    filled("UPDATE mainstay.message SET kind = 'saga/Order/pay', payload = '{\"saga\": 42}' WHERE id = 3")
    assert last(3) == "it is the step of a saga: mainstay sagas show 42"


def test_workers_are_listed(filled: Sql, mainstay: Mainstay) -> None:
    """With what they have done; one that is silent for too long is told."""
    assert "default, reports" in mainstay("messages", "workers").out
    assert mainstay("messages", "workers", "--json").json[0]["finished"] == 9
    filled("UPDATE mainstay.worker SET alive_until = now() - interval '2 min'")
    assert "silent for 2 min too long" in mainstay("messages", "workers").out


def test_a_queue_is_paused_resumed_and_limited(filled: Sql, mainstay: Mainstay) -> None:
    """Each says what it did."""
    assert mainstay("messages", "pause", "default").out == "queue default is paused\n"
    assert filled("SELECT paused FROM mainstay.queue WHERE name = 'default'") == [(True,)]
    assert mainstay("messages", "resume", "default", "--json").json == {"queue": "default", "paused": False}
    assert filled("SELECT paused FROM mainstay.queue WHERE name = 'default'") == [(False,)]
    assert mainstay("messages", "limit", "default", "--rate", "5", "--burst", "9").out == (
        "queue default: 5/s, bursts of 9\n"
    )
    assert mainstay("messages", "limit", "default", "--concurrency", "2", "--json").json["concurrency"] == 2
    assert mainstay("messages", "limit", "default", "--none").out == "queue default is free\n"
    assert filled("SELECT concurrency, rate FROM mainstay.queue WHERE name = 'default'") == [(None, None)]


def test_a_queue_that_nobody_knows_is_probably_misspelt(filled: Sql, mainstay: Mainstay) -> None:
    """The nearest name is offered; --new means it. A queue that only a worker serves is known."""
    for verb in ("pause", "resume"):
        assert "'mial' (did you mean 'mail'?)" in mainstay("messages", verb, "mial").refusal
    assert "did you mean 'mail'" in mainstay("messages", "list", "--queue", "mial").refusal
    assert "did you mean 'mail'" in mainstay("messages", "redrive", "--queue", "mial").refusal
    assert filled("SELECT count(*) FROM mainstay.queue") == [(2,)]
    assert mainstay("messages", "pause", "mial", "--new").code == 0
    assert mainstay("messages", "pause", "reports").code == 0


@pytest.mark.parametrize(
    ("verb", "id", "after"),
    [("redrive", 1, "waiting"), ("retry", 3, "waiting"), ("cancel", 4, "cancelled"), ("delete", 6, None)],
)
def test_what_is_done_by_id_is_done_unasked(
    verb: str, id: int, after: str | None, filled: Sql, mainstay: Mainstay
) -> None:
    """Whoever names ids has looked."""
    done = mainstay("messages", verb, id)
    assert (done.code, done.err) == (0, "")
    assert f"message {id}" in done.out
    assert state_of(filled, id) == after


def test_a_running_message_is_asked_to_stop(filled: Sql, mainstay: Mainstay) -> None:
    """That is not the same as cancelled."""
    assert mainstay("messages", "cancel", 4, 5, "--json").json == {
        "cancelled": [4],
        "asked_to_stop": [5],
        "not_done": {},
    }
    assert mainstay("messages", "cancel", 5).out == "asked to stop: message 5\n"


def test_ids_to_which_nothing_could_be_done_are_told(filled: Sql, mainstay: Mainstay) -> None:
    """Each with the reason, and exit code 2; the others are done all the same."""
    done = mainstay("messages", "redrive", 1, 5, 99)
    assert done.code == 2
    assert done.out == "redriven: message 1\n"
    assert done.err.splitlines() == [
        "mainstay: message 5 is running; what is dead, cancelled or expired can be redriven",
        "mainstay: there is no message 99, or no longer: most are deleted as they succeed",
    ]
    again = mainstay("messages", "redrive", 1, "--json")
    assert again.code == 2
    assert again.json == {"redriven": [], "not_done": {"1": again.err.strip().removeprefix("mainstay: ")}}


@pytest.mark.parametrize(
    ("arguments", "question", "ids"),
    [
        (["redrive", "--queue", "mail"], "redrive 2 messages", [1, 2]),
        (["redrive", "--all"], "redrive 2 messages", [1, 2]),
        (["retry", "--all"], "retry 1 message", [3]),
        (["cancel", "--kind", "shop.reports.count"], "cancel 3 messages", [3, 4]),
        (["delete", "--state", "dead", "--error", "route"], "delete 2 messages", [1, 2]),
        (["delete", "--all"], "delete 3 messages", [1, 2, 6]),
    ],
)
def test_what_is_done_by_filter_is_counted_and_agreed_to(
    arguments: list[str], question: str, ids: list[int], filled: Sql, mainstay: Mainstay
) -> None:
    """Without a terminal it needs --yes, and does nothing without."""
    before = filled("SELECT id, state FROM mainstay.message ORDER BY id")
    assert f"this would {question}; add --yes" in mainstay("messages", *arguments).refusal
    assert filled("SELECT id, state FROM mainstay.message ORDER BY id") == before
    document = mainstay("messages", *arguments, "--yes", "--json").json
    assert sorted(next(iter(document.values()))) == ids


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 2, 2), ("\n", 2, 2)])
def test_on_a_terminal_it_asks(
    answer: str, code: int, left: int, filled: Sql, url: str, tmp_path: Path
) -> None:
    """And no is the default."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [MAINSTAY, "messages", "delete", "--state", "dead"],
            env={**os.environ, "DATABASE_URL": url},
            cwd=tmp_path,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(ours, answer.encode())
        _, said = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Delete 2 messages?" in said
    assert process.returncode == code
    assert filled("SELECT count(*) FROM mainstay.message WHERE state = 'dead'") == [(left,)]


def test_nothing_that_matches_is_no_error(filled: Sql, mainstay: Mainstay) -> None:
    """Scripts redrive what there is."""
    done = mainstay("messages", "redrive", "--kind", "none", "--yes")
    assert (done.code, done.out) == (0, "no message matches\n")
    assert mainstay("messages", "redrive", "--kind", "none", "--json").json == {
        "redriven": [],
        "not_done": {},
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["redrive"], "say which to redrive"),
        (["redrive", "1", "--all"], "one of the three"),
        (["delete", "1", "--queue", "mail"], "one of the three"),
        (["delete", "--state", "running"], "what is running cannot be deleted"),
        (["list", "--state", "ded"], "there is no state 'ded' (did you mean 'dead'?); there are scheduled, "),
        (["show", "99"], "there is no message 99"),
        (["show", "seven"], "a valid integer"),
        (["limit", "mail"], "say which limit"),
        (["limit", "mail", "--none", "--rate", "1"], "say which limit"),
        (["limit", "mail", "--rate", "0"], "to stop a queue, pause it"),
        (["limit", "mail", "--rate", "nan"], "to stop a queue, pause it"),
        (["limit", "mail", "--concurrency", "1", "--burst", "3"], "a burst goes with a --rate"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], says: str, filled: Sql, mainstay: Mainstay) -> None:
    """With exit code 2."""
    assert says in mainstay("messages", *arguments).refusal


def test_many_messages_are_done_in_batches(sql: Sql, mainstay: Mainstay) -> None:
    """All that match, however many pages and statements that takes."""
    sql(
        "INSERT INTO mainstay.message (state, queue, kind, payload, ready_at, rank)"
        " SELECT 'waiting', 'default', 'k', '{}', now(), now() FROM generate_series(1, 2500)"
    )
    assert mainstay("messages", "cancel", "--all", "--yes").out == "cancelled: 2500 messages\n"
    assert sql("SELECT DISTINCT state::text FROM mainstay.message") == [("cancelled",)]
