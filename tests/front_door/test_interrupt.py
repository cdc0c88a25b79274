"""An interrupted run leaves nothing: no process, no database, no temporary folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from mainstay.architect import catalog

MAINSTAY = Path(sys.executable).parent / "mainstay"
SCENARIO = catalog.edges()["check-then-act"].folder / "scenario.yaml"


def service_of(process: psutil.Process, deadline: float) -> list[psutil.Process]:
    """All descendants of the run, as soon as a copy of the service is among them."""
    while time.monotonic() < deadline:
        children = process.children(recursive=True)
        for child in children:
            try:
                if "uvicorn" in " ".join(child.cmdline()):
                    return children
            except psutil.Error:
                continue
        time.sleep(0.02)  # polls for the process to appear; the deadline bounds it
    raise AssertionError("the run never started its service")


def abandoned(url: str) -> set[str]:
    """The laboratory's databases on the server whose laboratory is not there any more."""
    with psycopg.connect(url) as connection:
        names = [name for (name,) in connection.execute("SELECT datname FROM pg_database")]
        living = " ".join(
            name for (name,) in connection.execute("SELECT application_name FROM pg_stat_activity")
        )
    return {name for name in names if name.startswith("mainstay_lab_") and name.split("_")[2] not in living}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path leaves room for the name of a socket; in memory, where a clone is quick."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="m", dir=memory if os.access(memory, os.W_OK) else None
    ) as folder:
        yield Path(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("server", ["embedded", "given"])
def test_an_interrupted_diagnosis_leaves_nothing(
    number: int, server: str, tmp_path: Path, short_folder: Path, postgresql_url: str
) -> None:
    """Ctrl-C and SIGTERM end every child and drop every database; one line says so, and the exit code is 2."""
    arguments = ["diagnose", str(SCENARIO)] + (
        ["--database-url", postgresql_url] if server == "given" else []
    )
    run = subprocess.Popen(
        [MAINSTAY, *arguments],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(short_folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = service_of(psutil.Process(run.pid), time.monotonic() + 120)
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 2, errors
    assert "interrupted" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert list(short_folder.iterdir()) == []
    # Asked twice: another run on the same server may have ended between the two questions that this consists of.
    assert abandoned(postgresql_url) & abandoned(postgresql_url) == set()
