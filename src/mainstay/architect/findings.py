"""Findings: what review, diagnose and design say, and the evidence they say it with.

Everything here is plain data with a stable JSON form (`to_json`); the schema is published in
``finding.schema.json`` beside this file, and a test compares the two. Reports are written from these
classes alone, so a report format never needs to know which engine or which edge a finding came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

REPORT_VERSION = 1
"""Version of the JSON report; it changes when a field changes its meaning or goes away."""

WITNESS_VERSION = 1
"""Version of the witness file; `mainstay replay` runs only witnesses of its own version."""


class Severity(StrEnum):
    """How much it hurts where it happens. Declared from worst to mildest."""

    CRITICAL = "critical"  # money or data goes wrong
    HIGH = "high"  # an outage under load that the service will meet
    MEDIUM = "medium"  # slow, or wrong in a rare case
    LOW = "low"


class Verdict(StrEnum):
    """How sure we are. Declared from surest to least sure."""

    PROVEN = "proven"  # it happened, and a witness replays it
    LIKELY = "likely"  # the code says so, along the path shown
    POSSIBLE = "possible"  # one step could not be resolved; shown on request


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A span of source. Lines and columns count from 1, columns in characters; the end is exclusive."""

    file: str
    """Path relative to the root of the repository, with forward slashes."""
    line: int
    column: int = 1
    end_line: int = 0
    end_column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the path that leads to a finding: caller, callee, …, effect."""

    location: Location
    text: str
    """What happens here, as a clause: ``checkout() calls reserve_stock()``."""
    function: str = ""
    """The function in which it happens, as a reader would name it."""


# ------------------------------------------------------------------------------------------ witness


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened while a witness was taken, in the order in which it happened."""

    actor: str
    kind: str
    """``request``, ``reply``, ``statement``, ``outside`` (a call to the outside world and its answer),
    ``pause`` (the laboratory holds the actor here), ``resume``, ``blocked`` (PostgreSQL says that the
    actor waits for another's lock) or ``unblocked``."""
    text: str
    """The statement, the request line, or a sentence."""
    effect: str = ""
    """The `effects.Kind` of a statement or outside call, as its value."""
    target: str = ""
    """Table or host."""
    rows: int | None = None
    """Rows returned or changed, for a statement."""
    transaction: str = ""
    """State of the actor's transaction after the event: ``idle``, ``open``, ``failed``; empty where unknown."""
    parameters: tuple[str | None, ...] = ()
    result: str = ""
    """Status of a reply or outside answer, SQLSTATE of a failed statement, first row of a read."""
    milliseconds: float = 0.0
    """Since the start of the run. For reading only: never compared."""
    connection: int = 0
    """Number of the actor's connection, from 1."""
    marked: bool = False
    """This is where it went wrong: the event carries the finding."""
    location: Location | None = None
    """Line of the service's code that caused it, where the service is Python and the probe saw it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run left behind, with everything masked that two equal runs do differently."""

    name: str
    """``observed``, or the serial order: ``alice then bob``, ``only alice``."""
    replies: dict[str, str] = field(default_factory=dict)
    """For each actor: status and body of the reply, masked, on one line."""
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """For each table in which the outcomes differ: its rows, masked, sorted."""
    outside: list[str] = field(default_factory=list)
    """Calls that the outside world received, masked: the effects that no rollback undoes."""
    differs: list[str] = field(default_factory=list)
    """For a serial outcome: what in it is not as observed, a sentence each."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One point of a growth run."""

    rows: int
    """How many rows the grown table had."""
    count: int
    """How often the statement ran."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Proof that an edge cut: enough to run it again, and enough to understand it without running it."""

    edge: str
    kind: str
    """``schedule`` (an interleaving), ``growth`` (the same request over more rows) or ``trace`` (one request)."""
    argument: list[str]
    """The proof as a short argument, a sentence a line; the last one is the contradiction."""
    scenario: dict[str, Any]
    """The whole scenario, as loaded, without defaults left to guess."""
    command: list[str]
    """How the service was started; ``$PORT`` stands for the port it was given."""
    starting_state: dict[str, Any]
    """``fingerprint`` (hash over the masked rows) and ``tables`` (name -> number of rows)."""
    schedule: dict[str, Any]
    """Who goes first, where it is held, who runs meanwhile; or which table was grown by how much."""
    events: list[Event]
    observed: Outcome | None = None
    serial: list[Outcome] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    version: int = WITNESS_VERSION
    checksum: str = ""

    def sealed(self) -> dict[str, Any]:
        """The JSON form with its checksum, so that an edit by hand is noticed by `mainstay replay`."""
        body: dict[str, Any] = to_json(self)
        body["checksum"] = checksum(body)
        return body


