"""Witness files: written by diagnose, read by `mainstay replay`.

A witness is one JSON file with all it takes to run it again: scenario, command, schedule, starting state and outcome.
It carries its version and a checksum; a file of another version, or one that was edited, is not run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mainstay.architect.diagnose.scenario import Scenario
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import WITNESS_VERSION, Finding, Witness, checksum

LARGEST = 100_000_000
"""Bytes of a witness file that is read."""


def write_witness(finding: Finding, directory: Path) -> Path:
    """Write a finding's witness as ``<edge>-<fingerprint>.json``. Raises `MainstayError` where that cannot be done."""
    assert finding.witness is not None
    path = directory / f"{finding.edge}-{finding.fingerprint}.json"
    text = json.dumps(finding.witness.sealed(), indent=1, ensure_ascii=False) + "\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise MainstayError(
            f"the witness {path} cannot be written: {os.strerror(error.errno or 0)}"
        ) from None
    return path


def read_witness(path: Path) -> Witness:
    """Read a witness file. Raises `MainstayError` where it is none, of another version, or edited by hand."""
    try:
        if path.stat().st_size > LARGEST:
            raise MainstayError(f"{path} is larger than {LARGEST // 1_000_000} MB; that is no witness")
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MainstayError(f"{path} does not exist; name a witness that diagnose wrote") from None
    except OSError as error:
        raise MainstayError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from None
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise MainstayError(
            f"{path} is no witness: it is not JSON; name a file that diagnose wrote"
        ) from None
    if not isinstance(body, dict) or "version" not in body or "checksum" not in body:
        raise MainstayError(
            f"{path} is no witness: it has no version and checksum; name a file that diagnose wrote"
        )
    if body["version"] != WITNESS_VERSION:
        raise MainstayError(
            f"{path} is a witness of version {body['version']}, this Mainstay replays version {WITNESS_VERSION}; "
            "run diagnose again for a new one"
        )
    if checksum(body) != body["checksum"]:
        raise MainstayError(
            f"{path} was edited by hand: its checksum is wrong; run diagnose again for a new witness"
        )
    try:
        return TypeAdapter(Witness).validate_python(body)
    except ValidationError as error:
        problem = error.errors()[0]
        raise MainstayError(
            f"{path} is no witness: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        ) from None


def pack_scenario(scenario: Scenario, directory: Path) -> dict[str, Any]:
    """The scenario for a witness in `directory`: all of it, and where its folder is from there."""
    packed: dict[str, Any] = scenario.model_dump(mode="json", by_alias=True)
    base = scenario.base.resolve()
    try:
        packed["base"] = os.path.relpath(base, directory.resolve())
    except ValueError:  # another drive
        packed["base"] = str(base)
    return packed


def unpack_scenario(witness: Witness, path: Path) -> Scenario:
    """The scenario of a witness read from `path`. Raises `MainstayError` where its folder is not there any more."""
    packed = dict(witness.scenario)
    base = path.resolve().parent / str(packed.pop("base", "."))
    try:
        scenario = Scenario.model_validate(packed)
    except ValidationError as error:
        raise MainstayError(
            f"the scenario in {path} does not fit this Mainstay: {error.errors()[0]['msg']}"
        ) from None
    scenario = scenario.model_copy(update={"base": base.resolve()})
    if not scenario.directory.is_dir():
        raise MainstayError(
            f"the service of {path} was in {scenario.directory}, which is not there; "
            "put the witness back where diagnose wrote it, or run diagnose again"
        )
    return scenario
