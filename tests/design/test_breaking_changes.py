"""What breaks somebody is told, what does not is not; and what is called compatible is so by the schemas."""

from __future__ import annotations

from datetime import date
from typing import Any

import jsonschema
import pytest
from blueprint_text import TODAY
from graphql import build_schema
from graphql.utilities import find_breaking_changes
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mainstay.architect.design.breaking import compare
from mainstay.architect.design.contracts import graphql
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
        (
            "shopper: {auth: oidc}",
            "shopper: {auth: jwt}",
            "orders.get.by lets shopper in by jwt and let it in by oidc",
            True,
        ),
        (
            "shopper: {auth: oidc}",
            "shopper: {auth: oidc, limit: 5/s}",
            "orders.get.limit allows shopper 5/s and allowed any rate",
            True,
        ),
        (
            "  orders:\n    owns",
            "  orders:\n    speaks: grpc\n    owns",
            "orders.get is not offered over http any more",
            True,
        ),
        (
            "gives: Order | SoldOut, emits: Placed}",
            "gives: Order, emits: Placed}",
            "orders.place.gives never fails with SoldOut any more",
            False,
        ),
        (
            "gives: Order | SoldOut, emits: Placed}",
            "gives: Order | SoldOut, kind: long, emits: Placed}",
            "orders.place.kind is long and was request",
            True,
        ),
        (
            "moves: Order paid}",
            "moves: Order paid, gives: Order}",
            "orders.pay.http answers 200 and answered 204",
            True,
        ),
        # A new operation may take the path that another one had by default.
        (
            "      get: {by",
            "      create_order: {by: shopper, takes: {n: int}, gives: Order, creates: Order}\n      get: {by",
            "orders.place.http is POST /orders/place and was POST /orders",
            True,
        ),
        # What callers never see the name of may be called otherwise.
        (
            "pay: {by: staff,",
            "pay: {by: staff, http: 'POST /orders/{order}/pay',",
            "orders.pay.http is POST /orders/{order}/pay and was POST /orders/{id}/pay",
            None,
        ),
        # A service fills in by itself what is not asked for.
        (
            "Line: {sku:",
            "Line: {created_at: timestamp, sku:",
            "orders.place.takes.lines.created_at is new",
            None,
        ),
        # Events of another service are on another topic, even under the same name.
        (
            "lines: Line+, coupon: text?}, gives: Order | SoldOut, emits: Placed}",
            "lines: Line+, coupon: text?}, gives: Order | SoldOut}\n      note: {every: 1h, emits: Placed}",
            "Placed is told by orders no more: who listens there hears nothing",
            None,
        ),
    ],
)
def test_a_change_and_whether_it_breaks(before: str, after: str, says: str, breaking: bool | None) -> None:
    """`breaking` is None where nothing of the kind is told."""
    assert before in SHOP
    found = told(SHOP, SHOP.replace(before, after, 1))
    assert found.get(says) is breaking, found


BULK = SHOP.replace("  orders:\n", "  orders:\n    speaks: [grpc]\n", 1).replace(
    "pay: {by: staff, moves: Order paid}",
    "pay: {by: staff, kind: bulk, takes: {orders: Order.id+}, moves: Order paid}",
)


@pytest.mark.parametrize("speaks", ["http", "grpc", "graphql"])
@pytest.mark.parametrize("kinds", [("request", "bulk"), ("bulk", "long"), ("long", "request")], ids="-".join)
def test_an_operation_that_becomes_bulk_or_long_or_ceases_to_be_breaks(
    speaks: str, kinds: tuple[str, str]
) -> None:
    texts = [BULK.replace("grpc", speaks).replace("kind: bulk", f"kind: {kind}") for kind in kinds]
    for old, new in (kinds, texts), (kinds[::-1], texts[::-1]):
        assert told(*new)[f"orders.pay.kind is {old[1]} and was {old[0]}"] is True


@pytest.mark.parametrize("speaks", ["grpc", "graphql"])
def test_what_breaks_of_a_bulk(speaks: str) -> None:
    old = BULK.replace("grpc", speaks)
    # Each item is a choice of what it came to and a problem already: one more problem is no other shape.
    assert told(old, old.replace("moves: Order paid}", "moves: Order paid, gives: nothing | Late}")) == {
        "orders.pay.gives may now fail with Late": False
    }
    # What stood there in place of a value is there no more.
    given = told(old, old.replace("moves: Order paid}", "moves: Order paid, gives: Order}"))
    assert given == {"orders.pay.gives is Order and was only that it was done": True}
    # Its rows are in what it takes: another entity of which it changes rows is no other request.
    assert not any("asks for" in change for change in told(old, old.replace(", moves: Order paid", "")))


