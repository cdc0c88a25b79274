"""Hands every generated file to the validators that are installed, and says of each file which one accepted it.

A file is *validated by* tools of others, *checked by our schema* where none is installed or none exists, or *not
validated*, with what to install. Examples are validated against the schemas they stand for, which the usual validators
of OpenAPI and AsyncAPI do not do. The validators come with the extra ``validate``; Spectral and the AsyncAPI parser
are found in a folder ``node_modules`` here or above, or in the one that ``MAINSTAY_NODE_MODULES`` names.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mainstay.architect.design import validators
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.validators import Refused
from mainstay.architect.errors import MainstayError

EXTRA = "install Mainstay with its extra 'validate'"
NODE = "npm install @asyncapi/parser @stoplight/spectral-cli, here or where MAINSTAY_NODE_MODULES says"


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of one file."""

    path: str
    said: str
    """``validated by buf 1.75.0 and protoc 36.2``, ``checked by our schema``, ``not validated: …``."""
    refused: tuple[str, ...] = ()
    """Why validators refuse it, one sentence each with the validator's name."""
    warned: tuple[str, ...] = ()
    """What validators take and would have otherwise, told in the same way; the first of them stands in `said`."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of all files."""

    marks: list[Mark]
    drawings: Mapping[str, str]
    """SVG by Mermaid text, as the renderer drew it on the way."""

    @property
    def refused(self) -> list[Mark]:
        """The files that a validator refuses."""
        return [mark for mark in self.marks if mark.refused]


@dataclass(slots=True)
class _Notes:
    by: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    """What we checked ourselves."""
    missing: list[str] = field(default_factory=list)
    """What to install."""
    refused: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)


def verify(
    files: Sequence[Generated],
    progress: Callable[[str], None] = lambda text: None,
    cache: Path | None = None,
) -> Verification:
    """Validate files.

    Args:
        files: all files of the package; those that belong together are validated together.
        progress: told what is looked at.
        cache: a folder in which drawings are kept between runs.

    Raises:
        MainstayError: a file cannot be put on disk for the validators.
    """
    notes: dict[str, _Notes] = defaultdict(_Notes)
    kinds: dict[str, list[Generated]] = defaultdict(list)
    for file in files:
        kinds[file.kind.removesuffix("-examples")].append(file)
    drawings: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="mainstay-verify-") as name:
            folder = Path(name)
            for file in files:
                place = folder / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(file.text, encoding="utf-8")
            for kind, group in sorted(kinds.items()):
                progress(f"validating {len(group)} files of {kind}")
                drawings |= _kind(kind, group, folder, notes, cache)
    except OSError as error:
        raise MainstayError(
            f"the files cannot be put where validators read them ({error.strerror}); make room in {name}"
        ) from error
    for file in files:
        if file.examples:
            _examples(file, notes[file.path])
    return Verification([_mark(file, notes[file.path]) for file in files], drawings)


def node_modules() -> Path | None:
    """Where packages of Node.js are: as the environment says, else in the nearest folder of that name."""
    if named := os.environ.get("MAINSTAY_NODE_MODULES"):
        return Path(named)
    here = Path.cwd()
    return next(
        (folder / "node_modules" for folder in (here, *here.parents) if (folder / "node_modules").is_dir()),
        None,
    )


