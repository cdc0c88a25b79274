"""OpenAPI: what is in it follows from the blueprint, and the validator accepts it whatever the blueprint says."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from blueprint_text import result_of
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from random_blueprints import linked, sources

from mainstay.architect.design.contracts import openapi
from mainstay.architect.design.contracts.problems import status_of
from mainstay.architect.design.reading import Source
from mainstay.architect.design.study import Result

SHOP = """
actors:
  shopper: {auth: oidc, clients: [web]}
  support: {auth: oidc, roles: [agent]}
  partner: {auth: api_key, limit: 10/s}
depends:
  stripe: {kind: payment, auth: "HMAC in Stripe-Signature", sends: [PaymentSettled]}
events:
  PaymentSettled: {order: Order.id, amount: money}
services:
  orders:
    speaks: [http, sse]
    owns:
      Order:
        {id: uuid, customer: uuid, lines: Line+, total: money, note: text?, status: open > paid; open > cancelled}
      Line: {sku: text, quantity: int >0}
      Person: {id: uuid, email: email unique pii, password: text secret, name: text search}
    does:
      place_order: {by: shopper, takes: {lines: Line+}, gives: Order | OutOfStock | CardDeclined, emits: OrderPlaced}
      get_order: {by: shopper own | support role agent, gives: Order, cache: 30s until OrderPaid stale 1h}
      list_orders: {by: shopper own, gives: Order*, page: 20}
      list_people: {by: support, gives: Person*, page: 100}
      sign_up: {by: anyone, takes: {email: email, password: text secret}, gives: Person, creates: Person}
      rename: {by: shopper own, takes: {person: Person.id, name: text}, changes: Person.name}
      update_order: {by: shopper own, takes: {note: text?}, changes: Order.note, gives: Order}
      delete_order: {by: shopper own, deletes: Order}
      cancel:
        {by: support, moves: Order cancelled, gives: Order, deprecated: 2026-12-01 sunset 2027-06-01 use delete_order}
      export_orders: {by: partner, kind: long, gives: file}
      import_orders: {by: partner, kind: bulk, takes: {orders: Order+}, creates: Order, size: 10 MB}
      attach: {by: shopper own, kind: upload, takes: {order: Order.id, photo: file}, size: 5 MB}
      watch_order: {by: shopper own, kind: stream, gives: Order}
      download_invoice: {by: shopper own, kind: download, takes: {order: Order.id}, gives: file}
      settle: {on: PaymentSettled, moves: Order paid, emits: OrderPaid}
      tell: {on: OrderPaid, calls: [partner later]}
