"""GraphQL: the schema of a service that speaks it (SDL, GraphQL specification September 2025), and example operations.

Reading operations are fields of Query, changing ones of Mutation, streams of Subscription. A list with pages is a
connection (GraphQL Cursor Connections specification). What may go wrong by the blueprint is part of the result: a
union of the success and of problem types that share an interface, so that clients get typed problems and ``errors``
stays for faults. Secret fields are in no output type.

An operation of kind ``bulk`` gives such a result for each item. One of kind ``long`` gives an Operation that was begun,
which a field of Query tells of until it has a result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from mainstay.architect.design.contracts import problems as known_problems
from mainstay.architect.design.contracts.examples import Examples
from mainstay.architect.design.contracts.http_words import about as about_of
from mainstay.architect.design.contracts.json_schema import Schemas, resolved
from mainstay.architect.design.contracts.naming import (
    STREAMING,
    camel,
    distinct,
    exposed,
    pascal,
    reads,
    sentence,
    upper,
)
from mainstay.architect.design.contracts.routes import identified_by, row_named
from mainstay.architect.design.contracts.security import callers
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Entity, Op, System

SCALARS = {
    "uuid": ("UUID", "https://www.rfc-editor.org/rfc/rfc9562"),
    "text": ("String", ""),
    "int": ("Int", ""),
    "float": ("Float", ""),
    "decimal": ("Decimal", ""),
    "bool": ("Boolean", ""),
    "date": ("Date", "https://www.rfc-editor.org/rfc/rfc3339#section-5.6"),
    "time": ("Time", "https://www.rfc-editor.org/rfc/rfc3339#section-5.6"),
    "timestamp": ("DateTime", "https://www.rfc-editor.org/rfc/rfc3339#section-5.6"),
    "duration": ("Duration", "https://www.rfc-editor.org/rfc/rfc3339#appendix-A"),
    "email": ("EmailAddress", "https://www.rfc-editor.org/rfc/rfc5321#section-4.1.2"),
    "phone": ("PhoneNumber", ""),
    "url": ("URL", "https://www.rfc-editor.org/rfc/rfc3986"),
    "iso3166": ("CountryCode", ""),
    "iso4217": ("CurrencyCode", ""),
    "json": ("JSON", "https://www.rfc-editor.org/rfc/rfc8259"),
    "file": ("URL", "https://www.rfc-editor.org/rfc/rfc3986"),
}
ABOUT = {
    "Decimal": "An exact decimal number, as text.",
    "PhoneNumber": "A telephone number (E.164).",
    "CountryCode": "A country (ISO 3166-1 alpha-2).",
    "CurrencyCode": "A currency (ISO 4217).",
}
PAGE_INFO = """\
type PageInfo {
  hasNextPage: Boolean!
  hasPreviousPage: Boolean!
  startCursor: String
  endCursor: String
}
"""
PROBLEM = """\
\"\"\"What may go wrong and is expected to: part of the result, not of `errors`.\"\"\"
interface Problem {
  message: String!
}
"""
OWN = {"Int", "Float", "String", "Boolean", "ID"}
TAKEN = OWN | {scalar for scalar, _ in SCALARS.values()} | {"Query", "Mutation", "Subscription", "PageInfo"}
"""Names that no entity can have."""


@dataclass
class Sdl:
    """The schema of one service, gathered while its operations are written.

    Args:
        system: the system.
        service: the service whose schema it is.
    """

    system: System
    service: str
    types: dict[str, str] = field(default_factory=dict)
    scalars: dict[str, str] = field(default_factory=dict)
    examples: list[tuple[str, str, dict[str, Any], Any]] = field(default_factory=list)
    """Name, document, variables and reply of each example."""

    def __post_init__(self) -> None:
        self._inside: list[str] = []
        self._titles: dict[str, str] = {}
        self._waiting: list[tuple[str, Entity, bool]] = []
        """Entities that are named and not yet written: output, or input."""
        self._names: dict[str, str] = {}
        self._fields: dict[str, dict[str, str]] = {}
        self._outcomes: list[tuple[str, str, Any]] = []
        """Type of what each long operation comes to, what an example selects of it, and what it gets."""
        self._failures: dict[str, None] = {}
        """The problems by which long operations may fail."""
        self._keep = {name for name in self.system.entities if name not in TAKEN}
        """What entities are called, which nothing else may be."""
        self._values = Examples(Schemas(self.system, self.service, "#/$defs/"))

    # -------------------------------------------------------------------------------- types

    def of(self, type: Type, service: str, within: str, name: str, given: bool) -> str:
        """A type as SDL. `given`: it goes out, rather than comes in."""
        return self._many(type, self._one(type, service, within, name, given))

    @staticmethod
    def _many(type: Type, one: str) -> str:
        return {"*": f"[{one}!]!", "+": f"[{one}!]!", "?": one}.get(type.many, f"{one}!")

    def _one(self, type: Type, service: str, within: str, name: str, given: bool) -> str:
        if type.states is not None or type.words:
            return self._enum(type, within, name)
        if type.field:
            inner, where = resolved(self.system, type, service)
            one = self._one(inner, where, type.entity, type.field, given)
            return f"[{one}!]" if _several(inner) else one
        if type.entity:
            entity = self.system.entity(type.entity, service, ())
            return self.entity(entity) if given else self.input(entity)
        if type.name == "money":
            return self._money(given)
        scalar, address = SCALARS[type.name]
        if scalar not in OWN:
            self.scalars[scalar] = address
        return scalar

    def _enum(self, type: Type, within: str, name: str) -> str:
        words = _words(type)
        made = self.name(f"enum {within} {name} {words}", pascal(within) + pascal(name))
        values = "".join(f"  {value}\n" for value in distinct(words, upper).values())
        self.types[made] = f"enum {made} {{\n{values}}}\n"
        return made

    def _money(self, given: bool) -> str:
        self.scalars |= {"Decimal": "", "CurrencyCode": ""}
        kind, wanted = ("type", "Money") if given else ("input", "MoneyInput")
        name = self.name(wanted, wanted)
        self.types[name] = f"{kind} {name} {{\n  amount: Decimal!\n  currency: CurrencyCode!\n}}\n"
        return name

    def name(self, key: str, wanted: str, of_entity: bool = False) -> str:
        """What is called so in the schema, under a name that nothing else has; the same each time it is asked for."""
        if key not in self._names:
            taken = TAKEN | set(self._names.values()) | (set() if of_entity else self._keep)
            name, number = wanted, 2
            if name in taken:
                name = wanted = f"{wanted}{'Entity' if of_entity else 'Value'}"
            while name in taken or (of_entity and name != wanted and name in self._keep):
                name, number = f"{wanted}{number}", number + 1
            self._names[key] = name
        return self._names[key]

    def keys(self, entity: Entity) -> dict[str, str]:
        """How the fields of an entity are called."""
        if entity.id not in self._fields:
            self._fields[entity.id] = distinct(entity.fields, camel)
        return self._fields[entity.id]

    def entity(self, entity: Entity) -> str:
        """The name of an entity's output type; the type is written by `_written`."""
        own = self.system.entity(entity.name, self.service, ()) is entity
        name = self.name(
            f"type {entity.id}", entity.name if own else pascal(entity.service) + entity.name, own
        )
        if name not in self.types:
            self.types[name] = ""
            self._waiting.append((name, entity, True))
        return name

    def input(self, entity: Entity) -> str:
        """The name of an entity's input type, without what the service fills in itself."""
        name = self.name(f"input {entity.id}", f"{entity.name}Input")
        if name not in self.types:
            self.types[name] = ""
            self._waiting.append((name, entity, False))
        return name

    def _written(self) -> None:
        """Write what is named and not yet written: one after the other, however deep entities hold each other."""
        made = self._values.schemas.made
        while self._waiting:
            name, entity, given = self._waiting.pop()
            lines = [
                f"  {self.keys(entity)[key]}: "
                f"{self.of(self._held(entity, key), entity.service, entity.name, key, given)}\n"
                for key, type in entity.fields.items()
                if (given and "secret" not in type.marks) or (not given and not made(entity, key))
            ]
            about = f"Owned by {entity.service}." if entity.service else "A value; no service owns it."
            if given:
                self.types[name] = (
                    f'"""{about}"""\ntype {name} {{\n' + ("".join(lines) or "  id: ID\n") + "}\n"
                )
            else:
                self.types[name] = f"input {name} {{\n" + ("".join(lines) or "  id: ID\n") + "}\n"

    # -------------------------------------------------------------------------------- operations

    def operation(self, op: Op, name: str) -> str:
        """One field of a root type, with its description; `name` is how it is called."""
        arguments = self._arguments(op)
        changing = not reads(op) and op.kind not in STREAMING
        taken = ""
        if changing and arguments:
            input = self.name(f"input of {op.id}", f"{pascal(op.name)}Input")
            self.types[input] = (
                f"input {input} {{\n" + "".join(f"  {a}: {t}\n" for a, t, _ in arguments) + "}\n"
            )
            # Where nothing in it has to be said, neither has the whole: the first optional field breaks nobody.
            taken = f"{input}!" if any(sdl.endswith("!") for _, sdl, _ in arguments) else input
            written = f"(input: {taken})"
        else:
            written = f"({', '.join(f'{a}: {t}' for a, t, _ in arguments)})" if arguments else ""
        result, selection, reply = self._result(op)
        self._written()
        self._example(op, name, arguments, taken, selection, reply)
        gone = op.spec.deprecated
        reason = ""
        if gone is not None:
            told = f"Deprecated since {gone.since}" + (f", gone on {gone.sunset}" if gone.sunset else "")
            told += f"; use {camel(gone.use)}" if gone.use else ""
            reason = f" @deprecated(reason: {json.dumps(told)})"
        about = " ".join([about_of(self.system, op), *callers(self.system, op)])
        return f"{described(about, '  ')}  {name}{written}: {result}{reason}\n"

    def _arguments(self, op: Op) -> list[tuple[str, str, Any]]:
        """Name, type and example value of each argument."""
        found: dict[str, tuple[str, Any]] = {}
        entity = row_named(self.system, op)
        if entity is not None and not identified_by(op, entity) and entity.key:
            type, key = self._held(entity, entity.key), entity.key
            sdl = self.of(type, entity.service, entity.name, key, False)
            found[key] = (sdl, self._sent(type, entity.service, key, entity.name))
        for key, type in op.spec.takes.items():
            sdl = self.of(type, op.service, op.name, key, False)
            within = entity.name if entity is not None and identified_by(op, entity) == key else op.name
            seen = entity.key if entity is not None and within == entity.name else key
            value = self._sent(type, op.service, seen, within)
            # The reply of a bulk's example tells of two items, one of which fails.
            value = value * 2 if op.kind == "bulk" and type.many in ("*", "+") else value
            found.setdefault(key, (sdl, value))
        if op.spec.idempotent == "key" and not reads(op):
            found.setdefault("idempotency_key", ("String!", "3f1d5c1e-6a1b-4b7e-9d55-0d3f0f6f2c11"))
        if op.lists and op.spec.page is not None and op.kind not in (*STREAMING, "bulk", "long"):
            found.setdefault("first", (f"Int = {op.spec.page}", op.spec.page))
            found.setdefault("after", ("String", None))
        shown = distinct(found, camel)
        return [(shown[key], sdl, value) for key, (sdl, value) in found.items()]

    def _result(self, op: Op) -> tuple[str, str, Any]:
        """The type of the result, what an example selects of it, and what it gets."""
        gives = op.spec.gives
        type = gives.type if gives is not None else None
        problems = list(gives.problems) if gives is not None and op.kind not in STREAMING else []
        if op.kind == "bulk":
            return self._bulk(op, type, problems)
        if op.kind == "long":
            sdl, selection, reply = self._accepted(op, type, problems)
        elif op.lists and type is not None and op.spec.page is not None and op.kind not in STREAMING:
            sdl, selection, reply = self._connection(op, type)
        else:
            if type is not None and op.kind in STREAMING:
                type = replace(type, many="")
            sdl, selection, reply = self._given(op, type)
        self._written()
        if not problems:
            return sdl, selection, reply
        success, selection, reply = self._success(op, sdl, selection, reply)
        name = self.name(f"result of {op.id}", f"{pascal(op.name)}Result")
        self._union(name, [success], problems)
        return f"{name}!", self._chosen(success, selection), {"__typename": success, **reply}

    def _given(self, op: Op, type: Type | None) -> tuple[str, str, Any]:
        """The type of a value that is given, what an example selects of it, and what it gets."""
        if type is None:
            return "Boolean!", "", True
        selection, reply = self._selected(type, op.service, "value", op.name)
        return self.of(type, op.service, op.name, "value", True), selection, reply

    def _success(self, op: Op, sdl: str, selection: str, reply: Any) -> tuple[str, str, Any]:
        """What is given as a type that can be in a union, what is selected within it, and what that gets."""
        self._written()
        success = sdl.removesuffix("!")
        if self.types.get(success, "").partition("{")[0].rpartition('"')[2].strip().startswith("type "):
            return success, selection.removeprefix("{ ").removesuffix(" }"), reply
        name = self.name(f"success of {op.id}", f"{pascal(op.name)}Success")
        self.types[name] = f"type {name} {{\n  value: {sdl}\n}}\n"
        return name, f"value {selection}".strip(), {"value": reply}

    def _union(self, name: str, successes: list[str], problems: list[str]) -> None:
        """Write the union of what may be given and of what may go wrong."""
        interface = self.name("problem", "Problem")
        self.types[interface] = PROBLEM.replace("interface Problem", f"interface {interface}")
        members = dict.fromkeys(successes)
        for problem in problems:
            member = self._problem(problem)
            self.types[member] = (
                f'"""{sentence(problem)}."""\ntype {member} implements {interface} {{\n  message: String!\n}}\n'
            )
            members[member] = None
        self.types[name] = f"union {name} = {' | '.join(members)}\n"

    def _problem(self, problem: str) -> str:
        """What the type of a problem is called."""
        wanted = f"{problem}Problem" if problem in self.system.entities or problem in TAKEN else problem
        return self.name(f"problem {problem}", wanted)

    def _chosen(self, success: str, selection: str) -> str:
        """What an example asks of a union."""
        # Two fields of one name must be of one type, whichever of the union's types they are asked of.
        asked = "problemMessage: message" if _tells(selection) else "message"
        interface = self.name("problem", "Problem")
        return f"{{ __typename ... on {success} {{ {selection} }} ... on {interface} {{ {asked} }} }}"

    def _bulk(self, op: Op, type: Type | None, problems: list[str]) -> tuple[str, str, Any]:
        """What became of each item: some may fail where others do not, if only by a value that is not allowed."""
        invalid = known_problems.INVALID
        given = self._given(op, None if type is None else replace(type, many=""))
        success, selection, reply = self._success(op, *given)
        result = self.name(f"result of {op.id}", f"{pascal(op.name)}Result")
        self._union(result, [success], [*problems, invalid.name])
        payload = self.name(f"payload of {op.id}", f"{pascal(op.name)}Payload")
        self.types[payload] = (
            f'type {payload} {{\n  """One for each item, in the order of the input."""\n'
            f"  results: [{result}!]!\n}}\n"
        )
        results = [{"__typename": success, **reply}]
        if not _tells(selection):
            results.append({"__typename": self._problem(invalid.name), "message": invalid.detail})
        return f"{payload}!", f"{{ results {self._chosen(success, selection)} }}", {"results": results}

    def _accepted(self, op: Op, type: Type | None, problems: list[str]) -> tuple[str, str, Any]:
        """The operation that was begun; what it comes to is asked for by `_progress`."""
        self._outcomes.append(self._success(op, *self._given(op, type)))
        self._failures |= dict.fromkeys(problems)
        operation = self.name("operation", "Operation")
        payload = self.name(f"payload of {op.id}", f"{pascal(op.name)}Payload")
        self.types[payload] = f"type {payload} {{\n  operation: {operation}!\n}}\n"
        value = {"id": self._operation_id(), "status": "RUNNING", "progress": 40}
        return f"{payload}!", "{ operation { id status progress } }", {"operation": value}

    def _operation_id(self) -> Any:
        self.scalars["UUID"] = SCALARS["uuid"][1]
        return self._values.of({"type": "string", "format": "uuid"}, "Progress.id")

    def _progress(self, name: str) -> str:
        """The field of Query by which the progress of every long operation is asked for, with its types."""
        operation, status = (
            self.name("operation", "Operation"),
            self.name("operation status", "OperationStatus"),
        )
        result = self.name("operation result", "OperationResult")
        self._union(
            result, [success for success, _, _ in self._outcomes], [*self._failures, "OperationFailed"]
        )
        self.types[status] = f"enum {status} {{\n  RUNNING\n  SUCCEEDED\n  FAILED\n}}\n"
        self.types[operation] = (
            '"""How far an operation is that was taken, and what came of it."""\n'
            f"type {operation} {{\n  id: UUID!\n  status: {status}!\n"
            f'  """In percent."""\n  progress: Int!\n'
            f'  """Null while it runs; a problem where it failed."""\n  result: {result}\n}}\n'
        )
        id = self._operation_id()
        success, selection, reply = self._outcomes[0]
        value = {"id": id, "status": "SUCCEEDED", "progress": 100, "result": {"__typename": success, **reply}}
        title = f"{name[:1].upper()}{name[1:]}"
        while title in self._titles.values():
            title += "Progress"
        asked = f"{{ id status progress result {self._chosen(success, selection)} }}"
        document = f"query {title}($id: UUID!) {{\n  {name}(id: $id) {asked}\n}}\n"
        self.examples.append((title, document, {"id": id}, {name: value}))
        about = (
            "How far an operation is that was taken, and what came of it. For who began it; null for others."
        )
        return f"{described(about, '  ')}  {name}(id: UUID!): {operation}\n"

    def _connection(self, op: Op, type: Type) -> tuple[str, str, Any]:
        one = replace(type, many="")
        node = self._one(one, op.service, op.name, "value", True)
        called = f"{node[1:-2]}s" if node.startswith("[") else node
        name = self.name(f"connection of {node}", f"{called}Connection")
        edge = self.name(f"edge of {node}", f"{called}Edge")
        self.types["PageInfo"] = PAGE_INFO
        self.types[edge] = f"type {edge} {{\n  cursor: String!\n  node: {node}!\n}}\n"
        self.types[name] = f"type {name} {{\n  edges: [{edge}!]!\n  pageInfo: PageInfo!\n}}\n"
        selection, reply = self._selected(one, op.service, "value", op.name)
        cursor = "WyIyMDI2LTAzLTE0Il0"
        return (
            f"{name}!",
            f"{{ edges {{ cursor node {selection} }} pageInfo {{ hasNextPage endCursor }} }}",
            {
                "edges": [{"cursor": cursor, "node": reply}],
                "pageInfo": {"hasNextPage": True, "endCursor": cursor},
            },
        )

    # -------------------------------------------------------------------------------- examples

    def _sent(self, type: Type, service: str, name: str, within: str) -> Any:
        """An example of what is sent, or of a value that holds nothing."""
        if type.many in ("*", "+"):
            return [self._sent(replace(type, many=""), service, name, within)]
        if type.states is not None or type.words:
            return distinct(_words(type), upper)[_words(type)[0]]
        inner, where = resolved(self.system, type, service)
        if inner is not type:
            return self._sent(inner, where, type.field, type.entity)
        if type.entity:
            entity = self.system.entity(type.entity, service, ())
            made, keys = self._values.schemas.made, self.keys(entity)
            self._inside.append(entity.name)
            sent = {
                keys[key]: []
                if self._again(entity, key)
                else self._sent(self._held(entity, key), entity.service, key, entity.name)
                for key, inner in entity.fields.items()
                if not made(entity, key) and not (self._again(entity, key) and inner.many == "?")
            }
            self._inside.pop()
            return sent
        return self._values.of(self._values.schemas.of(type, service), name, within)

    def _again(self, entity: Entity, name: str) -> bool:
        """An example stops at a field that may be empty and would begin anew what it is within."""
        type = self._held(entity, name)
        inner, _ = resolved(
            self.system, type, entity.service
        )  # a reference may lead to a field that holds an entity
        empty = type.many in ("?", "*") or inner.many in ("?", "*")
        return empty and not inner.field and inner.entity in self._inside

    def _held(self, entity: Entity, name: str) -> Type:
        return self._values.schemas.held(entity, name)

    def _selected(self, type: Type, service: str, name: str, within: str) -> tuple[str, Any]:
        """What a query asks of a value, and what it gets."""
        selection, reply = self._selected_one(type, service, name, within)
        return selection, [reply] if type.many in ("*", "+") else reply

    def _selected_one(self, type: Type, service: str, name: str, within: str) -> tuple[str, Any]:
        inner, where = resolved(self.system, type, service)
        if inner is not type:
            return self._selected(replace(inner, many=_several(inner)), where, type.field, type.entity)
        if type.name == "money":
            return "{ amount currency }", {"amount": "29.95", "currency": "EUR"}
        if not type.entity:
            return "", self._sent(replace(type, many=""), service, name, within)
        entity = self.system.entity(type.entity, service, ())
        parts, reply, keys = [], {}, self.keys(entity)
        self._inside.append(entity.name)
        for key, inner in entity.fields.items():
            if "secret" in inner.marks or self._again(entity, key):
                continue
            selection, got = self._selected(self._held(entity, key), entity.service, key, entity.name)
            parts.append(f"{keys[key]} {selection}".strip())
            reply[keys[key]] = got
        self._inside.pop()
        if not parts:
            return "{ __typename }", {"__typename": self.entity(entity)}
        return "{ " + " ".join(parts) + " }", reply

    def _example(
        self, op: Op, name: str, arguments: list[tuple[str, str, Any]], taken: str, selection: str, reply: Any
    ) -> None:
        """`taken` is the type of the one argument of a change; empty where arguments stand by themselves."""
        root = "subscription" if op.kind in STREAMING else "query" if reads(op) else "mutation"
        sent = {argument: value for argument, _, value in arguments if value is not None}
        used = [(argument, sdl.partition(" =")[0]) for argument, sdl, value in arguments if value is not None]
        if taken:
            declared, passed = f"($input: {taken})", "(input: $input)"
            variables: dict[str, Any] = {"input": sent}
        else:
            declared = f"({', '.join(f'${argument}: {sdl}' for argument, sdl in used)})" if used else ""
            passed = f"({', '.join(f'{argument}: ${argument}' for argument, _ in used)})" if used else ""
            variables = sent
        title = self._titles[op.name]
        document = f"{root} {title}{declared} {{\n  {name}{passed} {selection}".rstrip() + "\n}\n"
        self.examples.append((title, document, variables, {name: reply}))

    # -------------------------------------------------------------------------------- the whole

    def text(self, ops: list[Op]) -> str:
        """The document."""
        roots: dict[str, list[str]] = {"Query": [], "Mutation": [], "Subscription": []}
        shown = distinct([op.name for op in ops], camel)
        self._titles = distinct([op.name for op in ops], pascal)
        for op in ops:
            root = "Subscription" if op.kind in STREAMING else "Query" if reads(op) else "Mutation"
            roots[root].append(self.operation(op, shown[op.name]))
        if self._outcomes:
            name = "operation"
            while name in shown.values():
                name += "Progress"
            roots["Query"].append(self._progress(name))
        if not roots["Query"]:
            roots["Query"].append(
                '  """The version of this schema; a schema must have something to read."""\n  version: String!\n'
            )
        parts = [
            f"# {sentence(self.service)} of {self.system.name}, version {self.system.blueprint.version}.\n"
        ]
        parts += [f"type {name} {{\n" + "\n".join(fields) + "}\n" for name, fields in roots.items() if fields]
        parts += [text for _, text in sorted(self.types.items())]
        parts += [_scalar(name, address) for name, address in sorted(self.scalars.items())]
        return "\n".join(parts)


