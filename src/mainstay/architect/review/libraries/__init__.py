"""Library tables: what the calls of a library do, as data.

One TOML file a library; every file in this folder is read, there is no list of them. A project adds tables
of its own under ``[tool.mainstay.libraries.NAME]`` in its ``pyproject.toml``, in the same form.

A table describes *types* (classes of the library, by the names under which code imports them) and *functions*.
What a call does is one line of words, called an *operation*::

    [functions]
    "requests.get" = "call"                     # a request to another system
    "django.db.transaction.atomic" = "scope:transaction"
    "stripe.*.create" = "call +payment"         # whatever stands between

    [types.Client]
    names = ["httpx.Client", "httpx.AsyncClient"]
    hints = ["http_client"]                     # variable names that mean this type where nothing else is known
    [types.Client.methods]
    "get post put" = "call"                     # several names may share an operation; "*" is all others

The words of an operation, in any order, before an optional ``-> RESULT``:

========================  =====================================================================
``read`` … ``block``      the effect, one of `effects.Kind`
``+TRAIT``                a trait of the effect, and of the result where that is a query
``model:N``               argument N names the model (class or table)
``target:N``              argument N is what is touched (address, queue)
``sql:N``                 argument N is SQL text, which decides the effect
``statement:N``           argument N is a statement object, which decides the effect
``where``                 arguments are conditions; their columns become ``where:COLUMN`` traits
``sets``                  keyword arguments are columns written; they become ``set:COLUMN`` traits
``loads``                 arguments name relations loaded along; they become ``loads:PATH`` traits
``adds:N``                argument N is a row that is written, once the transaction ends
``runs:N:HOW``            argument N is run: ``now``, ``after-commit``, ``thread``, ``each`` (per item of
                          argument 1) or ``later`` (not by this function)
``scope:KIND``            as a context manager or decorator it is a `Scope`: ``transaction``, ``savepoint``,
                          ``lock``, ``session``, ``thread``
========================  =====================================================================

``RESULT`` is the name of a type of the table, or ``self`` (the same again, with more traits), ``row`` (one row
of the model), ``rows`` (many), ``scalar`` (a value read), ``N`` (argument N itself), ``result`` (what calling
argument N with the rest gives).

A type may have ``names``, ``hints``, ``like`` (inherits the methods of another), ``methods``, ``attributes``
(name = type; ``"*"`` is all others), ``iterate`` (operation when looped over), ``enter`` (operation when used
with ``with``), ``call`` (operation when called), and ``new`` (operation when constructed). A table may have
``models``: see ``django.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mainstay.architect.effects import Kind
from mainstay.architect.errors import MainstayError
from mainstay.architect.nearest import nearest

_KINDS = {kind.value: kind for kind in Kind}
_FLAGS = {"where", "sets", "loads"}
_NUMBERS = {"model", "target", "sql", "statement", "adds"}
_PARTS = {"names", "hints", "like", "methods", "attributes", "iterate", "enter", "call", "new"}


@dataclass(frozen=True, slots=True)
class Operation:
    """What one call of a library does; see the words in the docstring of this folder."""

    kind: Kind | None = None
    traits: frozenset[str] = frozenset()
    gives: str = ""
    where: bool = False
    sets: bool = False
    loads: bool = False
    model: int = -1
    target: int = -1
    sql: int = -1
    statement: int = -1
    adds: int = -1
    scope: str = ""
    runs: tuple[tuple[int, str], ...] = ()


@dataclass(slots=True)
class LibraryType:
    """A class of a library."""

    name: str
    methods: dict[str, Operation] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    iterate: Operation | None = None
    enter: Operation | None = None
    call: Operation | None = None
    new: Operation | None = None


@dataclass(slots=True)
class Models:
    """How a library's models (classes whose instances are rows) are recognised and what they offer."""

    bases: frozenset[str]
    """Full names of base classes that make a class a model."""
    marks: frozenset[str]
    """Class attributes that make a class a model."""
    fields: dict[str, str]
    """Full name of a field constructor -> ``one``, ``many``, ``generic`` or ``column``."""
    managers: dict[str, str]
    """Class attribute that every model has -> type of the table."""
    many: str
    """What a to-many relation gives: a type of the table, or ``rows`` when it is read as it is looked at."""
    reverse: bool
    """Whether the other side of a relation gets an attribute without being asked."""
    methods: dict[str, Operation]
    """Operations of a row."""
    pending: bool
    """Whether an assignment to a column of a row is written later by itself."""


