"""The front door as a user meets it: real processes, their output, their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MAINSTAY = Path(sys.executable).parent / "mainstay"

SHARP = """
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Customer, Order


def report(session: Session) -> list[str]:
    lines = []
    for order in session.scalars(select(Order)).all():
        customer = session.scalars(select(Customer).where(Customer.id == order.customer_id)).one()
        lines.append(customer.name)
    return lines
"""
MODELS = """
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
"""


def mainstay(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MAINSTAY, *arguments],
        cwd=cwd,
        env={**os.environ, "XDG_CACHE_HOME": str(cwd / ".cache"), "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one n-plus-one in it."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("")
    (root / "models.py").write_text(MODELS)
    (root / "reports.py").write_text(SHARP)
    return root


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refusal consists of."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("mainstay: ")
    return done.stderr


def test_review_finds_names_and_exits_1(project: Path) -> None:
    """The finding names the edge, the place and the remedy; a second run from the cache says the same."""
    first = mainstay("review", ".", "--format", "json", cwd=project)
    assert first.returncode == 1, first
    (finding,) = json.loads(first.stdout)["findings"]
    assert (finding["edge"], finding["location"]["file"], finding["location"]["line"]) == (
        "n-plus-one",
        "reports.py",
        11,
    )
    second = json.loads(mainstay("review", ".", "--format", "json", cwd=project).stdout)
    assert second["findings"] == [finding]


@pytest.mark.parametrize("format", ["text", "json", "sarif", "github", "html"])
def test_every_format_goes_to_a_file(project: Path, format: str) -> None:
    """--output writes the whole report to the file and nothing to stdout."""
    done = mainstay("review", ".", "-f", format, "-o", "report.out", cwd=project)
    assert (done.returncode, done.stdout) == (1, "")
    assert "n-plus-one" in (project / "report.out").read_text()


def test_nothing_found_exits_0(project: Path) -> None:
    """Deselected edges are not looked for."""
    assert mainstay("review", ".", "--ignore", "n-plus-one", cwd=project).returncode == 0
    assert mainstay("review", ".", "--select", "check-then-act", cwd=project).returncode == 0


def test_a_suppression_with_a_reason_exits_0(project: Path) -> None:
    """The comment stands on the finding's line."""
    marked = SHARP.replace(").one()\n", ").one()  # mainstay: ignore[n-plus-one] ten orders at most\n")
    (project / "reports.py").write_text(marked)
    assert mainstay("review", ".", cwd=project).returncode == 0


def test_a_baseline_hides_what_was_there(project: Path) -> None:
    """Old findings are hidden even where they moved; a new one is shown."""
    assert mainstay("review", ".", "--write-baseline", "known.json", cwd=project).returncode == 0
    (project / "reports.py").write_text("# a line more\n" + SHARP)
    assert mainstay("review", ".", "--baseline", "known.json", cwd=project).returncode == 0
    (project / "more.py").write_text(SHARP.replace("report", "second"))
    shown = mainstay("review", ".", "--baseline", "known.json", "-f", "json", cwd=project)
    assert [finding["location"]["file"] for finding in json.loads(shown.stdout)["findings"]] == ["more.py"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["review", "nowhere"], "nowhere"),
        (["review", "empty"], "Python"),
        (["review", ".", "--format", "sarf"], "did you mean 'sarif'"),
        (["review", ".", "--select", "n-plus-on"], "did you mean 'n-plus-one'"),
        (["review", ".", "--output", "missing/report.html"], "missing"),
        (["review", ".", "--output", "empty"], "folder"),
        (["review", ".", "--baseline", "none.json"], "--write-baseline"),
        (["review", ".", "--min-verdict", "sure"], "possible"),
        (["review", ".", "--colour"], "--colour"),
        (["review", ".", "--", "python"], "diagnose and replay"),
        (["explain", "n-plus-on"], "did you mean 'n-plus-one'"),
        (["diagnose", "nowhere.yaml"], "nowhere.yaml"),
        (["diagnose"], "scenario"),
        (["diagnose", "bad.yaml"], "bad.yaml:2:"),
        (["replay", "nowhere.json"], "nowhere.json"),
        (["replay", "bad.yaml"], "bad.yaml"),
        (["revew"], "revew"),
    ],
)
def test_wrong_input_is_refused_in_one_line(project: Path, arguments: list[str], said: str) -> None:
    """Exit code 2, one line on stderr with the place and the remedy, nothing on stdout, nothing left behind."""
    (project / "empty").mkdir()
    (project / "bad.yaml").write_text("service:\n  comand: x\n")
    before = sorted(project.rglob("*"))
    assert said in one_line(mainstay(*arguments, cwd=project))
    assert [path for path in sorted(project.rglob("*")) if ".cache" not in path.parts] == before


def test_files_that_cannot_be_read_are_said_and_the_rest_goes_on(project: Path) -> None:
    """The finding is there, each problem has its line, and the exit code says that the work is not whole."""
    (project / "broken.py").write_text("def broken(:\n")
    (project / "nul.py").write_bytes(b"x = 1\0\n")
    (project / "latin.py").write_bytes(b"name = '\xe9'\n")
    done = mainstay("review", ".", "-f", "json", cwd=project)
    assert done.returncode == 2
    assert len(json.loads(done.stdout)["findings"]) == 1
    assert [line.split(":")[1].strip() for line in sorted(done.stderr.splitlines())] == [
        "broken.py",
        "latin.py",
        "nul.py",
    ]


def test_help_of_every_verb_has_examples(tmp_path: Path) -> None:
    """`--help` lists the verbs; each verb's help shows how it is used and takes under a second to say so."""
    verbs = ("review", "diagnose", "replay", "explain", "catalog", "demo")
    overview = mainstay("--help", cwd=tmp_path).stdout
    for verb in verbs:
        assert verb in overview
        assert f"mainstay {verb}" in mainstay(verb, "--help", cwd=tmp_path).stdout.split("Example")[1]


def test_the_manual_is_printed(tmp_path: Path) -> None:
    """The catalog lists every edge and pattern, and each of the names it lists is explained."""
    listing = mainstay("catalog", cwd=tmp_path).stdout
    for name in ("n-plus-one", "check-then-act", "repository"):
        assert name in listing
        assert name in mainstay("explain", name, cwd=tmp_path).stdout
    assert "safe.py" in mainstay("explain", "n-plus-one", cwd=tmp_path).stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`mainstay explain … | head -1` ends without a traceback."""
    done = subprocess.run(
        f"{MAINSTAY} explain n-plus-one | head -1",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
