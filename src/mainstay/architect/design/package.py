"""The package: a folder of files made from a blueprint, written all or not at all, and never over a person's work.

Beside the files lies a manifest with the SHA-256 of each as it was written. A file whose hash is another one was
changed by a person, and a file that the manifest does not know was not written by Mainstay: neither is overwritten.

A write goes in three steps: every changed file is written to a folder of its own inside the package; a journal, which
is the manifest to be, is put beside the present one; then the files are moved into place one by one, and the journal
becomes the manifest. An error on the way puts everything back. A process killed before the journal leaves the old
package; one killed after it leaves the journal, by which `check` tells that a write was interrupted and the next
`write` knows both sets of files as its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import mainstay
from mainstay.architect.errors import MainstayError

MANIFEST = ".mainstay-design.json"
JOURNAL = ".mainstay-design.pending.json"
STAGE = ".mainstay-design.new"
FORMAT = 1
SITE = "site/"
"""Its pages hold drawings where a renderer is installed: `check` looks only at whether they were changed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a write left."""

    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path within the package."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """By path, which validator accepted the file."""
    blueprint: str = ""
    """SHA-256 over the files of the blueprint."""
    version: str = ""
    """Of the Mainstay that wrote it."""

    def text(self) -> str:
        """The file's content, sorted so that it diffs well."""
        files = {
            path: {"sha256": digest, **({"checked": self.marks[path]} if path in self.marks else {})}
            for path, digest in sorted(self.files.items())
        }
        body = {
            "format": FORMAT,
            "mainstay": self.version,
            "blueprint": self.blueprint,
            "files": files,
        }
        return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


@dataclass(slots=True)
class Outcome:
    """What one write did, by path."""

    written: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """No longer generated, but changed by a person: theirs from now on."""


