r"""The scenario: how to start a service, what is in its database, and which requests to send.

A scenario is one YAML file. This is enough for a race::

    service:
      command: python -m uvicorn sharp:app --host 127.0.0.1 --port $PORT
      database: {DATABASE_URL: postgresql+asyncpg}
    setup:
      - sql: |
          CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
          INSERT INTO account VALUES (1, 100);
    requests:
      withdraw:
        send: POST /accounts/1/withdrawals
        json: {amount: 80}

and this is everything there is::

    name: checkout                    # default: the name of the file

    service:
      command: python -m uvicorn shop:app --host 127.0.0.1 --port $PORT
                                      # split as a shell would, run without one; or a list of words
      directory: ..                   # where the command runs, from this file; default: this file's folder
      environment: {LOG: warning}     # added to the environment of service and setup commands
      database:                       # variable -> scheme of the URL it gets (postgresql, postgres,
        DATABASE_URL: postgresql+asyncpg      # postgresql+psycopg, …); default: {DATABASE_URL: postgresql}
      ready: /health                  # a path that answers below 500 once the service is up; or `tcp`: the
                                      # port is open; default: tcp
      timeout: 30                     # seconds until it must be ready
      restart: never                  # `each`: a fresh process for every run, for services with a memory
      probe: true                     # Python only: learn the code line of each statement

    setup:                            # done once, in this order; every run starts from a copy of the result
      - run: alembic upgrade head     # a command, in the service's directory, with its environment
      - file: seed.sql                # SQL from a file beside this one
      - sql: INSERT INTO product (id, stock) VALUES (1, 5)
      - request: place order          # one of the requests below, sent to the service; what it saves is
                                      # known to every actor

    outside:                          # other systems, played by a stub; every call is recorded
      payments:
        environment: PAYMENTS_URL     # the variable that gets the stub's base URL
        routes:                       # first match wins; * is one segment, ** any; default: 200 {}
          POST /charges: {status: 201, json: {id: ch_1, paid: true}, delay: 0.05}    # delay in seconds
          GET /charges/*: {text: ok, headers: {Content-Type: text/plain}}
          POST /refunds: {hang_up: after}     # closes without an answer: `before` or `after` it was recorded

    requests:
      list products: GET /products    # the short form
      sign in:
        send: POST /session
        form: {user: "${user}", password: secret}   # or json:, or body: (text); headers: {…} beside it
        expect: 303                   # a status or a list; default: any below 400
        save:                         # values for ${…} in later requests of this actor
          token: $.token                                  # JSON path
          csrf: {css: 'input[name="csrf"]', attribute: value}   # text where no attribute is named
          number: {regex: 'order (\d+)'}                  # first group
          next: {header: Location}                        # may be combined with regex
      place order:
        send: POST /orders
        headers: {Authorization: "Bearer ${token}"}
        json: {product: 1, quantity: 3}
        save: {order: $.id}
      pay:
        send: POST /orders/${order}/payment
      cancel:
        send: DELETE /orders/${order}
        before: [place order]         # the same actor sends these first, each time, outside of the race

    actors:                           # default: alice and bob, who differ in nothing
      alice: {variables: {user: alice}, before: [sign in]}    # `before` is sent before every race and
      bob: {variables: {user: bob}, before: [sign in]}        # measurement; cookies are kept

    races:                            # which requests meet; default: each one that is not GET, HEAD or
      - [place order, place order]    # OPTIONS against itself and each other one
      - [pay, pay]

    grow: [product, order]            # tables to grow for n-plus-one; default: each table a request reads.
                                      # Or table -> SQL that adds one row: {order: "INSERT INTO …"}

    invariants:                       # optional: SQL that must return no row after a race
      stock is never negative: SELECT id, stock FROM product WHERE stock < 0

    ignore: [audit.seen_at, session]  # tables or columns that the oracle does not compare

The command's words may hold ``$PORT`` and ``${NAME}`` of the service's environment.
Values are what the field asks for: ``password: 0123`` is the text ``0123``. In ``json:`` plain scalars are
JSON's (numbers, true, false, null), anything quoted is text. ``${name}`` is replaced in paths, headers, forms
and bodies; a JSON text that is nothing but ``${name}`` takes the saved value with its type.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mainstay.architect.document import Document, Json, refuse
from mainstay.architect.findings import Location
from mainstay.architect.nearest import nearest

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = (*sorted(SAFE_METHODS), "POST", "PUT", "PATCH", "DELETE")


class Model(BaseModel):
    """Strict about keys, frozen, and without surprises in naming."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _words(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise ValueError(f"the command cannot be split into words: {error}") from None
    return value


def _request_line(value: str) -> str:
    method, _, path = value.partition(" ")
    if method not in METHODS or not path.startswith(("/", "${")):
        raise ValueError(f"{value!r} is not a method and a path, such as 'POST /orders'")
    return value


Command = Annotated[list[str], BeforeValidator(_words), Field(min_length=1)]
RequestLine = Annotated[str, AfterValidator(_request_line)]


class ServiceModel(Model):
    """How the service under test is started."""

    command: Command | None = None
    directory: str = "."
    environment: dict[str, str] = {}
    database: dict[str, str] = {"DATABASE_URL": "postgresql"}
    ready: str = "tcp"
    timeout: float = Field(default=30.0, gt=0)
    restart: Literal["never", "each"] = "never"
    probe: bool = True


class SetupStep(Model):
    """One step of the setup: exactly one of the four."""

    run: Command | None = None
    file: str | None = None
    sql: str | None = None
    request: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.run, self.file, self.sql, self.request)) != 1:
            raise ValueError("a setup step is exactly one of run, file, sql and request")
        return self


