"""What breaks somebody is told, what does not is not; and what is called compatible is so by the schemas."""

from __future__ import annotations

from datetime import date

import jsonschema
import pytest
from blueprint_text import TODAY
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mainstay.architect.design.breaking import compare
from mainstay.architect.design.contracts.examples import Examples
from mainstay.architect.design.contracts.json_schema import Schemas
from mainstay.architect.design.contracts.payloads import reply_schema, request_schema
from mainstay.architect.design.documents import changes
from mainstay.architect.design.reading import Source
from mainstay.architect.design.risks import Study
from mainstay.architect.design.risks.breaking_change import assess
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import System
from mainstay.architect.document import Document

SHOP = """
blueprint: shop
version: 1.2.0
actors:
  shopper: {auth: oidc}
  staff: {auth: oidc, roles: [agent, lead]}
services:
  orders:
    owns:
      Order: {id: uuid, total: money, note: text? max 100, lines: Line+, status: pending > paid}
      Line: {sku: text max 40, n: int >0}
    does:
      place: {by: shopper, takes: {lines: Line+, coupon: text?}, gives: Order | SoldOut, emits: Placed}
      get: {by: shopper | staff role agent, gives: Order}
      list: {by: shopper own, gives: Order*}
      pay: {by: staff, moves: Order paid}
  mail:
    does:
      tell: {on: Placed}
"""


def system_of(text: str) -> System:
    document = Document.parse(text, "shop.yaml")
    return System(Source("shop.yaml", document.value))


def told(old: str, new: str, today: date = TODAY) -> dict[str, bool]:
    return {str(change): change.breaking for change in compare(system_of(old), system_of(new), today)}


@pytest.mark.parametrize(
    ("before", "after", "says", "breaking"),
    [
        (
            "coupon: text?}",
            "coupon: text}",
            "orders.place.takes.coupon is exactly one and was one or none",
            True,
        ),
        ("coupon: text?}", "coupon: text?, gift: bool}", "orders.place.takes.gift is new and required", True),
        ("coupon: text?}", "coupon: text?, gift: bool?}", "orders.place.takes.gift is new", False),
        (", coupon: text?}", "}", "orders.place.takes.coupon is gone", True),
        (
            "sku: text max 40",
            "sku: text max 20",
            "orders.place.takes.lines.sku has 20 as its highest value and had 40",
            True,
        ),
        (
            "sku: text max 40",
            "sku: text max 60",
            "orders.place.takes.lines.sku has 60 as its highest value and had 40",
            False,
        ),
        (
            "sku: text max 40",
            "sku: text max 60",
            "orders.get.gives.lines.sku has 60 as its highest value and had 40",
            True,
        ),
        ("n: int >0", "n: int >=0", "orders.get.gives.lines.n has 0 as its lowest value and had 0", True),
        ("total: money, ", "", "orders.get.gives.total is gone", True),
        ("total: money, ", "total: money, at: date, ", "orders.get.gives.at is new", False),
        (
            "pending > paid}",
            "pending > paid; pending > lost}",
            "orders.get.gives.status may be lost too",
            True,
        ),
        ("| SoldOut", "| SoldOut | TooMany", "orders.place.gives may now fail with TooMany", False),
        (
            "gives: Order*}",
            "gives: Order*, page: 50}",
            "orders.list.page now gives 50 at a time, and gave all",
            True,
        ),
        ("by: shopper own", "by: staff", "orders.list.by is closed to shopper", True),
        (
            "by: shopper | staff role agent",
            "by: shopper own | staff",
            "orders.get.by gives shopper only own",
            True,
        ),
        (
            "pay: {by: staff,",
            "pay: {by: staff role lead,",
            "orders.pay.by asks staff for the role lead",
            True,
        ),
        ("      pay: {by: staff, moves: Order paid}\n", "", "orders.pay is gone", True),
        (
            "emits: Placed}",
            "idempotent: key, emits: Placed}",
            "orders.place.idempotent now asks for an Idempotency-Key",
            True,
        ),
        ("emits: Placed}", "}", "Placed is emitted no more, which mail.tell waits for", True),
        ("get: {by", "fetch: {by", "orders.fetch is new", False),
        (
            "pay: {by: staff,",
            "pay: {by: staff, http: PUT /paid,",
            "orders.pay.http is PUT /paid and was POST /orders/{id}/pay",
            True,
        ),
    ],
)
def test_a_change_and_whether_it_breaks(before: str, after: str, says: str, breaking: bool) -> None:
    assert before in SHOP
    found = told(SHOP, SHOP.replace(before, after, 1))
    assert found.get(says) is breaking, found


