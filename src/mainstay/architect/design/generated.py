"""What a design writes: files made from a blueprint alone, never edited by a person.

Each module in ``contracts/``, ``diagrams/`` and ``documents/`` has `generate`, which yields `Generated` files; adding a
kind of file is adding a module. ``package.py`` puts them into a folder, ``verify.py`` hands them to the validators,
``site/`` shows them.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Any

from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Entity, System

FOLDERS = ("contracts", "diagrams", "documents")


@dataclass(frozen=True, slots=True)
class Example:
    """A value that must be valid against a schema of ours; `verify` sees to it, and to its being in the file."""

    name: str
    """``orders.place_order request``."""
    value: Any
    schema: dict[str, Any]
    """JSON Schema 2020-12, self-contained."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One file of the package."""

    path: str
    """Within the package, with forward slashes: ``contracts/orders.openapi.yaml``."""
    text: str
    title: str
    """For the site: ``Orders: REST API``."""
    kind: str
    """``openapi``, ``asyncapi``, ``graphql``, ``protobuf``, ``mermaid``, ``markdown``, ``json-schema``, ``json``."""
    about: str = ""
    """One sentence under the title."""
    group: str = ""
    """Heading under which the site lists it; the folder's name where empty."""
    examples: tuple[Example, ...] = field(default=())


def generate(result: Result) -> list[Generated]:
    """Every file of the package, by path; what must stay as it was is taken from `Result.previous`.

    Raises:
        MainstayError: types hold each other so deep that no example of them can be written.
    """
    try:
        return _generate(result)
    except RecursionError:
        deepest = max(_depths(result.study.system).items(), key=lambda pair: pair[1])
        where = ("services", deepest[0].service, "owns", deepest[0].name)
        raise result.study.system.refuse(
            where if deepest[0].service else ("types", deepest[0].name),
            f"{deepest[0].name} holds others {deepest[1]} deep, which no contract can show; "
            "let some of them refer by id, as in Order.id",
        ) from None


def _depths(system: System) -> dict[Entity, int]:
    """How deep entities hold each other, without the ways by which one comes back to itself."""
    entities = [entity for group in system.entities.values() for entity in group]
    depths = dict.fromkeys(entities, 1)
    for _ in entities:
        before = dict(depths)
        for entity in entities:
            held = [
                system.entity(type.entity, entity.service, ())
                for type in entity.fields.values()
                if type.entity and not type.field
            ]
            depths[entity] = min(len(entities), 1 + max((before[inner] for inner in held), default=0))
        if depths == before:
            break
    return depths


def _generate(result: Result) -> list[Generated]:
    files: dict[str, Generated] = {}
    for folder in FOLDERS:
        package = importlib.import_module(f"mainstay.architect.design.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            loaded = importlib.import_module(f"{package.__name__}.{module.name}")
            if hasattr(loaded, "generate"):
                for file in loaded.generate(result):
                    if file.path in files:
                        raise ValueError(f"{file.path} is generated twice")
                    files[file.path] = file
    return [files[path] for path in sorted(files)]
