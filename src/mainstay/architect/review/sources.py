"""Which files are read: everything that is Python below the given paths, less what nobody here wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Problem

SKIPPED = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "env", ".env", ".tox", ".nox", "node_modules", "__pycache__",
     "site-packages", "dist-packages", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".eggs", "__pypackages__",
     ".ipynb_checkpoints", ".mainstay", "bower_components", "_vendor", "vendored"}
)  # fmt: skip
"""Folders that are passed over unless they are named themselves."""

_QUIET = re.compile(
    r"(^|/)(tests?|testing|migrations|alembic|versions|conftest|fixtures|factories|docs|benchmarks?)(/|\.py$)"
)
_QUIET_NAME = re.compile(r"(^|/)(test_[^/]*|[^/]*_tests?|tests?|factories)\.py$")
_MIGRATION = re.compile(r"(^|/)(migrations|alembic|versions)/")
_SCRIPT = re.compile(
    r"(^|/)(management/commands|upgrades?|scripts?|tools|bin|cli|commands?|seeds?)(/|\.py$)|(^|/)(manage|setup|seed)\.py$"
)


def find_root(paths: Sequence[Path]) -> Path:
    """The top of the git checkout that holds all paths, else the folder that they have in common."""
    resolved = [path.resolve() for path in paths]
    common = Path(os.path.commonpath([str(p if p.is_dir() else p.parent) for p in resolved]))
    for folder in (common, *common.parents):
        if (folder / ".git").exists():
            return folder
    return common


def find_files(paths: Sequence[Path], root: Path) -> tuple[list[tuple[Path, str]], list[Problem]]:
    """All source files below `paths`, each with its path relative to `root`, in a stable order.

    Links to folders are followed only as long as they lead to one that was not seen yet. Raises
    `MainstayError` where a path does not exist or no file is Python.
    """
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    visited: set[tuple[int, int]] = set()
    for path in paths:
        if not path.exists():
            raise MainstayError(f"there is no file or folder {str(path)!r}; name one that exists.")
        if path.is_file():
            found[_relative(path.resolve(), root)] = path
            continue
        _walk(path.resolve(), root, found, problems, visited)
    if not found:
        shown = ", ".join(str(path) for path in paths)
        raise MainstayError(
            f"there is no Python file in {shown}; name a folder that holds the service's source."
        )
    return sorted(((path, name) for name, path in found.items()), key=lambda item: item[1]), problems


def _walk(
    top: Path, root: Path, found: dict[str, Path], problems: list[Problem], visited: set[tuple[int, int]]
) -> None:
    waiting = [str(top)]
    while waiting:
        folder = waiting.pop()
        try:
            status = Path(folder).stat()
            key = (status.st_dev, status.st_ino)
            if key in visited:
                if Path(folder).is_symlink():
                    problems.append(
                        Problem(
                            _relative(Path(folder), root), "skipped: a link back to a folder already read"
                        )
                    )
                continue
            visited.add(key)
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            problems.append(Problem(_relative(Path(folder), root), f"skipped: {error.strerror or error}"))
            continue
        for entry in listed:
            name = entry.name
            try:
                if entry.is_dir():
                    if name not in SKIPPED and not name.endswith(".egg-info"):
                        waiting.append(entry.path)
                elif name.endswith(".py"):
                    if entry.is_file():
                        found[_relative(Path(entry.path), root)] = Path(entry.path)
                    else:
                        problems.append(
                            Problem(_relative(Path(entry.path), root), "skipped: not a file that can be read")
                        )
            except OSError as error:
                problems.append(
                    Problem(_relative(Path(entry.path), root), f"skipped: {error.strerror or error}")
                )


def _relative(path: Path, root: Path) -> str:
    """The path from the root, with forward slashes, safe to print."""
    try:
        name = path.relative_to(root).as_posix()
    except ValueError:
        name = Path(os.path.relpath(path, root)).as_posix()
    return name.encode(errors="surrogateescape").decode(errors="replace")


def is_quiet(name: str) -> bool:
    """Tests and migrations: read for facts, but findings in them are not worth a minute."""
    return bool(_QUIET.search(name) or _QUIET_NAME.search(name))


def is_migration(name: str) -> bool:
    """Changes of the schema or of data, run once."""
    return bool(_MIGRATION.search(name))


def is_script(name: str) -> bool:
    """What is run by hand: findings in it are possible at most."""
    return bool(_SCRIPT.search(name))
