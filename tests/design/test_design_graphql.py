"""GraphQL that graphql-core takes: schemas, example operations with their variables, and replies that fit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from blueprint_text import result_of
from graphql import Source, build_schema, execute, parse, validate, validate_schema
from graphql.language import OperationDefinitionNode
from hypothesis import HealthCheck, given, settings
from random_blueprints import linked, sources

from mainstay.architect.design.contracts import graphql
from mainstay.architect.design.contracts.naming import exposed
from mainstay.architect.design.reading import Source as Blueprint
from mainstay.architect.design.study import study_file

SHOP = """
actors:
  shopper: {auth: oidc}
services:
  shop:
    speaks: [graphql, websocket]
    owns:
      Order:
        {id: uuid, total: money, lines: Line+, parent: Order?, note: text?, size: small | large,
        status: pending > paid, key: text secret, product: Product.sku}
      Line: {n: int >0, order: Order}
      Product: {sku: text unique, seen: timestamp, at: date, where: iso3166, data: json, picture: file}
    does:
      place:
        {by: shopper, takes: {lines: Line+, size: small | large}, gives: Order | OutOfStock, emits: Placed,
        idempotent: key}
      order: {by: shopper own, gives: Order}
      orders: {by: shopper own, takes: {size: small | large}, gives: Order*, page: 20}
      all_products: {by: shopper, gives: Product*}
      count: {by: shopper own, gives: int | TooMany}
      pay: {by: shopper own, moves: Order paid}
      placed: {by: shopper own, kind: subscription, on: Placed, gives: Order, deprecated: 2026-01-01 use order}
"""


def checked(files: dict[str, str]) -> int:
    """Check every service's files against each other; how many operations there were."""
    count = 0
    for path, text in files.items():
        if not path.endswith(".graphql") or ".examples." in path:
            continue
        schema = build_schema(Source(text, path))
        assert validate_schema(schema) == []
        stem = path.removesuffix(".graphql")
        document = parse(files[f"{stem}.examples.graphql"])
        assert validate(schema, document) == []
        told = json.loads(files[f"{stem}.examples.graphql.json"])
        for operation in document.definitions:
            assert isinstance(operation, OperationDefinitionNode) and operation.name is not None
            _answers(
                text, files[f"{stem}.examples.graphql"], operation.name.value, told[operation.name.value]
            )
            count += 1
        roots = (schema.query_type, schema.mutation_type, schema.subscription_type)
        fields = sum(len(root.fields) for root in roots if root is not None)
        assert len(told) in (fields, fields - 1), "an operation has no example"
    return count


def _answers(text: str, examples: str, name: str, told: dict[str, Any]) -> None:
    """Executed over its own example reply, an operation gives just that: nothing is missing and every value fits."""
    if f"subscription {name}" in examples:
        # A subscription is executed once for each event; here its root stands in for the query's.
        text = text.replace("type Query {", "type Unused {").replace("type Subscription {", "type Query {")
        examples = examples.replace("subscription ", "query ")
    result = execute(
        build_schema(text),
        parse(examples),
        root_value=told["reply"],
        variable_values=told["variables"],
        operation_name=name,
        type_resolver=lambda value, *_: value.get("__typename"),
    )
    assert result.errors is None, (name, result.errors)
    assert result.data == told["reply"], name


def files_of(result: Any) -> dict[str, str]:
    return {file.path: file.text for file in graphql.generate(result)}


def test_schema_examples_and_replies_fit_together() -> None:
    assert checked(files_of(result_of(SHOP))) == 7


def test_an_example_ends_where_a_reference_leads_back_to_what_it_is_within() -> None:
    ring = """
actors: {reader: {auth: oidc}}
services:
  shelf:
    speaks: graphql
    owns:
      Book: {id: uuid, sequel: Part.book?}
      Part: {id: uuid, book: Book}
    does:
      get_book: {by: reader, gives: Book}
      get_part: {by: reader, gives: Part}
"""
    assert checked(files_of(result_of(ring))) == 2


