"""The small grammar of types in a blueprint.

    uuid            text max 200       int >0            money               a scalar, with what it is held to
    Address         Product.sku        Line+             Order*   text?      an entity, a field of one; many; optional
    pending > paid > shipped; pending > cancelled                            states, and how one follows another
    small | medium | large                                                   one of these words
    text pii keep 90d   email unique   text search                          marks

``*`` is any number, ``+`` at least one, ``?`` one or none. Names are resolved later, by `system.py`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Self

from mainstay.architect.design.units import Duration, Written, shortest
from mainstay.architect.nearest import nearest, quoted

SCALARS: dict[str, str] = {
    "uuid": "a UUID (RFC 9562)",
    "text": "text",
    "int": "a whole number",
    "float": "a floating-point number",
    "decimal": "an exact decimal number",
    "money": "an amount and its currency (ISO 4217)",
    "bool": "true or false",
    "date": "a day (RFC 3339 full-date)",
    "time": "a time of day (RFC 3339)",
    "timestamp": "an instant (RFC 3339 date-time)",
    "duration": "a span of time (ISO 8601)",
    "email": "an e-mail address",
    "phone": "a telephone number (E.164)",
    "url": "a URL",
    "iso3166": "a country (ISO 3166-1 alpha-2)",
    "iso4217": "a currency (ISO 4217)",
    "json": "any JSON value",
    "file": "a file; kept outside the database, handed over by URL",
}
OTHER_WORDS = {
    "string": "text", "str": "text", "varchar": "text", "char": "text", "integer": "int", "bigint": "int",
    "long": "int", "number": "decimal", "numeric": "decimal", "double": "float", "real": "float", "boolean": "bool",
    "datetime": "timestamp", "timestamptz": "timestamp", "instant": "timestamp", "interval": "duration",
    "guid": "uuid", "id": "uuid", "amount": "money", "price": "money", "object": "json", "jsonb": "json",
    "dict": "json", "blob": "file", "binary": "file", "bytes": "file", "image": "file", "uri": "url",
    "country": "iso3166", "currency": "iso4217",
}  # fmt: skip
"""What others call our scalars."""
MARKS: dict[str, str] = {
    "pii": "personal data",
    "secret": "never leaves the service: a password hash, a key",
    "unique": "no two rows share it",
    "search": "found by full-text search",
    "fixed": "never changes once written",
}

LONGEST = 100_000
"""Characters that a text can be asked to have at least."""
WORD = r"[a-z][a-z0-9_]*"
NAME = r"[A-Z][A-Za-z0-9]*"


@dataclass(frozen=True, slots=True)
class States:
    """States of an entity and the steps between them; the first one written is the one it begins in."""

    names: tuple[str, ...]
    steps: tuple[tuple[str, str], ...]

    @property
    def first(self) -> str:
        """The state in which it begins."""
        return self.names[0]

    @property
    def last(self) -> tuple[str, ...]:
        """The states from which no step leads on."""
        return tuple(name for name in self.names if all(step[0] != name for step in self.steps))

    def before(self, state: str) -> tuple[str, ...]:
        """The states from which one step leads to `state`."""
        return tuple(start for start, end in self.steps if end == state)

    @classmethod
    def parse(cls, text: str) -> States:
        """Read ``pending > paid > shipped; pending > cancelled``. Contradictions raise ValueError."""
        names: list[str] = []
        steps: list[tuple[str, str]] = []
        for chain in text.split(";"):
            parts = [part.strip() for part in chain.split(">")]
            for part in parts:
                if not re.fullmatch(WORD, part):
                    raise ValueError(
                        f"{part or chain.strip()!r} is not the name of a state; write {text_of_states()}"
                    )
                if part not in names:
                    names.append(part)
            for step in pairwise(parts):
                if step[0] == step[1]:
                    raise ValueError(f"the state {step[0]!r} leads to itself; leave that step out")
                if step in steps:
                    raise ValueError(f"the step {step[0]} > {step[1]} is written twice")
                steps.append(step)
        states = cls(tuple(names), tuple(steps))
        reached = {states.first}
        while more := {end for start, end in steps if start in reached} - reached:
            reached |= more
        for name in names:
            if name not in reached:
                raise ValueError(f"no step leads from {states.first!r}, the first state, to {name!r}")
        return states

    def __str__(self) -> str:
        chains: list[list[str]] = []
        for start, end in self.steps:
            if chains and chains[-1][-1] == start:
                chains[-1].append(end)
            else:
                chains.append([start, end])
        return "; ".join(" > ".join(chain) for chain in chains)


def text_of_states() -> str:
    """How states are written."""
    return "states as in: pending > paid > shipped; pending > cancelled"


@dataclass(frozen=True, slots=True)
class Type(Written):
    """What a field holds, an operation takes or gives."""

    name: str
    """A scalar of `SCALARS`, an entity (``Order``) or a field of one (``Product.sku``); empty for states and words."""
    many: str = ""
    """``*`` any number, ``+`` at least one, ``?`` one or none, empty for exactly one."""
    marks: tuple[str, ...] = ()
    """Of `MARKS`, in the order written."""
    least: float | None = None
    """Lowest value allowed."""
    above: float | None = None
    """Values must be greater than this."""
    most: float | None = None
    """Highest value allowed; of text, the greatest length in characters."""
    below: float | None = None
    """Values must be less than this."""
    keep: Duration | None = None
    """How long it is kept; None: as long as the system's retention says."""
    states: States | None = None
    words: tuple[str, ...] = ()
    """The words it may be, of an enumeration."""

    what = "a type such as uuid, text max 200, int >0, Line+, Product.sku or pending > paid"
    pattern = r"^\S.*$"

    SUFFIX: ClassVar[str] = r"[*+?]?"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a type. Raises ValueError in one sentence that names what is unknown and the nearest known thing."""
        if re.match(rf"{WORD} *>", text) and not re.search(r">=? *[0-9]", text):
            return cls("", states=States.parse(text))
        if "|" in text:
            words = tuple(part.strip() for part in text.split("|"))
            for word in words:
                if not re.fullmatch(WORD, word):
                    raise ValueError(
                        f"{word!r} is not a plain word; write a choice as in: small | medium | large"
                    )
            return cls("", words=words)
        head, _, rest = text.partition(" ")
        match = re.fullmatch(rf"({NAME}(?:\.{WORD})?|{WORD})({cls.SUFFIX})", head)
        if ">" in rest and not re.search(r">=? *-?[0-9]", rest):
            raise ValueError(f"{quoted(text)} has no states that can be read; write {text_of_states()}")
        if match is None:
            other = OTHER_WORDS.get(re.split(r"[^a-z]", head.lower())[0])
            raise ValueError(f"{quoted(head)} is not {cls.what}{f'; write {other}' if other else ''}")
        if match[1][0].islower() and match[1] not in SCALARS:
            other = OTHER_WORDS.get(match[1])
            hint = f" (did you mean {other!r}?)" if other else nearest(match[1], SCALARS)
            raise ValueError(
                f"there is no type {quoted(match[1])}{hint or '; an entity begins with a capital, such as Order'}"
            )
        return cls(match[1], match[2])._with(rest.split())

    def _with(self, parts: list[str]) -> Self:
        made = self
        while parts:
            part = parts.pop(0)
            if re.fullmatch(r"[<>]=?", part) and parts:
                part += parts.pop(0)
            if part in MARKS:
                made = replace(made, marks=(*made.marks, part))
            elif match := re.fullmatch(r"([<>]=?)(-?[0-9]{1,15}(?:\.[0-9]{1,12})?)", part):
                made = made._bound(match[1], float(match[2]))
            elif part == "max" and parts and re.fullmatch(r"[0-9]{1,15}", parts[0]):
                made = replace(made, most=float(parts.pop(0)))
            elif part == "keep" and parts:
                made = replace(made, keep=Duration.parse(parts.pop(0)))
            elif part in ("max", "keep"):
                example = "text? max 200" if part == "max" else "text pii keep 90d"
                told = f", not {parts[0]!r}" if parts else ""
                raise ValueError(f"after {part} comes how much{told}; write it as in: {example}")
            else:
                raise ValueError(
                    f"{part!r} is not known after a type{nearest(part, [*MARKS, 'max', 'keep'])}"
                )
        made._check_bounds()
        return made

    def _check_bounds(self) -> None:
        """Some value is within the bounds, or ValueError says why none is."""
        low = max((n for n in (self.least, self.above) if n is not None), default=-math.inf)
        high = min((n for n in (self.most, self.below) if n is not None), default=math.inf)
        if low > high or (low == high and low in (self.above, self.below)):
            raise ValueError(f"nothing is both above {low:g} and below {high:g}")
        if self.name in ("int", "text"):
            if self.name == "text" and high < math.inf and (high < 0 or self.below == 0):
                raise ValueError(f"no text has a length below {high:g}")
            if self.name == "text" and LONGEST < low < math.inf:
                raise ValueError(f"a text of at least {low:g} characters cannot be meant; that is a file")
            first = math.floor(low) + 1 if low == self.above else math.ceil(low) if low > -math.inf else low
            last = (
                math.ceil(high) - 1 if high == self.below else math.floor(high) if high < math.inf else high
            )
            if first > last:
                raise ValueError(f"no whole number is above {low:g} and below {high:g}")

    def _bound(self, sign: str, number: float) -> Self:
        match sign:
            case ">":
                return replace(self, above=number)
            case ">=":
                return replace(self, least=number)
            case "<":
                return replace(self, below=number)
        return replace(self, most=number)

    @property
    def entity(self) -> str:
        """The entity it names, or whose field it names; empty for a scalar."""
        return self.name.partition(".")[0] if self.name[:1].isupper() else ""

    @property
    def field(self) -> str:
        """The field of the entity, where it names one: ``sku`` of ``Product.sku``."""
        return self.name.partition(".")[2]

    @property
    def personal(self) -> bool:
        """Marked as personal data."""
        return "pii" in self.marks

    def __str__(self) -> str:
        if self.states is not None:
            return str(self.states)
        if self.words:
            return " | ".join(self.words)
        parts = [self.name + self.many]
        for sign, number in ((">=", self.least), (">", self.above), ("<=", self.most), ("<", self.below)):
            if number is not None:
                length = sign == "<=" and self.name == "text" and number >= 0 and number == int(number)
                parts.append(f"max {number:.0f}" if length else f"{sign}{shortest(number)}")
        if self.keep is not None:
            parts.append(f"keep {self.keep}")
        return " ".join([*parts, *self.marks])


@dataclass(frozen=True, slots=True)
class Result(Written):
    """What an operation gives: one type when it succeeds, and the problems it may answer with instead."""

    type: Type | None
    """None where it gives nothing but its success."""
    problems: tuple[str, ...] = ()
    """Names such as ``OutOfStock``; each becomes a problem type (RFC 9457)."""

    what = "a result such as Order, Order* or Order | OutOfStock"
    pattern = r"^\S.*$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``Order | OutOfStock | CardDeclined``; ``nothing | TooLate`` gives only its success."""
        first, *problems = [part.strip() for part in text.split("|")]
        for problem in problems:
            if not re.fullmatch(NAME, problem):
                raise ValueError(f"{problem!r} is not the name of a problem, such as OutOfStock")
        return cls(None if first == "nothing" else Type.parse(first), tuple(problems))

    def __str__(self) -> str:
        return " | ".join([str(self.type) if self.type else "nothing", *self.problems])
