"""Diagnose and replay as the front door uses them: proof, witness file, replay, bad input, interrupts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import psycopg
import pytest

from mainstay.architect.catalog import edges
from mainstay.architect.diagnose import Budget, Scenario, diagnose, load_scenario, replay
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Report, checksum

SERVICES = Path(__file__).parent / "services"
RACE = {"check-then-act": edges()["check-then-act"]}
CALL = {"external-call-in-transaction": edges()["external-call-in-transaction"]}


def only(scenario: Scenario, *requests: str) -> Scenario:
    """The scenario with only these requests."""
    kept = {name: scenario.requests[name] for name in requests}
    return scenario.model_copy(update={"requests": kept, "races": [[requests[0], requests[0]]]})


def run(scenario: Scenario, experiments: Any, folder: Path, **options: Any) -> Report:
    return asyncio.run(diagnose(scenario, experiments, witness_directory=folder, budget=Budget(), **options))


def test_a_proof_is_written_and_replays_with_the_same_outcome(
    bank: Scenario, tmp_path: Path, postgresql_url: str
) -> None:
    """On the embedded server and on one that was there before; three replays, three times the same."""
    report = run(only(bank, "sharp"), RACE, tmp_path)
    (finding,) = report.findings
    (file,) = tmp_path.glob("*.json")
    assert file.name == f"check-then-act-{finding.fingerprint}.json"
    assert finding.location.file == "bank.py"  # the probe saw the line
    assert "UPDATE account" in (SERVICES / "bank.py").read_text().splitlines()[finding.location.line - 1]
    assert report.statistics["schedules"] <= 5
    for url in (None, postgresql_url, None):
        again = asyncio.run(replay(file, RACE, database_url=url))
        assert again.reproduced and again.same_outcome, again.lines
        assert again.lines[-1].startswith("No serial order")


def test_a_mended_service_no_longer_reproduces(bank: Scenario, tmp_path: Path) -> None:
    """The witness of the faulty one, run on the mended one, ends as a serial order does."""
    source = (SERVICES / "bank.py").read_text()
    (tmp_path / "bank.py").write_text(source)
    scenario = only(bank, "sharp").model_copy(update={"base": tmp_path})
    run(scenario, RACE, tmp_path)
    (file,) = tmp_path.glob("*.json")
    (tmp_path / "bank.py").write_text(source.replace('"/sharp": withdraw', '"/sharp": conditional'))
    gone = asyncio.run(replay(file, RACE))
    assert not gone.reproduced
    assert "ends as a serial order does" in gone.lines[-1]


def test_a_call_in_a_transaction_is_proven_with_what_was_held(bank: Scenario, tmp_path: Path) -> None:
    """The locks come from PostgreSQL, the line from the probe; the request without a transaction is cleared."""
    report = run(only(bank, "pay in transaction", "charge"), CALL, tmp_path)
    (finding,) = report.findings
    assert finding.message == (
        "POST /pay-in-transaction calls GET shop/rates inside an open transaction: rows of bill stay locked meanwhile"
    )
    assert finding.witness is not None
    assert any("RowShareLock on bill" in line for line in finding.witness.argument)
    assert "urlopen" in (SERVICES / "bank.py").read_text().splitlines()[finding.location.line - 1]
    assert [(check.subject, check.verdict) for check in report.checks] == [("POST /charge", "cleared")]
    (file,) = tmp_path.glob("*.json")
    again = asyncio.run(replay(file, CALL))
    assert again.reproduced and again.same_outcome


def test_an_invariant_is_checked_too(bank: Scenario, tmp_path: Path) -> None:
    """Even where the outcome is one of a serial order."""
    scenario = only(bank, "count in database").model_copy(
        update={"invariants": {"never above 101": "SELECT balance FROM account WHERE balance > 101"}}
    )
    (finding,) = run(scenario, RACE, tmp_path).findings
    assert "invariant broken: never above 101: 102" in finding.message


def test_setup_requests_captures_and_steps_before(tmp_path: Path) -> None:
    """A request of the set-up runs once; one in `before` each time; what they save is filled in."""
    (tmp_path / "scenario.yaml").write_text(
        (SERVICES / "bank.yaml")
        .read_text()
        .partition("requests:")[0]
        .replace("outside:", "  - request: join\n\noutside:")
        .replace("shop: {environment: SHOP_URL, ", "shop: {environment: SHOP_URL, ")
        + """
requests:
  join: {send: POST /guests, save: {member: $.id}}
  look: {send: GET /read, save: {money: $.balance}}
  take:
    send: POST /sharp
    before: [look]
    headers: {X-Money: "${money}", X-Member: "${member}"}
