"""Neighbours: files that the reviewed ones import, and that lie in the same checkout but were not named.

Whoever reviews one package of a repository still wants its models known. Neighbours are read for facts only:
nothing is said about them.
"""

from __future__ import annotations

import functools
import marshal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mainstay.architect.review.collect import Source, collect, digests
from mainstay.architect.review.sources import SKIPPED


def add_neighbours(
    sources: list[Source],
    root: Path,
    cache: Path | None,
    workers: int,
    progress: Callable[[str], None] | None,
) -> None:
    """Append the neighbours of `sources` (whose facts are known), theirs, and so on, until there are no more."""
    known = {source.name for source in sources}
    find = functools.cache(functools.partial(_find, functools.cache(functools.partial(_names, str(root)))))
    latest: Sequence[Source] = sources
    while latest:
        found: dict[str, Source] = {}
        for source in latest:
            for name in _imported(source, find):
                if name not in known and not SKIPPED.intersection(name.split("/")):
                    known.add(name)
                    found[name] = Source(root / name, name, neighbour=True)
        latest = [found[name] for name in sorted(found)]
        digests(latest)
        collect(latest, cache, workers, progress, whole=False)
        sources.extend(latest)


def _imported(source: Source, find: Callable[[str, str], list[str]]) -> Iterator[str]:
    """Files that the imports of a source may mean, looked for as Python would from each folder above."""
    if not source.facts:
        return
    above = [source.name.rpartition("/")[0]]
    while above[-1]:
        above.append(above[-1].rpartition("/")[0])
    for _, module, name, level in marshal.loads(source.facts)[0]:
        for base in above[level - 1 : level] if level else (*above, "src"):
            yield from find(base, module or "")
            if name:
                yield from find(base, f"{module}.{name}" if module else name)


def _find(names: Callable[[str], frozenset[str]], base: str, module: str) -> list[str]:
    """The file or package that a dotted name means below the folder `base`; paths are relative to the root."""
    folder, _, last = module.rpartition(".")
    for part in folder.split(".") if folder else ():
        if part not in names(base):
            return []
        base = f"{base}/{part}" if base else part
    inside = f"{base}/" if base else ""
    if not last:
        return [f"{inside}__init__.py"] if "__init__.py" in names(base) else []
    found = [f"{inside}{last}.py"] if f"{last}.py" in names(base) else []
    if last in names(base) and "__init__.py" in names(f"{inside}{last}"):
        found.append(f"{inside}{last}/__init__.py")
    return found


def _names(root: str, folder: str) -> frozenset[str]:
    """The names in a folder; none where it is no folder."""
    try:
        return frozenset(path.name for path in Path(root, folder).iterdir())
    except OSError:
        return frozenset()
