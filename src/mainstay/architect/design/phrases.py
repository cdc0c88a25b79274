"""The short phrases in an operation: whom it calls and how, who may call it, what it changes, what is cached.

inventory.reserve            stripe within 300ms retry 2 else adyen        catalog.get_product x20
mail later                   recommend 30% else nothing                    calls
shopper own | support        partner role admin tenant                     by
Product.stock hottest 5%     Order                                         changes
Order paid                   Order pending > paid                          moves
30s until OrderPaid hit 95%                                                cache
2 first 100ms budget 10%                                                   retry
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Self

from mainstay.architect.design.shapes import NAME, WORD
from mainstay.architect.design.units import Duration, Fraction, Written
from mainstay.architect.nearest import nearest


class Words:
    """The words of a phrase, taken one by one."""

    def __init__(self, text: str, what: str) -> None:
        self.text, self.what = text, what
        self.left = text.split()

    def __bool__(self) -> bool:
        return bool(self.left)

    def take(self) -> str:
        """The next word. Raises ValueError where there is none."""
        if not self.left:
            raise ValueError(f"{self.text!r} ends too early; write {self.what}")
        return self.left.pop(0)

    def number(self) -> int:
        """The next word as a whole number from 0."""
        word = self.take()
        if not re.fullmatch(r"[0-9]{1,9}", word):
            raise ValueError(f"{word!r} in {self.text!r} must be a whole number")
        return int(word)

    def unknown(self, word: str, known: list[str]) -> ValueError:
        """The error for a word that the phrase does not know."""
        return ValueError(f"{word!r} in {self.text!r} is not known{nearest(word, known)}; write {self.what}")


@dataclass(frozen=True, slots=True)
class Retry(Written):
    """How a call is repeated when it fails."""

    times: int
    """Repetitions after the first attempt."""
    first: Duration | None = None
    """Wait before the first repetition; each later wait is twice as long."""
    budget: Fraction | None = None
    """Most repetitions, as a share of all calls (retry budget, Google SRE book, chapter 22)."""

    what = "a number of repetitions, such as 2, or 2 first 100ms budget 10%"
    pattern = r"^[0-9]+( first \S+)?( budget \S+)?$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``2``, ``3 first 100ms``, ``2 budget 10%``."""
        words = Words(text, cls.what)
        times, first, budget = words.number(), None, None
        if times > 100:
            raise ValueError(f"{times} repetitions cannot be meant; write {cls.what}")
        while words:
            match words.take():
                case "first":
                    first = Duration.parse(words.take())
                case "budget":
                    budget = Fraction.parse(words.take())
                case word:
                    raise words.unknown(word, ["first", "budget"])
        return cls(times, first, budget)

    def __str__(self) -> str:
        return " ".join(
            [
                str(self.times),
                *([f"first {self.first}"] if self.first else []),
                *([f"budget {self.budget}"] if self.budget else []),
            ]
        )


