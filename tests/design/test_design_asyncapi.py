"""AsyncAPI: topics, messages and who sends what follow from the blueprint, and the field's parser accepts all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from blueprint_text import result_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_blueprints import linked, sources

from mainstay.architect.design import validators
from mainstay.architect.design.contracts import asyncapi
from mainstay.architect.design.reading import Source
from mainstay.architect.design.study import Result, study_file

HERE = Path(__file__).parent
MODULES = HERE / "node" / "node_modules"
BLUEPRINTS = sorted((HERE.parents[1] / "examples" / "blueprints").glob("*.yaml"))

SHOP = """
actors: {shopper: {auth: jwt}, partner: {auth: signature}}
depends: {stripe: {sends: [Settled]}}
PARTS
events: {OrderPaid: {order: Order.id, at: timestamp}}
services:
  orders:
    owns: {Order: {id: uuid, customer: uuid, email: email pii, status: pending > paid}}
    does:
      place_order: {by: shopper, takes: {note: text}, gives: Order, emits: OrderPlaced}
      settle: {on: Settled, moves: Order paid, emits: OrderPaid}
      tell: {on: OrderPaid, calls: [partner later]}
      watch_order: {by: shopper own, kind: stream, gives: Order}
  mail:
    speaks: websocket
    store: none
    does:
      thank: {on: [OrderPlaced, OrderPaid]}
      notices: {by: shopper own, kind: subscription, gives: Order, takes: {since: timestamp?}}
      mute: {by: shopper, takes: {minutes: int >0}}
"""


def documents(result: Result) -> dict[str, dict[str, Any]]:
    return {
        file.path.split("/")[1].split(".")[0]: yaml.safe_load(file.text) for file in asyncapi.generate(result)
    }


def shop(parts: str = "") -> dict[str, dict[str, Any]]:
    return documents(result_of(SHOP.replace("PARTS", f"parts: {parts}" if parts else "")))


def test_one_document_for_each_service_that_tells_or_is_told_something() -> None:
    made = shop()
    assert list(made) == ["orders", "mail"]
    actions = {name: operation["action"] for name, operation in made["orders"]["operations"].items()}
    assert actions == {
        "receiveWebhooksOfStripe": "receive",
        "sendOrderPaid": "send",
        "sendOrderPlaced": "send",
        "tellOnOrderPaid": "receive",
        "tellToPartner": "send",
        "watchOrderSends": "send",
    }


def test_events_of_a_service_share_a_topic_and_without_a_broker_that_is_its_outbox() -> None:
    made = shop()["mail"]
    assert made["channels"]["orders"]["address"] == "test.orders"
    assert list(made["channels"]["orders"]["messages"]) == ["OrderPlaced", "OrderPaid"]
    assert made["servers"]["outbox"]["protocol"] == "postgresql"


def test_what_an_event_carries_is_the_row_as_it_was_without_personal_data() -> None:
    made = shop()["orders"]
    placed, paid = made["components"]["schemas"]["OrderPlaced"], made["components"]["schemas"]["OrderPaid"]
    assert list(placed["properties"]) == ["id", "customer", "status"]
    assert placed["description"] == "An Order as it was then. email left out: personal or secret."
    assert list(paid["properties"]) == ["order", "at"]  # as the blueprint writes it
    example = made["components"]["messages"]["OrderPlaced"]["examples"][0]
    assert example["payload"]["status"] == "pending"
    assert example["headers"]["partitionkey"] == example["payload"]["id"]
    paid_example = made["components"]["messages"]["OrderPaid"]["examples"][0]
    assert (
        paid_example["headers"]["partitionkey"]
        == paid_example["payload"]["order"]
        == example["payload"]["id"]
    )


@pytest.mark.parametrize(
    ("kind", "protocol", "prefix"),
    [
        ("kafka", "kafka", "ce_"),
        ("nats", "nats", "ce-"),
        ("rabbitmq", "amqp", "cloudEvents_"),
        ("redis", "redis", "ce-"),
    ],
)
def test_attributes_of_cloud_events_stand_in_headers_as_each_protocol_has_them(
    kind: str, protocol: str, prefix: str
) -> None:
    made = shop(f"{{broker: {kind}}}")["orders"]
    assert made["servers"]["broker"]["protocol"] == protocol
    message = made["components"]["messages"]["OrderPlaced"]
    assert message["headers"]["required"] == [
        f"{prefix}{name}" for name in ("specversion", "id", "source", "type")
    ]
    assert message["examples"][0]["headers"][f"{prefix}source"] == "/test/orders"
    assert message["correlationId"]["location"] == f"$message.header#/{prefix}correlationid"


def test_an_event_of_two_services_names_both_as_its_source() -> None:
    text = """