def test_what_the_schema_says() -> None:
    text = files_of(result_of(SHOP))["contracts/shop.graphql"]
    assert "place(input: PlaceInput!): PlaceResult!" in text
    assert "Makes an Order. Emits Placed. For shopper; permission shop:write." in text
    assert "union PlaceResult = Order | OutOfStock" in text
    assert "idempotencyKey: String!" in text
    assert "order(id: UUID!): Order!" in text
    assert "orders(size: OrdersSize!, first: Int = 20, after: String): OrderConnection!" in text
    assert "union CountResult = CountSuccess | TooMany" in text
    assert 'placed: Order! @deprecated(reason: "Deprecated since 2026-01-01; use order")' in text
    assert "enum OrderStatus {\n  PENDING\n  PAID\n}" in text
    given = text.partition("type Order {")[2].partition("}")[0]
    assert "total: Money!" in given and "key" not in given, "a secret goes out to nobody"
    assert 'scalar UUID @specifiedBy(url: "https://www.rfc-editor.org/rfc/rfc9562")' in text


def test_a_service_that_only_changes_has_something_to_read() -> None:
    files = files_of(result_of("services: {s: {speaks: graphql, does: {ping: {takes: {n: int}}}}}"))
    assert "version: String!" in files["contracts/s.graphql"]
    assert checked(files) == 1


@pytest.mark.parametrize(
    "file", sorted(Path("examples/blueprints").glob("*.yaml")), ids=lambda file: file.stem
)
def test_the_examples_of_the_examples(file: Path) -> None:
    checked(files_of(study_file(file)))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(sources())
def test_any_blueprint_comes_out_as_a_schema_with_examples_that_fit(source: Blueprint) -> None:
    checked(files_of(linked(source)))


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(sources(kinds=("bulk", "long"), speaks=("graphql, grpc", "graphql, websocket")))
def test_any_bulk_and_any_long_operation_come_out_with_examples_that_fit(source: Blueprint) -> None:
    result = linked(source)
    files = files_of(result)
    checked(files)
    for service in result.study.system.services:
        ops = exposed(result.study.system, service, "graphql")
        if not ops:
            continue
        text = files[f"contracts/{service.replace('_', '-')}.graphql"]
        bulk = sum(op.kind == "bulk" for op in ops)
        assert text.count("\n  results: [") == bulk
        long = len(ops) - bulk
        assert len(re.findall(r"^  operation: Operation\w*!$", text, re.MULTILINE)) >= long
        assert ("enum OperationStatus" in text) is (long > 0)


BIG = """
actors: {shopper: {auth: oidc}}
services:
  shop:
    speaks: [graphql, grpc]
    owns:
      Order: {id: uuid, note: text?, tags: text*}
      Note: {id: uuid, message: text?}
    does:
      place_all: {by: shopper, kind: bulk, takes: {orders: Order+}, gives: Order* | OutOfStock, creates: Order, page: 9}
      forget: {by: shopper, kind: bulk, takes: {orders: Order.id+}, deletes: Order}
      tags_of: {by: shopper, kind: bulk, takes: {orders: Order.id+}, gives: Order.tags}
      notes_of: {by: shopper, kind: bulk, takes: {orders: Order.id+}, gives: Note}
      export: {by: shopper, kind: long, gives: file | TooMany}
      recount: {by: shopper, kind: long}
      list_all: {by: shopper, kind: long, gives: Order*, page: 20}
"""


def test_a_bulk_gives_a_result_for_each_item() -> None:
    files = files_of(result_of(BIG))
    assert checked(files) == 8
    text = files["contracts/shop.graphql"]
    assert "placeAll(input: PlaceAllInput!): PlaceAllPayload!" in text
    assert "results: [PlaceAllResult!]!" in text
    assert "union PlaceAllResult = Order | OutOfStock | InvalidRequest" in text
    assert "union ForgetResult = ForgetSuccess | InvalidRequest" in text
    assert "input PlaceAllInput {\n  orders: [OrderInput!]!\n}" in text
    assert "input ForgetInput {\n  orders: [UUID!]!\n}" in text, "a bulk is about many rows, not about one"
    told = json.loads(files["contracts/shop.examples.graphql.json"])
    results = told["PlaceAll"]["reply"]["placeAll"]["results"]
    assert [one["__typename"] for one in results] == ["Order", "InvalidRequest"]
    assert len(told["PlaceAll"]["variables"]["input"]["orders"]) == len(results)


