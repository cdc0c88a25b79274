"""Named SQL: one statement a file, under a plain sentence; parameters are written ``:name``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_COMMENT = re.compile(r"--.*")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement in the notations of the drivers.

    Attributes:
        name: the name of its file.
        about: the comment above it.
        numbered: with ``$1``, as asyncpg has it.
        named: with ``%(name)s``, as psycopg and Django have it.
        parameters: the names, in the order of ``$1``, ``$2``, …
    """

    name: str
    about: str
    numbered: str
    named: str
    parameters: tuple[str, ...]

    def ordered(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values in the order of the numbered notation."""
        return tuple(values[name] for name in self.parameters)


def parse(name: str, text: str) -> Statement:
    """Read one file."""
    about = " ".join(line.lstrip("- ") for line in text.splitlines() if line.startswith("--"))
    sql = _COMMENT.sub("", text).strip()
    names = list(dict.fromkeys(_PARAMETER.findall(sql)))
    return Statement(
        name,
        about,
        _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", sql),
        _PARAMETER.sub(lambda match: f"%({match[1]})s", sql.replace("%", "%%")),
        tuple(names),
    )


@cache
def load(package: str) -> Mapping[str, Statement]:
    """The statements in the folder ``sql`` of a package, by name."""
    folder = resources.files(package) / "sql"
    return {
        file.name.removesuffix(".sql"): parse(
            file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")
        )
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    }