def generate(result: Result) -> Iterable[Generated]:
    """Schema and examples of each service that speaks GraphQL."""
    yield from _files(result.study.system)


def _files(system: System) -> Iterator[Generated]:
    for service in system.services:
        ops = exposed(system, service, "graphql")
        if not ops:
            continue
        sdl = Sdl(system, service)
        stem = f"contracts/{service.replace('_', '-')}"
        yield Generated(
            f"{stem}.graphql",
            sdl.text(ops),
            f"{sentence(service)}: GraphQL",
            "graphql",
            "Queries, mutations and subscriptions; problems are part of the results.",
        )
        yield Generated(
            f"{stem}.examples.graphql",
            "\n".join(document for _, document, _, _ in sdl.examples),
            f"{sentence(service)}: GraphQL examples",
            "graphql-examples",
            "One operation for each field of the root types.",
        )
        told = {name: {"variables": variables, "reply": reply} for name, _, variables, reply in sdl.examples}
        yield Generated(
            f"{stem}.examples.graphql.json",
            json.dumps(told, indent=2, ensure_ascii=False) + "\n",
            f"{sentence(service)}: variables and replies",
            "json",
            "For each example operation: what is sent, and what comes back as data.",
        )


def _scalar(name: str, address: str) -> str:
    about = f'"""{ABOUT[name]}"""\n' if name in ABOUT else ""
    return f"{about}scalar {name}" + (f' @specifiedBy(url: "{address}")' if address else "") + "\n"


def described(text: str, indent: str = "") -> str:
    """A description as a block string, on a line of its own where it is one line."""
    lines = text.replace('"""', '\\"""').splitlines() or [""]
    if len(lines) == 1 and lines[0][-1:] not in ('"', "\\"):
        return f'{indent}"""{lines[0]}"""\n'
    return "".join(f"{indent}{line}".rstrip() + "\n" for line in ['"""', *lines, '"""'])


def _tells(selection: str) -> bool:
    """A message is among what is selected."""
    return "message" in selection.split()


def _words(type: Type) -> tuple[str, ...]:
    return type.states.names if type.states is not None else type.words


def _several(type: Type) -> str:
    """What a reference leads to is one value, or several."""
    return type.many if type.many in ("*", "+") else ""