"""


def document(text: str, service: str = "orders") -> dict[str, Any]:
    """The document of one service, as a reader of the file has it."""
    return documents(result_of(text))[f"contracts/{service}.openapi.yaml"]


def documents(result: Result) -> dict[str, dict[str, Any]]:
    return {file.path: yaml.safe_load(file.text) for file in openapi.generate(result)}


@pytest.fixture(scope="module")
def shop() -> dict[str, Any]:
    return document(SHOP)


def operation(made: dict[str, Any], name: str) -> dict[str, Any]:
    for item in made["paths"].values():
        for found in item.values():
            if found["operationId"] == name:
                return dict(found)
    raise AssertionError(f"no operation {name}")


def names(made: dict[str, Any], name: str) -> list[str]:
    """Names of the parameters of an operation."""
    return [
        made["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]["name"]
        if "$ref" in parameter
        else parameter["name"]
        for parameter in operation(made, name).get("parameters", [])
    ]


def test_a_new_order_is_made_once_whatever_is_repeated(shop: dict[str, Any]) -> None:
    made = operation(shop, "place_order")
    assert names(shop, "place_order") == ["Idempotency-Key"]
    assert shop["components"]["parameters"]["IdempotencyKey"]["required"] is True
    assert list(made["responses"]) == ["201", "400", "401", "402", "403", "409", "422", "default"]
    assert made["responses"]["201"]["headers"]["Location"]["example"].startswith("/orders/")
    conflicts = made["responses"]["409"]["content"]["application/problem+json"]
    assert list(conflicts["examples"]) == ["OutOfStock", "IdempotencyKeyInUse"]
    assert (
        conflicts["examples"]["OutOfStock"]["value"]["type"] == "https://test.example/problems/out-of-stock"
    )


def test_a_field_that_the_service_does_not_know_is_refused(shop: dict[str, Any]) -> None:
    assert shop["components"]["schemas"]["PlaceOrderRequest"]["additionalProperties"] is False
    assert "additionalProperties" not in shop["components"]["schemas"]["Order"]  # answers may grow


def test_each_problem_has_a_type_and_a_status_of_its_own(shop: dict[str, Any]) -> None:
    base, own = shop["components"]["schemas"]["OutOfStock"]["allOf"]
    assert base == {"$ref": "#/components/schemas/Problem"}
    assert own["properties"]["type"]["enum"] == ["https://test.example/problems/out-of-stock"]
    assert own["properties"]["status"]["enum"] == [409]


@pytest.mark.parametrize(
    ("name", "status"),
    [("CardDeclined", 402), ("OutOfStock", 409), ("OrderNotFound", 404), ("NoSeats", 404), ("TooLarge", 413),
     ("QuotaExceeded", 429), ("NotAllowed", 403), ("LinkExpired", 410), ("InvalidCoupon", 422), ("Snowed", 409),
     ("WrongPassword", 401), ("BankUnavailable", 503), ("AlreadyPaid", 409), ("Signature", 401)],
)  # fmt: skip
def test_the_status_of_a_problem_follows_from_its_name(name: str, status: int) -> None:
    assert status_of(name) == status


def test_who_is_let_in_and_with_which_permission(shop: dict[str, Any]) -> None:
    made = operation(shop, "get_order")
    assert made["security"] == [{"oidc": ["orders:read"]}]
    assert made["x-allowed"] == [
        {"actor": "shopper", "rows": "its own"},
        {"actor": "support", "role": "agent"},
    ]
    assert operation(shop, "sign_up")["security"] == [{}]
    assert "401" not in operation(shop, "sign_up")["responses"]
    assert operation(shop, "export_orders")["security"] == [{"api_key": []}]
    assert shop["components"]["securitySchemes"]["oidc"]["type"] == "openIdConnect"


def test_lists_come_in_pages_by_key(shop: dict[str, Any]) -> None:
    assert names(shop, "list_orders") == ["limit", "cursor"]
    limit = operation(shop, "list_orders")["parameters"][0]["schema"]
    assert (limit["maximum"], limit["default"]) == (20, 20)
    page = shop["components"]["schemas"]["OrderPage"]
    assert page["required"] == ["items", "next"] and page["properties"]["items"]["maxItems"] == 20
    assert names(shop, "list_people") == ["q", "limit", "cursor"]


def test_what_is_secret_goes_in_and_never_out(shop: dict[str, Any]) -> None:
    person = shop["components"]["schemas"]["Person"]
    assert list(person["properties"]) == ["id", "email", "name"]
    assert person["properties"]["email"]["x-personal-data"] is True
    asked = shop["components"]["schemas"]["SignUpRequest"]
    assert asked["properties"]["password"] == {"type": "string", "writeOnly": True}
    assert "correct horse" not in str(operation(shop, "sign_up")["responses"])


def test_what_the_service_makes_itself_is_not_asked_for(shop: dict[str, Any]) -> None:
    assert list(shop["components"]["schemas"]["OrderInput"]["properties"]) == [
        "customer",
        "lines",
        "total",
        "note",
    ]
    assert next(iter(shop["components"]["schemas"]["Order"]["properties"])) == "id"
    assert shop["components"]["schemas"]["ImportOrdersRequest"]["properties"]["orders"]["items"] == {
        "$ref": "#/components/schemas/OrderInput"
    }
    assert "LineInput" not in shop["components"]["schemas"]  # nothing in a line is made by the service


def test_money_is_a_decimal_as_text_with_its_currency(shop: dict[str, Any]) -> None:
    total = operation(shop, "get_order")["responses"]["200"]["content"]["application/json"]["example"][
        "total"
    ]
    assert total == {"amount": "59.90", "currency": "EUR"}
    assert shop["components"]["schemas"]["Money"]["properties"]["amount"]["type"] == "string"


def test_a_row_says_its_version_and_is_changed_only_if_it_is_still_that(shop: dict[str, Any]) -> None:
    assert "ETag" in operation(shop, "get_order")["responses"]["200"]["headers"]
    assert "304" in operation(shop, "get_order")["responses"]
    assert names(shop, "update_order") == ["id", "If-Match"]
    assert operation(shop, "update_order")["responses"]["412"] == {
        "$ref": "#/components/responses/PreconditionFailed"
    }
    assert list(operation(shop, "update_order")["requestBody"]["content"]) == ["application/merge-patch+json"]


def test_headers_of_cache_limit_and_deprecation(shop: dict[str, Any]) -> None:
    cache = operation(shop, "get_order")["responses"]["200"]["headers"]["Cache-Control"]
    assert cache["example"] == "private, max-age=30, stale-if-error=3600"
    assert "RateLimit" in operation(shop, "export_orders")["responses"]["202"]["headers"]
    assert "429" in operation(shop, "export_orders")["responses"]
    assert "429" not in operation(shop, "get_order")["responses"]
    gone = operation(shop, "cancel")
    assert gone["deprecated"] is True
    headers = gone["responses"]["200"]["headers"]
    assert headers["Deprecation"]["schema"] == {
        "type": "string",
        "const": "@1796083200",
    }  # 2026-12-01 (RFC 9745)
    assert headers["Sunset"]["schema"]["const"] == "Tue, 01 Jun 2027 00:00:00 GMT"


def test_an_older_version_says_where_the_newer_one_is() -> None:
    text = """
