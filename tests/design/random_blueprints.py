"""Random blueprints that are valid: small systems with every kind of operation, type and mark, and names that clash."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mainstay.architect.design.reading import Source
from mainstay.architect.design.risks import Study
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import System
from mainstay.architect.findings import Report

ENTITIES = (
    "Order",
    "Line",
    "Person",
    "Problem",
    "Money",
    "Progress",
    "Operation",
    "PlaceOrderPayload",
    "OrderInput",
    "OrderPage",
    "Category",
    "URL",
    "Query",
    "String",
    "PageInfo",
    "OrderStatus",
    "OrderConnection",
    "PlaceOrderRequest",
    "PlaceOrderResult",
    "StockService",
    "Empty",
)
FIELDS = (
    "id", "order", "name", "email", "total", "quantity", "status", "created_at", "note", "price", "key", "limit",
    "cursor", "q", "items", "next", "type", "sku", "file_name", "body", "class", "on", "rate", "born", "url",
    "a_b", "a__b", "line1", "line_1", "message", "idempotency_key", "first",
)  # fmt: skip
SCALARS = (
    "uuid", "text", "text max 3", "text >2 max 9", "text >=40", "int", "int >0", "int >=5 <=5", "int <0", "int >7 <9",
    "float", "float >0 <1", "float <=-3", "decimal", "decimal >0 <=1", "money", "money >0", "money <0", "bool", "date",
    "time", "timestamp", "duration", "email", "phone", "url", "iso3166", "iso4217", "json", "file", "text pii",
    "text secret", "email unique pii keep 30d", "text search", "text fixed", "uuid unique",
)  # fmt: skip
WORDS = ("small | medium | large", "yes | no", "a | a | b", "a_b | a__b", "unspecified | true | null")
STATES = ("pending > paid > shipped; pending > cancelled", "open > closed > open", "draft > done")
VERBS = (
    "place", "get", "list", "cancel", "update", "replace", "delete", "import", "watch", "login", "export", "find",
    "create", "search", "query", "operation", "place_", "place_order_request", "orders",
    "order", "class", "get_operation", "operations", "webhooks",
)  # fmt: skip
NOUNS = ("", "_order", "_orders", "_line", "_lines", "_person", "_people", "_status", "_v2", "_by_email")
PROBLEMS = (
    "OutOfStock",
    "NotFound",
    "CardDeclined",
    "TooManyRequests",
    "InvalidRequest",
    "Order",
    "Gone",
    "NoSeats",
)
KINDS = ("request", "stream", "subscription", "bulk", "long", "upload", "download")
EVENTS = ("OrderPlaced", "OrderPaid", "Moved", "Order")
SPEAKS = (
    "http",
    "http, sse",
    "http, websocket",
    "websocket",
    "sse",
    "graphql, http",
    "grpc",
    "grpc, http",
    "http, grpc",
    "graphql, websocket",
    "graphql, grpc",
)
AUTH = ("oidc", "session", "jwt", "api_key", "mtls", "signature", "none")


def sources(kinds: tuple[str, ...] = (), speaks: tuple[str, ...] = SPEAKS) -> st.SearchStrategy[Source]:
    """Blueprints, read.

    Args:
        kinds: one of them is the kind of each operation; where there are none, some are of any kind.
        speaks: what a service may speak.
    """
    return _values(kinds, speaks).map(lambda value: Source("random.yaml", value))


def linked(source: Source) -> Result:
    """What a blueprint comes to, without its risks."""
    return Result(Study(System(source)), [], Report("design"), [])


@st.composite
def _values(draw: st.DrawFn, kinds: tuple[str, ...], speaks: tuple[str, ...]) -> dict[str, Any]:
    services = draw(
        st.lists(
            st.sampled_from(("orders", "stock", "mail_room", "mail__room")),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    entities: dict[str, dict[str, dict[str, str]]] = {service: {} for service in services}
    values: dict[str, dict[str, str]] = {}
    for name in draw(st.lists(st.sampled_from(ENTITIES), min_size=1, max_size=5, unique=True)):
        fields = draw(
            st.lists(st.sampled_from(FIELDS), min_size=0 if name == "Empty" else 1, max_size=6, unique=True)
        )
        (values if draw(st.integers(0, 5)) == 0 else entities[draw(st.sampled_from(services))])[name] = (
            dict.fromkeys(fields, "")
        )
    known = {**values, **{name: fields for own in entities.values() for name, fields in own.items()}}
    states: dict[str, str] = {}
    for name, fields in known.items():
        for field in fields:
            fields[field] = draw(_types(known, field))
            if field == "status" and draw(st.booleans()):
                fields[field] = draw(st.sampled_from(STATES))
                states.setdefault(name, fields[field])
    made: dict[str, Any] = {"blueprint": "random_system", "services": {}}
    if values:
        made["types"] = values
    made["actors"] = {
        "shopper": {"auth": draw(st.sampled_from(AUTH)), "roles": ["agent"]},
        "nobody": {},
        "partner": {"auth": "api_key", "limit": "10/s"},
    }
    made["depends"] = {
        "stripe": {
            "kind": "payment",
            "sends": draw(st.sampled_from((["Settled"], ["Settled", "Moved"], []))),
        },
        "maps": {"limit": "5/s"},
    }
    made["events"] = draw(
        st.sampled_from(({}, {"Settled": {"payment": "text"}}, {"Moved": {"id": "uuid", "at": "date"}}))
    )
    part = draw(st.sampled_from(("", "kafka", "nats", "rabbitmq", "redis", "sqs")))
    if part:
        made["parts"] = {"broker": part}
    names = [
        (service, name)
        for service in services
        for name in draw(
            st.lists(
                st.tuples(st.sampled_from(VERBS), st.sampled_from(NOUNS)).map("".join),
                max_size=6,
                unique=True,
            )
        )
    ]
    for service in services:
        made["services"][service] = {
            "owns": entities[service],
            "speaks": draw(st.sampled_from(speaks)),
            "does": {
                name: draw(_operations(known, states, f"{owner}.{name}", names, kinds))
                for owner, name in names
                if owner == service
            },
        }
    return made


@st.composite
def _types(draw: st.DrawFn, known: dict[str, dict[str, str]], field: str = "") -> str:
    many = draw(st.sampled_from(("", "", "*", "+", "?")))
    match draw(st.integers(0, 5)):
        case 0:
            return draw(st.sampled_from(sorted(known))) + many
        case 1 if any(known.values()):
            name = draw(st.sampled_from(sorted(name for name, fields in known.items() if fields)))
            return f"{name}.{draw(st.sampled_from(sorted(known[name])))}{many}"
        case 2:
            return draw(st.sampled_from(WORDS))
    head, _, rest = draw(st.sampled_from(SCALARS)).partition(" ")
    return f"{head}{many} {rest}".strip()


@st.composite
def _operations(
    draw: st.DrawFn,
    known: dict[str, dict[str, str]],
    states: dict[str, str],
    id: str,
    names: list[tuple[str, str]],
    kinds: tuple[str, ...],
) -> dict[str, Any]:
    def sometimes(often: int = 3) -> bool:
        return draw(st.integers(0, often)) == 0

    made: dict[str, Any] = {}
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4, unique=True))
    if fields:
        made["takes"] = {field: draw(_types(known)) for field in fields}
    if not sometimes():
        problems = draw(st.lists(st.sampled_from(PROBLEMS), max_size=3))
        given = (
            "nothing"
            if sometimes()
            else draw(_types(known).filter(lambda text: "|" not in text and ">" not in text))
        )
        made["gives"] = " | ".join([given, *problems])
    if not sometimes():
        grants = (
            "shopper own",
            "nobody",
            "partner",
            "anyone",
            "stripe",
            "shopper role agent | partner tenant",
        )
        made["by"] = draw(st.sampled_from(grants))
    if kinds or sometimes(2):
        made["kind"] = draw(st.sampled_from(kinds or KINDS))
    if sometimes():
        made["emits"] = draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=2, unique=True))
    if sometimes():
        made["on"] = draw(st.sampled_from((["OrderPlaced"], ["Settled"], ["Moved", "Settled"])))
    for key in ("creates", "deletes", "changes"):
        if sometimes(4):
            made[key] = draw(st.sampled_from(sorted(known)))
    if states and sometimes():
        name = draw(st.sampled_from(sorted(states)))
        moving = next(text for text in known[name].values() if text in STATES)
        made["moves"] = f"{name} {moving.partition(' > ')[2].partition(' ')[0].rstrip(';')}"
    if sometimes():
        made["page"] = draw(st.sampled_from(("1", "20", "500")))
    if sometimes(5):
        made["size"] = "2 MB"
    if sometimes(5):
        made["limit"] = "5/s"
    if sometimes(4):
        made["idempotent"] = draw(st.sampled_from(("key", "natural", "no")))
    if sometimes(4):
        made["cache"] = "30s stale 1h"
    if sometimes(5):
        made["version"] = "v2"
    if sometimes(5):
        made["deprecated"] = "2026-01-31 sunset 2027-02-28"
    if sometimes(9):
        made["http"] = f"{draw(st.sampled_from(('GET', 'POST', 'DELETE')))} /at/{{id}}/{id.replace('.', '-')}"
    if sometimes():
        others = [f"{service}.{name}" for service, name in names if f"{service}.{name}" != id]
        made["calls"] = draw(
            st.lists(st.sampled_from([*others, "stripe", "maps", "partner later"]), min_size=1, max_size=2)
        )
    return made
