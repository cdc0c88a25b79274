"""A small service with one endpoint for each way of being right or wrong when two requests meet.

Standard library and psycopg only, so that it starts in an instant. Run as: python bank.py PORT
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
from psycopg.errors import UniqueViolation

URL = os.environ["DATABASE_URL"]
SHOP = os.environ.get("SHOP_URL", "")
connection = psycopg.connect(URL)
Answer = tuple[int, Any]


def balance(extra: str = "") -> int:
    row = connection.execute(f"SELECT balance FROM account WHERE id = 1 {extra}").fetchone()
    assert row is not None
    return int(row[0])


def take(amount: int) -> Answer:
    connection.execute("UPDATE account SET balance = %s WHERE id = 1", (balance() - amount,))
    connection.execute("INSERT INTO entry (account_id, amount) VALUES (1, %s)", (-amount,))
    return 201, {"taken": amount}


def withdraw(lock: str = "") -> Answer:
    """Reads, decides, writes; `lock` makes it safe."""
    with connection.transaction():
        if balance(lock) < 80:
            return 409, {"error": "not enough"}
        return take(80)


def conditional() -> Answer:
    """Decides in the database."""
    with connection.transaction():
        done = connection.execute("UPDATE account SET balance = balance - 80 WHERE id = 1 AND balance >= 80")
        if not done.rowcount:
            return 409, {"error": "not enough"}
        connection.execute("INSERT INTO entry (account_id, amount) VALUES (1, -80)")
        return 201, {"taken": 80}


def isolated(level: psycopg.IsolationLevel) -> Answer:
    """The same code as `withdraw`; the isolation level refuses the loser."""
    with psycopg.connect(URL) as own:
        own.isolation_level = level
        global connection
        connection, ours = own, connection
        try:
            return withdraw()
        finally:
            connection = ours


def advisory() -> Answer:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        if balance() < 80:
            return 409, {"error": "not enough"}
        return take(80)


def try_lock() -> Answer:
    """Sends whoever comes second away."""
    with connection.transaction():
        row = connection.execute("SELECT pg_try_advisory_xact_lock(1)").fetchone()
        if row is None or not row[0]:
            return 503, {"error": "busy"}
        if balance() < 80:
            return 409, {"error": "not enough"}
        return take(80)


def count_in_service() -> Answer:
    """The lost update: no decision, only arithmetic on what was read."""
    with connection.transaction():
        connection.execute("UPDATE account SET balance = %s WHERE id = 1", (balance() + 1,))
    return 200, {}


def count_in_database() -> Answer:
    with connection.transaction():
        connection.execute("UPDATE account SET balance = balance + 1 WHERE id = 1")
    return 200, {}


def register(table: str) -> Answer:
    """Looks whether the name is taken, then takes it. `member` has a unique constraint, `guest` none."""
    with connection.transaction():
        if connection.execute(f"SELECT 1 FROM {table} WHERE name = 'ada'").fetchone():
            return 409, {"error": "taken"}
        row = connection.execute(
            f"INSERT INTO {table} (name, token, joined) VALUES ('ada', %s, now()) RETURNING id",
            (str(uuid.uuid4()),),
        ).fetchone()
        assert row is not None
        return 201, {"id": row[0]}


def on_call() -> Answer:
    """Write skew: two rows are read, one of them is written."""
    with psycopg.connect(URL) as own:
        own.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        row = own.execute("SELECT count(*) FROM doctor WHERE on_call").fetchone()
        assert row is not None
        if row[0] < 2:
            return 409, {"error": "somebody must stay"}
        own.execute("UPDATE doctor SET on_call = false WHERE name = %s", (ACTOR,))
    return 200, {}


def charge(key: bool) -> Answer:
    """Pays outside, then notes it: a second payment leaves the same row as one."""
    if connection.execute("SELECT paid FROM bill WHERE id = 1").fetchone() == (True,):
        connection.commit()
        return 200, {"paid": True}
    connection.commit()
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": "bill-1"} if key else {})
    request = urllib.request.Request(f"{SHOP}/charges", b'{"bill": 1}', headers, method="POST")
    urllib.request.urlopen(request, timeout=5).read()
    connection.execute("UPDATE bill SET paid = true WHERE id = 1")
    connection.commit()
    return 200, {"paid": True}


def transfer(first: int, second: int) -> Answer:
    """Locks two rows, in the order it was asked for: two that ask the other way round can deadlock."""
    with connection.transaction():
        connection.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", (first,))
        connection.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (second,))
    return 200, {}


def order(wrong: bool) -> Answer:
    """A parent with a line; the wrong one finds its parent by asking which is newest."""
    with connection.transaction():
        row = connection.execute("INSERT INTO basket (owner) VALUES (%s) RETURNING id", (ACTOR,)).fetchone()
    with connection.transaction():
        if wrong:
            row = connection.execute("SELECT max(id) FROM basket").fetchone()
        assert row is not None
        connection.execute("INSERT INTO item (basket_id, maker_id, name) VALUES (%s, 1, %s)", (row[0], ACTOR))
    return 201, {}


def later() -> Answer:
    """Answers first, works afterwards, in a thread of its own."""

    def work() -> None:
        time.sleep(0.05)
        with psycopg.connect(URL) as own:
            row = own.execute("SELECT balance FROM account WHERE id = 1").fetchone()
            assert row is not None
            own.execute("UPDATE account SET balance = %s WHERE id = 1", (row[0] + 1,))

    threading.Thread(target=work).start()
    return 202, {}


def dice() -> Answer:
    """Not the same twice: how many rows it writes is left to chance."""
    with connection.transaction():
        balance()
        for _ in range(1 + uuid.uuid4().int % 50):
            connection.execute("INSERT INTO entry (account_id, amount) VALUES (1, 1)")
        connection.execute("UPDATE account SET balance = balance + 1 WHERE id = 1")
    return 200, {}


def baskets(limit: str = "") -> Answer:
    """One query for the baskets, then one more for the items of each."""
    rows = connection.execute(f"SELECT id, owner FROM basket ORDER BY id {limit}").fetchall()
    return 200, [
        [owner, connection.execute("SELECT name FROM item WHERE basket_id = %s", (number,)).fetchall()]
        for number, owner in rows
    ]


def baskets_together() -> Answer:
    rows = connection.execute("SELECT id FROM basket").fetchall()
    marks = ", ".join(["%s"] * len(rows))
    numbers = [number for (number,) in rows]
    return 200, connection.execute(f"SELECT name FROM item WHERE basket_id IN ({marks})", numbers).fetchall()


def owners() -> Answer:
    """Asks for each item's maker, but only once for each maker: hidden while all items share one."""
    known: dict[int, str] = {}
    for (maker,) in connection.execute("SELECT maker_id FROM item").fetchall():
        if maker not in known:
            row = connection.execute("SELECT name FROM maker WHERE id = %s", (maker,)).fetchone()
            assert row is not None
            known[maker] = row[0]
    return 200, sorted(known.values())


