"""Values with units, as a blueprint writes them: ``99.9%``, ``800ms``, ``50/s peak 300/s``, ``2 GiB``.

Each class is an immutable value in SI base units (seconds, calls a second, bytes, a fraction) that is read from text
(`parse`), written back as text (`str`) and taken by pydantic in either form. ``parse(str(value)) == value`` holds for
all of them. What cannot be (more than 100 %, a rate a fortnight) is refused with what can.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic_core import CoreSchema, core_schema

from mainstay.architect.nearest import quoted

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

NUMBER = r"[0-9]+(?:\.[0-9]+)?"
SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "y": 365 * 86400.0,
}
PER = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
OTHER_WORDS = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms", "millis": "ms", "milliseconds": "ms",
    "mins": "min", "minute": "min", "minutes": "min", "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "yr": "y", "year": "y", "years": "y", "b": "B", "bytes": "B", "kb": "kB",
    "mb": "MB", "gb": "GB", "tb": "TB", "kib": "KiB", "mib": "MiB", "gib": "GiB", "tib": "TiB", "k": "kB",
    "m": "MB", "g": "GB", "rps": "s", "qps": "s", "tps": "s", "rpm": "min",
}  # fmt: skip
"""What others call our units, in small letters."""
BYTES = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


class Written:
    """A value that a blueprint holds as text, and Python as an object."""

    what: ClassVar[str]
    """What it is, with an example; ends the sentence that refuses a wrong one."""
    pattern: ClassVar[str]
    """Regular expression (ECMA 262) of the text, for the JSON Schema."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The value of a text. Raises ValueError in one sentence where it is none."""
        raise ValueError(f"{quoted(text)} is not {cls.what}")

    @classmethod
    def _take(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return cls.parse(" ".join(str(value).split()))
        raise ValueError(f"this must be {cls.what}, not {_kind(value)}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._take, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        try:
            cls.parse("2")
            kinds: str | list[str] = ["string", "number"]
        except ValueError:
            kinds = "string"
        return {"type": kinds, "pattern": _roomy(cls.pattern), "description": cls.what}


def _roomy(pattern: str) -> str:
    """The pattern with any white space for a space, as `Written` takes it."""
    inner = pattern[1:-1].replace(" ?", r"\s*").replace(" ", r"\s+").replace(".*", r"[\s\S]*")
    return rf"^\s*{inner}\s*$"


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else "nothing" if value is None else repr(value)


@dataclass(frozen=True, slots=True, order=True)
class Fraction(Written):
    """A share between 0 and 1, written in percent: an availability, a hit ratio."""

    value: float

    what = "a percentage such as 99.9%"
    pattern = rf"^{NUMBER} ?%$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``99.9%``. A bare ``0.999`` is refused: it might mean either."""
        match = re.fullmatch(rf"({NUMBER}) ?%", text)
        if match is None:
            hint = ""
            if re.fullmatch(NUMBER, text):
                number = float(text)
                hint = f"; write {number * 100 if number <= 1 else number:.6g}%"
            raise ValueError(f"{quoted(text)} is not {cls.what}{hint}")
        if float(match[1]) > 100:
            raise ValueError(f"{text} cannot be: a share is between 0% and 100%")
        return cls(float(Decimal(match[1]) / 100))  # in decimals, so that 99.9% is the float 0.999

    def __str__(self) -> str:
        return f"{(Decimal(repr(self.value)) * 100).normalize():f}%"


@dataclass(frozen=True, slots=True, order=True)
class Duration(Written):
    """A span of time, in seconds."""

    seconds: float

    what = "a time such as 800ms, 2s, 15m or 30d"
    pattern = rf"^{NUMBER} ?({'|'.join(SECONDS)})$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``800ms``, ``1.5 s``, ``15m``, ``2h``, ``30d``, ``7y``."""
        match = re.fullmatch(rf"({NUMBER}) ?([a-z]+)", text)
        if match is None or match[2] not in SECONDS:
            hint = f"; write {text}ms or {text}s" if re.fullmatch(NUMBER, text) else _meant(text, SECONDS)
            raise ValueError(f"{quoted(text)} is not {cls.what}{hint}")
        return cls(_within(float(match[1]) * SECONDS[match[2]], 1000 * SECONDS["y"], text, cls.what))

    def __str__(self) -> str:
        return _in_unit(self.seconds, ("y", "d", "h", "m", "s", "ms", "us"), SECONDS)


@dataclass(frozen=True, slots=True, order=True)
class Rate(Written):
    """So many a second."""

    per_second: float

    what = "a rate such as 100/s, 50/min or 10/d"
    pattern = rf"^{NUMBER}k? ?/ ?({'|'.join(PER)})$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``100/s``, ``2k/s``, ``50/min``, ``10/h``, ``3/d``."""
        match = re.fullmatch(rf"({NUMBER})(k?) ?/ ?([a-z]+)", text)
        if match is None or match[3] not in PER:
            hint = f"; write {text}/s" if re.fullmatch(NUMBER, text) else _meant(text, PER, "/")
            raise ValueError(f"{quoted(text)} is not {cls.what}{hint}")
        rate = float(match[1]) * (1000 if match[2] else 1) / PER[match[3]]
        return cls(_within(rate, 1e12, text, cls.what))

    def __str__(self) -> str:
        for unit in ("s", "min", "h", "d"):
            number = self.per_second * PER[unit]
            if number >= 1 and float(f"{number:.6g}") / PER[unit] == self.per_second:
                return f"{shortest(float(f'{number:.6g}'))}/{unit}"
        return f"{shortest(self.per_second)}/s"


@dataclass(frozen=True, slots=True)
class Load(Written):
    """How often something is asked for: on an ordinary day, and at its peak."""

    usual: Rate
    peak: Rate | None = None
    """None where only one figure was given; `System` then multiplies by an assumption."""

    what = "a load such as 50/s or 50/s peak 300/s"
    pattern = rf"{Rate.pattern[:-1]}( peak {Rate.pattern[1:-1]})?$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``50/s`` or ``50/s peak 300/s``. A peak below the usual load is refused."""
        usual, found, peak = text.partition(" peak ")
        try:
            load = cls(Rate.parse(usual.strip()), Rate.parse(peak.strip()) if found else None)
        except ValueError:
            raise ValueError(f"{quoted(text)} is not {cls.what}") from None
        if load.peak is not None and load.peak < load.usual:
            raise ValueError(
                f"the peak {load.peak} is below the usual {load.usual}; a peak is the highest load"
            )
        return load

    def __str__(self) -> str:
        return f"{self.usual} peak {self.peak}" if self.peak else str(self.usual)


@dataclass(frozen=True, slots=True, order=True)
class Size(Written):
    """An amount of data, in bytes."""

    bytes: int

    what = "a size such as 64 KiB, 2 MB or 2 GiB"
    pattern = rf"^{NUMBER} ?({'|'.join(BYTES)})$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``2 GiB`` (powers of 1024) or ``2 GB`` (powers of 1000), IEC 80000-13."""
        match = re.fullmatch(rf"({NUMBER}) ?([A-Za-z]+)", text)
        if match is None or match[2] not in BYTES:
            raise ValueError(f"{quoted(text)} is not {cls.what}{_meant(text, BYTES, ' ')}")
        if (size := Decimal(match[1]) * BYTES[match[2]]) > 10**18:  # in decimals: exact to the byte
            _within(math.inf, 1e18, text, cls.what)
        return cls(round(size))

    def __str__(self) -> str:
        for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB"):
            if self.bytes >= BYTES[unit] and self.bytes % BYTES[unit] == 0:
                return f"{self.bytes // BYTES[unit]} {unit}"
        return f"{self.bytes} B"


def _meant(text: str, known: Container[str], between: str = "") -> str:
    """``; write 50/s`` for ``50 rps``: the unit that is known, where it is called by another name."""
    match = re.fullmatch(rf"({NUMBER}k?) ?(?:/|per )? ?([A-Za-z]+)", text)
    if match is None:
        return ""
    word = match[2].lower()
    unit = word if word in known else OTHER_WORDS.get(word, "")
    return f"; write {match[1]}{between}{unit}" if unit in known else ""


def _within(number: float, most: float, text: str, what: str) -> float:
    """The number, where it is one that somebody can mean."""
    if number > most:
        raise ValueError(f"{text:.40} is more than there can be; write {what}")
    return number


def shortest(number: float) -> str:
    """The shortest decimal that reads back as the same number, without an exponent."""
    return f"{Decimal(repr(float(number))):f}".removesuffix(".0")


def _in_unit(value: float, units: tuple[str, ...], table: dict[str, float]) -> str:
    """In the largest unit that gives a short number and reads back as the same value."""
    for unit in units:
        number = float(f"{value / table[unit]:.6g}")
        if number >= 1 and number * table[unit] == value and number == round(number, 1):
            return f"{shortest(number)}{unit}"
    return f"{shortest(value)}s"
