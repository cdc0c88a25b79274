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
    """Every file of the package, by path; what must stay as it was is taken from `Result.previous`."""
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
