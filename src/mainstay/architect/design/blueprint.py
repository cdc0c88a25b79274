"""The blueprint: what a system needs, who uses it, what it depends on, what its services own and do.

The same classes are read from YAML (`reading.py`) and used in Python::

    Blueprint(
        blueprint="shop",
        services={"orders": Service(owns={"Order": {"id": "uuid"}}, does={"get_order": {"gives": "Order"}})},
    )

Everything but names has a default. Edges are never listed: `system.py` reads them off the operations.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mainstay.architect.design.phrases import By, Cache, Call, Change, Deprecated, Move, Retry, day
from mainstay.architect.design.shapes import NAME, WORD, Result, Type
from mainstay.architect.design.units import NUMBER, SECONDS, Duration, Fraction, Load, Rate, Size
from mainstay.architect.nearest import quoted

OTHER_WORDS = {
    "latency": "p99", "p95": "p99", "response_time": "p99", "uptime": "availability", "sla": "availability",
    "slo": "availability", "users": "actors", "clients": "actors", "roles": "actors", "dependencies": "depends",
    "external": "depends", "externals": "depends", "requires": "depends", "infrastructure": "parts",
    "components": "parts", "resources": "parts", "entities": "owns", "models": "owns", "tables": "owns",
    "operations": "does", "endpoints": "does", "methods": "does", "api": "does", "description": "about",
    "summary": "about", "login": "auth", "authentication": "auth", "rate_limit": "limit", "quota": "limit",
    "input": "takes", "inputs": "takes", "request": "takes", "body": "takes", "params": "takes", "accepts": "takes",
    "output": "gives", "returns": "gives", "response": "gives", "result": "gives", "publishes": "emits",
    "produces": "emits", "raises": "emits", "sends": "emits", "consumes": "on", "handles": "on", "listens": "on",
    "subscribes": "on", "triggers": "on", "uses": "calls", "invokes": "calls", "depends_on": "calls",
    "schedule": "every", "cron": "every", "throughput": "load", "rps": "load", "traffic": "load", "rate": "load",
    "replicas": "copies", "instances": "copies", "database": "store", "db": "store", "storage": "store",
    "protocol": "speaks", "protocols": "speaks", "connections": "pool", "compensation": "undo",
    "compensate": "undo", "rollback": "undo", "retries": "retry", "ttl": "cache", "updates": "changes",
    "writes": "changes", "transitions": "moves", "route": "http", "path": "http", "url": "http",
    "allowed": "by", "who": "by", "actor": "by", "idempotency": "idempotent", "idempotency_key": "idempotent",
    "type": "kind", "expires": "until", "why": "reason", "id": "risk", "name": "blueprint", "system": "blueprint",
}  # fmt: skip
"""What others call our keys."""


class Part(BaseModel):
    """What all parts of a blueprint share: unknown keys are refused, values do not change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=False,
        defer_build=True,  # built once, within Blueprint: a verb is to start at once
        allow_inf_nan=False,
    )


def _called(pattern: str, what: str) -> Callable[[str], str]:
    def check(name: str) -> str:
        if not re.fullmatch(pattern, name):
            better = spelled(name, capital=pattern == NAME)
            hint = f"; write {better}" if len(name) < 80 and re.fullmatch(pattern, better) else ""
            raise ValueError(f"{quoted(name)} is not {what}{hint}")
        return name

    check.pattern = pattern  # type: ignore[attr-defined]  # for the JSON Schema
    return check


def spelled(name: str, capital: bool) -> str:
    """A name as a blueprint spells it: ``OrderPlaced`` of ``order-placed``, ``place_order`` of ``placeOrder``."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)
    return "".join(word[:1].upper() + word[1:] for word in words) if capital else "_".join(words).lower()


def _several(value: Any) -> Any:
    """``A``, ``A, B`` and ``[A, B]`` are all lists, and nothing is an empty one."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return _one(value)


