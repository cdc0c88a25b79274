"""Method and path follow from what an operation does; no two are alike; each format has its spelling."""

from __future__ import annotations

import pytest
from blueprint_text import result_of
from hypothesis import HealthCheck, given, settings
from random_blueprints import sources
from test_design_openapi import SHOP

from mainstay.architect.design.contracts.naming import article, dashed, pascal, plural
from mainstay.architect.design.contracts.routes import routes
from mainstay.architect.design.reading import Source
from mainstay.architect.design.system import System
from mainstay.architect.errors import MainstayError


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        ("place_order", "POST /orders"),
        ("get_order", "GET /orders/{id}"),
        ("list_orders", "GET /orders"),
        ("list_people", "GET /people"),
        ("sign_up", "POST /people"),
        ("rename", "POST /people/{id}/rename"),
        ("update_order", "PATCH /orders/{id}"),
        ("delete_order", "DELETE /orders/{id}"),
        ("cancel", "POST /orders/{id}/cancel"),
        ("export_orders", "POST /orders/export"),
        ("import_orders", "POST /orders/import"),
        ("watch_order", "GET /orders/{id}/watch"),
    ],
)
def test_method_and_path_follow_from_what_an_operation_does(operation: str, path: str) -> None:
    made = {
        route.op.name: f"{route.method} {route.path}"
        for route in routes(result_of(SHOP).study.system, "orders")
    }
    assert made[operation] == path


def test_the_second_operation_at_a_path_has_its_verb_added_and_a_written_path_is_kept() -> None:
    text = """
services:
  shop:
    owns: {Order: {id: uuid}}
    does:
      bring_orders: {takes: {at: date}, creates: Order}
      create_order: {takes: {at: date}, creates: Order}
      order_again: {takes: {at: date}, creates: Order, http: "PUT /again/{id}"}
"""
    made = {
        route.op.name: f"{route.method} {route.path}"
        for route in routes(result_of(text).study.system, "shop")
    }
    assert made == {
        "bring_orders": "POST /orders/bring",
        "create_order": "POST /orders",
        "order_again": "PUT /again/{id}",
    }


def test_a_path_is_numbered_where_every_other_is_taken() -> None:
    text = """
services:
  shop:
    owns: {Order: {id: uuid}}
    does:
      one: {http: POST /orders}
      two: {http: POST /orders/bring}
      three: {http: POST /orders/bring-orders}
      bring_orders: {takes: {at: date}, creates: Order}
"""
    assert routes(result_of(text).study.system, "shop")[3].path == "/orders/bring-orders-2"


def test_two_operations_written_at_one_path_are_refused_with_the_place() -> None:
    text = """
services:
  shop:
    does:
      one: {http: "GET /things/{id}"}
      two: {http: "GET /things/{thing}"}
"""
    with pytest.raises(MainstayError, match=r":7:13: GET /things/\{thing\} is already the path of one$"):
        result_of(text)


@pytest.mark.parametrize(
    "http", ["FETCH /orders", "GET orders", "GET /orders/", "GET /a/{id}/b/{id}", "/orders"]
)
def test_what_is_no_method_and_path_is_refused(http: str) -> None:
    with pytest.raises(MainstayError, match=r":4:\d+: .*(is not a method and a path|twice)"):
        result_of(f'services:\n  shop:\n    does: {{one: {{http: "{http}"}}}}\n')


@pytest.mark.parametrize(
    ("one", "many"),
    [("order", "orders"), ("category", "categories"), ("day", "days"), ("address", "addresses"), ("box", "boxes"),
     ("status", "statuses"), ("analysis", "analyses"), ("person", "people"), ("settings", "settings"),
     ("order-line", "order-lines"), ("sales-person", "sales-people"), ("media", "media")],
)  # fmt: skip
def test_plural(one: str, many: str) -> None:
    assert plural(one) == many


def test_spelling() -> None:
    assert (pascal("order_line"), dashed("OrderLine"), dashed("URL"), dashed("HTTPKey")) == (
        "OrderLine",
        "order-line",
        "url",
        "http-key",
    )
    assert (article("Order"), article("User"), article("Line")) == ("an Order", "a User", "a Line")


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(sources())
def test_no_two_operations_are_found_at_one_path(source: Source) -> None:
    system = System(source)
    for service in system.services:
        made = routes(system, service)
        places = {
            (route.method, "{}".join(part.partition("}")[2] for part in f"}}{route.path}".split("{")))
            for route in made
        }
        assert len(places) == len(made)
        for route in made:
            taken = [*(inside.field for inside in route.inside if inside.field), *route.query, *route.body]
            assert sorted(taken) == sorted(route.op.spec.takes)  # every field has one place