def digest(content: str | bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def sources_digest(contents: Iterable[bytes]) -> str:
    """SHA-256 over what was read of the files of a blueprint, in that order."""
    return digest(b"".join(hashlib.sha256(content).digest() for content in contents))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a package; an empty one where there is none.

    Raises:
        MainstayError: it is there and cannot be understood.
    """
    return _manifest(folder / MANIFEST)


def previous(folder: Path) -> dict[str, str]:
    """Texts of the package as it was last written, by path: numbers that must stay the same are read from them."""
    texts = {}
    for path in read_manifest(folder).files:
        with suppress(OSError, UnicodeDecodeError):
            texts[path] = (folder / path).read_text(encoding="utf-8")
    return texts


def known_marks(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """What validators said of files that are still as they were then, by path."""
    known = read_manifest(folder)
    return {
        path: mark
        for path, mark in known.marks.items()
        if path in files and known.files.get(path) == digest(files[path])
    }


def write(folder: Path, files: Mapping[str, str], blueprint: str, marks: Mapping[str, str]) -> Outcome:
    """Make the package hold these files.

    Args:
        folder: made where it is missing.
        files: texts by path within the folder, with forward slashes.
        blueprint: digest of the files they were made from.
        marks: by path, which validator accepted a file.

    Raises:
        MainstayError: a file is in the way that Mainstay did not write as it stands, or nothing can be written there.
            The package is as it was.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            return _write(folder, files, Manifest(_digests(files), marks, blueprint, mainstay.__version__))
    except FileExistsError:
        raise MainstayError(f"{folder} is a file; name a folder for --write") from None
    except OSError as error:
        raise MainstayError(
            f"{error.filename or folder} cannot be written ({error.strerror}); "
            "nothing was changed, make room or name another folder"
        ) from error


def check(folder: Path, files: Mapping[str, str], blueprint: str) -> dict[str, str]:
    """What in the package is not as it would be written now: by path, in which way. Empty where nothing drifted.

    Args:
        folder: the package.
        files: what would be written; pages of the site may be left out.
        blueprint: digest of the files they were made from.

    Raises:
        MainstayError: there is no package in the folder.
    """
    if not (folder / MANIFEST).exists() and not (folder / JOURNAL).exists():
        raise MainstayError(f"{folder} holds no package; write it first with --write {folder}")
    known = read_manifest(folder)
    drifted: dict[str, str] = {}
    if (folder / JOURNAL).exists() and _manifest(folder / JOURNAL).files != known.files:
        drifted[JOURNAL] = "a write was interrupted; run --write again"
    for path in sorted({*files, *known.files}):
        there = _digest_of(folder / path)
        recorded = known.files.get(path)
        wanted = digest(files[path]) if path in files else recorded if path.startswith(SITE) else None
        if there is None:
            if wanted is not None:
                drifted[path] = "missing"
        elif wanted is None:
            drifted[path] = "no longer generated"
        elif there != wanted:
            drifted[path] = (
                "the blueprint says otherwise now"
                if there == recorded
                else "changed by another than Mainstay"
            )
        elif path.startswith(SITE) and path not in files and known.blueprint != blueprint:
            drifted[path] = "the blueprint says otherwise now"
    return drifted


# ------------------------------------------------------------------------------------ the steps of a write


def _write(folder: Path, files: Mapping[str, str], made: Manifest) -> Outcome:
    known, begun = read_manifest(folder), _manifest(folder / JOURNAL)
    outcome = Outcome()
    _refuse_what_is_not_ours(folder, made, known, begun, outcome)
    for path in sorted({*known.files, *begun.files} - {*made.files}):
        there = _digest_of(folder / path)
        if there in (known.files.get(path), begun.files.get(path)) and there is not None:
            outcome.removed.append(path)
        elif there is not None:
            outcome.kept.append(path)
    stage = folder / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    try:
        for path in outcome.written:
            _put(stage / "new" / path, files[path])
        _put(stage / "manifest", made.text())
        _put(stage / "journal", made.text())
        os.replace(stage / "journal", folder / JOURNAL)  # noqa: PTH105 - from here on the write is known to have begun
        _sync(folder)
        _move(folder, stage, outcome)
        _sync(folder)
        (folder / JOURNAL).unlink()
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    for path in outcome.removed:
        _remove_empty(folder, (folder / path).parent)
    return outcome


def _refuse_what_is_not_ours(
    folder: Path, made: Manifest, known: Manifest, begun: Manifest, outcome: Outcome
) -> None:
    """Sorts every path into what is to be written and what is there already. Raises where a person's file is there."""
    for path, wanted in made.files.items():
        target = folder / path
        for parent in (*reversed(PurePosixPath(path).parents[:-1]),):
            between = folder / parent
            if between.is_symlink() or (between.exists() and not between.is_dir()):
                raise MainstayError(
                    f"{between} is no folder that Mainstay made; move it away, or name another"
                )
        there = _digest_of(target)
        if there == wanted:
            outcome.same.append(path)
        elif there is None or there in (known.files.get(path), begun.files.get(path)):
            outcome.written.append(path)
        else:
            why = (
                "was changed since Mainstay wrote it; keep your change under another name"
                if path in known.files or path in begun.files
                else "was not written by Mainstay; move it away"
            )
            raise MainstayError(f"{target} {why}, or name another folder (nothing was written)")


def _move(folder: Path, stage: Path, outcome: Outcome) -> None:
    """Put the new files in place and the old ones aside, the manifest last; on any error everything goes back."""
    undo: list[tuple[Path, Path | None]] = []
    try:
        for path in (*outcome.written, *outcome.removed):
            target, aside = folder / path, stage / "old" / path
            aside.parent.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            there = target.exists()
            if there:
                _also_at(target, aside)
            undo.append((target, aside if there else None))
            if path in outcome.removed:
                target.unlink()
            else:
                os.replace(stage / "new" / path, target)  # noqa: PTH105
        os.replace(stage / "manifest", folder / MANIFEST)  # noqa: PTH105
    except BaseException:
        for target, old in reversed(undo):
            if old is not None:
                os.replace(old, target)  # noqa: PTH105
            else:
                target.unlink(missing_ok=True)
                _remove_empty(folder, target.parent)
        (folder / JOURNAL).unlink(missing_ok=True)
        raise


def _also_at(target: Path, aside: Path) -> None:
    try:
        aside.hardlink_to(target)
    except OSError:  # a file system without links
        shutil.copy2(target, aside)


def _put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="\n") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No two writes at once; the lock goes with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MainstayError(f"another process is writing to {folder}; wait for it to end") from None
        yield
    finally:
        os.close(handle)


def _remove_empty(folder: Path, inner: Path) -> None:
    while inner != folder and inner.is_relative_to(folder):
        try:
            inner.rmdir()
        except OSError:
            return
        inner = inner.parent


def _digests(files: Mapping[str, str]) -> dict[str, str]:
    return {path: digest(text) for path, text in files.items()}


def _digest_of(file: Path) -> str | None:
    """Of a regular file; a word that is no digest for anything else that stands there; None where nothing does."""
    if file.is_symlink() or (file.exists() and not file.is_file()):
        return "no regular file"
    try:
        return digest(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _manifest(file: Path) -> Manifest:
    try:
        body: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if body["format"] != FORMAT:
            raise MainstayError(
                f"{file} was written by Mainstay {body['mainstay']}, whose packages this one does not read"
            )
        files = {path: str(entry["sha256"]) for path, entry in body["files"].items()}
        if any(".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute() for path in files):
            raise ValueError("a path leads out of the package")
        marks = {path: str(entry["checked"]) for path, entry in body["files"].items() if "checked" in entry}
        return Manifest(files, marks, str(body["blueprint"]), str(body["mainstay"]))
    except FileNotFoundError:
        return Manifest()
    except NotADirectoryError:
        raise MainstayError(f"{file.parent} is a file; name a folder") from None
    except OSError as error:
        raise MainstayError(f"{file} cannot be read ({error.strerror}); name another folder") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MainstayError(
            f"{file} is not the manifest of a package; restore it, or name another folder"
        ) from error