def _one(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


def _together(value: Any) -> Any:
    """Calls made at the same time; a single one stands for itself."""
    return value if isinstance(value, list | tuple) else [value]


def _mapping(key: str) -> Callable[[Any], Any]:
    """A bare value stands for a mapping with only its most important key."""

    def spread(value: Any) -> Any:
        return {key: value} if isinstance(value, str) else ({} if value is None else value)

    spread.key = key  # type: ignore[attr-defined]  # for the JSON Schema
    return spread


def _empty(value: Any) -> Any:
    return {} if value is None else value


def _none(value: Any) -> Any:
    return () if value is None else value


def _day(value: Any) -> Any:
    return day(value) if isinstance(value, str) else value


def _positive(value: Any) -> Any:
    if value.seconds == 0 if isinstance(value, Duration) else value.per_second == 0:
        raise ValueError(f"{value} lets nothing through; write more, or leave it out")
    return value


def _schedule(text: str) -> str:
    if text and not re.fullmatch(rf"{NUMBER} ?({'|'.join(SECONDS)})", text):
        from cronsim import CronSim, CronSimError

        try:
            CronSim(text, datetime(2026, 1, 1))
        except CronSimError:
            raise ValueError(
                f"{text!r} is neither a cron expression, such as 0 3 * * *, nor a time such as 15m"
            ) from None
    return text


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, str | int | float) else value


def _path(text: str) -> str:
    """Method and path. Raises ValueError in one sentence."""
    what = "a method and a path, such as POST /orders/{id}/cancel"
    part = r"(?:[A-Za-z0-9._~:-]|\{[a-z][a-z0-9_]*\})+"
    if text and not re.fullmatch(rf"(GET|POST|PUT|PATCH|DELETE) (/|(/{part})+)", text):
        raise ValueError(f"{text!r} is not {what}")
    names = re.findall(r"\{([^}]*)\}", text)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{text!r} has {{{name}}} twice; give each variable a name of its own")
    return text


Span = Annotated[Duration, AfterValidator(_positive)]
Limit = Annotated[Rate, AfterValidator(_positive)]
Word = Annotated[
    str, AfterValidator(_called(WORD, "a name of small letters, digits and underscores, such as place_order"))
]
"""Names of services, operations, fields, actors and dependencies."""
Name = Annotated[str, AfterValidator(_called(NAME, "a name that begins with a capital, such as OrderPlaced"))]
"""Names of entities and events."""
Text = Annotated[str, BeforeValidator(_text)]
Path = Annotated[Text, AfterValidator(_path)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_several)]
WordList = Annotated[tuple[Word, ...], BeforeValidator(_several)]
Fields = Annotated[dict[Word, Type], BeforeValidator(_empty)]
Calls = Annotated[
    tuple[Call | Annotated[tuple[Call, ...], BeforeValidator(_together)], ...], BeforeValidator(_one)
]
"""One after the other; a list within the list is called at the same time."""


class Needs(Part):
    """What is asked of the whole system, or of one operation."""

    availability: Fraction | None = None
    """Share of requests that succeed, over a month."""
    p99: Span | None = None
    """99 of 100 requests are answered within this."""
    consistency: Literal["strong", "read-your-writes", "eventual"] | None = None
    retention: Duration | None = None
    """How long personal data may be kept."""
    region: Annotated[tuple[Text, ...], BeforeValidator(_several)] = ()
    """Where it runs; several for more than one."""
    team: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """People who build and run it."""


class Actor(Part):
    """Somebody or something outside that calls the system."""

    auth: Literal["oidc", "session", "jwt", "api_key", "mtls", "signature", "none"] | None = None
    """How it signs in; None is said to be missing, ``none`` is meant."""
    clients: WordList = ()
    """``web``, ``mobile``, ``server``, ``cli``, ``device``, …"""
    roles: WordList = ()
    tenant: bool = False
    """It belongs to one tenant."""
    limit: Limit | None = None
    """Rate limit for one of them, over all operations."""


