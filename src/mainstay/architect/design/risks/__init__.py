"""Risks: what a staff engineer would say of a design, in numbers.

One file a risk: `KIND` (what it is, its formula, when it is wrong) and `assess`, which yields a `Risk` for each subject
whose number does not meet its need. Adding a risk is adding a file; there is no list to edit. A risk's id,
``kind:subject``, is stable and is what a waiver names. A discrete-event simulation (``simulation/``) judges formulas.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache

from mainstay.architect.design.figures import Figure
from mainstay.architect.design.flows import Flows
from mainstay.architect.design.system import System
from mainstay.architect.findings import Finding, Location, Severity, Step, Verdict


@dataclass(frozen=True, slots=True)
class Kind:
    """What all risks of one file share; its page (`mainstay explain NAME`) is made of it."""

    name: str
    """The field's plain term, as the file is called, with dashes: ``retry-amplification``."""
    title: str
    """The risk as a sentence."""
    severity: Severity
    formula: str
    """In plain symbols, with each one explained."""
    why: str
    """What happens in production where the formula says so, in two or three sentences."""
    wrong_when: str
    """Known false alarms: the formula's simplifications."""
    remedy: str
    """What is done about it in general."""
    patterns: tuple[str, ...] = ()
    """Patterns that remove it, as `mainstay explain` knows them."""
    sources: tuple[str, ...] = ()
    """Titles of papers, books, standards."""


@dataclass(frozen=True, slots=True)
class Risk:
    """One number of one subject that does not meet its need."""

    kind: Kind
    subject: str
    """What it is about, as a blueprint names it: ``orders.place_order``, ``orders.place_order->stripe``."""
    message: str
    """One sentence with the numbers: ``300/s at peak x 3 attempts = 900/s, more than stripe's limit of 100/s``."""
    formula: str
    """The kind's formula with the numbers of this subject."""
    inputs: tuple[Figure, ...]
    """Every figure that went in."""
    remedy: str
    """What to do here, with the number that would satisfy it."""
    location: Location
    path: tuple[Step, ...] = ()
    """The way through the system that it was computed along."""
    value: float | None = None
    """What was computed, in base units."""
    need: float | None = None
    """What it is held against, in base units."""
    severity: Severity | None = None
    """Where it differs from the kind's."""

    @property
    def id(self) -> str:
        """Stable across unrelated edits; what a waiver names."""
        return f"{self.kind.name}:{self.subject}"

    @property
    def margin(self) -> float:
        """Computed over needed: how far from satisfied it is, for comparisons; 0 where there is no such number."""
        if self.value is None or self.need is None or self.need == 0:
            return 0.0
        return self.value / self.need

    def finding(self) -> Finding:
        """The same as a finding, for the reports that review and diagnose use."""
        steps = [
            Step(
                figure.location or self.location,
                f"{figure.key} = {figure}{' (assumed)' if figure.assumed else ''}",
                figure.key,
            )
            for figure in self.inputs
        ]
        return Finding(
            edge=self.kind.name,
            severity=self.severity or self.kind.severity,
            verdict=Verdict.LIKELY,
            message=self.message,
            location=self.location,
            path=(*self.path, *steps),
            remedy=self.remedy,
            patterns=self.kind.patterns,
            subject=self.subject,
            formula=self.formula,
        )


@dataclass(slots=True)
class Study:
    """All that a risk may look at."""

    system: System
    flows: Flows = field(init=False)
    today: date = field(default_factory=date.today)
    against: System | None = None
    """An earlier version of the same system, whose callers must not break."""

    def __post_init__(self) -> None:
        self.flows = Flows(self.system)


Assess = Callable[[Study], Iterable[Risk]]


@cache
def kinds() -> dict[str, tuple[Kind, Assess]]:
    """All kinds by name, with what assesses them, found by walking this folder."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        found[loaded.KIND.name] = (loaded.KIND, loaded.assess)
    return dict(sorted(found.items()))


def assess(study: Study, chosen: Sequence[str] = ()) -> Iterator[Risk]:
    """Every risk of a system, kind by kind.

    Args:
        study: the system.
        chosen: names of kinds; all where it is empty.
    """
    for name, (_, judge) in kinds().items():
        if not chosen or name in chosen:
            yield from judge(study)