@dataclass(slots=True)
class Libraries:
    """All tables, merged."""

    functions: dict[str, Operation] = field(default_factory=dict)
    types: dict[str, LibraryType] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """Full name of a class -> its type."""
    hints: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Variable name -> (type, top-level package that must be imported somewhere in the program)."""
    models: list[Models] = field(default_factory=list)

    def function(self, full: str) -> Operation | None:
        """The operation of a function by its full name; ``stripe.*.create`` stands for any between."""
        found = self.functions.get(full)
        if found is None:
            found = self.functions.get(f"{full.partition('.')[0]}.*.{full.rpartition('.')[2]}")
        return found


def operation(text: str, where: str) -> Operation:
    """Read one operation. Raises `MainstayError` naming the word that is none."""
    before, _, gives = text.partition("->")
    kind: Kind | None = None
    traits, flags, numbers, runs, scope = set(), set(), {}, [], ""
    for word in before.split():
        head, _, rest = word.partition(":")
        if word in _KINDS:
            kind = _KINDS[word]
        elif word.startswith("+"):
            traits.add(word[1:])
        elif word in _FLAGS:
            flags.add(word)
        elif head in _NUMBERS and rest.isdigit():
            numbers[head] = int(rest)
        elif head == "runs" and rest.partition(":")[0].isdigit():
            number, _, how = rest.partition(":")
            runs.append((int(number), how))
        elif head == "scope" and rest:
            scope = rest
        else:
            known = [*_KINDS, *_FLAGS, *(f"{n}:0" for n in _NUMBERS), "runs:0:now", "scope:transaction"]
            raise MainstayError(f"{where}: {word!r} is no word of an operation{nearest(word, known)}.")
    return Operation(
        kind=kind, traits=frozenset(traits), gives=gives.strip(), where="where" in flags, sets="sets" in flags,
        loads="loads" in flags, scope=scope, runs=tuple(runs), **numbers,
    )  # fmt: skip


def add_table(libraries: Libraries, name: str, table: Mapping[str, Any]) -> None:
    """Merge one table. Raises `MainstayError` where it is not in the form described above."""
    for names, text in table.get("functions", {}).items():
        parsed = operation(_text(text, f"{name}: {names}"), f"{name}: {names}")
        for full in names.split():
            libraries.functions[full] = parsed
    types = table.get("types", {})
    for title, parts in types.items():
        for part in parts:
            if part not in _PARTS:
                raise MainstayError(
                    f"{name}: type {title} has an unknown part {part!r}{nearest(part, _PARTS)}."
                )
        # Types that share a name across tables are kept apart, except where a table asks for another's.
        made = LibraryType(title)
        parent = libraries.types.get(parts.get("like", ""))
        if "like" in parts:
            if parent is None:
                raise MainstayError(
                    f"{name}: type {title} is like {parts['like']!r}, which no table has above it."
                )
            made.methods, made.attributes = dict(parent.methods), dict(parent.attributes)
            made.iterate, made.enter, made.call, made.new = (
                parent.iterate,
                parent.enter,
                parent.call,
                parent.new,
            )
        for names, text in parts.get("methods", {}).items():
            parsed = operation(_text(text, f"{name}: {title}.{names}"), f"{name}: {title}.{names}")
            for method in names.split():
                made.methods[method] = parsed
        made.attributes.update(parts.get("attributes", {}))
        for part in ("iterate", "enter", "call", "new"):
            if part in parts:
                setattr(
                    made, part, operation(_text(parts[part], f"{name}: {title}"), f"{name}: {title}.{part}")
                )
        libraries.types[title] = made
        for full in parts.get("names", ()):
            libraries.names[full] = title
        package = (parts.get("names") or [name])[0].partition(".")[0]
        for hint in parts.get("hints", ()):
            libraries.hints.setdefault(hint, (title, package))
    if "models" in table:
        models = table["models"]
        methods = {}
        for names, text in models.get("methods", {}).items():
            for method in names.split():
                methods[method] = operation(_text(text, name), f"{name}: models.{names}")
        libraries.models.append(
            Models(
                bases=frozenset(models.get("bases", ())),
                marks=frozenset(models.get("marks", ())),
                fields={full: kind for kind, names in models.get("fields", {}).items() for full in names},
                managers=models.get("managers", {}),
                many=models.get("many", "rows"),
                reverse=models.get("reverse", False),
                methods=methods,
                pending=models.get("pending", False),
            )
        )


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise MainstayError(f"{where}: an operation is one line of words, not {type(value).__name__}.")
    return value


@cache
def shipped() -> tuple[tuple[str, dict[str, Any]], ...]:
    """The tables of this folder: (name, content), in alphabetical order."""
    files = sorted(Path(__file__).parent.glob("*.toml"))
    return tuple((file.stem, tomllib.loads(file.read_text(encoding="utf-8"))) for file in files)


def load(extra: Mapping[str, Mapping[str, Any]] | None = None) -> Libraries:
    """All tables of this folder, then the project's own (`extra`: name -> table), which may override."""
    libraries = Libraries()
    waiting = list(shipped())
    while waiting:  # a table whose types are like those of another comes after it
        ready = [(name, table) for name, table in waiting if _needs(table) <= libraries.types.keys()]
        for name, table in ready or waiting:
            add_table(libraries, name, table)
        waiting = [item for item in waiting if item not in (ready or waiting)]
    for name, own in (extra or {}).items():
        add_table(libraries, f"[tool.mainstay.libraries.{name}]", own)
    return libraries


def _needs(table: Mapping[str, Any]) -> set[str]:
    """Types of other tables that the types of this one are like."""
    types: dict[str, Any] = table.get("types", {})
    wanted: set[str] = {parts["like"] for parts in types.values() if "like" in parts}
    return wanted - types.keys()
