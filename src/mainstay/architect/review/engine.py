"""The engine: source in, findings out."""

from __future__ import annotations

import gc
import hashlib
import json
import marshal
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mainstay
from mainstay.architect.effects import Sequence as Nothing
from mainstay.architect.findings import Finding, Location, Problem, Report, Severity, Step, Verdict, to_json
from mainstay.architect.review import collect as collecting
from mainstay.architect.review import sources as finding
from mainstay.architect.review.analysis import Analysis, Validation
from mainstay.architect.review.collect import Source
from mainstay.architect.review.evaluation import Evaluation
from mainstay.architect.review.libraries import load
from mainstay.architect.review.neighbours import add_neighbours
from mainstay.architect.review.program import Program
from mainstay.architect.review.relations import link_models

STACK = 512 * 1024 * 1024
"""Bytes of stack for the thread that evaluates: source may be nested deeply."""


def review(
    paths: Sequence[Path],
    *,
    validations: Mapping[str, Validation],
    root: Path | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Callable[[str], None] | None = None,
    tables: Mapping[str, Mapping[str, Any]] | None = None,
) -> Report:
    """Review all Python source below `paths`, without importing any of it.

    `validations` maps the name of an edge to its severity, remedy, patterns and `validate` (an `Edge` of the
    catalog will do). `root` is where paths of findings begin (default: the git checkout, else the common
    parent). `cache` is a folder for facts and results (default: none is kept). `workers` is the number of
    processes that read source (default: one a core). `tables` are library tables of the project, name ->
    table (see `libraries`). Raises `MainstayError` for a path that does not exist, a tree without Python, or
    a table that is not well formed. What cannot be read becomes a `Problem`; the rest goes on.
    """
    began, cpu = time.perf_counter(), time.process_time()
    report = Report("review")
    root = (root or finding.find_root(paths)).resolve() if all(p.exists() for p in paths) else Path.cwd()
    files, problems = finding.find_files(paths, root)
    libraries = load(tables)
    sources = [Source(path, name) for path, name in files]
    collecting.digests(sources)
    workers = workers or os.cpu_count() or 1
    if not any(root.is_relative_to(path.resolve()) for path in paths):
        collecting.collect(sources, cache, workers, progress, whole=False)
        add_neighbours(sources, root, cache, workers, progress)
    key = _key(sources, validations, tables)
    known = _known(cache, key)
    if known is not None:
        report.findings, report.problems, report.statistics = known
    else:
        collecting.collect(sources, cache, workers, progress)
        named = [source for source in sources if not source.neighbour]
        report.problems = [*problems, *(source.problem for source in named if source.problem is not None)]
        program = Program(libraries)
        lines = _run_deep(lambda: _analyse(program, sources, root, validations, report, progress))
        report.statistics = {"files": len(named), "lines": lines, "functions": len(program.functions)}
        report.sort()
        if cache is not None:
            _remember(cache, key, report)
    report.statistics["seconds"] = round(time.perf_counter() - began, 3)
    report.statistics["cpu_seconds"] = round(time.process_time() - cpu, 3)
    return report


def _analyse(
    program: Program, sources: Sequence[Source], root: Path, validations: Mapping[str, Validation], report: Report,
    progress: Callable[[str], None] | None,
) -> int:  # fmt: skip
    lines = 0
    collector = gc.isenabled()
    gc.disable()  # everything made here lives until the end
    try:
        packages: dict[str, bool] = {}
        for source in sources:
            if not source.facts:
                continue
            facts = marshal.loads(source.facts)
            source.facts = b""
            lines += 0 if source.neighbour else facts[2]
            program.add(
                source.name, _roots(source, root, packages), facts, script=finding.is_script(source.name),
                quiet=source.neighbour or finding.is_quiet(source.name),
            )  # fmt: skip
        evaluation = Evaluation(program)
        link_models(program)
        _evaluate(program, evaluation, progress)
        report.problems.extend(evaluation.lost)
        analysis = Analysis(program)
        analysis.link()
        prune(program, analysis)
        for name, edge in validations.items():
            validate = edge.validation()
            if validate is None:
                continue
            if progress is not None:
                progress(f"looking for {name}")
            for match in validate(analysis):
                report.findings.append(
                    Finding(
                        name,
                        match.severity or edge.severity,
                        match.verdict,
                        match.message,
                        match.location,
                        match.path,
                        edge.remedy,
                        edge.patterns,
                        subject=match.subject,
                    )
                )
    finally:
        if collector:
            gc.enable()
    report.findings = _once(report.findings)
    return lines