@dataclass(frozen=True, slots=True)
class Call(Written):
    """One call that an operation makes."""

    to: str
    """An operation (``inventory.reserve``; ``reserve`` in the same service), a dependency, or an actor (a webhook)."""
    times: int = 1
    """How often within one run of the operation."""
    share: Fraction | None = None
    """In which share of the runs; None: in all."""
    later: bool = False
    """Handed over as a durable message: the operation does not wait for it."""
    within: Duration | None = None
    """Timeout of this call; None: that of the operation called, or an assumption."""
    retry: Retry | None = None
    """None: that of the operation called, or none at all."""
    fallback: str = ""
    """What is done instead when it fails: another operation or dependency, or ``nothing``, ``cached``, ``default``."""

    what = "a call such as inventory.reserve, or stripe within 300ms retry 2 else adyen"
    pattern = r"^[a-z]\S*( .*)?$"

    WITHOUT = ("nothing", "cached", "default")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``TO [xN] [N%] [later] [within TIME] [retry N] [else TO]``."""
        words = Words(text, cls.what)
        to = words.take()
        if not re.fullmatch(rf"{WORD}(\.{WORD})?", to):
            raise ValueError(f"{to!r} cannot be called; write {cls.what}")
        times, share, later, within, retry, fallback = 1, None, False, None, None, ""
        while words:
            word = words.take()
            if re.fullmatch(r"x[0-9]{1,6}", word):
                times = int(word[1:])
                if times == 0:
                    raise ValueError(f"x0 in {text!r} calls nothing; leave the call out")
            elif word.endswith("%"):
                share = Fraction.parse(word)
            elif word == "later":
                later = True
            elif word == "within":
                within = Duration.parse(words.take())
            elif word == "retry":
                retry = Retry(words.number())
            elif word == "else":
                fallback = words.take()
                if not re.fullmatch(rf"{WORD}(\.{WORD})?", fallback):
                    raise ValueError(f"{fallback!r} cannot be called instead; write {cls.what}")
            else:
                raise words.unknown(word, ["later", "within", "retry", "else"])
        return cls(to, times, share, later, within, retry, fallback)

    def __str__(self) -> str:
        parts = [self.to]
        if self.times != 1:
            parts.append(f"x{self.times}")
        if self.share is not None:
            parts.append(str(self.share))
        if self.later:
            parts.append("later")
        if self.within is not None:
            parts.append(f"within {self.within}")
        if self.retry is not None:
            parts.append(f"retry {self.retry.times}")
        if self.fallback:
            parts.append(f"else {self.fallback}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Grant:
    """One actor that may call an operation."""

    actor: str
    """An actor; a dependency (a webhook comes in); or ``anyone``."""
    scope: str = ""
    """``own`` (what belongs to it), ``tenant`` (what belongs to its tenant), ``all``; empty where nothing is said."""
    role: str = ""

    def __str__(self) -> str:
        return " ".join(
            [self.actor, *([f"role {self.role}"] if self.role else []), *([self.scope] if self.scope else [])]
        )


@dataclass(frozen=True, slots=True)
class By(Written):
    """Who may call an operation."""

    grants: tuple[Grant, ...]

    what = "those who may call it, such as shopper own | support"
    pattern = r"^[a-z].*$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ACTOR [role ROLE] [own|tenant|all]``, several parted by ``|``."""
        grants = []
        for part in text.split("|"):
            words = Words(part.strip(), cls.what)
            actor, scope, role = words.take(), "", ""
            if not re.fullmatch(WORD, actor):
                raise ValueError(f"{actor!r} is not the name of an actor; write {cls.what}")
            while words:
                match words.take():
                    case "own" | "tenant" | "all" as word:
                        scope = word
                    case "role":
                        role = words.take()
                    case word:
                        raise words.unknown(word, ["own", "tenant", "all", "role"])
            grants.append(Grant(actor, scope, role))
        return cls(tuple(grants))

    def __str__(self) -> str:
        return " | ".join(map(str, self.grants))


@dataclass(frozen=True, slots=True)
class Change(Written):
    """What an operation writes."""

    entity: str
    field: str = ""
    hottest: Fraction | None = None
    """The share of all its writes that meets the most written row; None: an assumption."""

    what = "an entity or a field, such as Product.stock or Product.stock hottest 5%"
    pattern = r"^[A-Z].*$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ENTITY[.FIELD] [hottest N%]``."""
        words = Words(text, cls.what)
        name = words.take()
        if not re.fullmatch(rf"{NAME}(\.{WORD})?", name):
            raise ValueError(f"{name!r} is not {cls.what}")
        hottest = None
        while words:
            word = words.take()
            if word != "hottest":
                raise words.unknown(word, ["hottest"])
            hottest = Fraction.parse(words.take())
        entity, _, field = name.partition(".")
        return cls(entity, field, hottest)

    def __str__(self) -> str:
        name = f"{self.entity}.{self.field}" if self.field else self.entity
        return f"{name} hottest {self.hottest}" if self.hottest is not None else name


