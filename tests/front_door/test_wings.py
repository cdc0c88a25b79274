"""The front door stands on whichever wing is installed."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mainstay
from mainstay.cli import WINGS

SOURCE = Path(mainstay.__file__).parent.parent
PROJECT = SOURCE.parent / "pyproject.toml"


def installed_with(*extras: str) -> set[str]:
    """The distributions that an install of Mainstay with these extras comes to."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    todo = [Requirement(text) for text in project["dependencies"]]
    for extra in extras:
        todo += [Requirement(text) for text in project["optional-dependencies"][extra]]
    found: set[str] = set()
    while todo:
        one = todo.pop()
        name = one.name.lower().replace("_", "-")
        for text in importlib.metadata.requires(name) or ():
            needed = Requirement(text)
            wanted = {"", *one.extras}
            applies = needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in wanted
            )
            if applies and needed.name.lower().replace("_", "-") not in found:
                todo.append(needed)
        found.add(name)
    return found


def install(folder: Path, *extras: str) -> Path:
    """A folder with these packages and no others, as links."""
    for name in {*installed_with(*extras), "mainstay", "psycopg-binary"}:
        files = importlib.metadata.files(name) or ()
        for top in {
            file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__", "mainstay")
        }:
            place = folder / top
            if not place.exists() and not top.endswith(".pth"):
                place.symlink_to(Path(str(importlib.metadata.distribution(name).locate_file(top))))
    (folder / "mainstay").symlink_to(SOURCE / "mainstay")
    return folder


def run(packages: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`mainstay` with these packages only."""
    return subprocess.run(
        [sys.executable, "-S", "-P", "-m", "mainstay", *arguments],
        env={**os.environ, "PYTHONPATH": str(packages), **environment},
        cwd=packages,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run-time wing with its command line."""
    return install(tmp_path_factory.mktemp("production"), "cli")


def test_production_needs_nothing_of_the_architects_wing(production: Path, postgresql_url: str) -> None:
    """The verbs of the run-time wing start and reach a database; help lists what there is."""
    assert not (production / "yaml").exists() and not (production / "sqlglot").exists()
    helped = run(production, "--help")
    assert helped.returncode == 0, helped
    assert "worker" in helped.stdout and "diagnose" not in helped.stdout
    assert run(production, "worker", "--help").returncode == 0
    status = run(production, "db", "status", DATABASE_URL=postgresql_url)
    assert status.returncode in (0, 1) and "0001 messages" in status.stdout, status


def test_a_verb_whose_wing_is_missing_says_what_to_install(production: Path) -> None:
    """In one line."""
    for verb in ("review", "diagnose", "demo", "design"):
        ended = run(production, verb, ".")
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"mainstay: {verb} needs the package ")
        assert ended.stderr.endswith("install Mainstay with its 'architect' extra.\n")
        assert ended.stderr.count("\n") == 1


def test_without_a_command_line_it_says_so(tmp_path: Path) -> None:
    """The plain install has patterns only."""
    ended = run(install(tmp_path), "worker", "app:messages")
    assert ended.returncode == 2
    assert ended.stderr == (
        "mainstay: the command line needs the package 'typer'; install Mainstay with its 'cli' extra, or with "
        "'architect' for all of it\n"
    )


def test_the_front_door_knows_the_verbs_of_each_wing() -> None:
    """Those that it names are those that are there."""
    for wing in WINGS.values():
        app = wing.load()
        there = [one.name or one.callback.__name__ for one in app.registered_commands if one.callback]
        for group in app.registered_groups:
            inner = group.typer_instance
            assert inner is not None
            there += (
                [group.name] if group.name else [one.callback.__name__ for one in inner.registered_commands]
            )  # type: ignore[list-item, union-attr]
        assert sorted(there) == sorted(wing.verbs)


def test_the_overview_says_of_each_verb_what_the_verb_says_of_itself() -> None:
    """The line is written twice, so that the overview needs none of them; it cannot fall behind."""
    for wing in WINGS.values():
        app, told = wing.load(), {}
        for one in app.registered_commands:
            told[one.name or one.callback.__name__] = one.callback.__doc__  # type: ignore[union-attr]
        for group in app.registered_groups:
            inner = group.typer_instance
            assert inner is not None
            if group.name:
                told[group.name] = inner.info.help
            else:
                told |= {one.callback.__name__: one.callback.__doc__ for one in inner.registered_commands}  # type: ignore[union-attr]
        for name, line in wing.verbs.items():
            assert line == " ".join(str(told[name]).split("\n\n")[0].split()), name


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_the_overview_imports_neither_wing(arguments: list[str]) -> None:
    """It is asked for while typing."""
    code = (
        f"import sys; sys.argv = ['mainstay', *{arguments!r}]\nfrom mainstay.cli import run\n"
        f"try: run()\nexcept SystemExit: pass\n"
        f"print([name for name in sys.modules if name.startswith(('mainstay.', 'sqlalchemy', 'yaml', 'psycopg'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "['mainstay.errors', 'mainstay.cli']"


@pytest.mark.parametrize("wing", list(WINGS))
def test_a_verb_imports_its_own_wing_only(wing: str) -> None:
    """So that a worker is not as heavy as a laboratory, and a review starts at once."""
    verb, other = {
        "architect": ("review", "operations"),
        "design": ("design", "operations"),
        "worker": ("worker", "patterns"),
        "cli": ("messages", "architect"),
    }[wing]
    code = (
        f"import sys; sys.argv = ['mainstay', '{verb}', '--help']\nfrom mainstay.cli import run\n"
        f"try: run()\nexcept SystemExit: pass\n"
        f"print([name for name in sys.modules if name.startswith('mainstay.{other}')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", [verb for wing in WINGS.values() for verb in wing.verbs])
def test_every_verb_has_help_with_examples(verb: str) -> None:
    """Each of its own verbs too."""
    from typer.testing import CliRunner

    from mainstay.cli import compose

    app = compose(verb)

    def helped(*names: str) -> str:
        return CliRunner().invoke(app, [*names, "--help"]).output

    groups = [group for wing in app.registered_groups for group in wing.typer_instance.registered_groups]  # type: ignore[union-attr]
    inner = {group.name: group.typer_instance for group in groups}.get(verb)
    if inner is None:
        assert "Example" in helped(verb)
        return
    commands = [*inner.registered_commands]
    for group in inner.registered_groups:
        commands += group.typer_instance.registered_commands  # type: ignore[union-attr]
    assert len(commands) >= 2
    for command in commands:
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        assert "Example" in helped(verb, name), name