races: [[take, take]]
"""
    )
    (tmp_path / "bank.py").write_text((SERVICES / "bank.py").read_text())
    report = run(load_scenario(tmp_path / "scenario.yaml"), RACE, tmp_path / "witnesses")
    (finding,) = report.findings
    assert finding.witness is not None
    assert finding.witness.starting_state["tables"]["guest"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": ["nobody-has-this"]}, "cannot be started"),
        ({"command": [sys.executable, "-c", "print('no'); raise SystemExit(3)"]}, "exit code 3"),
        (
            {"command": [sys.executable, "-c", "import time; time.sleep(99)"], "timeout": 0.5},
            "did not listen",
        ),
        (
            {"command": [sys.executable, "-c", "while True: print('wall of text' * 99)"], "timeout": 0.5},
            "did not listen",
        ),
        ({"directory": "nowhere"}, "nowhere does not exist"),
        ({"database": {"OTHER_URL": "postgresql"}}, "exit code 1"),
    ],
)
def test_a_service_that_does_not_start_is_one_line(
    bank: Scenario, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """With what it last said."""
    service = bank.service.model_copy(update=change)
    with pytest.raises(MainstayError, match=message) as caught:
        run(bank.model_copy(update={"service": service}), RACE, tmp_path)
    assert "\n" not in str(caught.value)


def test_scenarios_that_do_not_fit_the_service_are_one_line(bank: Scenario, tmp_path: Path) -> None:
    """Wrong SQL, a reply that was not expected, a variable that nobody saves, a circle of steps."""
    requests = bank.requests

    def said(**changes: Any) -> str:
        with pytest.raises(MainstayError) as caught:
            run(bank.model_copy(update={"races": [["sharp", "sharp"]], **changes}), RACE, tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def sharp(**changes: Any) -> dict[str, Any]:
        return {"requests": {**requests, "sharp": requests["sharp"].model_copy(update=changes)}}

    step = bank.setup[0].model_copy(update={"sql": "SELECT nothing"})
    assert 'set-up step 1 failed in PostgreSQL: column "nothing" does not exist' in said(setup=[step])
    assert "request 'sharp' was answered 201" in said(**sharp(expect=[200]))
    assert "needs ${money}" in said(**sharp(headers={"X": "${money}"}))
    assert "wait for each other" in said(**sharp(before=["sharp"]))
    assert "there is no command" in said(service=bank.service.model_copy(update={"command": None}))


def test_a_witness_that_is_none_is_refused_in_one_line(bank: Scenario, tmp_path: Path) -> None:
    """Missing, not JSON, another version, edited by hand, an edge that is not known, a service that has gone."""
    run(only(bank, "sharp"), RACE, tmp_path / "w")
    (file,) = (tmp_path / "w").glob("*.json")
    body = json.loads(file.read_text())

    def said(change: Any = None, raw: str | None = None) -> str:
        changed = tmp_path / "w" / "changed.json"
        content = json.loads(json.dumps(body))
        if change is not None:
            change(content)
        changed.write_text(raw if raw is not None else json.dumps(content))
        with pytest.raises(MainstayError) as caught:
            asyncio.run(replay(changed, RACE))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def seal(content: dict[str, Any], **changes: Any) -> None:
        content.update(changes)
        content["checksum"] = checksum(content)

    assert "is not JSON" in said(raw="{")
    assert "has no version" in said(raw="[]")
    assert "is a witness of version 99" in said(lambda content: content.update(version=99))
    assert "edited by hand" in said(lambda content: content["argument"].append("and more"))
    assert "has no experiment" in said(lambda content: seal(content, edge="check-then-pact"))
    assert "is no witness" in said(lambda content: seal(content, events=3))
    assert "does not fit" in said(
        lambda content: seal(content, schedule={"cast": {}, "legs": [], "then": []})
    )
    moved = {**body["scenario"], "base": "nowhere"}
    assert "which is not there" in said(lambda content: seal(content, scenario=moved))
    with pytest.raises(MainstayError, match="does not exist"):
        asyncio.run(replay(tmp_path / "nothing.json", RACE))


def test_an_edge_without_an_experiment_is_left_out(bank: Scenario, tmp_path: Path) -> None:
    """A page may say that there is none."""
    none = SimpleNamespace(name="none", experiment=lambda: None)
    assert run(only(bank, "read"), {"none": none}, tmp_path).checks == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C in the middle: no service, no PostgreSQL, no folder of ours stays."""
    script = f"""
import asyncio, sys
from pathlib import Path
from mainstay.architect.catalog import edges
from mainstay.architect.diagnose import diagnose, load_scenario
import signal

async def main():
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    bank = load_scenario(Path({str(SERVICES / "bank.yaml")!r}))
    locked = {{"requests": {{"locked": bank.requests["locked"]}}, "races": [["locked", "locked"]]}}
    await diagnose(bank.model_copy(update=locked), edges(), witness_directory=Path("w"),
                   progress=lambda text: print(text, flush=True))
asyncio.run(main())
"""
    # A socket's path may not be long; and in memory a clone, hundreds of small files, is quick.
    short = Path(tempfile.mkdtemp(prefix="m", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(short)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "schedule" in line or "growing" in line:
            break

    def ours() -> list[psutil.Process]:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        servers = [
            each
            for each in psutil.process_iter(["cmdline"])
            if str(short) in " ".join(each.info["cmdline"] or ())
        ]
        return [each for each in (*children, *servers) if each.pid != process.pid]

    family = ours()
    assert len(family) >= 3  # two copies of the service, and PostgreSQL
    assert list(short.glob("mainstay-lab-*"))
    process.send_signal(number)
    process.stdout.close()
    assert process.wait(timeout=60) != 0
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert ours() == []
    assert not list(short.glob("mainstay-lab-*"))
    short.rmdir()


def test_nothing_of_a_run_stays_on_a_server_that_was_there(
    bank: Scenario, tmp_path: Path, postgresql_url: str
) -> None:
    """Every database that was made is dropped: none is there whose laboratory has gone."""
    made: set[str] = set()
    with psycopg.connect(postgresql_url, autocommit=True) as connection:

        def look(text: str) -> None:
            rows = connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^mainstay_lab_'")
            made.update(name for (name,) in rows)

        report = run(only(bank, "sharp"), RACE, tmp_path, database_url=postgresql_url, progress=look)
        assert report.findings and len(made) > 1
        orphans = connection.execute(
            "SELECT datname FROM pg_database d WHERE datname ~ '^mainstay_lab_[0-9a-f]{12}_' AND NOT EXISTS (SELECT "
            "FROM pg_stat_activity WHERE application_name = substring(d.datname, '^mainstay_lab_[0-9a-f]+'))"
        ).fetchall()
    assert orphans == []