services:
  shop: {does: {sell: {by: anyone, emits: Sold}}}
  till: {does: {sell: {by: anyone, emits: Sold}}}
  desk: {store: none, does: {note: {on: Sold}}}
"""
    made = documents(result_of(text))["desk"]
    headers = made["components"]["messages"]["Sold"]["headers"]["properties"]
    assert headers["source"] == {"enum": ["/test/shop", "/test/till"]}
    assert list(made["channels"]) == ["shop", "till"]
    assert list(made["operations"]) == ["noteOnSold", "noteOnSold2"]


def test_bindings_of_kafka_and_amqp() -> None:
    kafka = shop("{broker: kafka}")
    assert kafka["orders"]["channels"]["orders"]["bindings"]["kafka"]["topic"] == "test.orders"
    assert (
        kafka["orders"]["components"]["messages"]["OrderPlaced"]["bindings"]["kafka"]["key"]["format"]
        == "uuid"
    )
    group = kafka["mail"]["operations"]["thankOnOrderPlaced"]["bindings"]["kafka"]["groupId"]
    assert group["const"] == "test.orders.mail"
    rabbit = shop("{broker: rabbitmq}")["orders"]["channels"]["orders"]["bindings"]["amqp"]
    assert (rabbit["is"], rabbit["exchange"]["type"]) == ("routingKey", "topic")


def test_redis_beside_another_broker_is_a_cache() -> None:
    assert list(shop("{hot: redis, log: kafka}")["mail"]["servers"]) == ["log", "websocket"]


def test_webhooks_in_and_out() -> None:
    made = shop()["orders"]
    assert made["channels"]["webhooksOfStripe"]["address"] == "/webhooks/stripe"
    told = made["components"]["messages"]["OrderPaidWebhook"]
    assert told["contentType"] == "application/cloudevents+json"
    assert told["headers"]["required"] == ["webhook-id", "webhook-timestamp", "webhook-signature"]
    assert told["examples"][0]["payload"]["type"] == "OrderPaid.v1"


def test_streams_by_server_sent_events_and_by_socket() -> None:
    made = shop()
    stream = made["orders"]["channels"]["watchOrder"]
    assert (stream["address"], list(stream["parameters"])) == ("/orders/{id}/watch", ["id"])
    socket = made["mail"]["channels"]["notices"]
    assert socket["bindings"]["ws"]["method"] == "GET"
    assert made["mail"]["servers"]["websocket"]["protocol"] == "wss"
    assert made["mail"]["operations"]["noticesSends"]["security"] == [
        {"$ref": "#/components/securitySchemes/jwt"}
    ]
    assert made["mail"]["operations"]["noticesReceives"]["action"] == "receive"
    asked = made["mail"]["operations"]["muteReceives"]
    assert asked["reply"]["messages"] == [{"$ref": "#/channels/mute/messages/MuteReply"}]


@pytest.fixture
def parser(required: Callable[[bool, str], None]) -> None:
    """The parser is there."""
    required((MODULES / "@asyncapi" / "parser").is_dir(), "@asyncapi/parser (npm ci in tests/design/node)")


def refused(folder: Path, results: dict[str, Result]) -> dict[str, str]:
    """What the parser of the AsyncAPI initiative refuses, by file."""
    paths = []
    for name, result in results.items():
        for file in asyncapi.generate(result):
            paths.append(f"{name}-{Path(file.path).name}")
            (folder / paths[-1]).write_text(file.text, encoding="utf-8")
    return validators.asyncapi(folder, paths, MODULES)[1]


@pytest.mark.usefixtures("parser")
def test_the_parser_accepts_every_example(tmp_path: Path) -> None:
    assert len(BLUEPRINTS) >= 12
    results = {file.stem: study_file(file) for file in BLUEPRINTS}
    for kind in ("kafka", "rabbitmq"):
        results[f"shop-{kind}"] = result_of(SHOP.replace("PARTS", f"parts: {{broker: {kind}}}"))
    assert refused(tmp_path, results) == {}


@pytest.mark.usefixtures("parser")
@settings(
    max_examples=1,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(sources(), min_size=10, max_size=10))
def test_the_parser_accepts_any_blueprint(
    tmp_path_factory: pytest.TempPathFactory, several: list[Source]
) -> None:
    results = {f"random-{at}": linked(source) for at, source in enumerate(several)}
    assert refused(tmp_path_factory.mktemp("asyncapi"), results) == {}


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources())
def test_every_reference_leads_somewhere_and_every_message_is_in_its_channel(source: Source) -> None:
    for made in documents(linked(source)).values():
        for reference in _references(made):
            found: Any = made
            for step in reference.removeprefix("#/").split("/"):
                found = found[step]
        for operation in made["operations"].values():
            channel = operation["channel"]["$ref"]
            assert all(
                message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"]
            )


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    return [found for item in value for found in _references(item)] if isinstance(value, list) else []