def _evaluate(program: Program, evaluation: Evaluation, progress: Callable[[str], None] | None) -> None:
    """Evaluate every function, then those again of which more is known from where they are called.

    Functions of tests and migrations are evaluated only where others call them.
    """
    _all(program, evaluation, progress)
    again = [
        function
        for function in program.functions.values()
        if function.learned and not function.parent and function.state
    ]
    for function in again:
        function.state = 0
    for function in again:
        evaluation.function(function)
    _all(program, evaluation, None)


def _all(program: Program, evaluation: Evaluation, progress: Callable[[str], None] | None) -> None:
    while True:
        waiting = [f for f in program.functions.values() if f.state == 0 and not f.module.quiet]
        if not waiting:
            return
        for index, function in enumerate(waiting):
            if progress is not None and index % 2000 == 0 and index:
                progress(f"followed {index} of {len(waiting)} functions")
            evaluation.function(function)


def prune(program: Program, analysis: Analysis) -> None:
    """Forget the trees of functions that have no effect at all."""
    for function in program.functions.values():
        function.body = b""
        if not analysis.kinds(function.id):
            function.tree = Nothing()


def _once(findings: list[Finding]) -> list[Finding]:
    """One finding a place and edge: the surest, then the one with the shortest way."""
    order = list(Verdict)
    best: dict[object, Finding] = {}
    for one in findings:
        key = (one.edge, one.location)
        old = best.get(key)
        if old is None or (order.index(one.verdict), len(one.path)) < (
            order.index(old.verdict),
            len(old.path),
        ):
            best[key] = one
    return list(best.values())


def _roots(source: Source, root: Path, packages: dict[str, bool]) -> int:
    """How many leading folders of a file's path are no packages, so that imports may leave them out."""
    parts = source.name.split("/")[:-1]
    for depth in range(len(parts), 0, -1):
        folder = "/".join(parts[:depth])
        if folder not in packages:
            packages[folder] = (root / folder / "__init__.py").exists()
        if not packages[folder]:
            return depth
    return 0


def _run_deep(work: Callable[[], Any]) -> Any:
    """Run `work` in a thread with a large stack, so that deeply nested source does not end the process."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    limit, size = sys.getrecursionlimit(), threading.stack_size(STACK)
    sys.setrecursionlimit(max(limit, 20_000))
    try:
        thread = threading.Thread(target=run, name="review")
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(limit)
        threading.stack_size(size)
    if failure:
        raise failure[0]
    return outcome[0]


# --------------------------------------------------------------------------------------- result cache


def _key(sources: Sequence[Source], validations: Mapping[str, Validation], tables: Any) -> str:
    """Hash over everything that decides the result: content, code of Mainstay, options."""
    parts = hashlib.blake2b(digest_size=20)
    for source in sources:
        parts.update(f"{source.name}\0{source.digest}\0".encode(errors="surrogateescape"))
    parts.update(json.dumps(tables or {}, sort_keys=True, default=str).encode())
    parts.update("\0".join([collecting.VERSION, mainstay.__version__, *validations]).encode())
    for file in sorted(Path(__file__).parent.rglob("*.*")):
        if file.suffix in (".py", ".toml"):
            status = file.stat()
            parts.update(f"{file.name}{status.st_mtime_ns}{status.st_size}".encode())
    for edge in validations.values():
        validate = edge.validation()
        code = getattr(getattr(validate, "__code__", None), "co_filename", "")
        if code and Path(code).exists():
            status = Path(code).stat()
            parts.update(f"{code}{status.st_mtime_ns}{status.st_size}".encode())
        parts.update(f"{edge.severity}{edge.remedy}{edge.patterns}".encode())
    return parts.hexdigest()


def _known(cache: Path | None, key: str) -> tuple[list[Finding], list[Problem], dict[str, float]] | None:
    """The result of the same review, had before. It is JSON, so that a cache can never run code."""
    if cache is None:
        return None
    try:
        found = json.loads((cache / "results.json").read_text(encoding="utf-8"))
        if found["key"] != key:
            return None
        findings = [_finding(one) for one in found["findings"]]
        return findings, [Problem(**one) for one in found["problems"]], found["statistics"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finding(plain: dict[str, Any]) -> Finding:
    return Finding(
        **{
            **plain,
            "severity": Severity(plain["severity"]),
            "verdict": Verdict(plain["verdict"]),
            "location": Location(**plain["location"]),
            "path": tuple(
                Step(**{**step, "location": Location(**step["location"])}) for step in plain["path"]
            ),
            "patterns": tuple(plain["patterns"]),
        }
    )


def _remember(cache: Path, key: str, report: Report) -> None:
    found = {
        "key": key,
        "findings": [to_json(one) for one in report.findings],
        "problems": [to_json(one) for one in report.problems],
        "statistics": report.statistics,
    }
    collecting.write(cache / "results.json", json.dumps(found).encode(errors="surrogateescape"))
