"""Odd arguments and moments: variables that are not set, numbers that are none, a supervisor that does not listen."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from operations_help import Ended

from mainstay.operations.ending import ENDING, Ending
from mainstay.operations.supervisor import Child, _listen, _told
from mainstay.operations.worker_process import Supervised

Mainstay = Callable[..., Ended]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("worker", "app:messages", "--bad-option"), "see: mainstay worker --help"),
        (("messages", "list", "--most", "many"), "see: mainstay messages list --help"),
        (("messages", "lisst"), "see: mainstay messages --help"),
        (("sagas", "skip", "7"), "see: mainstay sagas skip --help"),
        (("wroker",), "see: mainstay --help"),
    ],
)
def test_a_wrong_call_names_the_help_of_its_verb(
    arguments: tuple[str, ...], says: str, mainstay: Mainstay
) -> None:
    """And not that of the whole command line."""
    assert mainstay(*arguments).refusal.rstrip().endswith(says)


@pytest.mark.parametrize("value", ["", " , "])
def test_a_variable_that_is_not_set_does_not_mean_all(value: str, mainstay: Mainstay, sql: object) -> None:
    """``--queues "$QUEUES"`` would serve every queue, ``--state "$STATE"`` show every message."""
    assert "--queues names no queue" in mainstay("worker", "app:messages", "--queues", value).refusal
    assert "--state names no state" in mainstay("messages", "list", "--state", value).refusal
    assert "--state names no state" in mainstay("messages", "cancel", "--state", value, "--kind", "x").refusal


@pytest.mark.parametrize("grace", ["nan", "inf", "1e300", "-1"])
def test_a_grace_that_is_no_time(grace: str, mainstay: Mainstay) -> None:
    """It would be found out only as the worker ends."""
    assert "--grace" in mainstay("worker", "app:messages", "--grace", grace).refusal


@pytest.mark.parametrize("option", ["--queue", "--kind", "--key", "--error"])
def test_an_argument_that_is_no_text(option: str, mainstay: Mainstay, sql: object) -> None:
    """Bytes that are no UTF-8 are refused in one sentence, not reported as a fault of ours."""
    argument = os.fsdecode(b"caf\xe9")
    refusal = mainstay("messages", "list", option, argument).refusal
    assert "no UTF-8" in refusal and "fault of Mainstay" not in refusal


def test_a_supervisor_carries_nothing_of_what_it_runs() -> None:
    """Neither the patterns nor what they stand on: its processes have that."""
    code = "import sys, mainstay.operations.supervisor; print({'mainstay.patterns', 'sqlalchemy'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "set()\n"


def test_every_signal_can_be_told() -> None:
    """Real-time signals have no name."""
    assert _told(3) == "ended with exit code 3"
    assert _told(-signal.SIGKILL) == "was ended by SIGKILL"
    assert _told(-36) == "was ended by signal 36"


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    """What is done about signals in this process, as it was."""
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGALRM)}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
def test_a_worker_never_waits_for_a_supervisor_that_does_not_listen() -> None:
    """It would hold up its event loop, and with it its leases."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        supervised = Supervised(ours, Ending(1.0))
        for _ in range(1000):
            supervised.tell({"queues": ["x" * 1000]})


class _Worker:
    name = "w"
    running = ()

    def __init__(self) -> None:
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1


@pytest.mark.usefixtures("signals_as_before")
def test_a_terminal_that_is_closed_means_nothing_under_nohup() -> None:
    """Which has it ignored; otherwise it asks to end, as SIGTERM does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        Ending(1.0)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        Ending(1.0)
        assert callable(signal.getsignal(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("signals_as_before")
@pytest.mark.parametrize("supervisor_first", [True, False])
async def test_a_signal_and_its_echo_from_the_supervisor_are_one(supervisor_first: bool) -> None:
    """Whichever comes first; a second signal hurries."""
    worker, ending = _Worker(), Ending(60.0)
    ending.attach(worker)  # type: ignore[arg-type]
    says = [ending.ask, lambda: signal.raise_signal(signal.SIGTERM)]
    for say in says if supervisor_first else says[::-1]:
        say()
        await asyncio.sleep(0)
    assert worker.stopped == 1
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0)
    assert worker.stopped == 2


async def test_a_report_that_was_cut_short_is_passed_over() -> None:
    """The next one counts; and one longer than any buffer is a sign of life."""
    reader = asyncio.StreamReader(limit=1024)
    child = Child(1)
    reader.feed_data(b'{"running": 1}\n{"runn{"running": 2}\n')
    reader.feed_data(b'{"queues": "' + b"x" * 4096 + b'"}\n')
    reader.feed_data(json.dumps({"running": 3}).encode() + b"\n")
    reader.feed_eof()
    await asyncio.wait_for(_listen(child, reader), 10)
    assert child.started.is_set() and child.heard > 0 and child.info == {"running": 3}


async def test_a_process_that_ends_without_a_report_has_not_started() -> None:
    """Otherwise its supervisor would start it again and again."""
    reader = asyncio.StreamReader()
    reader.feed_eof()
    child = Child(1)
    await _listen(child, reader)
    assert not child.started.is_set() and child.heard == 0.0
