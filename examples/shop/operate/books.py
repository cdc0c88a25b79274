"""The audit: what clients were told, what the database holds and what the providers have in their books must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = Mapping[str, Any]

QUERIES = {
    "orders": "SELECT id, status, total_cents FROM orders ORDER BY id",
    "lines": "SELECT order_id, product_id, quantity, price_cents FROM lines",
    "products": "SELECT id, name, stock FROM products ORDER BY id",
    "payments": "SELECT order_id, amount_cents, charge_id FROM payments",
    "shipments": "SELECT order_id, tracking_number FROM shipments",
    "product_totals": "SELECT product_id, quantity, revenue_cents FROM product_totals",
    "event_totals": "SELECT event, orders FROM event_totals",
    "sagas": (
        "SELECT id, (data ->> 'order_id')::int AS order_id, state::text, stuck, ended_at IS NOT NULL AS ended"
        " FROM mainstay.saga_status"
    ),
    "messages": "SELECT id, kind, state::text, errors -> -1 ->> 'error' AS error FROM mainstay.message",
}


@dataclass
class Facts:
    """All that is compared."""

    stock_before: Mapping[int, int]
    replies: Mapping[str, tuple[int, Any]]
    differing: list[str]
    tables: dict[str, list[Row]]
    ledgers: Mapping[str, Row]


@dataclass
class Finding:
    """One line of the audit."""

    what: str
    expected: str
    found: str
    wrong: list[str] = field(default_factory=list)
    """What does not add up, each in one sentence."""


async def read(conninfo: str) -> dict[str, list[Row]]:
    """All tables as of one moment."""
    async with await psycopg.AsyncConnection.connect(conninfo, row_factory=dict_row) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        return {
            name: list(await (await connection.execute(query)).fetchall()) for name, query in QUERIES.items()
        }


def audit(facts: Facts) -> list[Finding]:
    """Compare. What an order that is stuck with a reason has in the air is told, and not held against anyone."""
    books = _Books(facts)
    return [
        books.requests(),
        books.orders(),
        books.sagas(),
        books.money(),
        books.stock(),
        books.parcels(),
        books.events(),
        books.sales(),
        books.mails(),
        books.messages(),
    ]


class _Books:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.t = facts.tables
        self.orders_by_id = {row["id"]: row for row in self.t["orders"]}
        self.stuck = {row["order_id"]: row["stuck"] for row in self.t["sagas"] if not row["ended"]}
        self.shipped = {id for id, row in self.orders_by_id.items() if row["status"] == "shipped"}
        self.cancelled = {id for id, row in self.orders_by_id.items() if row["status"] == "cancelled"}

    def requests(self) -> Finding:
        """Each request that was answered 201 has one order, and no order is without a request."""
        told = Counter(body["id"] for status, body in self.facts.replies.values() if status == 201)
        wrong = [f"{n} requests were told that order {id} is theirs" for id, n in told.items() if n > 1]
        wrong += [
            f"order {id} was promised and is not there" for id in sorted(set(told) - set(self.orders_by_id))
        ]
        wrong += [f"order {id} was promised to nobody" for id in sorted(set(self.orders_by_id) - set(told))]
        wrong += [f"request {key} got another answer when it was repeated" for key in self.facts.differing]
        wrong += [
            f"request {key} was answered {status}: {body}"
            for key, (status, body) in self.facts.replies.items()
            if status != 201
        ]
        return Finding("requests", f"{len(self.facts.replies)} orders", f"{len(self.orders_by_id)}", wrong)

    def orders(self) -> Finding:
        """Each has ended, or is stuck with a reason."""
        wrong = [
            f"order {id} is {self.orders_by_id[id]['status']}, and nothing says why"
            for id in set(self.orders_by_id) - self.shipped - self.cancelled
            if not self.stuck.get(id)
        ]
        told = "".join(f"; order {id}: {why}" for id, why in self.stuck.items() if why)
        found = f"{len(self.shipped)} shipped, {len(self.cancelled)} cancelled, {len(self.stuck)} stuck{told}"
        return Finding("orders", "all ended", found, wrong)

    def sagas(self) -> Finding:
        """One for each order, and it ended as the order did."""
        ends = {"shipped": "completed", "cancelled": "compensated"}
        count = Counter(row["order_id"] for row in self.t["sagas"])
        wrong = [f"order {id} has {count[id]} sagas" for id in self.orders_by_id if count[id] != 1]
        wrong += [
            f"a saga is about order {id}, which is not there" for id in set(count) - set(self.orders_by_id)
        ]
        for row in self.t["sagas"]:
            status = self.orders_by_id.get(row["order_id"], {}).get("status", "")
            if row["ended"] and row["state"] != ends.get(status):
                wrong.append(f"order {row['order_id']} is {status}, and its saga {row['state']}")
        found = ", ".join(
            f"{n} {state}" for state, n in sorted(Counter(r["state"] for r in self.t["sagas"]).items())
        )
        return Finding("sagas", "one for each order", found, wrong)

    def money(self) -> Finding:
        """What was shipped is captured once, in full; nothing else is captured or still held."""
        entries = self.facts.ledgers["payments"]["entries"]
        by_order: dict[int, list[Row]] = {}
        for entry in entries:
            by_order.setdefault(_order(entry), []).append(entry)
        wrong = []
        for id in sorted(set(self.orders_by_id) | set(by_order)):
            if id in self.stuck:
                continue
            mine = by_order.get(id, [])
            total = self.orders_by_id[id]["total_cents"] if id in self.shipped else 0
            taken = sum(entry["amount"] * entry["captures"] for entry in mine)
            if taken != total:
                wrong.append(f"order {id}: {taken} cents were captured, and {total} are due")
            held = [entry["id"] for entry in mine if entry["state"] == "authorized"]
            if held:
                wrong.append(f"order {id}: {', '.join(held)} is still held on the card")
        paid = {row["order_id"]: row for row in self.t["payments"]}
        charges = {entry["id"]: entry for entry in entries}
        for id in self.shipped - set(self.stuck):
            charge = charges.get(paid[id]["charge_id"]) if id in paid else None
            if charge is None or charge["amount"] != paid[id]["amount_cents"] or _order(charge) != id:
                wrong.append(f"order {id}: its payment is not what the provider has")
        due = sum(self.orders_by_id[id]["total_cents"] for id in self.shipped)
        captured = sum(entry["amount"] * entry["captures"] for entry in entries)
        states = ", ".join(
            f"{n} {state}" for state, n in sorted(Counter(e["state"] for e in entries).items())
        )
        return Finding("money", f"{due} cents captured", f"{captured} ({states})", wrong)

    def stock(self) -> Finding:
        """What was there is left or was shipped (or lies reserved for an order that is stuck)."""
        gone: Counter[int] = Counter()
        for line in self.t["lines"]:
            if line["order_id"] in self.shipped:
                gone[line["product_id"]] += line["quantity"]
        reserved: Counter[int] = Counter()
        for line in self.t["lines"]:
            if self.orders_by_id[line["order_id"]]["status"] in ("paying", "paid"):
                reserved[line["product_id"]] += line["quantity"]
        wrong = []
        for product in self.t["products"]:
            id = product["id"]
            missing = self.facts.stock_before[id] - product["stock"] - gone[id]
            if not 0 <= missing <= reserved[id]:
                wrong.append(
                    f"{product['name']}: {self.facts.stock_before[id]} before, {gone[id]} shipped,"
                    f" {product['stock']} left"
                )
        before, left = sum(self.facts.stock_before.values()), sum(row["stock"] for row in self.t["products"])
        return Finding("stock", f"{before - sum(gone.values())} pieces left", f"{left}", wrong)

    def parcels(self) -> Finding:
        """One for each order that was shipped, and the order knows its number."""
        entries = [e for e in self.facts.ledgers["carrier"]["entries"] if _order(e) not in self.stuck]
        count = Counter(map(_order, entries))
        known = {row["order_id"]: row["tracking_number"] for row in self.t["shipments"]}
        wrong = [
            f"order {id} is shipped and has {count[id]} parcels" for id in self.shipped if count[id] != 1
        ]
        wrong += [f"order {id} has a parcel and is not shipped" for id in set(count) - self.shipped]
        wrong += [
            f"order {_order(entry)}: {entry['tracking_number']} is not the number that the shop has"
            for entry in entries
            if known.get(_order(entry)) != entry["tracking_number"]
        ]
        return Finding("parcels", f"{len(self.shipped)}", f"{len(entries)}", wrong)

    def events(self) -> Finding:
        """Each thing that happened was counted once."""
        found = {row["event"]: row["orders"] for row in self.t["event_totals"]}
        paid = {row["order_id"] for row in self.t["payments"]}
        expected = {
            "OrderPlaced": len(self.orders_by_id),
            "OrderPaid": len(paid),
            "OrderShipped": len(self.shipped),
            "OrderCancelled": len(self.cancelled),
        }
        wrong = [
            f"{name} was counted {found.get(name, 0)} times and happened {n} times"
            for name, n in expected.items()
            if found.get(name, 0) != n
        ]
        return Finding(
            "events", _pairs(expected), _pairs({name: found.get(name, 0) for name in expected}), wrong
        )

    def sales(self) -> Finding:
        """The report that is kept up to date from events is what counting the orders anew gives."""
        expected: dict[int, tuple[int, int]] = {}
        paid = {row["order_id"] for row in self.t["payments"]}
        for line in self.t["lines"]:
            if line["order_id"] in paid:
                quantity, revenue = expected.get(line["product_id"], (0, 0))
                added = line["quantity"] * line["price_cents"]
                expected[line["product_id"]] = (quantity + line["quantity"], revenue + added)
        found = {
            row["product_id"]: (row["quantity"], row["revenue_cents"]) for row in self.t["product_totals"]
        }
        wrong = [
            f"product {id}: the report says {found.get(id, (0, 0))}, and the orders {expected.get(id, (0, 0))}"
            for id in sorted(set(found) | set(expected))
            if found.get(id) != expected.get(id)
        ]
        total, told = (sum(revenue for _, revenue in sold.values()) for sold in (expected, found))
        return Finding("sales report", f"{total} cents", f"{told}", wrong)

    def mails(self) -> Finding:
        """Each customer was told once what became of the order."""
        count = Counter(entry["subject"] for entry in self.facts.ledgers["mail"]["entries"])
        expected = {f"order {row['order_id']} is confirmed" for row in self.t["payments"]}
        expected |= {f"order {id} is cancelled" for id in self.cancelled}
        wrong = [
            f"{count[one]} mails say that {one}, instead of 1" for one in sorted(expected) if count[one] != 1
        ]
        wrong += [f"a mail says that {one}" for one in sorted(set(count) - expected)]
        return Finding("mails", f"{len(expected)}", f"{count.total()}", wrong)

    def messages(self) -> Finding:
        """None is left at work, waiting or dead, but those of sagas that are stuck."""
        left = [
            row for row in self.t["messages"] if row["state"] not in ("succeeded", "cancelled", "expired")
        ]
        of_stuck = len([why for why in self.stuck.values() if why])
        open_ = [row for row in left if not (of_stuck and row["kind"].startswith("saga/"))]
        wrong = [f"message {row['id']} ({row['kind']}) is {row['state']}: {row['error']}" for row in open_]
        return Finding("messages left", f"{of_stuck} of stuck sagas", f"{len(left)}", wrong)


def _order(entry: Row) -> int:
    return int(entry["reference"].removeprefix("order-"))


def _pairs(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name.removeprefix('Order').lower()}" for name, n in counts.items())


def differences(findings: Iterable[Finding]) -> list[str]:
    """All that does not add up."""
    return [f"{finding.what}: {sentence}" for finding in findings for sentence in finding.wrong]