def _kind(
    kind: str,
    group: Sequence[Generated],
    folder: Path,
    notes: Mapping[str, _Notes],
    cache: Path | None,
) -> dict[str, str]:
    """Every validator of one kind of file; gives what was drawn on the way, by text."""
    paths = [file.path for file in group]
    match kind:
        case "openapi":
            _run(notes, paths, "openapi-spec-validator", lambda: validators.openapi(folder, paths), EXTRA)
            _spectral(notes, folder, paths, "oas")
        case "asyncapi":
            modules = node_modules()
            if modules is not None and (modules / "@asyncapi" / "parser").is_dir() and shutil.which("node"):
                _run(
                    notes,
                    paths,
                    "@asyncapi/parser",
                    lambda: validators.asyncapi(folder, paths, modules),
                    NODE,
                )
            else:
                _run(notes, paths, "", lambda: validators.asyncapi_shape(folder, paths), NODE)
                for path in paths:
                    notes[path].missing.append(NODE)
            _spectral(notes, folder, paths, "asyncapi")
        case "graphql":
            _run(notes, paths, "graphql-core", lambda: validators.graphql(folder, paths), EXTRA)
        case "protobuf":
            _run(notes, paths, "protoc", lambda: validators.protoc(folder, paths), EXTRA)
            _run(notes, paths, "buf", lambda: validators.buf(folder, paths), EXTRA)
        case "json-schema":
            _run(notes, paths, "check-jsonschema", lambda: validators.json_schema(folder, paths), EXTRA)
        case "mermaid":
            drawn: dict[str, str] = {}

            def draw() -> validators.Said:
                texts = {file.path: file.text for file in group}
                version, refused, svgs = validators.mermaid(texts, cache)
                drawn.update({texts[path]: svg for path, svg in svgs.items()})
                return version, refused

            _run(notes, paths, "mermaidx", draw, EXTRA)
            return drawn
        case "json":
            _run(notes, paths, "", lambda: validators.json(folder, paths), "")
        case "markdown":
            _run(notes, paths, "", lambda: validators.links(folder, paths), "")
    return {}


def _spectral(notes: Mapping[str, _Notes], folder: Path, paths: list[str], rules: str) -> None:
    modules = node_modules()
    own = modules / ".bin" / "spectral" if modules is not None else None
    command = str(own) if own is not None and own.exists() else shutil.which("spectral")
    if command is not None and shutil.which("node"):

        def lint() -> validators.Said:
            version, refused, warned = validators.spectral(folder, paths, command, rules)
            for path, said in warned.items():
                notes[path].warned += [f"spectral: {one}" for one in said]
            return version, refused

        _run(notes, paths, "spectral", lint, NODE)


def _run(
    notes: Mapping[str, _Notes],
    paths: Sequence[str],
    tool: str,
    run: Callable[[], validators.Said],
    remedy: str,
) -> None:
    """One validator over some files; `tool` is empty for a check of our own."""
    try:
        version, refused = run()
    except ModuleNotFoundError:
        for path in paths:
            notes[path].missing.append(remedy)
        return
    except Refused as error:  # it cannot do its work at all
        version, refused = "", dict.fromkeys(paths, str(error))
    for path in paths:
        if path in refused:
            notes[path].refused.append(f"{tool or 'our check'}: {refused[path]}")
        elif tool:
            notes[path].by.append(f"{tool} {version}".strip())
        else:
            notes[path].own.append(version)


def _examples(file: Generated, note: _Notes) -> None:
    try:
        refused = validators.examples(file.examples)
    except ModuleNotFoundError:
        note.missing.append(EXTRA)
        return
    note.refused += [f"jsonschema: example {said}" for said in refused]
    if not refused:
        note.own.append(f"{len(file.examples)} examples by jsonschema {validators.version('jsonschema')}")


def _mark(file: Generated, note: _Notes) -> Mark:
    checks = [said for said in note.own if said]
    examples = "".join(f", {said}" for said in checks if " examples by " in said)
    warned = ""
    if note.warned:
        more = f", and {len(note.warned) - 1} more" if len(note.warned) > 1 else ""
        warned = f"; warned of by {note.warned[0]}{more}"
    shape = [said for said in checks if " examples by " not in said]
    if note.refused:
        return Mark(file.path, "refused", tuple(note.refused), tuple(note.warned))
    if note.by:
        return Mark(
            file.path, f"validated by {_listed(note.by)}{examples}{warned}", warned=tuple(note.warned)
        )
    if shape:
        remedy = f"; for more, {note.missing[0]}" if note.missing else ""
        return Mark(file.path, f"checked by {_listed(shape)}{examples}{remedy}")
    why = note.missing[0] if note.missing else f"no validator is known for {file.kind}"
    return Mark(file.path, f"not validated: {why}")


def _listed(names: Iterable[str]) -> str:
    *rest, last = dict.fromkeys(names)
    return f"{', '.join(rest)} and {last}" if rest else last
