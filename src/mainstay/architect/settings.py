"""Settings: ``[tool.mainstay]`` in the nearest ``pyproject.toml``.

    [tool.mainstay]
    ignore = ["n-plus-one"]            # edges not to look for
    exclude = ["legacy/**"]            # files not to report on, as globs from the root
    min-verdict = "likely"             # or "possible", to see guesses too
    baseline = "mainstay-baseline.json"

    [tool.mainstay.libraries.payments]  # what our own libraries do, in the form of review/libraries
    [tool.mainstay.libraries.payments.functions]
    "ourcompany.payments.charge" = "call"

What the command line says wins over what stands here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Report, Verdict
from mainstay.architect.nearest import nearest


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a project, with their defaults. Paths are relative to `root`."""

    root: Path
    """The folder of the ``pyproject.toml`` that was read, or of the repository, or what was named."""
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_verdict: Verdict = Verdict.LIKELY
    baseline: str = ""
    libraries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Tables of the project's own libraries, by name; review checks what is in them."""


def find_root(paths: Sequence[Path]) -> Path:
    """The folder that findings are named from: the nearest one above all paths with ``.git`` or
    ``pyproject.toml``, else the folder that holds them all."""
    # Not by way of `Path.resolve`, which does not end well for links that go round in a ring.
    resolved = [Path(os.path.realpath(path)) for path in paths] or [Path.cwd()]
    try:
        common = resolved[0] if resolved[0].is_dir() else resolved[0].parent
    except OSError:  # a name that is too long; whoever opens it says so
        common = Path.cwd()
    while not all(path.is_relative_to(common) for path in resolved):
        common = common.parent
    for folder in (common, *common.parents):
        if (folder / ".git").exists() or (folder / "pyproject.toml").is_file():
            return folder
    return common


def load_settings(root: Path) -> Settings:
    """Read the settings below `root`. Raises `MainstayError` for a key or value that is not known."""
    file = root / "pyproject.toml"
    if not file.is_file():
        return Settings(root)
    import tomllib  # only where there are settings

    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("mainstay", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MainstayError(f"{file}: this is not TOML ({error}); mend the file.") from error
    except OSError as error:
        raise MainstayError(f"{file} cannot be read ({error.strerror}); mend its permissions.") from error
    known = {entry.name.replace("_", "-") for entry in fields(Settings)} - {"root"}
    if not isinstance(table, dict):
        raise MainstayError(f"{file}: [tool.mainstay] must be a table.")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise MainstayError(f"{file}: [tool.mainstay] has no setting {key!r}{nearest(key, known)}.")
        if key == "min-verdict":
            if value not in ("likely", "possible"):
                raise MainstayError(f"{file}: min-verdict must be 'likely' or 'possible', not {value!r}.")
            values["min_verdict"] = Verdict(value)
        elif key == "baseline":
            if not isinstance(value, str):
                raise MainstayError(f"{file}: baseline must be the path of a file, not {value!r}.")
            values[key] = value
        elif key == "libraries":
            if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
                raise MainstayError(f"{file}: write library tables as [tool.mainstay.libraries.NAME].")
            values[key] = value
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            values[key] = tuple(value)
        else:
            raise MainstayError(f"{file}: {key} must be a list of strings, not {value!r}.")
    return Settings(root, **values)


def leave_out(report: Report, exclude: Sequence[str]) -> None:
    """Drop what the report says of files that match one of the globs; they were read all the same, for facts."""

    def kept(file: str) -> bool:
        return not any(fnmatch(file, glob) for glob in exclude)

    report.findings = [finding for finding in report.findings if kept(finding.location.file)]
    report.problems = [problem for problem in report.problems if kept(problem.file)]