def touch() -> Answer:
    """Writes every row, in one batch that is sent in one go."""
    with connection.cursor() as cursor:
        rows = cursor.execute("SELECT id FROM item").fetchall()
        cursor.executemany("UPDATE item SET name = name || '' WHERE id = %s", rows)
    return 200, len(rows)


def pay_in_transaction() -> Answer:
    with connection.transaction():
        connection.execute("SELECT paid FROM bill WHERE id = 1 FOR UPDATE")
        urllib.request.urlopen(f"{SHOP}/rates", timeout=5).read()
        connection.execute("UPDATE bill SET paid = true WHERE id = 1")
    return 200, {}


ACTOR = ""
ENDPOINTS: dict[str, Callable[[], Answer]] = {
    "/sharp": withdraw,
    "/locked": lambda: withdraw("FOR UPDATE"),
    "/conditional": conditional,
    "/repeatable": lambda: isolated(psycopg.IsolationLevel.REPEATABLE_READ),
    "/serializable": lambda: isolated(psycopg.IsolationLevel.SERIALIZABLE),
    "/advisory": advisory,
    "/try-lock": try_lock,
    "/count-in-service": count_in_service,
    "/count-in-database": count_in_database,
    "/members": lambda: register("member"),
    "/guests": lambda: register("guest"),
    "/on-call": on_call,
    "/charge": lambda: charge(False),
    "/charge-with-key": lambda: charge(True),
    "/transfer": lambda: transfer(1, 2),
    "/transfer-back": lambda: transfer(2, 1),
    "/order": lambda: order(False),
    "/order-wrong": lambda: order(True),
    "/later": later,
    "/dice": dice,
    "/baskets": baskets,
    "/baskets-page": lambda: baskets("LIMIT 6"),
    "/baskets-together": baskets_together,
    "/owners": owners,
    "/touch": touch,
    "/pay-in-transaction": pay_in_transaction,
    "/read": lambda: (200, {"balance": balance()}),
}


class Handler(BaseHTTPRequestHandler):
    """One request after the other: an actor has a copy of the service to itself."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def answer(self) -> None:
        global ACTOR
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        ACTOR = self.headers.get("X-Actor", "")
        try:
            status, body = ENDPOINTS[self.path]()
        except UniqueViolation:
            status, body = 500, {"error": "broken"}
        except psycopg.Error as error:
            status, body = 503, {"error": error.sqlstate}
        if connection.info.transaction_status:
            connection.rollback()
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def log_message(self, *arguments: Any) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
