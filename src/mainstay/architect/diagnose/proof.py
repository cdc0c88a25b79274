"""What an experiment hands back: a proof, or what came of running one again."""

from __future__ import annotations

from dataclasses import dataclass, field

from mainstay.architect.findings import Location, Step, Witness


@dataclass(frozen=True, slots=True)
class Proof:
    """What an experiment proved. The engine makes a finding of it and completes the witness."""

    subject: str
    """The request line, or two of them."""
    message: str
    location: Location
    witness: Witness
    path: tuple[Step, ...] = ()


@dataclass(slots=True)
class Replay:
    """What came of running a witness again."""

    reproduced: bool
    """The edge still cuts."""
    same_outcome: bool
    """And what it left behind is what the witness says, apart from what is masked."""
    lines: list[str] = field(default_factory=list)
    """For the reader."""