services:
  shop:
    owns: {Order: {id: uuid}}
    does:
      place_order: {by: anyone, takes: {at: date}, gives: Order, deprecated: 2026-12-01 use place_order_v2}
      place_order_v2: {by: anyone, takes: {at: timestamp}, gives: Order, version: v2}
"""
    headers = operation(document(text, "shop"), "place_order")["responses"]["201"]["headers"]
    assert headers["Link"]["schema"]["const"] == '</v2/orders>; rel="successor-version"'
    assert "Sunset" not in headers


def test_the_reply_to_a_step_is_in_the_state_it_leads_to(shop: dict[str, Any]) -> None:
    reply = operation(shop, "cancel")["responses"]["200"]["content"]["application/json"]["example"]
    assert reply["status"] == "cancelled"
    assert operation(shop, "cancel")["responses"]["409"] == {"$ref": "#/components/responses/WrongState"}


def test_what_takes_long_is_taken_and_its_progress_is_found(shop: dict[str, Any]) -> None:
    taken = operation(shop, "export_orders")["responses"]["202"]
    place = taken["headers"]["Location"]["example"]
    assert place == f"/operations/{taken['content']['application/json']['example']['id']}"
    assert shop["paths"]["/operations/{id}"]["get"]["operationId"] == "get_operation"
    states = shop["components"]["schemas"]["Progress"]["properties"]["status"]["enum"]
    assert states == ["running", "succeeded", "failed"]


def test_files_bulk_and_streams(shop: dict[str, Any]) -> None:
    assert list(operation(shop, "attach")["requestBody"]["content"]) == ["multipart/form-data"]
    assert "413" in operation(shop, "attach")["responses"]
    results = operation(shop, "import_orders")["responses"]["200"]["content"]["application/json"]["example"][
        "results"
    ]
    assert [result["status"] for result in results] == [201, 422]
    stream = operation(shop, "watch_order")["responses"]["200"]["content"]["text/event-stream"]
    assert stream["example"].startswith("id: 1\nevent: watch_order\ndata: {")
    assert list(operation(shop, "download_invoice")["responses"]["200"]["content"]) == [
        "application/octet-stream"
    ]


def test_webhooks_come_in_signed_and_go_out_as_cloud_events(shop: dict[str, Any]) -> None:
    incoming = shop["paths"]["/webhooks/stripe"]["post"]
    assert incoming["security"] == [{"signature_of_stripe": []}]
    assert (
        "HMAC in Stripe-Signature"
        in shop["components"]["securitySchemes"]["signature_of_stripe"]["description"]
    )
    assert incoming["requestBody"]["content"]["application/json"]["example"]["amount"]["currency"] == "EUR"
    outgoing = shop["webhooks"]["tell_to_partner"]["post"]
    event = outgoing["requestBody"]["content"]["application/cloudevents+json"]["example"]
    assert (event["type"], event["source"], event["data"]["status"]) == (
        "OrderPaid.v1",
        "/test/orders",
        "paid",
    )
    order = operation(shop, "get_order")["parameters"][0]["example"]
    assert event["data"]["id"] == order  # one row has one id throughout


def test_a_dependency_that_has_a_certificate_signs_nothing() -> None:
    text = """