def test_a_long_operation_gives_an_id_by_which_its_state_is_asked_for() -> None:
    files = files_of(result_of(BIG))
    text = files["contracts/shop.graphql"]
    assert "operation(id: UUID!): Operation\n" in text
    assert "recount: RecountPayload!" in text and "union ExportResult = ExportPayload | TooMany" in text
    told = json.loads(files["contracts/shop.examples.graphql.json"])
    begun = told["Recount"]["reply"]["recount"]["operation"]
    assert begun["status"] == "RUNNING" and told["Operation"]["variables"] == {"id": begun["id"]}
    replies = [
        {**begun, "result": None},
        {
            **begun,
            "status": "FAILED",
            "result": {"__typename": "OperationFailed", "message": "The disk is full."},
        },
        {**begun, "status": "FAILED", "result": {"__typename": "TooMany", "message": "Too many orders."}},
    ]
    for reply in replies:
        example = {"variables": told["Operation"]["variables"], "reply": {"operation": reply}}
        _answers(text, files["contracts/shop.examples.graphql"], "Operation", example)
    results = "union OperationResult = ExportSuccess | RecountSuccess | ListAllSuccess | TooMany | OperationFailed\n"
    assert results in text


def test_where_nothing_is_long_no_state_is_asked_for() -> None:
    assert "Operation" not in files_of(result_of(SHOP))["contracts/shop.graphql"]


TWICE = """
services:
  s:
    speaks: [graphql, grpc]
    owns:
      Operation: {id: uuid, done: bool, outcome: text, problem: text}
      OperationStatus: {id: uuid}
      Problem: {id: uuid}
      GetOperationRequest: {id: uuid}
      PlaceResult: {id: uuid, index: int}
    does:
      operation: {kind: long, gives: Operation | OperationFailed | Bad | Bad}
      get_operation: {kind: long, gives: Operation}
      place: {kind: bulk, takes: {n: int*}, gives: PlaceResult | InvalidRequest}
      place_: {kind: bulk, takes: {n: int*}, gives: Problem}
      done: {kind: long, gives: Problem?}
      progress: {kind: long, gives: int*}
      problem: {kind: long, gives: money}
      id: {kind: long}
"""


def test_names_that_bulk_and_long_operations_would_use_themselves() -> None:
    assert checked(files_of(result_of(TWICE))) == 9


HOSTILE = """
services:
  s:
    speaks: [graphql, grpc]
    owns:
      Query: {id: uuid, type: text, end: text}
      Mutation: {id: uuid}
      UUID: {id: uuid}
      PageInfo: {id: uuid}
      Problem: {id: uuid, text: text, parts: Query+}
      SService: {id: uuid, parts: Problem.parts, status: a_b > a__b > unspecified}
      PlaceResult: {id: uuid, a_b: text, a__b: text, a_b_: text, line1: text, line_1: text}
      PlaceRequest: {id: uuid, kind: a_b | a__b | true | null}
      Empty: {}
    does:
      place: {takes: {order: SService, a_b: text, a__b: text, e: Empty}, gives: PlaceResult | Bad | Bad | Query}
      place_: {gives: SService}
      query: {gives: Query}
      list_query: {gives: Query*, page: 3}
      page_infos: {gives: PageInfo*, page: 3}
      uuids: {gives: UUID}
      empties: {gives: Empty | Problem}
      mutation: {gives: Mutation, about: 'ends in a "quote"'}
      lines: {gives: PlaceRequest, about: "two\\nlines, \\"\\"\\"and\\"\\"\\" a backslash \\\\"}
"""


def test_names_that_mean_something_to_graphql_and_names_that_it_cannot_tell_apart() -> None:
    assert checked(files_of(result_of(HOSTILE))) == 9


def test_one_row_has_one_id_in_what_is_asked_and_what_comes_back() -> None:
    told = json.loads(files_of(result_of(SHOP))["contracts/shop.examples.graphql.json"])
    assert told["Order"]["variables"]["id"] == told["Order"]["reply"]["order"]["id"]


def test_a_change_that_asks_for_nothing_needs_no_input() -> None:
    text = files_of(result_of("services: {s: {speaks: graphql, does: {ping: {takes: {n: int?}}}}}"))
    assert "ping(input: PingInput): Boolean!" in text["contracts/s.graphql"]
