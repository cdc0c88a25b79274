"""Reads a blueprint from YAML: one file and what it includes, with the place of every value.

Nothing is guessed: scalars stay text until a field asks for more, keys that appear twice or that nobody knows are
refused with line, column and the nearest name (`architect.document`). `Source` keeps the plain values beside their
places, so that a question "what if" changes one value and asks again.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mainstay.architect.design.blueprint import OTHER_WORDS, Blueprint
from mainstay.architect.document import MOST_VALUES, Document, Plain, Where, refuse, relative
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Location
from mainstay.architect.nearest import nearest, quoted

SECTIONS = ("actors", "depends", "parts", "events", "types", "services")
"""Mappings by name, which several files may add to."""
MOST_FILES, LONGEST_LIST, DEEPEST = 1_000, 1_000, 50
"""Files, items of one list, and files that include each other in a row. What is larger was made by a program, and would
be worked on for minutes."""
SHORT = {"parts": "kind", "tenancy": "isolation"}
"""The key for which a bare value stands, where a mapping may be written as one."""


@dataclass(slots=True)
class Source:
    """The plain values of a blueprint, and where each was written."""

    file: str
    value: dict[str, Any] = field(default_factory=dict)
    places: dict[Where, Location] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    """What was read of each file, by its real path, the first one first."""

    def place(self, *where: Hashable) -> Location:
        """The place of the deepest known value on the way to `where`."""
        best: Where = ()
        for step in where:
            if (*best, step) not in self.places:
                break
            best = (*best, step)
        return self.places.get(best, Location(self.file, 1, 1, 1, 1))

    def written(self, *where: Hashable) -> bool:
        """Whether a value stands in the file, rather than being a default."""
        value: Any = self.value
        for step in where:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return False
        return True

    def changed(self, where: Where, value: Any) -> Source:
        """The same with another value in one place; keys on the way are made."""
        made = copy.deepcopy(self.value)
        inner: Any = made
        for step in where[:-1]:
            if isinstance(inner, list):
                inner = inner[int(str(step))]
                continue
            if not isinstance(inner.get(step), dict | list):
                short = SHORT.get(str(where[0])) if isinstance(inner.get(step), str) else None
                inner[step] = {short: inner[step]} if short else {}
            inner = inner[step]
        inner[int(str(where[-1])) if isinstance(inner, list) else where[-1]] = value
        return Source(self.file, made, self.places, self.files)

    def blueprint(self) -> Blueprint:
        """The typed blueprint. Raises `MainstayError` with the place of the first thing that does not fit."""
        try:
            return _Joined(self.file, self.value, {}, source=self).validate(Blueprint, OTHER_WORDS)
        except RecursionError:
            raise MainstayError(f"{self.file}: this is nested too deep to be a blueprint") from None


@dataclass(frozen=True, slots=True)
class _Joined(Document):
    """Several files as one document, whose errors name the right one."""

    source: Source = field(default_factory=lambda: Source(""))

    def spot(self, *where: Hashable) -> str:
        return str(self.source.place(*where))


def read_source(path: Path) -> Source:
    """Read a blueprint and what it includes.

    Raises:
        MainstayError: a file cannot be read, is no YAML, includes itself by way of others, or says twice what may be
            said once. The sentence has file, line and column.
    """
    source = Source(relative(path))
    _take(source, path, ())
    if "blueprint" not in source.value and not nearest("blueprint", source.value):
        raise MainstayError(f"{source.file}:1:1: a blueprint begins with its name: blueprint: NAME")
    return source


def source_of(blueprint: Blueprint) -> Source:
    """The source of a blueprint that was made in Python; its values have no places."""
    value = blueprint.model_dump(mode="json", exclude_defaults=True)
    return Source(f"{blueprint.blueprint} (made in Python)", value)


def _take(source: Source, path: Path, chain: tuple[str, ...]) -> None:
    resolved = os.path.realpath(path)
    if len(source.files) >= MOST_FILES:
        raise MainstayError(f"{source.file} includes more than {MOST_FILES} files")
    document = Document.read(path)
    source.files[resolved] = document.content
    name = relative(path)
    if not isinstance(document.value, dict):
        raise MainstayError(f"{name}:1:1: a blueprint is a mapping that begins with: blueprint: NAME")
    if chain and "blueprint" in document.value:
        raise refuse(
            document, ("blueprint",), "an included file has no 'blueprint:' of its own; remove this line"
        )
    for key, value in document.value.items():
        if key == "include":
            continue
        if key in SECTIONS and isinstance(value, dict):
            into = source.value.setdefault(key, {})
            if not isinstance(into, dict):
                raise refuse(document, (key,), f"{key} must be a mapping in every file")
            for inner, item in value.items():
                if inner in into:
                    first = source.place(key, inner)
                    raise refuse(document, (key, inner), f"{inner!r} is already written at {first}")
                into[inner] = item
        elif key == "waivers" and isinstance(value, list):
            _append(source, document, value)
        elif key in source.value:
            raise refuse(document, (key,), f"{key!r} is already written at {source.place(key)}")
        else:
            source.value[key] = value
    _keep_places(source, document, name)
    if len(source.places) > MOST_VALUES:
        raise MainstayError(f"{source.file} holds more than {MOST_VALUES:,} values, with what it includes")
    _check_lists(document, document.value, ())
    _include(source, document, path, (*chain, resolved))


def _check_lists(document: Document, value: Any, where: Where) -> None:
    """No list goes on for longer than somebody wrote it."""
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        raise refuse(
            document, where, f"a list of {len(value):,} items; more than {LONGEST_LIST:,} are not read"
        )
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        _check_lists(document, inner, (*where, step))


def _include(source: Source, document: Document, path: Path, chain: tuple[str, ...]) -> None:
    includes = document.value.get("include") or []
    if isinstance(includes, str):
        includes = [includes]
    if not isinstance(includes, list):
        raise refuse(document, ("include",), "include is a file, or a list of files")
    for at, item in enumerate(includes):
        where = ("include", at)
        if not isinstance(item, str) or not item or "\0" in item:
            raise refuse(document, where, "include names files, such as services/orders.yaml")
        included = path.parent / item
        resolved = os.path.realpath(included)
        if resolved in chain:
            ring = [*chain[chain.index(resolved) :], str(included)]
            names = " -> ".join(Path(file).name for file in ring)
            raise refuse(document, where, f"files include each other in a ring: {names}")
        if resolved in source.files:
            continue  # two files may both need what a third one says
        if len(chain) >= DEEPEST:
            raise refuse(document, where, f"files include each other more than {DEEPEST} deep")
        if not _is_file(included):
            raise refuse(document, where, _why_no_file(item, included, path))
        _take(source, included, chain)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # such as a name that is too long
        return False


def _why_no_file(item: str, included: Path, path: Path) -> str:
    try:
        if included.is_dir():
            return f"{quoted(item)} is a folder; include names files"
        if included.exists() or included.is_symlink():
            return f"{quoted(item)} is a link or a device, and no file that can be read"
        beside = [file.name for file in included.parent.glob("*.y*ml") if file != path]
    except OSError:
        beside = []
    return f"there is no file {quoted(item)}{nearest(included.name, beside)}"


def _append(source: Source, document: Document, value: list[Any]) -> None:
    """Waivers of several files make one list."""
    into = source.value.setdefault("waivers", [])
    offset = len(into)
    into.extend(value)
    name = relative(Path(document.file))
    for where, (line, column) in document.places.items():
        if where[:1] == ("waivers",):
            moved: Where = where
            if len(where) > 1 and isinstance(where[1], int):
                moved = ("waivers", where[1] + offset, *where[2:])
            source.places.setdefault(moved, Location(name, line, column, line, column + 1))


def _keep_places(source: Source, document: Document, name: str) -> None:
    for where, (line, column) in document.places.items():
        if where[:1] != ("waivers",) or not isinstance(document.value["waivers"], list):
            end = column + len(str(where[-1])) if where else column
            source.places.setdefault(where, Location(name, line, column, line, end))


def plain(text: str) -> Plain:
    """A value as if it were written without quotes in the file."""
    return Plain(text)


def way(known: Mapping[str, Any], key: str) -> Where:
    """The way to what a dotted key names: ``orders.place_order.timeout``, ``stripe.availability``, ``needs.p99``.

    Args:
        known: the plain values of the blueprint.
        key: names parted by dots. A service, operation, dependency, actor or part stands without its section.

    Raises:
        MainstayError: nothing has that name; the nearest that does is said.
    """
    first, *rest = key.split(".")
    if first in Blueprint.model_fields and (first not in SECTIONS or rest):
        return (first, *rest)
    services = known.get("services") or {}
    if first in services:
        does = (services[first] or {}).get("does") or {}
        if rest and rest[0] in does:
            return ("services", first, "does", *rest)
        return ("services", first, *rest)
    for section in SECTIONS:
        if first in (known.get(section) or {}):
            return (section, first, *rest)
    names = [
        *services,
        *(name for section in SECTIONS for name in (known.get(section) or {})),
        "needs",
        "assume",
    ]
    raise MainstayError(f"nothing in the blueprint is named {first!r}{nearest(first, names)}")


def key_of(where: Where) -> str:
    """The dotted key of a way: what `way` undoes."""
    parts = [str(step) for step in where]
    if parts[:1] == ["services"]:
        parts = [parts[1], *parts[3:]] if parts[2:3] == ["does"] else parts[1:]
    elif parts[:1] and parts[0] in SECTIONS:
        parts = parts[1:]
    return ".".join(parts)