depends: {ledger: {auth: mtls, sends: Settled}}
services: {shop: {does: {settle: {on: Settled}}}}
"""
    made = document(text, "shop")
    assert made["paths"]["/webhooks/ledger"]["post"]["security"] == [{"mtls": []}]
    assert made["components"]["securitySchemes"]["mtls"]["type"] == "mutualTLS"


def test_other_services_call_with_a_certificate_and_what_none_calls_is_not_offered() -> None:
    text = """
services:
  shop:
    does: {buy: {by: anyone, calls: [stock.reserve, note]}, note: {}, gone: {on: Bought}}
  stock:
    speaks: [grpc, http]
    does: {reserve: {gives: nothing}, count: {by: anyone, gives: int}}
"""
    made = documents(
        result_of(text + "  desk:\n    does: {look: {calls: shop.look}}\n".replace("shop.look", "shop.buy"))
    )
    assert [
        item["post"]["operationId"] for item in made["contracts/shop.openapi.yaml"]["paths"].values()
    ] == ["buy"]
    assert made["contracts/shop.openapi.yaml"]["paths"]["/buy"]["post"]["security"] == [{"service": []}, {}]
    assert list(made["contracts/stock.openapi.yaml"]["paths"]) == ["/count"]  # services reach it over gRPC


def test_no_schema_stands_there_that_nothing_refers_to() -> None:
    """A bulk answers with where it is to be asked for: what it gives in the end is in no answer of its own."""
    text = "actors: {a: {auth: oidc}}\nservices: {s: {owns: {Thing: {id: uuid}}, does: {load: {by: a, kind: bulk, "
    for path, made in documents(result_of(text + "takes: {n: int}, gives: Thing*, size: 1 MB}}}}")).items():
        assert not _unused(made), path


# ---------------------------------------------------------------------------------------------- any blueprint


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(sources())
def test_any_blueprint_yields_documents_that_the_validator_accepts(source: Source) -> None:
    result = linked(source)
    for path, made in documents(result).items():
        OpenAPIV31SpecValidator(made).validate()
        found = [operation for item in made["paths"].values() for operation in item.values()]
        found += [operation for item in made.get("webhooks", {}).values() for operation in item.values()]
        assert len({operation["operationId"] for operation in found}) == len(found), path
        assert not _unused(made), path


def test_the_same_blueprint_yields_the_same_text() -> None:
    first, second = ([file.text for file in openapi.generate(result_of(SHOP))] for _ in range(2))
    assert first == second


def _unused(made: dict[str, Any]) -> list[str]:
    """Components that nothing refers to."""
    text = str(made)
    return [
        f"{kind}/{name}"
        for kind, named in made.get("components", {}).items()
        for name in named
        if kind != "securitySchemes" and f"'#/components/{kind}/{name}'" not in text
    ]


LIMITED = """
actors:
  account: {auth: api_key, limit: 20/s}
  endpoint: {auth: signature}
services:
  s:
    owns: {Notice: {id: uuid, text: text}}
    does:
      notices: {by: account, gives: Notice*}
      feed: {by: account, kind: stream, gives: Notice}
      watch_notice: {by: account, kind: stream, gives: Notice}
      add_all: {by: account, kind: bulk, takes: {notices: Notice+}, creates: Notice}
      tell: {calls: endpoint, emits: Told}
"""


def test_a_limit_stands_in_the_contract_with_its_number() -> None:
    made = document(LIMITED, "s")["paths"]["/notices"]["get"]
    assert "At most 20/s for one account, over all it calls." in made["description"]
    assert made["responses"]["200"]["headers"]["RateLimit-Policy"]["example"] == '"account";q=20;w=1'


def test_a_stream_is_of_one_row_only_where_its_name_says_so() -> None:
    paths = document(LIMITED, "s")["paths"]
    assert "/notices/feed" in paths and "/notices/{id}/watch" in paths


def test_an_item_of_a_bulk_may_fail_with_any_problem() -> None:
    schemas = document(LIMITED, "s")["components"]["schemas"]
    result = schemas["AddAllResults"]["properties"]["results"]["items"]["properties"]
    assert result["problem"]["$ref"] == "#/components/schemas/Problem"


def test_a_webhook_says_that_it_needs_no_sign_in() -> None:
    (hook,) = document(LIMITED, "s")["webhooks"].values()
    assert hook["post"]["security"] == []  # some generators refuse an operation that is silent about it