def checksum(witness: dict[str, Any]) -> str:
    """SHA-256 over a witness's canonical JSON (RFC 8785 in spirit: sorted keys, no spaces), less the checksum."""
    body = {key: value for key, value in witness.items() if key != "checksum"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


# ------------------------------------------------------------------------------------------ finding


@dataclass(frozen=True, slots=True)
class Finding:
    """One sharp edge in one place."""

    edge: str
    severity: Severity
    verdict: Verdict
    message: str
    """One sentence with the concrete names, no full stop needed to understand it."""
    location: Location
    path: tuple[Step, ...] = ()
    remedy: str = ""
    """What to do, in one sentence that names the pattern."""
    patterns: tuple[str, ...] = ()
    """Names of the patterns that remove the edge, as `mainstay explain` knows them."""
    witness: Witness | None = None
    witness_file: str = ""
    """Where the witness was written, relative to the working directory."""
    subject: str = ""
    """What the finding is about, apart from where it stands: the qualified function, or the request line."""
    formula: str = ""
    """How the number was computed, with its figures; design only."""
    fingerprint: str = ""
    """Stable across unrelated edits; made by `fingerprint` where it is left empty."""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint(self))


def fingerprint(finding: Finding) -> str:
    """A name for the finding that hangs on no line number: edge, file, function and what the path touches.

    Two findings of one edge in the same function that touch the same things share it; baselines count
    how many there are.
    """
    parts = [finding.edge, finding.location.file, finding.subject, *(step.function for step in finding.path)]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Check:
    """What an experiment says of one subject when it did not find the edge there."""

    edge: str
    subject: str
    verdict: str
    """``cleared`` or ``undecided``."""
    bound: str
    """For cleared: how far was looked (schedules, statements, rows tried). For undecided: why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read or done; the rest went on."""

    file: str
    message: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A finding that the code itself answers for, or that the baseline knows."""

    finding: Finding
    reason: str
    by: str = "comment"
    """``comment`` (in the source), ``baseline``, or ``waiver`` (in the blueprint)."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """What was taken where a blueprint says nothing, and went into a number that was judged; design only."""

    name: str
    """As a blueprint names it: ``assume.hold``."""
    value: str
    """As people write it: ``15ms``."""
    number: float
    """The same in base units: seconds, calls a second, a fraction, a count."""
    findings: int
    """How many risks rest on it, waived ones included; 0 where what it went into meets its need."""


@dataclass(frozen=True, slots=True)
class Table:
    """A result that was asked for beside the findings: what a change moves, how files were checked; design only."""

    name: str
    """``what-if``, ``sensitivity``, ``files``, ``simulation``."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    """One sentence below it."""


@dataclass(slots=True)
class Report:
    """All that one run of an engine has to say."""

    engine: str
    """``review``, ``diagnose`` or ``design``."""
    findings: list[Finding] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    suppressed: list[Suppressed] = field(default_factory=list)
    statistics: dict[str, float] = field(default_factory=dict)
    """Figures of the run by plain name, such as ``files``, ``lines``, ``schedules``, ``seconds``."""
    assumptions: list[Assumption] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    """Said beside the findings, such as a waiver that matches nothing; they leave the exit code as it is."""

    def keep(self, least: Verdict) -> None:
        """Drop the findings that are less sure than `least`."""
        order = list(Verdict)
        self.findings = [f for f in self.findings if order.index(f.verdict) <= order.index(least)]

    def sort(self) -> None:
        """Worst first, then surest, then by place."""
        severities, verdicts = list(Severity), list(Verdict)
        self.findings.sort(
            key=lambda f: (
                severities.index(f.severity),
                verdicts.index(f.verdict),
                f.location,
                f.edge,
                f.message,
            )
        )


def to_json(value: Any) -> Any:
    """The JSON form of any class of this file: fields by name, enums by value, `None` kept."""
    return asdict(value, dict_factory=_plain)


def _plain(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {key: _value(value) for key, value in items}


def _value(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return value
