"""GraphQL: the schema of a service that speaks it (SDL, GraphQL specification September 2025), and example operations.

Reading operations are fields of Query, changing ones of Mutation, streams of Subscription. A list with pages is a
connection (GraphQL Cursor Connections specification). What may go wrong by the blueprint is part of the result: a
union of the success and of problem types that share an interface, so that clients get typed problems and ``errors``
stays for faults. Secret fields are in no output type.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mainstay.architect.design.contracts.examples import Examples
from mainstay.architect.design.contracts.json_schema import Schemas, resolved
from mainstay.architect.design.contracts.naming import (
    STREAMING,
    camel,
    exposed,
    pascal,
    reads,
    sentence,
    upper,
)
from mainstay.architect.design.contracts.routes import identified_by, row_named
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
            return self._one(inner, where, type.entity, type.field, given)
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
        made = pascal(within) + pascal(name)
        words = type.states.names if type.states is not None else type.words
        self.types[made] = f"enum {made} {{\n" + "".join(f"  {upper(word)}\n" for word in words) + "}\n"
        return made

    def _money(self, given: bool) -> str:
        self.scalars |= {"Decimal": "", "CurrencyCode": ""}
        kind, name = ("type", "Money") if given else ("input", "MoneyInput")
        self.types[name] = f"{kind} {name} {{\n  amount: Decimal!\n  currency: CurrencyCode!\n}}\n"
        return name

    def entity(self, entity: Entity) -> str:
        """The name of an entity's output type; the type is written where it is not yet."""
        own = self.system.entity(entity.name, self.service, ()) is entity
        name = entity.name if own else pascal(entity.service) + entity.name
        if name not in self.types:
            self.types[name] = ""  # it may hold itself
            lines = [
                f"  {camel(key)}: {self.of(self._held(entity, key), entity.service, entity.name, key, True)}\n"
                for key, type in entity.fields.items()
                if "secret" not in type.marks
            ]
            about = f"Owned by {entity.service}." if entity.service else "A value; no service owns it."
            self.types[name] = f'"""{about}"""\ntype {name} {{\n' + ("".join(lines) or "  id: ID!\n") + "}\n"
        return name

    def input(self, entity: Entity) -> str:
        """The name of an entity's input type, without what the service fills in itself."""
        name = f"{entity.name}Input"
        if name not in self.types:
            self.types[name] = ""
            made = self._values.schemas.made
            lines = [
                f"  {camel(key)}: {self.of(self._held(entity, key), entity.service, entity.name, key, False)}\n"
                for key, type in entity.fields.items()
                if not made(entity, key)
            ]
            self.types[name] = f"input {name} {{\n" + ("".join(lines) or "  id: ID\n") + "}\n"
        return name

    # -------------------------------------------------------------------------------- operations

    def operation(self, op: Op) -> str:
        """One field of a root type, with its description."""
        arguments = self._arguments(op)
        changing = not reads(op) and op.kind not in STREAMING
        if changing and arguments:
            name = f"{pascal(op.name)}Input"
            self.types[name] = (
                f"input {name} {{\n" + "".join(f"  {a}: {t}\n" for a, t, _ in arguments) + "}\n"
            )
            written = f"(input: {name}!)"
        else:
            written = f"({', '.join(f'{a}: {t}' for a, t, _ in arguments)})" if arguments else ""
        result, selection, reply = self._result(op)
        self._example(op, arguments, changing, selection, reply)
        about = op.spec.about or f"{sentence(op.name)}."
        gone = op.spec.deprecated
        reason = ""
        if gone is not None:
            told = f"Deprecated since {gone.since}" + (f", gone on {gone.sunset}" if gone.sunset else "")
            told += f"; use {camel(gone.use)}" if gone.use else ""
            reason = f" @deprecated(reason: {json.dumps(told)})"
        return f'  """{_quoted(about)}"""\n  {camel(op.name)}{written}: {result}{reason}\n'

    def _arguments(self, op: Op) -> list[tuple[str, str, Any]]:
        """Name, type and example value of each argument."""
        found: list[tuple[str, str, Any]] = []
        entity = row_named(self.system, op)
        if entity is not None and not identified_by(op, entity) and entity.key:
            type = entity.fields[entity.key]
            key = camel(entity.key)
            found.append(
                (key, self.of(type, entity.service, entity.name, key, False), self.value(type, entity, key))
            )
        for name, type in op.spec.takes.items():
            sdl = self.of(type, op.service, op.name, name, False)
            found.append((camel(name), sdl, self._sent(type, op.service, name, op.name)))
        if op.spec.idempotent == "key" and not reads(op):
            found.append(("idempotencyKey", "String!", "3f1d5c1e-6a1b-4b7e-9d55-0d3f0f6f2c11"))
        if op.lists and op.spec.page is not None and op.kind not in STREAMING:
            found += [("first", f"Int = {op.spec.page}", op.spec.page), ("after", "String", None)]
        taken: set[str] = set()
        return [each for each in found if not (each[0] in taken or taken.add(each[0]))]  # type: ignore[func-returns-value]

    def _result(self, op: Op) -> tuple[str, str, Any]:
        """The type of the result, what an example selects of it, and what it gets."""
        gives = op.spec.gives
        type = gives.type if gives is not None else None
        problems = gives.problems if gives is not None and op.kind not in STREAMING else ()
        if op.kind in STREAMING and type is not None:
            type = Type(type.name, "", type.marks, states=type.states, words=type.words)
        sdl, selection = "Boolean!", ""
        reply: Any = True
        if type is None:
            pass
        elif type.many in ("*", "+") and op.spec.page is not None:
            sdl, selection, reply = self._connection(op, type)
        else:
            sdl = self.of(type, op.service, op.name, "value", True)
            selection, reply = self._selected(type, op.service, op.name)
        if not problems:
            return sdl, selection, reply
        success = sdl.removesuffix("!")
        if success not in self.types or self.types[success].startswith("enum"):
            name = f"{pascal(op.name)}Success"
            self.types[name] = f"type {name} {{\n  value: {sdl}\n}}\n"
            success, selection, reply = name, f"value {selection}".strip(), {"value": reply}
        else:
            selection = selection.removeprefix("{ ").removesuffix(" }")
        for problem in problems:
            self.types[problem] = (
                f'"""{sentence(problem)}."""\ntype {problem} implements Problem {{\n  message: String!\n}}\n'
            )
        self.types["Problem"] = PROBLEM
        union = f"{pascal(op.name)}Result"
        self.types[union] = f"union {union} = {' | '.join([success, *problems])}\n"
        chosen = f"{{ __typename ... on {success} {{ {selection} }} ... on Problem {{ message }} }}"
        return f"{union}!", chosen, {"__typename": success, **reply}

    def _connection(self, op: Op, type: Type) -> tuple[str, str, Any]:
        one = Type(type.name, "", type.marks)
        node = self._one(one, op.service, op.name, "value", True)
        name = f"{node}Connection"
        self.types["PageInfo"] = PAGE_INFO
        self.types[f"{node}Edge"] = f"type {node}Edge {{\n  cursor: String!\n  node: {node}!\n}}\n"
        self.types[name] = f"type {name} {{\n  edges: [{node}Edge!]!\n  pageInfo: PageInfo!\n}}\n"
        selection, reply = self._selected(one, op.service, op.name)
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

    def value(self, type: Type, entity: Entity, name: str) -> Any:
        """An example of an entity's field."""
        return self._sent(type, entity.service, name, entity.name)

    def _sent(self, type: Type, service: str, name: str, within: str) -> Any:
        if type.many in ("*", "+"):
            return [self._sent(Type(type.name, "", type.marks, words=type.words), service, name, within)]
        if type.states is not None or type.words:
            return upper((type.states.names if type.states is not None else type.words)[0])
        inner, where = resolved(self.system, type, service)
        if inner is not type:
            return self._sent(inner, where, type.field, type.entity)
        if type.entity:
            entity = self.system.entity(type.entity, service, ())
            made = self._values.schemas.made
            self._inside.append(entity.name)
            sent = {
                camel(key): self._sent(self._held(entity, key), entity.service, key, entity.name)
                for key in entity.fields
                if not made(entity, key) and not self._again(entity, key)
            }
            self._inside.pop()
            return sent
        return self._values.of(self._values.schemas.of(type, service), name, within)

    def _again(self, entity: Entity, name: str) -> bool:
        """An example stops at a field that may be empty and would begin anew what it is within."""
        type = self._held(entity, name)
        return type.many in ("?", "*") and not type.field and type.entity in self._inside

    def _held(self, entity: Entity, name: str) -> Type:
        return self._values.schemas.held(entity, name)

    def _selected(self, type: Type, service: str, within: str) -> tuple[str, Any]:
        """What a query asks of a value, and what it gets."""
        selection, reply = self._selected_one(type, service, within)
        return selection, [reply] if type.many in ("*", "+") else reply

    def _selected_one(self, type: Type, service: str, within: str) -> tuple[str, Any]:
        inner, where = resolved(self.system, type, service)
        if inner is not type:
            return self._selected_one(inner, where, within)
        if type.name == "money":
            return "{ amount currency }", {"amount": "29.95", "currency": "EUR"}
        if not type.entity:
            plain = Type(
                type.name,
                "",
                type.marks,
                type.least,
                type.above,
                type.most,
                type.below,
                None,
                type.states,
                type.words,
            )
            return "", self._sent(plain, service, within, "")
        entity = self.system.entity(type.entity, service, ())
        parts, reply = [], {}
        self._inside.append(entity.name)
        for key, type in entity.fields.items():
            if "secret" in type.marks or self._again(entity, key):
                continue
            selection, got = self._selected(self._held(entity, key), entity.service, key)
            parts.append(f"{camel(key)} {selection}".strip())
            reply[camel(key)] = got
        self._inside.pop()
        if not parts:
            return "{ __typename }", {"__typename": self.entity(entity)}
        return "{ " + " ".join(parts) + " }", reply

    def _example(
        self, op: Op, arguments: list[tuple[str, str, Any]], changing: bool, selection: str, reply: Any
    ) -> None:
        root = "subscription" if op.kind in STREAMING else "mutation" if changing else "query"
        sent = {name: value for name, _, value in arguments if value is not None}
        used = [(name, sdl.partition(" =")[0]) for name, sdl, value in arguments if value is not None]
        if changing and arguments:
            declared, passed = f"($input: {pascal(op.name)}Input!)", "(input: $input)"
            variables: dict[str, Any] = {"input": sent}
        else:
            declared = f"({', '.join(f'${name}: {sdl}' for name, sdl in used)})" if used else ""
            passed = f"({', '.join(f'{name}: ${name}' for name, _ in used)})" if used else ""
            variables = sent
        document = (
            f"{root} {pascal(op.name)}{declared} {{\n  {camel(op.name)}{passed} {selection}".rstrip()
            + "\n}\n"
        )
        self.examples.append((pascal(op.name), document, variables, {camel(op.name): reply}))

    # -------------------------------------------------------------------------------- the whole

    def text(self, ops: list[Op]) -> str:
        """The document."""
        roots: dict[str, list[str]] = {"Query": [], "Mutation": [], "Subscription": []}
        for op in ops:
            root = "Subscription" if op.kind in STREAMING else "Query" if reads(op) else "Mutation"
            roots[root].append(self.operation(op))
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


def _quoted(text: str) -> str:
    return text.replace('"""', "'''").replace("\\", "\\\\").rstrip('"')