class Dependency(Part):
    """A system that others run, which ours calls."""

    availability: Fraction | None = None
    p99: Span | None = None
    limit: Limit | None = None
    """Most calls that it takes from us."""
    timeout: Span | None = None
    retry: Retry | None = None
    idempotency: Literal["header", "key", "natural", "none"] | None = None
    """How it recognizes a call that is repeated."""
    auth: Text = ""
    region: Text = ""
    kind: Literal[
        "api", "payment", "mail", "identity", "search", "storage", "database", "broker", "cache"
    ] = "api"
    sends: Names = ()
    """Events that it tells us of by webhook."""
    writes: bool | None = None
    """A call changes something there; None: where it is for payment, mail, storage, a broker or a database."""
    personal: bool | None = None
    """It may be given personal data (a processor under contract, GDPR article 28); false: it is given none."""


class Operation(Part):
    """One thing that a service does."""

    about: Text = ""
    kind: Literal["request", "stream", "subscription", "bulk", "long", "upload", "download"] | None = None
    """None: event where `on` is given, schedule where `every` is, else request and reply."""
    by: By | None = None
    takes: Fields = {}
    gives: Result | None = None
    load: Load | None = None
    """Of its own callers; calls that other operations make are added by `System`."""
    calls: Calls = ()
    on: Names = ()
    """Events that it handles."""
    every: Annotated[Text, AfterValidator(_schedule)] = ""
    """A cron expression, or a time such as 15m."""
    emits: Names = ()
    emits_in: dict[Name, Fraction] = {}
    """The share of its runs in which it emits an event, where that is not all of them."""
    creates: Names = ()
    """Entities it makes rows of; None needs to be said where it gives an entity of its own and emits."""
    reads: Names = ()
    moves: Annotated[tuple[Move, ...], BeforeValidator(_several)] = ()
    changes: Annotated[tuple[Change, ...], BeforeValidator(_several)] = ()
    deletes: Names = ()
    undo: Word | None = None
    """The operation of the same service that takes it back."""
    saga: bool = False
    """Its calls that write are steps of a saga: durable, and undone in reverse order where a later one fails."""
    pivot: bool = False
    """What comes after it in a saga goes only forward."""
    cache: Cache | None = None
    timeout: Span | None = None
    """How long its callers wait for it."""
    retry: Retry | None = None
    """How its callers repeat it."""
    work: Duration | None = None
    """Its own computing, the 99th percentile, without what it calls."""
    hold: Duration | None = None
    """How long it holds a database connection, on average."""
    page: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Most items in one answer of a list."""
    size: Size | None = None
    """Of what it takes: a file, a bulk, a body."""
    limit: Limit | None = None
    """Rate limit for one caller."""
    idempotent: Literal["key", "natural", "no"] | None = None
    """How a repetition is recognized: by an Idempotency-Key, by its nature, or not at all."""
    http: Path = ""
    """Method and path, where they are not to follow from the name: ``POST /orders/{id}/cancel``."""
    version: Text = ""
    """Of the API, where there are several: ``v2``."""
    deprecated: Deprecated | None = None
    needs: Needs = Needs()


class Service(Part):
    """A part of the system that is built and deployed as one."""

    about: Text = ""
    owns: Annotated[dict[Name, Fields], BeforeValidator(_empty)] = {}
    """Entities and their fields."""
    does: Annotated[dict[Word, Annotated[Operation, BeforeValidator(_empty)]], BeforeValidator(_empty)] = {}
    speaks: Annotated[
        tuple[Literal["http", "grpc", "graphql", "websocket", "sse"], ...], BeforeValidator(_several)
    ] = ("http",)
    """To its callers; the first is what other services use."""
    store: Literal["postgresql", "redis", "files", "none"] = "postgresql"
    copies: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Processes that run beside each other."""
    pool: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Database connections of one copy."""
    availability: Fraction | None = None
    """Of one copy with its store, without what it calls."""
    team: Text = ""
    """Who owns it, where several teams do."""
    region: Annotated[tuple[Text, ...], BeforeValidator(_several)] = ()


class Infrastructure(Part):
    """A part that is run, not written: a broker, a cache, a gateway, a search engine."""

    kind: Text
    """``postgresql``, ``kafka``, ``nats``, ``rabbitmq``, ``redis``, ``gateway``, ``elasticsearch``, …"""
    availability: Fraction | None = None
    limit: Limit | None = None
    why: Text = ""
    """The number that demands it, in words, where none can be computed from the blueprint."""


class Tenancy(Part):
    """How tenants are kept apart."""

    isolation: Literal["row", "schema", "database"]
    by: Text = ""
    """The field that names the tenant, or the entity that is one."""
    tenants: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None


class Waiver(Part):
    """A risk that somebody answers for."""

    risk: Text
    """Its id, as printed: ``availability:orders.place_order``."""
    reason: Annotated[Text, Field(min_length=1)]
    owner: Annotated[Text, Field(min_length=1)]
    until: Annotated[date, BeforeValidator(_day)]
    """The last day on which it holds."""


class Assume(Part):
    """What is taken where the blueprint says nothing. Each that mattered is printed beside the risks."""

    service_availability: Fraction = Fraction(0.9995)
    """Of one of our services with its store, deploys included."""
    dependency_availability: Fraction = Fraction(0.999)
    part_availability: Fraction = Fraction(0.9995)
    """Of a broker, cache or gateway."""
    outage: Duration = Duration(600.0)
    """How long one outage lasts, on average: what a cache has to bridge."""
    dependency_p99: Duration = Duration(0.3)
    work: Duration = Duration(0.02)
    """An operation's own computing, the 99th percentile."""
    hop: Duration = Duration(0.002)
    """Network and (de)serializing of one call within a region, the 99th percentile."""
    tail: Annotated[float, Field(gt=1)] = 4.0
    """How many times its median a 99th percentile is, where only the latter is known."""
    timeout: Span = Duration(1.0)
    hold: Duration = Duration(0.015)
    """A database connection is held by one operation."""
    lock: Duration = Duration(0.005)
    """A row stays locked by one write: from the write to the end of COMMIT."""
    load: Rate = Rate(1.0)
    peak: Annotated[float, Field(ge=1)] = 3.0
    """Peak load over usual load."""
    hottest: Fraction = Fraction(0.01)
    """Share of all writes that meets the most written row."""
    cache_hit: Fraction = Fraction(0.9)
    copies: Annotated[int, Field(ge=1, le=100_000)] = 2
    pool: Annotated[int, Field(ge=1, le=100_000)] = 10
    utilisation: Fraction = Fraction(0.7)
    """Highest share of a pool or a lock that may be busy at peak before queueing eats the latency."""
    engine: Rate = Rate(1000.0)
    """Messages that a service's own PostgreSQL carries, with room, before a broker is worth its keep."""
    rows: Annotated[float, Field(gt=0)] = 1e9
    """Rows of one table that PostgreSQL keeps, with room, before it has to be parted by time."""
    parts_per_person: Annotated[float, Field(gt=0)] = 1.5
    """Services and parts that one person can keep running."""


