"""Neighbours: files that the reviewed ones import, and that lie in the same checkout but were not named.

Whoever reviews one package of a repository still wants its models known. Neighbours are read for facts only:
nothing is said about them.
"""

from __future__ import annotations

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
    latest: Sequence[Source] = sources
    while latest:
        found: dict[str, Source] = {}
        for source in latest:
            for file in _imported(source, root):
                name = file.relative_to(root).as_posix()
                if name not in known and not SKIPPED.intersection(name.split("/")):
                    known.add(name)
                    found[name] = Source(file, name, neighbour=True)
        latest = [found[name] for name in sorted(found)]
        digests(latest)
        collect(latest, cache, workers, progress, whole=False)
        sources.extend(latest)


def _imported(source: Source, root: Path) -> Iterator[Path]:
    """Files below `root` that the imports of a source may mean, looked for as Python would from each folder above."""
    if not source.facts:
        return
    folder = (root / source.name).parent
    above = [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    for _, module, name, level in marshal.loads(source.facts)[0]:
        bases = above[level - 1 : level] if level else [*above, root / "src"]
        parts = module.split(".") if module else []
        for base in bases:
            for path in (base.joinpath(*parts), base.joinpath(*parts, name or "")):
                for file in (path.with_suffix(".py"), path / "__init__.py"):
                    if path != base and path.name and file.is_file():
                        yield file