class Route(Model):
    """What the stub answers on a route. `delay` in seconds."""

    status: int = Field(default=200, ge=100, le=599)
    content: Json = Field(default=None, alias="json")
    text: str | None = None
    headers: dict[str, str] = {}
    delay: float = Field(default=0.0, ge=0)
    hang_up: Literal["before", "after"] | None = None


class Host(Model):
    """Another system, played by the stub."""

    environment: str | None = None
    routes: dict[RequestLine, Route] = {}


class Save(Model):
    """Where in a reply a value is."""

    jsonpath: str | None = None
    css: str | None = None
    attribute: str | None = None
    regex: str | None = None
    header: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            if not value.startswith("$"):
                raise ValueError(
                    f"{value!r} is not a JSON path; it begins with $, or write css:, regex: or header:"
                )
            return {"jsonpath": value}
        return value

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        from cssselect import SelectorError
        from jsonpath_ng.exceptions import JSONPathError
        from jsonpath_ng.ext.parser import parse
        from lxml.cssselect import CSSSelector

        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"{self.regex!r} is not a regular expression: {error}") from None
        if self.css is not None:
            try:
                CSSSelector(self.css)
            except SelectorError as error:
                raise ValueError(f"{self.css!r} is not a CSS selector: {error}") from None
        if self.jsonpath is not None:
            try:
                parse(self.jsonpath)
            except JSONPathError as error:
                raise ValueError(f"{self.jsonpath!r} is not a JSON path: {error}") from None
        if self.attribute is not None and self.css is None:
            raise ValueError("attribute belongs to css")
        if all(value is None for value in (self.jsonpath, self.css, self.regex, self.header)):
            raise ValueError("say where the value is: a JSON path, css, regex or header")
        return self


def _statuses(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else [value]


class Request(Model):
    """One request, with `${name}` still in it."""

    send: RequestLine
    content: Json = Field(default=None, alias="json")
    form: dict[str, str] | None = None
    body: str | None = None
    headers: dict[str, str] = {}
    expect: Annotated[list[int] | None, BeforeValidator(_statuses)] = None
    save: dict[str, Save] = {}
    before: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"send": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if sum(value is not None for value in (self.content, self.form, self.body)) > 1:
            raise ValueError("a request has one body: json, form or body")
        return self

    @property
    def method(self) -> str:
        """``POST``."""
        return self.send.partition(" ")[0]

    @property
    def path(self) -> str:
        """``/orders/${order}/payment``."""
        return self.send.partition(" ")[2]

    @property
    def mutating(self) -> bool:
        """Whether HTTP says that the request may change something (RFC 9110, section 9.2.1)."""
        return self.method not in SAFE_METHODS

    def expected(self, status: int) -> bool:
        """Whether a reply with this status is what the scenario expects."""
        return status < 400 if self.expect is None else status in self.expect


class Actor(Model):
    """Someone who sends requests: variables of its own, and what it sends before it meets others."""

    variables: dict[str, str] = {}
    headers: dict[str, str] = {}
    before: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return {} if value is None else value


class Scenario(Model):
    """A whole scenario, checked: every request that is named exists."""

    name: str = ""
    service: ServiceModel
    setup: list[SetupStep] = []
    outside: dict[str, Host] = {}
    requests: dict[str, Request] = Field(min_length=1)
    actors: dict[str, Actor] = Field(default={"alice": Actor(), "bob": Actor()}, min_length=2)
    races: list[Annotated[list[str], Field(min_length=2, max_length=2)]] | None = None
    grow: list[str] | dict[str, str] | None = None
    invariants: dict[str, str] = {}
    ignore: list[str] = []

    base: Annotated[Path, Field(exclude=True)] = Path()
    """Folder of the scenario file; paths in the scenario start here."""
    places: Annotated[dict[str, Location], Field(exclude=True)] = {}
    """Where each request stands in the scenario file."""

    @property
    def directory(self) -> Path:
        """Where the service's command runs."""
        return (self.base / self.service.directory).resolve()

    @property
    def preparing(self) -> set[str]:
        """The requests that the set-up, an actor or another request sends first."""
        steps = {step.request for step in self.setup if step.request is not None}
        steps |= {name for actor in self.actors.values() for name in actor.before}
        return steps | {name for request in self.requests.values() for name in request.before}

    def pairs(self) -> list[tuple[str, str]]:
        """The requests that meet: as the scenario says, or each mutating one with itself and every other."""
        if self.races is not None:
            return [(first, second) for first, second in self.races]
        used = {name for actor in self.actors.values() for name in actor.before}
        names = [name for name, request in self.requests.items() if request.mutating and name not in used]
        return [(name, name) for name in names] + [
            (first, second) for at, first in enumerate(names) for second in names[at + 1 :]
        ]


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises `MainstayError` with file, line and column where it is not one."""
    document = Document.read(path)
    scenario = document.validate(Scenario)
    known = scenario.requests

    def check(name: str, *where: str | int) -> None:
        if name not in known:
            raise refuse(document, where, f"there is no request named {name!r}{nearest(name, known)}")

    for number, step in enumerate(scenario.setup):
        if step.request is not None:
            check(step.request, "setup", number, "request")
    for actor, model in scenario.actors.items():
        for number, name in enumerate(model.before):
            check(name, "actors", actor, "before", number)
    for request, described in known.items():
        for number, name in enumerate(described.before):
            check(name, "requests", request, "before", number)
    for number, race in enumerate(scenario.races or ()):
        for side, name in enumerate(race):
            check(name, "races", number, side)
    return scenario.model_copy(
        update={
            "name": scenario.name or path.stem,
            "base": path.resolve().parent,
            "places": {name: document.location("requests", name) for name in known},
        }
    )