class Blueprint(Part):
    """A system."""

    blueprint: Word
    """Its name."""
    about: Text = ""
    version: Text = "1.0.0"
    include: Annotated[tuple[Text, ...], BeforeValidator(_one)] = ()
    """Further files, beside this one, that are read as part of it."""
    needs: Annotated[Needs, BeforeValidator(_empty)] = Needs()
    actors: Annotated[dict[Word, Annotated[Actor, BeforeValidator(_empty)]], BeforeValidator(_empty)] = {}
    depends: Annotated[
        dict[Word, Annotated[Dependency, BeforeValidator(_empty)]], BeforeValidator(_empty)
    ] = {}
    parts: Annotated[
        dict[Word, Annotated[Infrastructure, BeforeValidator(_mapping("kind"))]], BeforeValidator(_empty)
    ] = {}
    tenancy: Annotated[Tenancy, BeforeValidator(_mapping("isolation"))] | None = None
    events: Annotated[dict[Name, Fields], BeforeValidator(_empty)] = {}
    """What events carry, where it is not to follow from what was written."""
    types: Annotated[dict[Name, Fields], BeforeValidator(_empty)] = {}
    """Types that no service owns: values handed from one to another."""
    services: Annotated[dict[Word, Annotated[Service, BeforeValidator(_empty)]], BeforeValidator(_empty)] = {}
    assume: Annotated[Assume, BeforeValidator(_empty)] = Assume()
    waivers: Annotated[tuple[Waiver, ...], BeforeValidator(_none)] = ()