def test_a_graphql_field_that_was_only_true_and_gives_a_value_breaks_queries() -> None:
    texts = [
        SHOP.replace("  orders:\n", f"  orders:\n    speaks: [{one}]\n", 1) for one in ("graphql", "grpc")
    ]
    for text, breaks in zip(texts, (True, None), strict=True):
        found = told(text, text.replace("moves: Order paid}", "moves: Order paid, gives: Order}"))
        assert found.get("orders.pay.gives is Order and was only that it was done") is breaks


def test_nothing_is_told_of_what_is_the_same_or_only_named_otherwise_inside() -> None:
    assert told(SHOP, SHOP) == {}
    assert told(SHOP, SHOP.replace("version: 1.2.0", "version: 1.2.1\nabout: better")) == {}


def test_what_goes_away_on_the_day_announced_breaks_nobody() -> None:
    old = SHOP.replace("pay: {by: staff,", "pay: {by: staff, deprecated: 2026-01-01 sunset 2026-06-01,")
    new = SHOP.replace("      pay: {by: staff, moves: Order paid}\n", "")
    assert told(old, new) == {"orders.pay is gone, as announced for 2026-06-01": False}
    assert told(old, new, date(2026, 5, 31)) == {"orders.pay is gone": True}


def test_an_event_told_by_another_service_is_on_another_topic() -> None:
    moved = SHOP.replace(", emits: Placed}", "}") + "      send: {every: 1h, emits: Placed}\n"
    assert told(SHOP, moved)["Placed is told by orders no more: who listens there hears nothing"] is True


def test_a_subscription_that_handles_an_event_is_offered_all_the_same() -> None:
    feed = "      feed: {by: shopper, kind: subscription, on: Placed, gives: Order}\n"
    assert told(SHOP.replace("      get: {by", f"{feed}      get: {{by"), SHOP)["orders.feed is gone"] is True


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


PROBLEMS = st.lists(st.sampled_from(["Bad", "Worse"]), unique=True, max_size=2)
ASKED = st.fixed_dictionaries(
    {
        "takes": FIELDS,
        "gives": FIELDS,
        "line": FIELDS,
        "problems": PROBLEMS,
        "page": st.booleans(),
        "key": st.booleans(),
        "emits": st.booleans(),
    }
)
HARMLESS = ("VALUE_REMOVED_FROM_ENUM", "TYPE_REMOVED", "TYPE_CHANGED_KIND")
"""A word that never comes breaks only who writes it down as a literal of what is sent, which is told of there. A type
that is gone is gone because no field leads to it, and fields are told of one by one."""


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(ASKED, ASKED)
def test_what_graphql_calls_breaking_we_do_too(first: dict[str, Any], second: dict[str, Any]) -> None:
    old, new = (system_of(spoken(version)) for version in (first, second))
    schemas = [build_schema(sdl(system)) for system in (old, new)]
    found = [
        str(change)
        for change in find_breaking_changes(*schemas)
        if change.type.name not in HARMLESS and "Query.version" not in change.description
    ]
    ours = compare(old, new, TODAY)
    assert not found or any(change.breaking for change in ours), (found, list(map(str, ours)))


def spoken(version: dict[str, Any]) -> str:
    """An operation and a list over GraphQL."""
    text = shaped(version["takes"], version["gives"], version["line"])
    text = text.replace("  s:\n", "  s:\n    speaks: graphql\n")
    gives = " | ".join(["gives: Thing", *version["problems"]])
    more = (", idempotent: key" if version["key"] else "") + (", emits: Done" if version["emits"] else "")
    text = text.replace("gives: Thing, creates: Thing", f"{gives}{more}, creates: Thing")
    page = ", page: 5" if version["page"] else ""
    return text + f"      list_things: {{by: peer, gives: Thing*{page}}}\n"


def sdl(system: System) -> str:
    (file,) = [
        file
        for file in graphql.generate(Result(Study(system), [], None, []))  # type: ignore[arg-type]
        if file.kind == "graphql"
    ]
    return file.text
