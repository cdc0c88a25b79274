"""Facts of all files: from the cache where the content is known, else read in worker processes.

A worker may be killed by a hostile file (the parser of Python is C). Then the files it had are read again
one by one, each in a worker of its own, and the one that kills it becomes a `Problem`.
"""

from __future__ import annotations

import hashlib
import marshal
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mainstay.architect.findings import Problem
from mainstay.architect.review.facts import FACTS_VERSION, Facts
from mainstay.architect.review.python import LARGEST_FILE, Unreadable, read_facts, too_large

VERSION = f"{FACTS_VERSION}-{sys.version_info[0]}.{sys.version_info[1]}-{marshal.version}"
BATCH = 40
"""Files that go to a worker at a time."""


@dataclass(slots=True)
class Source:
    """One file: its path from the root, the hash of its content, and its facts as marshalled bytes."""

    path: Path
    name: str
    digest: str = ""
    facts: bytes = b""
    problem: Problem | None = None
    neighbour: bool = False
    """It was not named, and is read for facts only."""


def digests(sources: Sequence[Source]) -> None:
    """Hash every file's content; a file that cannot be read becomes a problem."""
    for source in sources:
        try:
            size = source.path.stat().st_size
            if size > LARGEST_FILE:
                source.problem = Problem(source.name, too_large(size))
                continue
            source.digest = hashlib.blake2b(source.path.read_bytes(), digest_size=16).hexdigest()
        except OSError as error:
            source.problem = Problem(source.name, f"skipped: {error.strerror or error}")


def collect(
    sources: Sequence[Source],
    cache: Path | None,
    workers: int,
    progress: Callable[[str], None] | None,
    *,
    whole: bool = True,
) -> None:
    """Fill in the facts (or the problem) of every source whose content was hashed.

    Where `sources` are the `whole` of the checkout, the cache forgets all others; else it keeps them.
    """
    known = _load(cache)
    wanted = []
    for source in sources:
        if source.problem is not None or source.facts:
            continue
        entry = known.get(source.digest)
        if entry is None:
            wanted.append(source)
        else:
            _take(source, entry)
    if wanted:
        _read_all(wanted, workers, progress)
        if cache is not None:
            _save(cache, sources, {} if whole else known)


def _take(source: Source, entry: Any) -> None:
    if isinstance(entry, bytes):
        source.facts = entry
    else:
        source.problem = Problem(source.name, entry[0], entry[1])


def _read_all(wanted: Sequence[Source], workers: int, progress: Callable[[str], None] | None) -> None:
    by_name = {source.name: source for source in wanted}
    batches = [
        [(source.name, str(source.path)) for source in wanted[start : start + BATCH]]
        for start in range(0, len(wanted), BATCH)
    ]
    lost = _run(batches, by_name, workers, progress, len(wanted))
    for name, path in lost:  # a worker died: find the file that killed it
        if _run([[(name, path)]], by_name, 1, None, 1):
            by_name[name].problem = Problem(name, "skipped: the parser of Python crashes on it")


def _run(
    batches: list[list[tuple[str, str]]], by_name: dict[str, Source], workers: int,
    progress: Callable[[str], None] | None, total: int,
) -> list[tuple[str, str]]:  # fmt: skip
    """Read all batches; gives back the files of which nothing was heard."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context(
        "fork" if "fork" in methods and sys.platform == "linux" else "spawn"
    )
    done = 0
    answered: set[str] = set()
    with ProcessPoolExecutor(min(workers, len(batches)) or 1, mp_context=context) as pool:
        futures = [pool.submit(_read_batch, batch) for batch in batches]
        for future in as_completed(futures):
            try:
                results = future.result()
            except BrokenProcessPool:
                continue
            for name, digest, entry in results:
                answered.add(name)
                by_name[name].digest = digest
                _take(by_name[name], entry)
            done += len(results)
            if progress is not None:
                progress(f"read {done} of {total} files")
    return [item for batch in batches for item in batch if item[0] not in answered]


def _read_batch(batch: list[tuple[str, str]]) -> list[tuple[str, str, Any]]:
    """In a worker: (name, digest, facts or (message, line)) for each file."""
    import gc

    gc.disable()  # syntax trees hold no circles worth looking for; files are small
    sys.setrecursionlimit(6000)
    results: list[tuple[str, str, Any]] = []
    for name, path in batch:
        entry: Any
        digest = ""
        try:
            data = Path(path).read_bytes()
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            entry = _entry(data)
        except OSError as error:
            entry = (f"skipped: {error.strerror or error}", 0)
        except (MemoryError, RecursionError):
            entry = ("skipped: nested more deeply than review follows", 0)
        results.append((name, digest, entry))
    gc.collect()
    return results


def _entry(data: bytes) -> Any:
    try:
        facts: Facts = read_facts(data)
        return marshal.dumps(facts)
    except Unreadable as unreadable:
        return (str(unreadable), unreadable.line)
    except ValueError:
        return ("skipped: nested more deeply than review follows", 0)


def _load(cache: Path | None) -> dict[str, Any]:
    """Digest -> facts or (message, line). An unreadable cache is an empty one."""
    if cache is None:
        return {}
    try:
        version, entries = marshal.loads((cache / "facts").read_bytes())
        return entries if version == VERSION and isinstance(entries, dict) else {}
    except (OSError, ValueError, EOFError, TypeError):
        return {}


def _save(cache: Path, sources: Sequence[Source], entries: dict[str, Any]) -> None:
    """Write `entries` and the facts of these sources."""
    for source in sources:
        if source.facts:
            entries[source.digest] = source.facts
        elif source.problem is not None and source.digest:
            entries[source.digest] = (source.problem.message, source.problem.line)
    write(cache / "facts", marshal.dumps((VERSION, entries)))


def write(file: Path, data: bytes) -> None:
    """Write a cache file so that a reader sees the old one or the new one. Failing is not worth a word."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        made = file.with_suffix(f".{os.getpid()}")
        made.write_bytes(data)
        made.replace(file)
    except OSError:
        return
