"""What third-party services taught: refusals in two wordings, the table a race is about, requests that only prepare."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mainstay.architect.diagnose.growth import survey
from mainstay.architect.diagnose.laboratory import Budget, laboratory
from mainstay.architect.diagnose.oracle import Judged, differences, judge
from mainstay.architect.diagnose.scenario import Scenario
from mainstay.architect.diagnose.scheduler import Undecided
from mainstay.architect.diagnose.schema import Column, ForeignKey, Schema, Table
from mainstay.architect.diagnose.statements import Reader
from mainstay.architect.errors import MainstayError

Orders = dict[tuple[str, ...], Judged]


def outcome(name: str, body: Any, status: int = 400, refused: bool = True, rows: str = "one") -> Judged:
    """An outcome in which alice is served and bob is answered `body`."""
    answers = {
        "alice": {"status": 201, "body": "won", "location": ""},
        "bob": {"status": status, "body": body, "location": ""},
    }
    return Judged(name, answers, {}, {}, {"t": Counter([rows])}, frozenset({"bob"} if refused else ()))


def test_a_refusal_may_be_worded_in_two_ways() -> None:
    """Bob is refused in both, and the rows are the same: what he is told is no effect."""
    serial: Orders = {("alice", "bob"): outcome("alice then bob", "already redeemed")}
    assert judge(outcome("observed", "not valid any more"), serial).fits == "alice then bob"


def test_a_form_shown_again_with_status_200_is_a_refusal_where_the_scenario_expects_another() -> None:
    """`expect: 302` says what being served looks like, for services that refuse with a page."""
    serial: Orders = {("alice", "bob"): outcome("alice then bob", "<p>sold out</p>", status=200)}
    assert judge(outcome("observed", "<p>try again</p>", status=200), serial).fits == "alice then bob"
    served = outcome("observed", "", status=302, refused=False)
    assert judge(served, serial).fits is None


def test_a_refusal_that_left_something_is_not_excused() -> None:
    """Equal refusals with other rows are not equal outcomes."""
    serial: Orders = {("alice", "bob"): outcome("alice then bob", "no")}
    assert judge(outcome("observed", "no", rows="another"), serial).fits is None


def test_long_replies_are_cut_where_they_differ() -> None:
    """Two pages that begin alike for thousands of characters: the part that differs is shown."""
    head = "<html>" + "same " * 500
    pages = [outcome(name, head + tail, 200, refused=False) for name, tail in (("a", "paid"), ("b", "open"))]
    (line,) = differences(*pages)
    assert "open" in line and "paid" in line and len(line) < 500


def test_a_statement_is_told_by_the_table_it_names() -> None:
    """Not by one that comes first in the alphabet, through a join or a cascade."""

    def table(name: str, *foreign: ForeignKey) -> Table:
        number = Column("id", "int4", "N", None, True, None, False)
        return Table(name, {"id": number}, ("id",), [("id",)], list(foreign))

    cascade = ForeignKey(("id",), "version", ("id",), True)
    reader = Reader(
        Schema({"alias": table("alias", cascade), "event": table("event"), "version": table("version")})
    )
    assert reader.read("DELETE FROM version WHERE id = $1").target == "version"
    assert reader.read("SELECT v.id FROM version v JOIN event e ON e.id = v.id").target == "version"
    assert (
        reader.read("SELECT v.id FROM version v JOIN event e ON e.id = v.id FOR UPDATE").target == "version"
    )


def scenario(**more: Any) -> Scenario:
    """A service that answers each path as the path says: /200, /409."""
    program = (
        "import http.server as h, sys\n"
        "class A(h.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        self.send_response(int(self.path[1:4])); self.end_headers()\n"
        "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), A).serve_forever()\n"
    )
    return Scenario.model_validate({"service": {"command": ["python", "-c", program, "$PORT"]}, **more})


async def test_a_request_that_only_prepares_may_be_refused_a_second_time() -> None:
    """What the set-up made is there already: that makes the request undecided, not the scenario wrong."""
    requests = {"make": {"send": "POST /409"}, "use": {"send": "POST /200", "before": []}}
    only = scenario(requests=requests, actors={"alice": {}, "bob": {}})
    preparing = only.model_copy(
        update={
            "requests": {**only.requests, "use": only.requests["use"].model_copy(update={"before": ["make"]})}
        }
    )
    assert preparing.preparing == {"make"}
    for subject, error in ((only, MainstayError), (preparing, Undecided)):
        async with laboratory(
            subject, command=None, database_url=None, budget=Budget(), progress=lambda text: None
        ) as lab:
            with pytest.raises(error, match="was answered 409"):
                await lab.alone("make")


async def test_set_up_commands_know_the_services_environment() -> None:
    """`${DATABASE_URL}` and `$PORT` stand in set-up commands as they do in the service's."""
    check = "import sys; assert sys.argv[1].startswith('postgresql://') and sys.argv[2].isdigit(), sys.argv"
    step = {"run": ["python", "-c", check, "${DATABASE_URL}", "$PORT"]}
    subject = scenario(requests={"ask": {"send": "POST /200"}}, setup=[step])
    async with laboratory(
        subject, command=None, database_url=None, budget=Budget(), progress=lambda text: None
    ) as lab:
        assert (await lab.alone("ask")).replies["alice"].status == 200


async def test_a_table_without_rows_shows_nothing_when_grown() -> None:
    """Eight times nothing is nothing: the survey says so and does not claim to have looked."""
    program = (
        "import http.server as h, os, psycopg, sys\n"
        "db = psycopg.connect(os.environ['DATABASE_URL'], autocommit=True)\n"
        "class A(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        db.execute('SELECT id FROM note').fetchall()\n"
        "        self.send_response(200); self.end_headers()\n"
        "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), A).serve_forever()\n"
    )
    subject = Scenario.model_validate(
        {
            "service": {"command": ["python", "-c", program, "$PORT"]},
            "setup": [{"sql": "CREATE TABLE note (id int PRIMARY KEY)"}],
            "requests": {"list": "GET /"},
        }
    )
    async with laboratory(
        subject, command=None, database_url=None, budget=Budget(), progress=lambda text: None
    ) as lab:
        found = await survey(lab, "list")
    assert (found.grown, found.notes) == ([], ["no rows to grow in note"])