@dataclass(frozen=True, slots=True)
class Move(Written):
    """A step of an entity from one state to another."""

    entity: str
    to: str
    start: str = ""
    """The state it leaves; empty: any from which a step leads to `to`."""

    what = "an entity and its next state, such as Order paid or Order pending > paid"
    pattern = r"^[A-Z]\w* [a-z].*$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ENTITY [STATE >] STATE``."""
        match = re.fullmatch(rf"({NAME}) (?:({WORD}) ?> ?)?({WORD})", text)
        if match is None:
            raise ValueError(f"{text!r} is not {cls.what}")
        return cls(match[1], match[3], match[2] or "")

    def __str__(self) -> str:
        return f"{self.entity} {self.start + ' > ' if self.start else ''}{self.to}"


@dataclass(frozen=True, slots=True)
class Cache(Written):
    """A cache in front of an operation."""

    fresh: Duration
    """How long an answer is used."""
    until: tuple[str, ...] = ()
    """Events that drop it earlier."""
    hit: Fraction | None = None
    """Share of calls that it answers; None: an assumption."""
    stale: Duration | None = None
    """How much longer an answer is used when a new one cannot be had (RFC 5861, stale-if-error)."""

    what = "a cache such as 30s, or 30s until OrderPaid hit 95% stale 1h"
    pattern = r"^\S+( .*)?$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``TIME [until EVENT, …] [hit N%] [stale TIME]``."""
        words = Words(text.replace(",", " , "), cls.what)
        fresh = Duration.parse(words.take())
        until: list[str] = []
        hit = stale = None
        while words:
            match words.take():
                case "until":
                    until.append(words.take())
                    while words.left[:1] == [","]:
                        words.take()
                        until.append(words.take())
                case "hit":
                    hit = Fraction.parse(words.take())
                case "stale":
                    stale = Duration.parse(words.take())
                case word:
                    raise words.unknown(word, ["until", "hit", "stale"])
        for event in until:
            if not re.fullmatch(NAME, event):
                raise ValueError(f"{event!r} is not the name of an event, such as OrderPaid")
        return cls(fresh, tuple(until), hit, stale)

    def __str__(self) -> str:
        parts = [str(self.fresh)]
        if self.until:
            parts.append("until " + ", ".join(self.until))
        if self.hit is not None:
            parts.append(f"hit {self.hit}")
        if self.stale is not None:
            parts.append(f"stale {self.stale}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Deprecated(Written):
    """Since when an operation is deprecated (RFC 9745), when it goes away (RFC 8594), and what takes its place."""

    since: date
    sunset: date | None = None
    use: str = ""

    what = "a date, such as 2026-12-01, or 2026-12-01 sunset 2027-06-01 use place_order_v2"
    pattern = r"^\d{4}-\d{2}-\d{2}( .*)?$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``DAY [sunset DAY] [use OPERATION]``. A sunset before the deprecation is refused."""
        words = Words(text, cls.what)
        since, sunset, use = day(words.take()), None, ""
        while words:
            match words.take():
                case "sunset":
                    sunset = day(words.take())
                case "use":
                    use = words.take()
                case word:
                    raise words.unknown(word, ["sunset", "use"])
        if sunset is not None and sunset < since:
            raise ValueError(f"the sunset {sunset} is before the deprecation {since}")
        return cls(since, sunset, use)

    def __str__(self) -> str:
        parts = [self.since.isoformat()]
        if self.sunset is not None:
            parts.append(f"sunset {self.sunset.isoformat()}")
        if self.use:
            parts.append(f"use {self.use}")
        return " ".join(parts)


def day(text: str) -> date:
    """A day of the calendar. Raises ValueError in one sentence."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day such as 2026-12-01") from None
