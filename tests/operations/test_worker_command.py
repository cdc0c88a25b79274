"""`mainstay worker` as people and process managers meet it: real processes, signals, kills."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from cluster import free_port
from operations_help import Program, until

Sql = Callable[..., list[Any]]
Start = Callable[..., Program]


def put(sql: Sql, kind: str, payload: str = "{}", queue: str = "default", times: int = 1) -> list[int]:
    """Publish messages; their ids."""
    rows = sql(
        "INSERT INTO mainstay.message (kind, queue, payload, ready_at, rank)"
        " SELECT %s, %s, %s::jsonb, now(), now() FROM generate_series(1, %s) RETURNING id",
        kind,
        queue,
        payload,
        times,
    )
    return [row[0] for row in rows]


def states(sql: Sql) -> set[str]:
    """The states that messages are in."""
    return {row[0] for row in sql("SELECT DISTINCT state::text FROM mainstay.message")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_worker_does_its_jobs_and_ends_when_asked(number: int, start: Start, sql: Sql) -> None:
    """The module is found in the current folder; SIGTERM, Ctrl-C and a terminal that is closed let it end well."""
    put(sql, "quick", times=20)
    worker = start("worker", "app:messages")
    until(lambda: states(sql) == {"succeeded"})
    worker.process.send_signal(number)
    ended = worker.wait()
    assert ended.code == 0, ended
    assert "20 finished, 0 failed" in ended.err
    assert sql("SELECT * FROM mainstay.worker") == []


def test_a_failure_is_one_line_of_the_log(start: Start, sql: Sql) -> None:
    """It names the message and the reason; the traceback is kept with the message."""
    (id,) = put(sql, "fail", queue="mail")
    worker = start("worker", "app:messages")
    until(lambda: states(sql) == {"dead"})
    worker.process.terminate()
    lines = [line for line in worker.wait().err.splitlines() if "WARNING" in line]
    assert len(lines) == 1
    assert (
        f"<Message {id} fail in mail, attempt 1> failed (ValueError: no such address); it is dead" in lines[0]
    )


def test_what_is_at_work_is_finished_within_the_grace(start: Start, sql: Sql) -> None:
    """SIGTERM waits for it, and the log says so."""
    put(sql, "held")
    worker = start("worker", "app:messages", "--grace", "60")
    until(lambda: states(sql) == {"running"})
    worker.process.terminate()
    until(lambda: "was asked to end" in worker.said)
    assert "waits up to 60 s for what is at work (1)" in worker.said
    worker.let_go()
    assert worker.wait().code == 0
    assert states(sql) == {"succeeded"}


def test_a_second_signal_hands_back_at_once(start: Start, sql: Sql) -> None:
    """What was at work is due again, and the attempt does not count."""
    put(sql, "long", '{"seconds": 300}')
    worker = start("worker", "app:messages", "--grace", "300")
    until(lambda: states(sql) == {"running"})
    worker.process.terminate()
    until(lambda: "was asked to end" in worker.said)
    assert worker.process.poll() is None
    worker.process.terminate()
    assert worker.wait().code == 0
    assert "was told to end at once" in worker.said
    assert sql("SELECT state::text, attempts FROM mainstay.message") == [("waiting", 0)]


def test_a_handler_that_holds_up_the_event_loop_does_not_keep_the_process_alive(
    start: Start, sql: Sql
) -> None:
    """After a second signal it is cut off, says so, and ends with exit code 1."""
    put(sql, "hold", '{"seconds": 300}')
    worker = start("worker", "app:messages", "--grace", "300")
    until(lambda: states(sql) == {"running"})
    worker.process.terminate()
    worker.process.send_signal(signal.SIGINT)
    ended = worker.wait()
    assert ended.code == 1
    assert "a handler did not end in time" in ended.err.splitlines()[-1]


@pytest.mark.parametrize("target", ["app:make", "app:make_later"])
def test_a_function_may_make_the_app(target: str, start: Start, sql: Sql) -> None:
    """A plain one or an async one."""
    put(sql, "quick")
    worker = start("worker", target)
    until(lambda: states(sql) == {"succeeded"})
    worker.process.terminate()
    assert worker.wait().code == 0


def test_only_the_queues_that_were_named_are_served(start: Start, sql: Sql) -> None:
    """A queue that only a message names counts as known."""
    put(sql, "quick", queue="urgent")
    put(sql, "quick")
    worker = start("worker", "app:messages", "--queues", "mail,urgent")
    until(lambda: "succeeded" in states(sql))
    worker.process.terminate()
    assert worker.wait().code == 0
    assert sql("SELECT queue, state::text FROM mainstay.message ORDER BY id") == [
        ("urgent", "succeeded"),
        ("default", "waiting"),
    ]


def test_a_process_that_dies_is_replaced(start: Start, sql: Sql) -> None:
    """Its messages are taken over, the log says what happened, and SIGTERM ends all with exit code 0."""
    worker = start("worker", "app:messages", "--processes", "2", "--lease", "1", "--concurrency", "4")
    until(lambda: sql("SELECT count(*) FROM mainstay.worker") == [(2,)])
    first = {child.pid for child in worker.children()}
    assert len(first) == 2
    put(sql, "long", '{"seconds": 2}', times=8)
    until(lambda: sql("SELECT count(*) FROM mainstay.message WHERE state = 'running'") == [(8,)])
    worker.children()[0].kill()
    until(lambda: states(sql) == {"succeeded"})
    until(lambda: len(worker.children()) == 2)
    assert len({child.pid for child in worker.children()} - first) == 1
    put(sql, "long", '{"seconds": 0}', times=8)
    until(lambda: states(sql) == {"succeeded"})
    worker.process.terminate()
    ended = worker.wait()
    assert ended.code == 0, ended
    assert "was ended by SIGKILL after" in ended.err and "starting another in 0.5 s" in ended.err
    assert not [one for one in worker.seen if one.is_running()]


def test_no_process_outlives_its_supervisor(start: Start, sql: Sql) -> None:
    """Not even when that was killed. They end as if they had been asked to, and take their leave."""
    worker = start("worker", "app:messages", "--processes", "3", "--concurrency", "1")
    until(lambda: sql("SELECT count(*) FROM mainstay.worker") == [(3,)])
    children = worker.children()
    worker.process.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert sql("SELECT count(*) FROM mainstay.worker") == [(0,)]


def test_a_signal_to_every_process_counts_once(start: Start, sql: Sql) -> None:
    """As systemd sends it. The supervisor tells its children too, who must not take that for a second signal."""
    worker = start("worker", "app:messages", "--processes", "2", "--grace", "20")
    until(lambda: sql("SELECT count(*) FROM mainstay.worker") == [(2,)])
    put(sql, "held", times=2)
    until(lambda: sql("SELECT count(*) FROM mainstay.message WHERE state = 'running'") == [(2,)])
    for one in (
        worker.process,
        *worker.children(),
    ):
        one.send_signal(signal.SIGTERM)
    until(lambda: worker.said.count("was asked to end") == 2)
    worker.let_go()
    assert worker.wait().code == 0
    assert "told to end at once" not in worker.said
    assert states(sql) == {"succeeded"}


def test_a_second_signal_hurries_all_processes(start: Start, sql: Sql) -> None:
    """They hand back what they have."""
    worker = start("worker", "app:messages", "--processes", "2", "--grace", "300")
    until(lambda: sql("SELECT count(*) FROM mainstay.worker") == [(2,)])
    put(sql, "long", '{"seconds": 300}', times=2)
    until(lambda: sql("SELECT count(*) FROM mainstay.message WHERE state = 'running'") == [(2,)])
    worker.process.terminate()
    until(lambda: worker.said.count("was asked to end") == 2)
    assert worker.process.poll() is None
    worker.process.terminate()
    assert worker.wait().code == 0
    assert states(sql) == {"waiting"}


def test_what_is_wrong_for_all_processes_is_said_once(start: Start) -> None:
    """The first one is started alone, and when it cannot start there are no others."""
    assert (
        "has no attribute 'massages' (did you mean 'messages'?)"
        in start("worker", "app:massages", "--processes", "3").wait().refusal
    )


@pytest.mark.parametrize("processes", ["1", "2"])
def test_health_is_answered_over_http(processes: str, start: Start, sql: Sql) -> None:
    """200 while all are alive, with what they do."""
    port = free_port()
    worker = start("worker", "app:messages", "--processes", processes, "--health", str(port))
    answers: list[tuple[int, Any]] = []

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                answers.append((answer.status, json.load(answer)))
                return True
        except OSError:  # not listening yet, or 503
            return False

    until(healthy)
    assert answers[-1][0] == 200
    told = answers[-1][1]
    assert [one["concurrency"] for one in told.get("processes", [told])] == [100] * int(processes)
    if processes == "2":
        worker.children()[0].kill()
        until(lambda: not healthy())
        until(healthy)
    worker.process.terminate()
    assert worker.wait().code == 0
