"""Numbers that know where they come from.

Every number that a risk is computed from is a `Figure`: a value in base units (seconds, calls a second, a fraction,
plain counts), the dotted key by which a blueprint and ``--what-if`` name it, and the place where it was written, or
that it was assumed. Reports show both; the sensitivity table turns each of them a little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mainstay.architect.design.units import Fraction, Rate
from mainstay.architect.findings import Location

SECONDS, PER_SECOND, SHARE, COUNT = "s", "/s", "%", ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a system."""

    key: str
    """``orders.place_order.timeout``, ``stripe.limit``, ``assume.hold``; for a computed one a plain name."""
    value: float
    unit: str
    """`SECONDS`, `PER_SECOND`, `SHARE` (a fraction, shown in percent) or `COUNT`."""
    location: Location | None = None
    """Where it is written; None where it was assumed or computed."""
    assumed: bool = False

    def __str__(self) -> str:
        return show(self.value, self.unit)


def show(value: float, unit: str, digits: int = 4) -> str:
    """A number as a report prints it: ``99.80%``, ``800ms``, ``300/s``."""
    match unit:
        case "%":
            return share(value)
        case "s":
            return span(value, digits)
        case "/s":
            return str(Rate(float(f"{value:.{digits}g}"))) if value > 0 else "0/s"
    return f"{value:.{digits}g}" if abs(value) < 1e6 else f"{value:,.0f}"


def at_least(value: float, unit: str, digits: int = 4) -> str:
    """As `show` prints it, but never less than the value: for a number that is to be reached.

    Args:
        value: in base units.
        unit: `PER_SECOND` or `SHARE`.
        digits: significant ones; of a share, as many as `share` takes, and more where that would be 100 %.
    """
    if unit == SHARE:
        places = len(share(value)[:-1].partition(".")[2])
        while (rounded := math.ceil(value * 100 * 10**places - 1e-6) / 10**places) >= 100 > value * 100:
            places += 1
        return f"{rounded:.{places}f}".rstrip("0").rstrip(".") + "%" if places else f"{rounded:.0f}%"
    step = 10.0 ** (math.floor(math.log10(value)) + 1 - digits) if value > 0 else 1.0
    return show(math.ceil(value / step - 1e-6) * step, unit, digits)


def span(seconds: float, digits: int = 4) -> str:
    """A time in the unit in which people say it: ``800ms``, ``1.5s``, ``15m``, ``30d``."""
    if seconds <= 0:
        return "0s"
    for unit, size, below in (
        ("us", 1e-6, 1e-3),
        ("ms", 1e-3, 1),
        ("s", 1, 120),
        ("m", 60, 7200),
        ("h", 3600, 172_800),
    ):
        if seconds < below:
            return f"{float(f'{seconds / size:.{digits}g}'):g}{unit}"
    days = seconds / 86400
    return f"{days:.{digits}g}d" if days < 1000 else f"{days / 365:.{digits}g}y"


def share(value: float) -> str:
    """A percentage with as many digits as it takes to tell it from 100 %: ``99.8%``, ``99.983%``, ``112.7%``."""
    for digits in range(1, 10):
        text = f"{value * 100:.{digits}f}"
        if value >= 1 or abs(float(text) - value * 100) < (1 - value) * 100 * 0.05:
            return f"{float(text):.{digits}f}".rstrip("0").rstrip(".") + "%"
    return str(Fraction(value))