def test_nothing_is_told_of_what_is_the_same_or_only_named_otherwise_inside() -> None:
    assert told(SHOP, SHOP) == {}
    assert told(SHOP, SHOP.replace("version: 1.2.0", "version: 1.2.1\nabout: better")) == {}


def test_what_goes_away_on_the_day_announced_breaks_nobody() -> None:
    old = SHOP.replace("pay: {by: staff,", "pay: {by: staff, deprecated: 2026-01-01 sunset 2026-06-01,")
    new = SHOP.replace("      pay: {by: staff, moves: Order paid}\n", "")
    assert told(old, new) == {"orders.pay is gone, as announced for 2026-06-01": False}
    assert told(old, new, date(2026, 5, 31)) == {"orders.pay is gone": True}


def study_of(old: str, new: str) -> Study:
    study = Study(system_of(new), against=system_of(old))
    study.today = TODAY
    return study


def test_one_risk_an_operation_and_none_where_the_version_says_so() -> None:
    new = SHOP.replace("total: money, ", "").replace("n: int >0", "n: int >1")
    risks = {risk.subject: risk for risk in assess(study_of(SHOP, new))}
    assert set(risks) == {"orders.place", "orders.get", "orders.list", "Placed"}
    assert "2 changes" in risks["orders.place"].message or "more change" in risks["orders.place"].message
    assert list(assess(study_of(SHOP, new.replace("1.2.0", "2.0.0")))) == []
    assert list(assess(Study(system_of(new)))) == []


def test_the_document_of_changes_parts_what_breaks_from_what_does_not() -> None:
    new = SHOP.replace("total: money, ", "total: money, at: date, ").replace("coupon: text?", "coupon: text")
    (file,) = changes.generate(Result(study_of(SHOP, new), [], None, []))  # type: ignore[arg-type]
    breaks, _, rest = file.text.partition("## Does not break")
    assert "takes.coupon" in breaks and "gives.at" in rest and "gives.at" not in breaks


# ---------------------------------------------------------------------------------------------- the law

TYPES = st.sampled_from(
    [
        "text",
        "text max 5",
        "text max 50",
        "int",
        "int >0",
        "int >=0",
        "int >=0 <=9",
        "bool",
        "date",
        "Line",
        "Line*",
    ]
) | st.sampled_from(["a | b", "a | b | c", "Line+", "Line?", "text?", "decimal", "money"])
FIELDS = st.dictionaries(st.sampled_from(["p", "q", "r"]), TYPES, max_size=3)


def shaped(takes: dict[str, str], gives: dict[str, str], line: dict[str, str]) -> str:
    def fields(each: dict[str, str]) -> str:
        return "{" + ", ".join(f"{name}: {type}" for name, type in sorted(each.items())) + "}"

    inner = {name: type for name, type in line.items() if "Line" not in type}
    return (
        "blueprint: law\nactors: {peer: {auth: mtls}}\nservices:\n  s:\n    owns:\n"
        f"      Thing: {fields({'id': 'uuid', **gives})}\n      Line: {fields({'n': 'int', **inner})}\n"
        f"    does:\n      act: {{by: peer, takes: {fields(takes)}, gives: Thing, creates: Thing}}\n"
    )


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(st.lists(st.tuples(FIELDS, FIELDS, FIELDS), min_size=2, max_size=2))
def test_what_is_called_compatible_is_so_by_the_schemas(
    versions: list[tuple[dict[str, str], dict[str, str], dict[str, str]]],
) -> None:
    old, new = (system_of(shaped(*version)) for version in versions)
    assume(not any(change.breaking for change in compare(old, new, TODAY)))
    sent = example(old, request=True)
    jsonschema.validate(sent, request_schema(new, new.ops["s.act"]))
    got = example(new, request=False)
    jsonschema.validate(got, loose(reply_schema(old, old.ops["s.act"])))


def example(system: System, request: bool) -> object:
    op = system.ops["s.act"]
    schemas = Schemas(system, "s", "#/$defs/")
    schema = request_schema(system, op) if request else reply_schema(system, op)
    schemas.components.update(schema.get("$defs", {}))
    return Examples(schemas).of(schema)


def loose(schema: object) -> object:
    """Readers of answers pass over fields that they do not know."""
    if isinstance(schema, dict):
        return {key: loose(value) for key, value in schema.items() if key != "additionalProperties"}
    return [loose(item) for item in schema] if isinstance(schema, list) else schema
