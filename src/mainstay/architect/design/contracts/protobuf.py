"""Protocol buffers: a proto3 package for each service that speaks gRPC, in the style that ``buf lint`` asks for.

A field's number is its name on the wire and must never change or be used again. The blueprint does not hold numbers, so
they are kept in ``contracts/proto/numbers.json``: what was numbered before keeps its number, what is new gets the next
free one, and what is gone is reserved. The file is read back from the package that is written over.

An operation of kind ``bulk`` replies with a result for each item, one of kind ``long`` with an Operation, of whose
progress one more rpc tells. They are shaped like google.rpc.Status and google.longrunning.Operation (AIP-151), which
would have to be imported from outside the package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

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
    snake,
    upper,
)
from mainstay.architect.design.contracts.routes import identified_by, row_named
from mainstay.architect.design.contracts.security import callers
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Entity, Op, System

NUMBERS = "contracts/proto/numbers.json"
SCALARS = {
    "uuid": ("string", "A UUID (RFC 9562)."),
    "text": ("string", ""),
    "int": ("int64", ""),
    "float": ("double", ""),
    "decimal": ("string", "An exact decimal number."),
    "bool": ("bool", ""),
    "date": ("string", "A day (RFC 3339 full-date)."),
    "time": ("string", "A time of day (RFC 3339)."),
    "timestamp": ("google.protobuf.Timestamp", ""),
    "duration": ("google.protobuf.Duration", ""),
    "email": ("string", "An e-mail address."),
    "phone": ("string", "A telephone number (E.164)."),
    "url": ("string", "A URL."),
    "iso3166": ("string", "A country (ISO 3166-1 alpha-2)."),
    "iso4217": ("string", "A currency (ISO 4217)."),
    "json": ("google.protobuf.Value", ""),
    "file": ("string", "Where the file is fetched or put: a URL."),
}
IMPORTS = {
    "google.protobuf.Timestamp": "google/protobuf/timestamp.proto",
    "google.protobuf.Duration": "google/protobuf/duration.proto",
    "google.protobuf.Value": "google/protobuf/struct.proto",
    "google.protobuf.Empty": "google/protobuf/empty.proto",
}
HIGHEST = 2**29 - 1
KEPT_BY_PROTOBUF = range(19_000, 20_000)
"""Numbers that the protocol keeps for itself."""

Numbers = dict[str, dict[str, int]]
"""By message or enum, the number of each of its names; of those that are gone too."""
Field = tuple[str, str, str]
"""Label and type of a field, its name, and what it is."""


@dataclass
class Proto:
    """The file of one service.

    Args:
        system: the system.
        service: the service.
        numbers: those given before; new ones are added.
    """

    system: System
    service: str
    numbers: Numbers
    messages: dict[str, str] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._schemas = Schemas(self.system, self.service)
        self._names: dict[str, str] = {}
        self._values: dict[str, str] = {}
        """Of each value of an enum, which one: values stand beside messages, not within their enum."""
        self._waiting: list[tuple[str, Entity]] = []
        """Entities that are named and not yet written."""
        ops = exposed(self.system, self.service, "grpc")
        self._calls = distinct([op.name for op in ops], pascal)
        self._results: list[Field] = []
        """What the long operations come to, each a field of Operation."""
        calls = list(self._calls.values())
        self._asking = "GetOperation"
        """The rpc by which the progress of long operations is asked for, where there are any."""
        while self._asking in calls:
            self._asking += "Progress"
        if any(op.kind == "long" for op in ops):
            calls.append(self._asking)
        own = [f"{call}{part}" for call in calls for part in ("Request", "Response")]
        self._fixed = {f"{pascal(self.service)}Service", *own}
        """Names that the style asks for, whatever entities are called."""

    @property
    def package(self) -> str:
        """``shop.orders.v1``."""
        version = self.system.blueprint.version.partition(".")[0]
        return f"{snake(self.system.name)}.{self.called}.v{version if version.isdigit() else 1}"

    @property
    def called(self) -> str:
        """The service as a package spells it, unlike any other of the system."""
        return distinct(self.system.services, snake)[self.service]

    # -------------------------------------------------------------------------------- numbers

    def number(self, message: str, name: str, first: int = 1) -> int:
        """The number of a name, the one it had or the next free one."""
        known = self.numbers.setdefault(f"{self.package}.{message}", {})
        if name not in known:
            number = max(known.values(), default=first - 1) + 1
            known[name] = KEPT_BY_PROTOBUF.stop if number in KEPT_BY_PROTOBUF else number
        return known[name]

    def _reserved(self, message: str, present: list[str]) -> str:
        gone = {
            name: number
            for name, number in self.numbers.get(f"{self.package}.{message}", {}).items()
            if name not in present
        }
        if not gone:
            return ""
        numbers = ", ".join(str(number) for number in sorted(gone.values()))
        return f"  reserved {numbers};\n  reserved {', '.join(json.dumps(name) for name in sorted(gone))};\n"

    # -------------------------------------------------------------------------------- types

    def message(
        self,
        name: str,
        fields: list[Field],
        about: str = "",
        within: str = "",
        choice: tuple[str, list[Field]] = ("", []),
    ) -> str:
        """Write a message.

        Args:
            name: of the message.
            fields: label and type, name, and what it is.
            about: what the message is.
            within: lines that stand in it before its fields, such as an enum.
            choice: the name of a oneof, and its fields; empty where it has none.

        Returns:
            Its name.
        """
        fields = list({field[1]: field for field in reversed(fields)}.values())[::-1]
        # The names of two fields may not be the same in JSON either, where a_b and a__b are both aB.
        keys = distinct([key for _, key, _ in [*fields, *choice[1]]], snake, same=camel)
        lines = [self._reserved(name, list(keys.values())), within]
        for kind, key, told in fields:
            comment = f"  // {told}\n" if told else ""
            lines.append(f"{comment}  {kind} {keys[key]} = {self.number(name, keys[key])};\n")
        if choice[1]:
            lines.append(f"  oneof {choice[0]} {{\n")
            for kind, key, told in choice[1]:
                comment = f"    // {told}\n" if told else ""
                lines.append(f"{comment}    {kind} {keys[key]} = {self.number(name, keys[key])};\n")
            lines.append("  }\n")
        self.messages[name] = f"// {about or sentence(name) + '.'}\nmessage {name} {{\n{''.join(lines)}}}\n"
        return name

    def of(self, type: Type, service: str, within: str, name: str) -> tuple[str, str]:
        """Label and type of a field, and what it is in words."""
        one, told = self._one(type, service, within, name)
        many = type.many
        if type.field and many not in ("*", "+"):
            inner = resolved(self.system, type, service)[0].many
            many = inner if inner in ("*", "+") else many
        label = {"*": "repeated ", "+": "repeated ", "?": "optional "}.get(many, "")
        if label == "optional " and (one[:1].isupper() or "." in one):
            label = ""  # a message has presence of its own
        if type.many == "+":
            told = f"At least one. {told}".strip()
        return f"{label}{one}", told

    def _one(self, type: Type, service: str, within: str, name: str) -> tuple[str, str]:
        if type.states is not None or type.words:
            return self._enum(type, within, name), ""
        if type.field:
            inner, where = resolved(self.system, type, service)
            return self._one(inner, where, type.entity, type.field)
        if type.entity:
            return self.entity(self.system.entity(type.entity, service, ())), ""
        if type.name == "money":
            name = self.name("money", "Money")
            self.message(
                name,
                [("string", "amount", "An exact decimal number."), ("string", "currency", "ISO 4217.")],
                "An amount of money.",
            )
            return name, ""
        kind, told = SCALARS[type.name]
        if kind in IMPORTS:
            self.imports.add(IMPORTS[kind])
        return kind, told

    def name(self, key: str, wanted: str, of_entity: bool = False) -> str:
        """What is called so in the package, under a name that nothing else has."""
        if key not in self._names:
            kept = set() if of_entity else {name for name in self.system.entities if name not in self._fixed}
            taken = self._fixed | set(self._names.values()) | kept
            name, number = wanted, 2
            if name in taken:
                name = wanted = f"{wanted}{'Entity' if of_entity else 'Value'}"
            while name in taken or (of_entity and name != wanted and name in self.system.entities):
                name, number = f"{wanted}{number}", number + 1
            self._names[key] = name
        return self._names[key]

    def _enum(self, type: Type, within: str, name: str) -> str:
        words = type.states.names if type.states is not None else type.words
        key = f"enum {within} {name} {words}"
        known = key in self._names
        made = self.name(key, pascal(within) + pascal(name))
        if not known:
            number = 2
            while any(
                value in self._values for value in (f"{_prefix(made)}_UNSPECIFIED", *_spelled(made, words))
            ):
                made, number = f"{pascal(within)}{pascal(name)}Kind{number}", number + 1
            self._names[key] = made
        values = _spelled(made, words)
        self._values |= dict.fromkeys((f"{_prefix(made)}_UNSPECIFIED", *values), made)
        lines = [f"  {_prefix(made)}_UNSPECIFIED = 0;\n"]
        lines += [f"  {value} = {self.number(made, value)};\n" for value in values]
        text = f"enum {made} {{\n{self._reserved(made, values)}{''.join(lines)}}}\n"
        self.messages[made] = f"// {sentence(name)} of {within}.\n{text}"
        return made

    def entity(self, entity: Entity) -> str:
        """The name of an entity's message; the message is written by `_written`."""
        own = self.system.entity(entity.name, self.service, ()) is entity
        name = self.name(entity.id, entity.name if own else pascal(entity.service) + entity.name, own)
        if name not in self.messages:
            self.messages[name] = ""
            self._waiting.append((name, entity))
        return name

    def _written(self) -> None:
        """Write what is named and not yet written, without its secrets."""
        while self._waiting:
            name, entity = self._waiting.pop()
            fields = [
                (*self._put(self.of(type, entity.service, entity.name, key), key),)
                for key, type in entity.fields.items()
                if "secret" not in type.marks
            ]
            about = f"Owned by {entity.service}." if entity.service else "A value; no service owns it."
            self.message(name, fields, about)

    @staticmethod
    def _put(typed: tuple[str, str], name: str) -> Field:
        return typed[0], name, typed[1]

    # -------------------------------------------------------------------------------- operations

    def call(self, op: Op) -> str:
        """One rpc, with the messages that it needs."""
        name = self._calls[op.name]
        fields: list[Field] = []
        entity = row_named(self.system, op)
        if entity is not None and entity.key and not identified_by(op, entity):
            type = entity.fields[entity.key]
            fields.append(self._put(self.of(type, entity.service, entity.name, entity.key), entity.key))
        for key, type in op.spec.takes.items():
            if key not in [field for _, field, _ in fields]:
                fields.append(self._put(self.of(type, op.service, op.name, key), key))
        if op.spec.idempotent == "key" and not reads(op):
            fields.append(("string", "idempotency_key", "The same for each repetition of one request."))
        if op.lists and op.spec.page is not None and op.kind not in ("bulk", "long"):
            fields += [("int32", "page_size", f"At most {op.spec.page}."), ("string", "page_token", "")]
        self.message(f"{name}Request", fields, f"What {op.name} takes.")
        if op.kind == "bulk":
            self._bulk(op, name)
        elif op.kind == "long":
            self._accepted(op, name)
        else:
            self._response(op, name)
        self._written()
        about = " ".join([about_of(self.system, op), *callers(self.system, op)])
        told = "".join(f"  // {line}\n" for line in [*about.splitlines(), *self._problems(op)])
        stream = "stream " if op.kind in STREAMING else ""
        gone = op.spec.deprecated is not None
        end = " {\n    option deprecated = true;\n  }" if gone else ";"
        return f"{told}  rpc {name}({name}Request) returns ({stream}{name}Response){end}\n"

    def _response(self, op: Op, name: str) -> None:
        type = op.spec.gives.type if op.spec.gives is not None else None
        if type is not None and op.kind in STREAMING:
            type = _one_of(type)
        fields = self._given(op, type)
        if op.lists and op.spec.page is not None and op.kind not in STREAMING:
            fields.append(("string", "next_page_token", "Empty on the last page."))
        self.message(f"{name}Response", fields, f"What {op.name} gives.")

    def _given(self, op: Op, type: Type | None) -> list[Field]:
        """The field that holds what an operation gives; none where it gives nothing."""
        if type is None:
            return []
        key = snake(type.entity or "value")
        key = f"{key}s" if type.many in ("*", "+") and not key.endswith("s") else key
        return [self._put(self.of(type, op.service, op.name, "value"), key)]

    def _bulk(self, op: Op, name: str) -> None:
        """What became of each item: some may fail where others do not."""
        type = op.spec.gives.type if op.spec.gives is not None else None
        kind, told, key = "google.protobuf.Empty", "", "done"
        if type is None:
            self.imports.add(IMPORTS[kind])
        else:
            (kind, _, told), key = self._given(op, _one_of(type))[0], "value"
            if kind.startswith("repeated "):  # which nothing in a oneof can be
                held = self.name(f"values of {op.id}", f"{name}Values")
                kind = self.message(held, [(kind, "values", told)], f"What {op.name} gives for one item.")
        result = self.message(
            self.name(f"result of {op.id}", f"{name}Result"),
            [("int32", "index", "Of the item in the request, from 0.")],
            f"What became of one item of {op.name}.",
            choice=("outcome", [(kind, key, told), (self._problem(), "problem", "Only where it failed.")]),
        )
        told = "One for each item, in the order of the request."
        self.message(f"{name}Response", [(f"repeated {result}", "results", told)], f"What {op.name} gives.")

    def _accepted(self, op: Op, name: str) -> None:
        """The operation that was begun, and what it will have come to."""
        type = op.spec.gives.type if op.spec.gives is not None else None
        result = self.name(f"result of {op.id}", f"{name}Result")
        self.message(result, self._given(op, type), f"What {op.name} comes to.")
        self._results.append((result, f"{op.name}_result", f"Of {name}."))
        about = f"What {op.name} gives: it is taken, and worked on."
        self.message(f"{name}Response", [(self.name("operation", "Operation"), "operation", "")], about)

    def _progress(self) -> str:
        """The rpc by which the progress of every long operation is asked for, with its messages."""
        operation, name = self.name("operation", "Operation"), self._asking
        self.message(
            operation,
            [
                ("string", "id", "A UUID (RFC 9562)."),
                ("bool", "done", "It has come to a result, or failed."),
                ("int32", "progress", "In percent."),
            ],
            "How far an operation is that was taken, and what came of it.",
            choice=("outcome", [(self._problem(), "problem", "What went wrong."), *self._results]),
        )
        self.message(f"{name}Request", [("string", "id", "Of the operation.")], "Which operation is meant.")
        self.message(f"{name}Response", [(operation, "operation", "")], "How far an operation is.")
        return (
            "  // How far an operation is that was taken, and what came of it; for who began it.\n"
            "  // Asked for, not streamed: what is worked on outlives a connection (AIP-151).\n"
            f"  rpc {name}({name}Request) returns ({name}Response);\n"
        )

    def _problem(self) -> str:
        """The message that tells of a problem within a reply."""
        return self.message(
            self.name("problem", "Problem"),
            [
                ("int32", "code", "A google.rpc.Code."),
                ("string", "message", "In English, for who develops against this."),
                ("string", "reason", "The name of the problem, as in google.rpc.ErrorInfo.reason."),
            ],
            "Why something was not done: part of a reply that tells of more than that.",
        )

    def _problems(self, op: Op) -> list[str]:
        who, where = "May fail", "google.rpc.ErrorInfo.reason"
        if op.kind == "bulk":
            who, where = "An item may fail", f"{self._problem()}.reason"
        elif op.kind == "long":
            where = f"{where}, or in {self._problem()}.reason once it is worked on"
        problems = op.spec.gives.problems if op.spec.gives is not None else ()
        return [f"{who} with {problem}: FAILED_PRECONDITION, named in {where}." for problem in problems]

    def text(self, ops: list[Op]) -> str:
        """The file."""
        called = [self.call(op) for op in ops]
        if self._results:
            called.append(self._progress())
        calls = "\n".join(called)
        head = (
            f"// {sentence(self.service)} of {self.system.name}, version {self.system.blueprint.version}.\n"
        )
        parts = [f'{head}syntax = "proto3";\n', f"package {self.package};\n"]
        if self.imports:
            parts.append("".join(f'import "{path}";\n' for path in sorted(self.imports)))
        parts.append(f"// What {self.service} does.\nservice {pascal(self.service)}Service {{\n{calls}}}\n")
        parts += [text for _, text in sorted(self.messages.items())]
        return "\n".join(parts)


