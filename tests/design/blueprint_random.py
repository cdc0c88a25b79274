"""Random blueprints, as plain values, with all that the numeric risks look at; the same seed gives the same one.

Services a, b, c, d with two operations each call only what comes later, and a and b tell c and d of events, so that no
ring is made. Actors call those of a, and some of b.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

from hypothesis import strategies as st

from mainstay.architect.design.reading import Source
from mainstay.architect.design.risks import Study
from mainstay.architect.design.risks.pool_size import demand
from mainstay.architect.design.system import System

SERVICES, DEPENDENCIES = "abcd", 3
EVENTS = ("Done", "Told")


def blueprints() -> st.SearchStrategy[dict[str, Any]]:
    """Random blueprints by seed: what fails can be had again from the number that is printed."""
    return st.integers(0, 2**32 - 1).map(blueprint)


def blueprint(seed: int) -> dict[str, Any]:
    """The blueprint of a seed."""
    random = Random(seed)
    value = _Maker(random).made()
    # Most pools have room, as most real ones do: behind one that has none, nothing else is as it was computed.
    study = study_of(value)
    for name, service in value["services"].items():
        busy = demand(study, name).busy
        if random.randrange(10):
            service["pool"] = str(math.ceil(busy / int(service["copies"]) / random.uniform(0.3, 0.85)) or 1)
    return value


class _Maker:
    def __init__(self, random: Random) -> None:
        self.random = random
        # Some systems are calm throughout, some have tight timeouts or much that is handed over.
        self.tight = self.sometimes(3)
        self.told = self.sometimes(2)

    def sometimes(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == 0

    def number(self, least: int, most: int, unit: str = "") -> str:
        return f"{self.random.randint(least, most)}{unit}"

    def one(self, *choices: str) -> str:
        return self.random.choice(choices)

    def made(self) -> dict[str, Any]:
        value = {
            "blueprint": "random",
            "needs": {"availability": "99.9%", "p99": self.one("100ms", "500ms", "2s")},
            "actors": {"user": {"auth": "oidc"}, "robot": {"auth": "api_key"}},
            "depends": {f"dep{at}": self.dependency() for at in range(DEPENDENCIES)},
            "services": {name: self.service(at) for at, name in enumerate(SERVICES)},
        }
        if self.sometimes(3):
            value["parts"] = {
                "door": {"kind": "gateway", "availability": self.number(90, 99, "%")},
                **({"log": {"kind": "kafka"}} if self.sometimes(2) else {}),
            }
        if self.sometimes(3):
            value["assume"] = {
                "outage": self.one("1m", "10m", "1h"),
                "tail": self.one("2.5", "4", "6"),
                "lock": self.one("2ms", "10ms"),
                "hop": self.one("1ms", "10ms"),
            }
        return value

    def dependency(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "availability": self.number(70, 99, "%"),
            "p99": self.number(20, 400, "ms"),
            "timeout": self.number(300, 900, "ms") if self.tight else self.number(2, 4, "s"),
            "limit": self.number(20, 200, "/s"),
        }
        if self.sometimes(4):
            made["retry"] = self.retry()
        return made

    def retry(self) -> str:
        return self.one("1", "2", "1 first 50ms", "2 first 20ms", "3 budget 20%", "1 first 100ms budget 10%")

    def service(self, at: int) -> dict[str, Any]:
        name = SERVICES[at]
        return {
            "availability": self.number(80, 99, "%"),
            "copies": self.number(1, 3),
            "pool": self.number(1, 6),
            "store": "none" if self.sometimes(8) else "postgresql",
            "owns": {f"Row_{name}".title().replace("_", ""): {"id": "uuid", "left": "int", "sold": "int"}},
            "does": {op: self.operation(at, op) for op in ("one", "two")}
            | ({"heard": self.handler(at)} if self.told and at > 1 else {}),
        }

    def operation(self, at: int, op: str) -> dict[str, Any]:
        entered = at == 0 or (at == 1 and op == "two" and self.sometimes(2))
        made: dict[str, Any] = {
            "timeout": self.number(200, 2500, "ms") if self.tight else self.number(10, 20, "s"),
            "work": self.number(5, 60, "ms"),
        }
        if entered:
            made |= {"by": self.one("user", "user | robot"), "load": self.load(), "gives": "text"}
        calls: list[Any] = [self.call(at) for _ in range(self.random.randint(0, 3 if at == 0 else 2))]
        if len(calls) > 1 and self.sometimes(2):
            calls = [calls[:2], *calls[2:]]
        if calls:
            made["calls"] = calls
        if (at and self.sometimes(4)) or self.sometimes(8):
            made["cache"] = self.one(
                "30s hit 50%", "10m hit 80%", "1m hit 60% stale 1h", "5m hit 90%", "2s hit 95%", "1h hit 70%"
            )
        else:
            made |= self.writes(at)
        if self.sometimes(4):
            made["retry"] = self.retry()
        if self.sometimes(3):
            made["hold"] = self.one("4ms", "10ms", "40ms", "80ms")
        if self.told and at < 2 and self.sometimes(2):
            made["emits"] = [self.one(*EVENTS)]
            if self.sometimes(2):
                made["emits_in"] = {made["emits"][0]: self.number(20, 80, "%")}
        return made

    def load(self) -> str:
        usual = self.random.randint(1, 8)
        return self.one(f"{usual}/s peak {usual * self.random.randint(2, 5)}/s", f"{usual}/s")

    def writes(self, at: int) -> dict[str, Any]:
        if not self.sometimes(3):
            return {}
        row = f"Row{SERVICES[at].upper()}"
        hottest = f"{row}.left hottest {self.random.choice((5, 20, 50, 90))}%"
        return {"changes": [hottest, f"{row}.sold hottest 5%"] if self.sometimes(4) else hottest}

    def handler(self, at: int) -> dict[str, Any]:
        made: dict[str, Any] = {"on": self.one(*EVENTS), "work": self.number(5, 40, "ms")}
        if self.sometimes(2):
            made["calls"] = [self.call(at)]
        return made | self.writes(at)

    def call(self, at: int) -> str:
        below = [f"{other}.{op}" for other in SERVICES[at + 1 :] for op in ("one", "two")]
        below += [f"dep{dep}" for dep in range(DEPENDENCIES)]
        parts = [self.one(*below)]
        if self.sometimes(5):
            parts.append(f"x{self.number(2, 3)}")
        if self.sometimes(4):
            parts.append(self.number(10, 90, "%"))
        if self.told and self.sometimes(4):
            return " ".join([*parts, "later"])
        if self.sometimes(6):
            parts.append(f"within {self.number(100, 1500, 'ms') if self.tight else self.number(2, 9, 's')}")
        if self.sometimes(4):
            parts.append(f"retry {self.number(1, 2)}")
        if self.sometimes(6):
            parts.append(self.one("else nothing", "else cached"))
        elif self.sometimes(5):
            parts.append(f"else {self.one(*below)}")
        return " ".join(parts)


def study_of(value: dict[str, Any]) -> Study:
    """The study of plain values."""
    return Study(System(Source("random.yaml", value)))
