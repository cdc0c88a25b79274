"""Events change: older versions are read through upcasters, newer ones wait, and a test sees a break beforehand."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from mainstay.patterns import Misuse
from mainstay.patterns.events import (
    Event,
    Incompatible,
    MissingUpcaster,
    NewerVersion,
    assert_compatible,
    carry,
    upcast,
)
from mainstay.patterns.events.event import check_upcasters, versioned


class Priced(Event, name="priced", version=3):
    amount: int
    currency: str
    net: bool


@upcast(Priced, from_version=1)
def add_currency(data: dict[str, Any]) -> dict[str, Any]:
    return {"amount": data["euros"] * 100, "currency": "EUR"}


@upcast(Priced, from_version=2)
def add_net(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"net": False}


@given(st.integers(-(2**50), 2**50))
def test_older_versions_come_through_the_chain(euros: int) -> None:
    """Each step is applied once, in order, from wherever the message begins."""
    expected = Priced(amount=euros * 100, currency="EUR", net=False)
    assert Priced.read(json.dumps({"euros": euros}), 1) == expected
    assert Priced.read(json.dumps({"amount": euros * 100, "currency": "EUR"}), 2) == expected
    assert Priced.read(expected.model_dump_json(), 3) == expected


def test_unknown_fields_are_passed_over_and_missing_ones_are_not() -> None:
    """Newer code may add fields within a version; it cannot take required ones away."""
    assert Priced.read('{"amount": 1, "currency": "EUR", "net": true, "new": {}}', 3).amount == 1
    with pytest.raises(ValidationError, match="net"):
        Priced.read('{"amount": 1, "currency": "EUR"}', 3)


def test_a_newer_version_and_a_missing_step_are_told() -> None:
    """Neither is read as something else."""
    with pytest.raises(NewerVersion, match="version 4 was published by newer code"):
        Priced.read("{}", 4)

    class Gap(Event, version=3):
        pass

    upcast(Gap, from_version=1)(lambda data: data)
    with pytest.raises(
        MissingUpcaster, match=r"nothing reads its version 2: write @upcast\(Gap, from_version=2\)"
    ):
        Gap.read("{}", 1)
    with pytest.raises(MissingUpcaster, match="from_version=2"):
        check_upcasters(Gap)
    check_upcasters(Priced)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "two words"}, "an event is named with"),
        ({"name": "*"}, "an event is named with"),
        ({"name": "paid.v2"}, "ends in a version"),
        ({"version": 0}, "a whole number from 1"),
        ({"version": "2"}, "a whole number from 1"),
        ({"key": "nothing"}, "has no field 'nothing'"),
        ({"keep": 0}, "seconds above 0"),
        ({"extra": "forbid"}, "forbids fields"),
    ],
)
def test_a_class_that_cannot_work_is_refused_as_it_is_made(arguments: dict[str, Any], sentence: str) -> None:
    """With one sentence."""
    with pytest.raises(Misuse, match=sentence):
        type("Wrong", (Event,), {"__module__": __name__}, **arguments)


def test_upcasters_that_cannot_work_are_refused() -> None:
    """A second one for a version, or one from the present version on."""
    with pytest.raises(Misuse, match="already"):
        upcast(Priced, from_version=1)(lambda data: data)
    with pytest.raises(Misuse, match="from 1 to 2, not from 3"):
        upcast(Priced, from_version=3)


def test_a_type_holds_name_and_version() -> None:
    """A foreign type without a version is version 1."""
    assert versioned("shop.paid.v12") == ("shop.paid", 12)
    assert versioned("com.stripe.charge") == ("com.stripe.charge", 1)


@pytest.mark.parametrize(
    "headers", [{"id": "1"}, {"Trace": "1"}, {"x" * 21: "1"}, {"a": ""}, {"a": "\n"}, {"a": 1}]
)
def test_what_cannot_be_carried_is_refused(headers: dict[str, Any]) -> None:
    """It must fit into CloudEvents extensions, and the event's own headers are not the user's."""
    with pytest.raises(ValueError, match="carried"), carry(**headers):
        pass


# ------------------------------------------------------------------------------------------- compatibility


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    sku: str
    number: int = 1


def event(**fields: Any) -> type[Event]:
    """A version of the event `changing`: fields as annotation, or (annotation, default)."""
    notes = {name: field[0] if isinstance(field, tuple) else field for name, field in fields.items()}
    defaults = {name: field[1] for name, field in fields.items() if isinstance(field, tuple)}
    return type(
        "Changing", (Event,), {"__annotations__": notes, "__module__": __name__, **defaults}, name="changing"
    )


OLD: dict[str, Any] = {"id": int, "note": (str, ""), "lines": list[Line], "kind": Literal["a", "b"]}


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        {**OLD, "more": (int, 0)},
        {**OLD, "note": str},  # always written: a default that goes is no break
    ],
)
def test_changes_that_old_and_new_code_can_live_with(
    new: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new field with a default needs no new version."""
    monkeypatch.delenv("CI", raising=False)
    assert_compatible(event(**OLD), tmp_path)
    assert_compatible(event(**new), tmp_path)


@pytest.mark.parametrize(
    ("new", "sentences"),
    [
        (
            {**OLD, "more": int},
            ["new code cannot read old messages", "more is required to read it, and is not"],
        ),
        (
            {k: v for k, v in OLD.items() if k != "id"},
            ["old code cannot read new messages", "id is required"],
        ),
        ({**OLD, "id": str}, ["id is integer, and string is read", "id is string, and integer is read"]),
        ({**OLD, "id": int | None}, ["old code cannot read", "id is null, and integer is read"]),
        (
            {**OLD, "kind": Literal["a"]},
            ["new code cannot read old messages", 'kind may be "b", and only "a" is read'],
        ),
        ({**OLD, "kind": Literal["a", "b", "c"]}, ["old code cannot read new messages", 'kind may be "c"']),
        ({**OLD, "kind": Colour}, ["kind may be"]),
        ({**OLD, "lines": list[str]}, ["each of lines is object, and string is read"]),
    ],
)
def test_a_break_is_told_with_its_place_and_remedy(
    new: dict[str, Any], sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each, in both directions."""
    monkeypatch.delenv("CI", raising=False)
    assert_compatible(event(**OLD), tmp_path)
    with pytest.raises(Incompatible) as told:
        assert_compatible(event(**new), tmp_path)
    for sentence in sentences:
        assert sentence in str(told.value)
    assert "raise the version of changing to 2 and write an upcaster" in str(told.value)


def test_a_new_version_needs_a_way_from_every_stored_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a missing file is an error in CI."""
    monkeypatch.delenv("CI", raising=False)
    assert_compatible(event(id=int), tmp_path)

    class Second(Event, name="changing", version=2):
        id: str

    with pytest.raises(Incompatible, match=r"write @upcast\(Second, from_version=1\)"):
        assert_compatible(Second, tmp_path)
    upcast(Second, from_version=1)(lambda data: {"id": str(data["id"])})
    monkeypatch.setenv("CI", "1")
    with pytest.raises(Incompatible, match=r"changing\.v2\.json is missing"):
        assert_compatible(Second, tmp_path)
    monkeypatch.delenv("CI")
    assert_compatible(Second, tmp_path)
    with pytest.raises(Incompatible, match="versions only rise"):
        assert_compatible(event(id=int), tmp_path)
