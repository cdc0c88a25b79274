"""Values of a blueprint: what is read is written, and what is written is read back as the same."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from random_blueprints import sources

from mainstay.architect.design import schema
from mainstay.architect.design.blueprint import Blueprint
from mainstay.architect.design.phrases import By, Cache, Call, Change, Deprecated, Move, Retry
from mainstay.architect.design.reading import Source, source_of
from mainstay.architect.design.shapes import Result, Type
from mainstay.architect.design.system import System
from mainstay.architect.design.units import Duration, Fraction, Load, Rate, Size, Written
from mainstay.architect.document import Plain, json_value
from mainstay.architect.errors import MainstayError

NUMBER = r"[0-9]{1,6}(\.[0-9]{1,8})?"
SPAN = rf"{NUMBER} ?(us|ms|s|m|min|h|d|y)"
SHARE = r"([0-9]{1,2}(\.[0-9]{1,12})?|100) ?%"
RATE = rf"{NUMBER}k? ?/ ?(s|m|min|h|d)"
WORD = r"[a-z][a-z0-9_]{0,6}"
NAME = r"[A-Z][A-Za-z0-9]{0,6}"
DAY = r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
TO = rf"{WORD}(\.{WORD})?"
SPAN_WORD = rf"{NUMBER}(us|ms|s|m|h|d|y)"
SHARE_WORD = r"([0-9]{1,2}(\.[0-9]{1,6})?|100)%"
CALL = (
    rf"{TO}( x[1-9][0-9]{{0,3}})?( {SHARE_WORD})?( later)?( within {SPAN_WORD})?( retry [0-9])?"
    rf"( else ({TO}|nothing|cached|default))?"
)
SCALAR = r"(uuid|text|int|float|decimal|money|bool|date|timestamp|email|json)"
MARKS = r"( (pii|secret|unique|search|fixed)){0,2}"
TYPE = (
    rf"(({SCALAR}|{NAME}(\.{WORD})?)[*+?]?( (>=|>|<=|<)-?[0-9]{{1,4}}(\.[0-9]{{1,3}})?)?( keep {SPAN_WORD})?{MARKS}"
    rf"|text max [0-9]{{1,9}}{MARKS}|{WORD}( \| {WORD}){{1,3}}|[a-c] > [d-f]; [a-c] > [g-i])"
)
GRAMMAR: dict[type[Written], str] = {
    Duration: SPAN,
    Fraction: SHARE,
    Rate: RATE,
    Load: RATE,
    Size: rf"{NUMBER} ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)",
    Retry: rf"[0-9]{{1,2}}( first {SPAN_WORD})?( budget {SHARE_WORD})?",
    Call: CALL,
    By: rf"{WORD}( role {WORD})?( (own|tenant|all))?( \| {WORD}( (own|tenant|all))?)?",
    Change: rf"{NAME}(\.{WORD})?( hottest {SHARE_WORD})?",
    Move: rf"{NAME} ({WORD} > )?{WORD}",
    Cache: rf"{SPAN_WORD}( until {NAME})?( hit {SHARE_WORD})?( stale {SPAN_WORD})?",
    Deprecated: rf"{DAY}( use {WORD})?",
    Type: TYPE,
    Result: rf"(nothing|{NAME}|{SCALAR})( \| {NAME}){{0,2}}",
}


@given(st.data(), st.sampled_from(sorted(GRAMMAR, key=lambda cls: cls.__name__)))
def test_what_is_read_is_written_and_read_as_the_same(data: st.DataObject, cls: type[Written]) -> None:
    """For every class of value, over its whole grammar."""
    text = data.draw(st.from_regex(GRAMMAR[cls], fullmatch=True))
    assert re.match(cls.pattern, text), "the published pattern takes it"
    try:
        value = cls.parse(text)
    except ValueError as error:
        assert "\n" not in str(error)  # a combination that cannot be, such as a bound above the other
        return
    assert cls.parse(str(value)) == value, (text, str(value))
    assert str(cls.parse(str(value))) == str(value)
    assert re.match(cls.pattern, str(value))


@given(st.sampled_from(sorted(GRAMMAR, key=lambda cls: cls.__name__)), st.text(max_size=20))
@example(Duration, "٣s")
@example(Rate, "1/٣")
@example(Size, "1 ٣B")
@example(Load, " peak ")
@example(Type, "")
@example(Type, "text max " + "9" * 400)
@example(Type, "int >" + "9" * 400)
@example(Result, "|")
@example(Call, "")
@example(Cache, "")
@example(Deprecated, "0000-00-00")
def test_any_text_is_a_value_or_refused_in_a_sentence(cls: type[Written], text: str) -> None:
    """By ValueError, and never anything else; what is taken is written as something that is taken."""
    try:
        value = cls.parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert cls.parse(str(value)) == value


@given(st.floats(min_value=1e-9, max_value=1e10))
def test_any_span_survives_being_written(seconds: float) -> None:
    """Computed ones too, such as a remedy's."""
    assert Duration.parse(str(Duration(seconds))) == Duration(seconds)


@given(st.floats(min_value=1e-6, max_value=1e9), st.floats(min_value=0, max_value=1))
def test_any_rate_and_share_survive_being_written(rate: float, share: float) -> None:
    """Computed ones too."""
    assert Rate.parse(str(Rate(rate))) == Rate(rate)
    assert Fraction.parse(str(Fraction(share))) == Fraction(share)


