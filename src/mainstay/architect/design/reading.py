"""Reads a blueprint from YAML: one file and what it includes, with the place of every value.

Nothing is guessed: scalars stay text until a field asks for more, keys that appear twice or that nobody knows are
refused with line, column and the nearest name (`architect.document`). `Source` keeps the plain values beside their
places, so that a question "what if" changes one value and asks again.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mainstay.architect.design.blueprint import Blueprint
from mainstay.architect.document import Document, Plain, Where, refuse, relative
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Location
from mainstay.architect.nearest import nearest

SECTIONS = ("actors", "depends", "parts", "events", "types", "services")
"""Mappings by name, which several files may add to."""
MOST_FILES = 1000
SHORT = {"parts": "kind", "tenancy": "isolation"}
"""The key for which a bare value stands, where a mapping may be written as one."""


@dataclass(slots=True)
class Source:
    """The plain values of a blueprint, and where each was written."""

    file: str
    value: dict[str, Any]
    places: dict[Where, Location] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """All files read, the first one first."""

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
            return _Joined(self.file, self.value, {}, self).validate(Blueprint)
        except RecursionError:
            raise MainstayError(f"{self.file}: this is nested too deep to be a blueprint") from None


@dataclass(frozen=True, slots=True)
class _Joined(Document):
    """Several files as one document, whose errors name the right one."""

    source: Source

    def spot(self, *where: Hashable) -> str:
        return str(self.source.place(*where))


def read_source(path: Path) -> Source:
    """Read a blueprint and what it includes.

    Raises:
        MainstayError: a file cannot be read, is no YAML, includes itself by way of others, or says twice what may be
            said once. The sentence has file, line and column.
    """
    source = Source(relative(path), {}, {}, [])
    _take(source, path, ())
    return source


def source_of(blueprint: Blueprint) -> Source:
    """The source of a blueprint that was made in Python; its values have no places."""
    value = blueprint.model_dump(mode="json", exclude_defaults=True)
    return Source(f"{blueprint.blueprint} (made in Python)", value)


def _take(source: Source, path: Path, chain: tuple[Path, ...]) -> None:
    resolved = path.resolve()
    if len(source.files) >= MOST_FILES:
        raise MainstayError(f"{source.file} includes more than {MOST_FILES} files")
    document = Document.read(path)
    source.files.append(path)
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
    _include(source, document, path, (*chain, resolved))


def _include(source: Source, document: Document, path: Path, chain: tuple[Path, ...]) -> None:
    includes = document.value.get("include") or []
    if isinstance(includes, str):
        includes = [includes]
    if not isinstance(includes, list):
        raise refuse(document, ("include",), "include is a file, or a list of files")
    for at, item in enumerate(includes):
        if not isinstance(item, str) or not item:
            raise refuse(document, ("include", at), "include names files, such as services/orders.yaml")
        included = path.parent / item
        if included.resolve() in chain:
            ring = " -> ".join(file.name for file in [*chain[chain.index(included.resolve()) :], included])
            raise refuse(document, ("include", at), f"files include each other in a ring: {ring}")
        if included.resolve() in (file.resolve() for file in source.files):
            continue  # two files may both need what a third one says
        if not included.is_file():
            beside = [file.name for file in path.parent.glob("*.y*ml") if file.resolve() not in chain]
            raise refuse(document, ("include", at), f"there is no file {item!r}{nearest(str(item), beside)}")
        _take(source, included, chain)


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
