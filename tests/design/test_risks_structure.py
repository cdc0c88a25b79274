"""Each structural risk is said where it is, and not where the one thing that removes it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from blueprint_text import result_of, risks_of

from mainstay.architect.design.risks import kinds
from mainstay.architect.design.risks.overlapping_run import shortest
from mainstay.architect.findings import Severity

SHOP = """
actors:
  shopper: {auth: oidc, clients: [web]}
  staff: {auth: oidc, roles: [agent]}
depends:
  bank: {kind: payment}
  post: {kind: mail}
services:
  orders:
    owns:
      Order: {id: uuid, customer: uuid, total: money, status: pending > paid}
    does:
      place: {by: shopper, takes: {total: money}, gives: Order}
      get: {by: shopper own, gives: Order}
      pay: {by: staff, moves: Order paid}
  stock:
    owns:
      Product: {sku: text, left: int}
    does:
      reserve: {takes: {n: int}, changes: Product.left, undo: release}
      release: {takes: {n: int}, changes: Product.left}
"""


@dataclass
class Case:
    """A change to SHOP that brings a risk, and one more that takes it away."""

    kind: str
    subject: str
    bring: tuple[str, str]
    remove: tuple[str, str]
    says: str
    beside: tuple[str, str] | None = None
    """What else stands in the blueprint, before and after."""


PLACE = "place: {by: shopper, takes: {total: money}, gives: Order}"
PAY = "pay: {by: staff, moves: Order paid}"
PRODUCT = "Product: {sku: text, left: int}"


def place(more: str) -> tuple[str, str]:
    """SHOP with more said of orders.place."""
    return PLACE, PLACE[:-1] + f", {more}}}"


CASES = [
    Case(
        "saga-missing",
        "orders.place",
        place("calls: stock.reserve"),
        ("calls: stock.reserve", "calls: stock.reserve, saga: true"),
        r"orders\.place writes in orders and stock and is not said to be a saga; .*reserve -> release",
    ),
    Case(
        "saga-missing",
        "orders.place",
        (PLACE + "\n", PLACE[:-1] + ", saga: true, calls: [stock.take, stock.reserve]}\n"),
        ("calls: [stock.take, stock.reserve]", "calls: [stock.reserve, stock.take]"),
        r"stock\.take cannot be undone when a later step fails",
        (
            "release: {takes",
            "take: {takes: {n: int}, changes: Product.left}\n      release: {takes",
        ),
    ),
    Case(
        "dual-write",
        "orders.place->bank",
        place("calls: bank"),
        ("bank: {kind: payment}", "bank: {kind: payment, idempotency: header}"),
        r"orders\.place creates Order and calls bank in one go; bank is not said to recognize",
    ),
    Case(
        "dual-write",
        "orders.place->post",
        place("calls: post"),
        ("calls: post", "calls: post later"),
        r"calls post in one go",
    ),
    Case(
        "dual-write",
        "orders.place",
        ("  orders:\n    owns:", "  orders:\n    store: redis\n    owns:"),
        ("store: redis", "store: postgresql"),
        r"writes Order to redis and emits Placed",
        place("emits: Placed"),
    ),
    Case(
        "event-without-emitter",
        "Placde",
        (PRODUCT + "\n    does:", PRODUCT + "\n    does:\n      ship: {on: Placde}"),
        (PLACE, PLACE[:-1] + ", emits: Placde}"),
        r"stock\.ship waits for Placde, which nothing emits",
    ),
    Case(
        "event-without-consumer",
        "Placed",
        place("emits: Placed"),
        (PRODUCT + "\n    does:", PRODUCT + "\n    does:\n      ship: {on: Placed}"),
        r"orders\.place emits Placed, and nothing handles it",
    ),
    Case(
        "event-without-consumer",
        "Placed",
        place("emits: Placed"),
        ("actors:", "events:\n  Placed: {id: uuid}\nactors:"),
        r"nothing handles it",
    ),
    Case(
        "call-cycle",
        "orders.place",
        (
            PLACE + "\n",
            PLACE[:-1] + ", calls: stock.count}\n",
        ),
        ("calls: orders.place", "calls: orders.place later"),
        r"orders\.place -> stock\.count -> orders\.place: each waits for the next",
        ("release: {takes", "count: {calls: orders.place}\n      release: {takes"),
    ),
    Case(
        "shared-data",
        "Product",
        ("Order: {id: uuid", "Product: {sku: text}\n      Order: {id: uuid"),
        ("Product: {sku: text}\n", "Item: {sku: text}\n"),
        r"Product is owned by orders and stock: there are 2 truths",
    ),
    Case(
        "shared-data",
        "orders.place->stock.Product",
        place("changes: Product.left"),
        (", changes: Product.left", ""),
        r"orders\.place changes Product, which stock owns",
    ),
    Case(
        "shared-data",
        "stock.count->orders.Order",
        ("release: {takes", "count: {every: 30s, reads: Order}\n      release: {takes"),
        ("reads: Order}", "reads: Order, calls: orders.get}"),
        r"stock\.count reads Order, which orders owns, and asks orders for nothing",
    ),
    Case(
        "shared-data",
        "stock.count->orders.Order",
        ("release: {takes", "count: {every: 30s, reads: Order}\n      release: {takes"),
        ("every: 30s", "on: Placed"),
        r"it reads the tables of orders",
        place("emits: Placed"),
    ),
    Case(
        "saga-missing",
        "stock.release",
        ("release: {takes: {n: int}, changes: Product.left}", "release: {takes: {n: int}}"),
        ("release: {takes: {n: int}}", "release: {takes: {n: int}, changes: Product.left}"),
        r"stock\.release is the undo of stock\.reserve and takes nothing back",
    ),
    Case(
        "saga-missing",
        "orders.place",
        (PLACE + "\n", PLACE[:-1] + ", saga: true, calls: [stock.take, stock.reserve]}\n"),
        ("take: {takes: {n: int}", "take: {pivot: true, takes: {n: int}"),
        r"stock\.take cannot be undone when a later step fails",
        (
            "release: {takes",
            "take: {takes: {n: int}, changes: Product.left}\n      release: {takes",
        ),
    ),
    Case(
        "shared-data",
        "stock->orders",
        (PLACE + "\n", PLACE[:-1] + ", calls: stock.hold}\n"),
        ("hold: {takes: {of: Order}}", "hold: {takes: {of: Order.id}}"),
        r"stock\.hold takes Order, owned by orders, which calls it",
        ("release: {takes", "hold: {takes: {of: Order}}\n      release: {takes"),
    ),
    Case(
        "chatty-boundary",
        "orders.get->stock",
        (
            "get: {by: shopper own, gives: Order}",
            "get: {by: shopper own, gives: Order, calls: stock.count x20}",
        ),
        ("x20", "x2"),
        r"orders\.get calls stock 20 times in one run: some 140ms",
        (
            "release: {takes",
            "count: {gives: Product}\n      release: {takes",
        ),
    ),
    Case(
        "personal-data",
        "post",
        (PLACE, PLACE.replace("total: money", "to: text pii")[:-1] + ", calls: post later}"),
        ("post: {kind: mail}", "post: {kind: mail, personal: true}"),
        r"post may be given personal data: to by orders\.place",
    ),
    Case(
        "personal-data",
        "Placed",
        (PLACE, PLACE[:-1] + ", emits: Placed}"),
        ("Placed: {to: text pii}", "Placed: {to: text}"),
        r"Placed carries personal data \(to\)",
        ("actors:", "events:\n  Placed: {to: text pii}\nactors:"),
    ),
    Case(
        "personal-data",
        "orders.Order.customer",
        ("customer: uuid", "customer: uuid pii keep 400d"),
        ("keep 400d", "keep 200d"),
        r"kept for 400d, longer than the 365d",
        ("actors:", "needs: {retention: 1y}\nactors:"),
    ),
    Case(
        "personal-data",
        "orders",
        ("customer: uuid", "customer: uuid pii"),
        (PAY, PAY + "\n      forget: {every: 1d, deletes: Order}"),
        r"orders holds Order\.customer, and no operation deletes any of it after 365d",
        ("actors:", "needs: {retention: 1y}\nactors:"),
    ),
    Case(
        "unguarded-operation",
        "orders.get",
        ("get: {by: shopper own", "get: {by: shopper"),
        ("get: {by: shopper,", "get: {by: shopper own,"),
        r"any shopper may reach any Order by orders\.get",
    ),
    Case(
        "unguarded-operation",
        "orders.pay",
        (PAY, PAY.replace("by: staff", "by: anyone")),
        ("by: anyone", "by: staff"),
        r"orders\.pay is open to anyone and moves Order",
    ),
    Case(
        "unguarded-operation",
        "orders.lost",
        (PAY, PAY + "\n      lost: {gives: Order}"),
        ("lost: {", "lost: {every: 1d, "),
        r"nothing says who may call orders\.lost",
    ),
    Case(
        "unguarded-operation",
        "shopper",
        ("shopper: {auth: oidc,", "shopper: {"),
        ("shopper: {", "shopper: {auth: session,"),
        r"nothing says how shopper signs in",
    ),
    Case(
        "unguarded-operation",
        "orders.get",
        (
            "actors:\n  shopper: {auth: oidc,",
            "tenancy: row\nactors:\n  shopper: {auth: oidc, tenant: true,",
        ),
        ("get: {by: shopper,", "get: {by: shopper tenant,"),
        r"shopper of one tenant is not kept from another's",
        ("get: {by: shopper own,", "get: {by: shopper,"),
    ),
    Case(
        "missing-rate-limit",
        "orders.login",
        (PAY, PAY + "\n      login: {by: anyone, takes: {password: text}}"),
        ("login: {", "login: {limit: 10/min, "),
        r"orders\.login checks a secret and may be tried without limit",
    ),
    Case(
        "missing-rate-limit",
        "bank",
        (PLACE, PLACE[:-1] + ", calls: bank}"),
        ("shopper: {auth: oidc,", "shopper: {auth: oidc, limit: 1/s,"),
        r"one shopper can use up the 10/s of bank alone, by orders\.place",
        ("bank: {kind: payment}", "bank: {kind: payment, limit: 10/s}"),
    ),
    Case(
        "missing-idempotency",
        "orders.place",
        ("clients: [web]", "clients: [mobile]"),
        place("idempotent: key"),
        r"orders\.place creates Order; a shopper whose reply is lost sends it again",
    ),
    Case(
        "missing-idempotency",
        "orders.place->bank",
        place("calls: bank retry 2"),
        ("bank: {kind: payment}", "bank: {kind: payment, idempotency: header}"),
        r"calls bank up to 3 times, and bank is not said to tell",
    ),
    Case(
        "missing-idempotency",
        "stock.reserve",
        place("calls: stock.reserve retry 1"),
        ("reserve: {", "reserve: {idempotent: key, "),
        r"stock\.reserve changes Product\.left and is repeated by orders\.place, up to 2 times",
    ),
    Case(
        "overlapping-run",
        "orders.settle",
        (PAY, PAY + "\n      settle: {every: 1m, calls: bank x1000}"),
        ("every: 1m", "every: 2m"),
        r"orders\.settle runs every 60s and takes some 90s: the next run begins before it is done",
    ),
    Case(  # as long as the provider's limit makes it take, handed over or not
        "overlapping-run",
        "orders.settle",
        (PAY, PAY + '\n      settle: {every: "*/30 3 * * *", calls: "bank x4000 later"}'),
        ("limit: 2/s", "limit: 3/s"),
        r"orders\.settle runs every 30m and takes some 33m",
        ("bank: {kind: payment}", "bank: {kind: payment, limit: 2/s}"),
    ),
    Case(
        "table-growth",
        "orders",
        place("load: 40/s"),
        ("load: 40/s", "load: 30/s"),
        r"orders grows Order by 3\.46 million rows a day, 1\.26 billion a year, and nothing deletes any",
    ),
    Case(
        "table-growth",
        "orders",
        place("load: 40/s"),
        (PAY, PAY + "\n      prune: {every: 1d, deletes: Order}"),
        r"orders grows Order",
    ),
    Case(  # by a front that writes nothing itself
        "missing-idempotency",
        "web.checkout",
        (
            "services:\n",
            "services:\n  web:\n    store: none\n    does:\n"
            "      checkout: {by: shopper, takes: {total: money}, calls: orders.place}\n",
        ),
        (PLACE[:-1], PLACE[:-1] + ", idempotent: key"),
        r"web\.checkout creates Order \(by orders\.place\); a shopper whose reply is lost sends it again",
    ),
    Case(
        "missing-idempotency",
        "web.checkout",
        (
            "services:\n",
            "services:\n  web:\n    does:\n"
            "      checkout: {by: shopper, takes: {total: money}, calls: orders.place later}\n",
        ),
        ("takes: {total: money}, calls", "takes: {total: money}, idempotent: key, calls"),
        r"web\.checkout creates Order \(by orders\.place\)",
    ),
    Case(
        "unguarded-operation",
        "web.pay",
        (
            "services:\n",
            "services:\n  web:\n    store: none\n    does:\n      pay: {by: anyone, calls: orders.pay}\n",
        ),
        ("by: anyone", "by: staff"),
        r"web\.pay is open to anyone and moves Order by orders\.pay",
    ),
    Case(
        "unguarded-operation",
        "web.pay",
        (
            "services:\n",
            "services:\n  web:\n    store: none\n    does:\n      pay: {by: shopper, calls: orders.pay}\n",
        ),
        ("by: shopper, calls", "by: shopper own, calls"),
        r"any shopper may reach any Order by web\.pay",
    ),
    Case(
        "missing-rate-limit",
        "web.order",
        (
            "services:\n",
            "services:\n  web:\n    store: none\n    does:\n      order: {by: anyone, calls: orders.place}\n",
        ),
        ("by: anyone,", "by: anyone, limit: 1/s,"),
        r"web\.order is open to anyone, creates Order by orders\.place, and has no limit",
    ),
    Case(  # a sign-up sets a secret, and checks none
        "missing-rate-limit",
        "orders.join",
        (
            PAY,
            PAY + "\n      join: {by: anyone, takes: {password: text secret}, creates: Account}",
        ),
        ("join: {by: anyone,", "join: {by: anyone, limit: 1/s,"),
        r"orders\.join is open to anyone, creates Account, and has no limit",
        (
            "    owns:\n      Order",
            "    owns:\n      Account: {id: uuid, password: text secret}\n      Order",
        ),
    ),
    Case(
        "unbounded-list",
        "orders.list",
        (PAY, PAY + "\n      list: {by: staff, gives: Order*}"),
        ("gives: Order*", "gives: Order*, page: 50"),
        r"orders\.list gives every Order there is",
    ),
    Case(
        "unbounded-list",
        "orders.load:size",
        (PAY, PAY + "\n      load: {by: staff, takes: {sheet: file}}"),
        ("takes: {sheet: file}", "takes: {sheet: file}, size: 10 MB"),
        r"orders\.load takes the file sheet of any size",
    ),
    Case(
        "team-load",
        "test",
        ("actors:", "needs: {team: 1}\nactors:"),
        ("team: 1", "team: 2"),
        r"2 services and 0 parts for 1 people: 2 for each",
    ),
    Case(
        "needless-part",
        "bus",
        (PLACE, PLACE[:-1] + ", emits: Placed, load: 10/s peak 20/s}"),
        ("bus: kafka", "bus: {kind: kafka, why: analytics reads it}"),
        r"bus carries 20/s at peak; one PostgreSQL with an outbox carries 1000/s",
        ("actors:", "parts:\n  bus: kafka\nactors:"),
    ),
    Case(
        "needless-part",
        "orders",
        place("calls: stock.reserve"),
        ("  stock:\n", "  stock:\n    copies: 4\n"),
        r"stock is called by orders alone, which waits for it: as a module of orders it saves 2ms a call",
    ),
    Case(
        "needless-part",
        "door",
        ("actors:", "parts:\n  door: gateway\nactors:"),
        ("release: {takes", "release: {by: staff, takes"),
        r"door stands in front of orders alone",
    ),
    Case(
        "needless-part",
        "finder",
        ("actors:", "parts:\n  finder: elasticsearch\nactors:"),
        ("sku: text,", "sku: text search,"),
        r"finder is there and nothing is marked search",
    ),
    Case(
        "personal-data",
        "post:region",
        (PLACE, PLACE.replace("total: money", "to: text pii")[:-1] + ", calls: post later}"),
        ("region: us", "region: eu"),
        r"post is in us and may be given personal data \(to by orders\.place\), which is to stay in eu",
        (
            "actors:\n  shopper: {auth: oidc, clients: [web]}\n  staff: {auth: oidc, roles: [agent]}\ndepends:\n"
            "  bank: {kind: payment}\n  post: {kind: mail}",
            "needs: {region: eu}\nactors:\n  shopper: {auth: oidc, clients: [web]}\n"
            "  staff: {auth: oidc, roles: [agent]}\ndepends:\n  bank: {kind: payment}\n"
            "  post: {kind: mail, region: us}",
        ),
    ),
    Case(
        "needless-part",
        "memory",
        (
            "get: {by: shopper own, gives: Order}",
            "get: {by: shopper own, gives: Order, load: 10/s, cache: 30s}",
        ),
        ("load: 10/s", "load: 4k/s"),
        r"memory saves 0\.4 database connections at peak",
        ("actors:", "parts:\n  memory: redis\nactors:"),
    ),
    Case(
        "state-never-reached",
        "orders.Order",
        (PAY, "other: {by: staff, reads: Order}"),
        ("other: {by: staff, reads: Order}", PAY),
        r"no operation moves Order to paid: it stays pending",
    ),
    Case(
        "forged-webhook",
        "bank",
        (PAY, "pay: {on: Captured, moves: Order paid}"),
        ("bank: {kind: payment,", "bank: {kind: payment, auth: signature,"),
        r"orders\.pay acts on webhooks of bank, and nothing says how a forged one is known",
        ("bank: {kind: payment}", "bank: {kind: payment, sends: Captured}"),
    ),
    Case(
        "deprecated-operation",
        "orders.pay",
        (PAY, PAY[:-1] + ", deprecated: 2026-01-01 sunset 2026-06-01}"),
        ("sunset 2026-06-01", "sunset 2027-06-01"),
        r"orders\.pay was to go away on 2026-06-01, and is still there",
    ),
    Case(
        "stale-cache",
        "orders.get",
        (
            "get: {by: shopper own, gives: Order}",
            "get: {by: shopper own, gives: Order, cache: 30s until Placed}",
        ),
        (PAY, PAY[:-1] + ", emits: Placed}"),
        r"orders\.get goes on giving Order as it was for up to 30s after orders\.pay",
    ),
    Case(
        "dependency-limit",
        "bank",
        (PLACE, PLACE[:-1] + ", load: 5/s peak 20/s, calls: bank}"),
        ("peak 20/s", "peak 10/s"),
        r"bank is asked 20/s at peak, takes 10/s, so 10/s are refused",
        ("bank: {kind: payment}", "bank: {kind: payment, limit: 10/s}"),
    ),
]


def changed(text: str, change: tuple[str, str]) -> str:
    assert change[0] in text, change[0]
    return text.replace(*change, 1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}:{case.subject}")
def test_it_is_said_where_it_is_and_silent_where_it_was_removed(case: Case) -> None:
    text = changed(SHOP, case.bring)
    if case.beside is not None:
        text = changed(text, case.beside)
    found = {risk.subject: risk for risk in risks_of(text, case.kind)}
    assert case.subject in found
    risk = found[case.subject]
    assert re.search(case.says, risk.message), risk.message
    assert risk.remedy and risk.formula
    assert "  " not in risk.message and risk.message[-1] != "."
    left = [risk.subject for risk in risks_of(changed(text, case.remove), case.kind)]
    assert case.subject not in left


LIST = "some: {by: staff, takes: {%s}, gives: %s}"


@pytest.mark.parametrize(
    "operation",
    [
        LIST % ("ids: Order.id*", "Order*"),
        LIST % ("country: text", "iso4217*"),
        "some: {by: staff, gives: Product*, calls: stock.all}",
    ],
    ids=["one for each that was asked for", "a type of few values", "handed on"],
)
def test_a_list_that_something_else_bounds_needs_no_page(operation: str) -> None:
    text = changed(SHOP, (PAY, f"{PAY}\n      {operation}"))
    text = changed(text, ("release: {takes", "all: {gives: Product*, page: 50}\n      release: {takes"))
    assert not risks_of(text, "unbounded-list")


def test_what_keeps_nothing_gives_no_list_without_end_unless_it_is_read_past_its_owner() -> None:
    front = "services:\n  web:\n    store: none\n    does:\n      some: {by: staff, gives: %s}\n"
    assert not risks_of(changed(SHOP, ("services:\n", front % "text*")), "unbounded-list")
    assert [
        risk.subject for risk in risks_of(changed(SHOP, ("services:\n", front % "Order*")), "unbounded-list")
    ] == ["web.some"]


@pytest.mark.parametrize(
    ("operation", "makes"),
    [
        ("order: {takes: {id: Order.id}, gives: Order}", False),
        ("order: {takes: {total: money}, gives: Order}", True),
        ("login: {takes: {secret: text secret}, gives: Account}", False),
        ("login: {takes: {secret: text secret}, gives: Session}", True),
    ],
)
def test_what_is_asked_for_by_its_own_key_was_there_before(operation: str, makes: bool) -> None:
    owns = "Account: {id: uuid, secret: text secret}\n      Session: {id: uuid}\n      Order: {id: uuid"
    text = changed(changed(SHOP, ("Order: {id: uuid", owns)), (PAY, f"{PAY}\n      {operation}"))
    op = result_of(text).study.system.ops["orders." + operation.partition(":")[0]]
    assert [write.how for write in op.writes] == (["creates"] if makes else [])


def test_who_gives_back_what_it_was_just_given_discloses_nothing() -> None:
    """It creates the row that it gives; what it changes besides goes with that row."""
    text = changed(SHOP, ("customer: uuid", "customer: uuid pii"))
    text = changed(text, (PLACE, PLACE.replace("by: shopper", "by: anyone")))
    assert not [risk for risk in risks_of(text, "unguarded-operation") if risk.subject == "orders.place"]
    shown = changed(text, ("get: {by: shopper own", "get: {by: anyone"))
    assert "orders.get is open to anyone and gives Order.customer" in [
        risk.message for risk in risks_of(shown, "unguarded-operation")
    ]


@pytest.mark.parametrize(
    ("every", "seconds"),
    [
        ("15m", 900),
        ("*/5 * * * *", 300),
        ("0 3 * * *", 86400),
        ("0 9,10 * * 1", 3600),
        ("0 0 29 2 *", 126230400),
    ],
)
def test_the_time_between_two_runs_is_the_shortest_that_occurs(every: str, seconds: float) -> None:
    assert shortest(every) == seconds


def test_a_load_that_is_only_assumed_makes_no_table_grow() -> None:
    text = changed(SHOP, ("actors:", "assume: {load: 100/s}\nactors:"))
    assert [risk.subject for risk in risks_of(text, "table-growth")] == ["orders"]  # said, in its own place
    assert not risks_of(changed(SHOP, ("actors:", "assume: {rows: 1000000}\nactors:")), "table-growth")


def test_who_signs_up_by_another_service_checks_no_secret() -> None:
    """The account is its own row, the password lies with who is called; signing in remains a check."""
    text = changed(SHOP, ("      Order: {id", "      Profile: {id: uuid}\n      Order: {id"))
    text = changed(text, (PRODUCT, PRODUCT + "\n      Login: {name: text, password: text secret}"))
    text = changed(
        text, ("release: {takes", "make: {takes: {p: text secret}, creates: Login}\n      release: {takes")
    )
    join = "join: {by: anyone, takes: {p: text secret}, creates: Profile, calls: stock.make}"
    (risk,) = risks_of(changed(text, (PAY, f"{PAY}\n      {join}")), "missing-rate-limit")
    assert risk.message == "orders.join is open to anyone, creates Profile, and has no limit"
    enter = "enter: {by: anyone, takes: {p: text secret}, gives: text}"
    (risk,) = risks_of(changed(text, (PAY, f"{PAY}\n      {enter}")), "missing-rate-limit")
    assert "checks a secret" in risk.message


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        ("[stock.reserve else nothing]", False),
        ("[stock.reserve else nothing, bank]", True),  # what comes after it may fail, and it has written
        ("[stock.reserve]", True),
    ],
)
def test_a_last_write_that_may_fail_needs_no_saga(calls: str, told: bool) -> None:
    text = changed(SHOP, place(f"calls: {calls}"))
    assert [risk.subject for risk in risks_of(text, "saga-missing")] == (["orders.place"] if told else [])


def test_how_loud_a_saga_is_asked_for_depends_on_what_cannot_be_undone() -> None:
    text = changed(SHOP, place("calls: [stock.note, bank]"))
    text = changed(text, ("release: {takes", "note: {changes: Product.left}\n      release: {takes"))
    assert [risk.severity for risk in risks_of(text, "saga-missing")] == [Severity.MEDIUM]
    paid = changed(text, (PRODUCT, "Product: {sku: text, left: money}"))
    assert [risk.severity for risk in risks_of(paid, "saga-missing")] == [Severity.CRITICAL]


def test_services_behind_one_other_are_told_of_once() -> None:
    text = (
        changed(SHOP, place("calls: [stock.reserve, prices.price]"))
        + "  prices:\n    does:\n      price: {gives: money}\n"
    )
    (risk,) = risks_of(text, "needless-part")
    assert risk.id == "needless-part:orders"
    assert risk.message.startswith(
        "stock and prices are called by orders alone, which waits for them: as modules"
    )
    assert risk.message.endswith("a call and 2 deployables")


def test_data_behind_a_front_that_keeps_none_is_no_module_of_it() -> None:
    front = "services:\n  web:%s\n    does:\n      take: {by: staff, calls: stock.reserve}\n"
    text = changed(SHOP, ("services:\n", front % "\n    store: none"))
    assert not risks_of(text, "needless-part")
    kept = changed(SHOP, ("services:\n", front % ""))
    assert [risk.subject for risk in risks_of(kept, "needless-part")] == ["web"]


@pytest.mark.parametrize(
    ("owns", "told"),
    [
        ("Seen: {id: uuid}", True),  # another thing of the same service
        ("Seen: {id: uuid, order: Order.id}", True),  # that refers to it
        ("Seen: {id: uuid, order: Order}", False),  # that holds it
    ],
)
def test_a_persons_data_stays_where_something_else_is_deleted(owns: str, told: bool) -> None:
    text = changed(SHOP, ("customer: uuid", "customer: uuid pii"))
    text = changed(text, ("      Order: {id: uuid", f"      {owns}\n      Order: {{id: uuid"))
    text = changed(text, (PAY, f"{PAY}\n      forget: {{every: 1d, deletes: Seen}}"))
    assert [risk.message.partition(",")[0] for risk in risks_of(text, "personal-data")] == (
        ["orders holds Order.customer"] if told else []
    )


def test_calls_at_the_same_time_take_as_long_as_the_longest_of_them() -> None:
    counts = ", ".join(f"stock.count_{at}" for at in range(10))
    does = "".join(f"count_{at}: {{gives: Product}}\n      " for at in range(10))
    text = changed(SHOP, ("release: {takes", f"{does}release: {{takes"))
    get = "get: {by: shopper own, gives: Order}"
    said = [
        risk.message
        for calls in (f"[{counts}]", f"[[{counts}]]")
        for risk in risks_of(changed(text, (get, f"{get[:-1]}, calls: {calls}}}")), "chatty-boundary")
    ]
    assert said == [
        "orders.get calls stock 10 times in one run: some 70ms",
        "orders.get calls stock 10 times in one run: some 7ms",
    ]


def test_the_plain_shop_is_told_little() -> None:
    """What stays is true: a place order that may come twice."""
    assert [risk.id for risk in result_of(SHOP).risks if risk.kind.name not in NUMERIC] == [
        "missing-idempotency:orders.place",
        "unguarded-operation:stock.reserve",
    ]


NUMERIC = (
    "availability-chain",
    "latency-budget",
    "timeout-nesting",
    "retry-amplification",
    "pool-size",
    "hot-row",
)


def test_every_structural_kind_has_a_case() -> None:
    told = {case.kind for case in CASES}
    assert told >= set(kinds()) - {*NUMERIC, "single-point-of-failure", "breaking-change"}


def test_every_kind_explains_itself() -> None:
    for name, (kind, _) in kinds().items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", name)
        for text in (kind.title, kind.formula, kind.why, kind.wrong_when, kind.remedy):
            assert len(text) > 15, name
        assert not kind.title.endswith(".")