@given(st.integers(0, 10**17))
def test_any_size_survives_being_written(size: int) -> None:
    """To the byte."""
    assert Size.parse(str(Size(size))) == Size(size)


@pytest.mark.parametrize(
    ("cls", "text", "told"),
    [
        (Duration, "800", "write 800ms or 800s"),
        (Duration, "-1s", "is not a time"),
        (Duration, "1e400s", "is not a time"),
        (Duration, "99999999999999999999y", "more than there can be"),
        (Fraction, "0.999", "write 99.9%"),
        (Fraction, "100.01%", "between 0% and 100%"),
        (Rate, "100", "write 100/s"),
        (Rate, "1/fortnight", "is not a rate"),
        (Rate, "99999999999999999999/s", "more than there can be"),
        (Load, "50/s peak 3/s", "is below the usual"),
        (Size, "2 gib", "is not a size"),
        (Call, "stripe x0", "calls nothing"),
        (Call, "stripe els adyen", "did you mean 'else'?"),
        (Type, "txt", "did you mean 'text'?"),
        (Type, "int >5 <3", "nothing is"),
        (Cache, "30s til OrderPaid", "did you mean 'until'?"),
        (Deprecated, "2026-12-01 sunset 2026-01-01", "before the deprecation"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(cls: type[Written], text: str, told: str) -> None:
    """In one sentence."""
    with pytest.raises(ValueError, match=re.escape(told)):
        cls.parse(text)


KEYS = {
    "timeout": SPAN,
    "work": SPAN,
    "hold": SPAN,
    "load": RATE,
    "limit": RATE,
    "retry": GRAMMAR[Retry],
    "cache": GRAMMAR[Cache],
    "size": GRAMMAR[Size],
    "page": "[1-9][0-9]{0,3}",
    "saga": "(true|false|yes|no)",
    "about": "[a-z0-9: ]{0,8}",
    "every": "(15m|0 3 \\* \\* \\*)",
    "deprecated": GRAMMAR[Deprecated],
}
NEEDS = {
    "availability": SHARE,
    "p99": SPAN,
    "retention": SPAN,
    "team": "[1-9][0-9]{0,2}",
    "region": "(eu|us, eu|7)",
}
ASSUME = {
    "hold": SPAN,
    "lock": SPAN,
    "tail": "[2-9](\\.[0-9])?",
    "load": RATE,
    "copies": "[1-9]",
    "hottest": SHARE,
}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Plain values of a blueprint, with numbers of every kind, as the loader has them before they are typed."""
    value = copy.deepcopy(draw(sources()).value)

    def some(keys: dict[str, str]) -> dict[str, Any]:
        chosen = draw(st.lists(st.sampled_from(sorted(keys)), max_size=3, unique=True))
        return {key: Plain(draw(st.from_regex(keys[key], fullmatch=True))) for key in chosen}

    value["needs"] = draw(st.one_of(st.none(), st.just(some(NEEDS))))
    value["assume"] = some(ASSUME)
    value["tenancy"] = draw(st.sampled_from(["row", {"isolation": "schema", "tenants": "7"}]))
    for service in value["services"].values():
        service |= some({"copies": "[1-9]", "pool": "[1-9]0?", "availability": SHARE, "team": "[a-z]{1,4}"})
        for operation in service["does"].values():
            operation |= some(KEYS)
    return value


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_a_blueprint_is_written_and_read_as_the_same(value: dict[str, Any]) -> None:
    """From Python to plain values and back; the systems behind both have the same operations."""
    try:
        made = Source("any.yaml", value).blueprint()
    except MainstayError:
        return
    assert source_of(made).blueprint() == made
    assert Blueprint.model_validate(made.model_dump()) == made
    try:
        system = System(source_of(made))
    except MainstayError:
        return
    assert list(system.ops) == list(System(Source("any.yaml", value), made).ops)


SCHEMA = jsonschema.Draft202012Validator(json.loads(schema.FILE.read_text(encoding="utf-8")))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents(), st.data())
def test_the_schema_takes_what_the_loader_takes(value: dict[str, Any], data: st.DataObject) -> None:
    """Also where something was changed at random: an editor never marks what is right."""
    for _ in range(data.draw(st.integers(0, 2))):
        _change(value, data)
    try:
        Source("any.yaml", value).blueprint()
    except MainstayError:
        return
    assert next(SCHEMA.iter_errors(json_value(value)), None) is None


def _change(value: Any, data: st.DataObject) -> None:
    """Puts another value somewhere in a document."""
    inner = value
    while isinstance(inner, dict) and inner:
        key = data.draw(st.sampled_from(sorted(inner)))
        if not isinstance(inner[key], dict) or not inner[key] or data.draw(st.integers(0, 4)) == 0:
            other = ["", "x", "X", "7", "1.5", "true", "1s", "50/s", "9%", "a, b", "~ "]
            plain = st.sampled_from(other).map(Plain)
            inner[key] = data.draw(st.one_of(plain, st.none(), st.lists(plain, max_size=2), st.just({})))
            return
        inner = inner[key]