def _one_of(type: Type) -> Type:
    """One of the things that are given."""
    return replace(type, many="")


def _prefix(enum: str) -> str:
    """An enum's name before each of its values, with words parted where ``buf lint`` parts them: ``PLACE_V2AB``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", enum).upper()


def _spelled(enum: str, words: tuple[str, ...]) -> list[str]:
    """The values of an enum, each with its name before it, as the style asks."""
    prefix = _prefix(enum)
    taken = (f"{prefix}_UNSPECIFIED",)
    return list(distinct(words, lambda word: f"{prefix}_{upper(word)}", taken).values())


def generate(result: Result) -> Iterable[Generated]:
    """The file of each service that speaks gRPC, and the numbers of all of them."""
    yield from _files(result)


def _files(result: Result) -> Iterator[Generated]:
    system = result.study.system
    numbers = read_numbers(result.previous.get(NUMBERS, ""))
    any_spoken = False
    for service in system.services:
        ops = exposed(system, service, "grpc")
        if not ops:
            continue
        any_spoken = True
        proto = Proto(system, service, numbers)
        yield Generated(
            f"contracts/proto/{proto.package.replace('.', '/')}/{proto.called}.proto",
            proto.text(ops),
            f"{sentence(service)}: gRPC",
            "protobuf",
            "Numbers of fields never change: they are kept beside it.",
        )
    if any_spoken:
        yield Generated(
            NUMBERS,
            json.dumps({name: numbers[name] for name in sorted(numbers)}, indent=2) + "\n",
            "Numbers of protobuf fields",
            "json",
            "Kept from one writing to the next, so that what is on the wire keeps its meaning.",
        )


def read_numbers(text: str) -> Numbers:
    """The numbers given before; none where the file is empty, or is not what was written."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {
        str(name): {
            str(key): number
            for key, number in fields.items()
            if isinstance(number, int) and 0 < number <= HIGHEST
        }
        for name, fields in found.items()
        if isinstance(fields, dict)
    }
