"""One operation as OpenAPI describes it: parameters, body, success, problems, headers, each with an example.

`Shared` holds what the operations of one document have in common.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from mainstay.architect.design.contracts import problems
from mainstay.architect.design.contracts.http_shared import Shared
from mainstay.architect.design.contracts.http_words import (
    about,
    cached,
    ending,
    limited,
    needs_key,
    policy,
    said,
    succeeds_with,
)
from mainstay.architect.design.contracts.json_schema import Schema, resolved
from mainstay.architect.design.contracts.naming import STREAMING, pascal, sentence
from mainstay.architect.design.contracts.payloads import reply_of
from mainstay.architect.design.contracts.problems import Problem
from mainstay.architect.design.contracts.routes import Route
from mainstay.architect.design.contracts.security import allowed, guarded, requirements
from mainstay.architect.design.questions import listed
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.system import Op

JSON, PATCH, BINARY, EVENTS = (
    "application/json",
    "application/merge-patch+json",
    "application/octet-stream",
    "text/event-stream",
)


@dataclass
class Book(Shared):
    """The operations of one document."""

    def operation(self, route: Route, tag: str) -> dict[str, Any]:
        """The Operation Object."""
        op = route.op
        made: dict[str, Any] = {
            "operationId": op.name,
            "summary": sentence(op.name),
            "description": about(self.system, op),
            "tags": [tag],
        }
        if op.spec.deprecated is not None:
            made["deprecated"] = True
        made["security"] = requirements(self.system, op)
        if who := allowed(self.system, op):
            made["x-allowed"] = who
        if parameters := self._parameters(route):
            made["parameters"] = parameters
        if body := self._body(route):
            made["requestBody"] = body
        made["responses"] = {**self._success(route), **self._problems(route)}
        return made

    def _parameters(self, route: Route) -> list[dict[str, Any]]:
        op = route.op
        made = []
        for inside in route.inside:
            schema = self._plain(inside.type, op.service)
            within = route.resource.name if route.resource is not None else ""
            if not inside.field and within and "x-references" not in schema:
                schema = {**schema, "x-references": f"{within}.{inside.name}"}
            value = self.example(
                f"{op.id} {inside.name}",
                schema,
                self.examples.of(schema, inside.field or inside.name, within),
            )
            made.append(
                {"name": inside.name, "in": "path", "required": True, "schema": schema, "example": value}
            )
        for name in route.query:
            type = op.spec.takes[name]
            schema = self.schemas.of(type, op.service, request=True)
            value = self.example(f"{op.id} {name}", schema, self.examples.of(schema, name, op.name))
            holder: dict[str, Any] = {"schema": schema, "example": value}
            target, _ = resolved(self.system, type, op.service)
            if target.entity or target.name in ("json", "money"):
                holder = {"content": {JSON: holder}}
            made.append({"name": name, "in": "query", "required": type.many != "?", **holder})
        if op.lists and route.method == "GET":
            made += self._paging(route)
        if needs_key(self.system, route):
            made.append(self.parameter("IdempotencyKey"))
        if self._versioned(route) and route.method in ("PATCH", "PUT", "DELETE"):
            made.append(self.parameter("IfMatch"))
        if self._versioned(route) and route.method == "GET":
            made.append(self.parameter("IfNoneMatch"))
        return made

    def _plain(self, type: Type, service: str) -> Schema:
        """The schema of a variable of a path: one value, never null."""
        target, _ = resolved(self.system, type, service)
        if (
            target.entity
            or target.many in ("*", "+")
            or type.many in ("*", "+")
            or target.name in ("json", "money")
        ):
            return {"type": "string"}
        return self.schemas.of(Type(type.name, marks=type.marks) if type.field else _once(type), service)

    def _paging(self, route: Route) -> list[dict[str, Any]]:
        op, taken = route.op, route.op.spec.takes
        made: list[dict[str, Any]] = []
        entity = route.resource
        searched = [name for name, type in entity.fields.items() if "search" in type.marks] if entity else []
        if searched and "q" not in taken:
            made.append(
                {
                    "name": "q",
                    "in": "query",
                    "description": f"Words to be found in {listed(searched, 'or')}.",
                    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
                    "example": "lamp",
                }
            )
        if op.spec.page is not None:
            usual = min(50, op.spec.page)
            limit = {"type": "integer", "minimum": 1, "maximum": op.spec.page, "default": usual}
            if "limit" not in taken:
                about = "Most items in the answer."
                made.append(
                    {"name": "limit", "in": "query", "description": about, "schema": limit, "example": usual}
                )
            if "cursor" not in taken:
                made.append(self.parameter("Cursor"))
        return made

    def _body(self, route: Route) -> dict[str, Any] | None:
        op = route.op
        fields = {name: op.spec.takes[name] for name in route.body}
        if not fields:
            if op.kind != "upload":
                return None
            about = f"The content of the file{f', at most {op.spec.size}' if op.spec.size else ''}."
            return {"description": about, "required": True, "content": {BINARY: {}}}
        schema = self.schemas.fields(fields, op.service, request=True, upload=True)
        schema = {**schema, "additionalProperties": False}
        schema = self.schemas.named(f"request {op.name}", f"{pascal(op.name)}Request", schema)
        value = self.example(f"{op.id} request", schema, self.examples.of(schema, "", op.name))
        files = any(type.name == "file" for type in fields.values())
        media = "multipart/form-data" if files else PATCH if route.method == "PATCH" else JSON
        made: dict[str, Any] = {}
        if op.spec.size is not None:
            made["description"] = f"At most {op.spec.size}."
        needed = any(type.many != "?" for type in fields.values())
        return {**made, "required": needed, "content": {media: {"schema": schema, "example": value}}}

    def _versioned(self, route: Route) -> bool:
        """The row can be read and changed by its path: both sides can say which version they mean (RFC 9110, 13)."""
        methods = {other.method for other in self.routes if other.path == route.path}
        changed = bool(methods & {"PATCH", "PUT", "DELETE"})
        return (
            route.item
            and "GET" in methods
            and changed
            and route.op.kind not in (*STREAMING, "download", "long")
        )

    # ------------------------------------------------------------------------------------ answers

    def _success(self, route: Route) -> dict[str, Any]:
        op = route.op
        headers: dict[str, Any] = {}
        if limited(self.system, op):
            headers |= {"RateLimit-Policy": policy(self.system, op), "RateLimit": self.header("RateLimit")}
        if op.spec.deprecated is not None:
            headers |= ending(op)
            after = next((other for other in self.routes if other.op.name == op.spec.deprecated.use), None)
            if after is not None and not after.inside:
                link = f'<{after.path}>; rel="successor-version"'
                about_link = "What takes its place (RFC 5829)."
                headers["Link"] = {"description": about_link, "schema": {"type": "string", "const": link}}
        if op.kind == "long":
            return self._accepted(op, headers)
        schema = self._reply(op)
        status = succeeds_with(route)
        if status == "201" and (place := self._place_of_new(route)):
            headers["Location"] = {
                "description": "Where the new one is found.",
                "schema": {"type": "string", "format": "uri-reference"},
                "example": place,
            }
        if op.spec.cache is not None:
            headers["Cache-Control"] = cached(self.system, op)
        if self._versioned(route) and status == "200":
            headers["ETag"] = self.header("ETag")
        made: dict[str, Any] = {"description": said(op, status)}
        if headers:
            made["headers"] = headers
        if op.kind == "download" and route.method == "GET":
            made["content"] = {BINARY: {}}
        elif schema is not None and op.kind in STREAMING:
            made["content"] = {EVENTS: self._stream(op, schema)}
        elif schema is not None:
            made["content"] = {JSON: {"schema": schema, "example": self._replied(op, schema)}}
        answers = {status: made}
        if status == "200" and self._versioned(route) and route.method == "GET":
            answers["304"] = {"description": "Not changed since the version named by If-None-Match."}
        return answers

    def _reply(self, op: Op) -> Schema | None:
        if op.kind == "download":
            return None
        schema = reply_of(self.schemas, op)
        given = op.spec.gives.type if op.spec.gives is not None else None
        if op.kind == "bulk":
            return self._bulk(op)
        if schema is None or given is None:
            return None
        if op.lists and op.kind not in STREAMING:
            target, _ = resolved(self.system, given, op.service)
            entity = given.entity if given.entity and not given.field else pascal(op.name)
            return self.schemas.named(
                f"page {given} {op.spec.page} {target}",
                f"{entity}{'Page' if op.spec.page else 'List'}",
                schema,
            )
        if op.lists:
            inner: Schema = schema["properties"]["items"]["items"]
            return inner
        return schema

    def _bulk(self, op: Op) -> Schema:
        """What became of each item, in the order of the request: some may fail where others do not."""
        problem = self.schemas.named("problem", "Problem", problems.base())
        result = {
            "type": "object",
            "required": ["index", "status"],
            "properties": {
                "index": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "Of the item in the request, from 0.",
                },
                "status": {
                    "type": "integer",
                    "minimum": 200,
                    "maximum": 599,
                    "description": "As if sent alone.",
                },
                "problem": {"description": "Only where it failed.", **problem},
            },
        }
        made = {
            "type": "object",
            "required": ["results"],
            "properties": {"results": {"type": "array", "items": result}},
        }
        return self.schemas.named(f"bulk {op.name}", f"{pascal(op.name)}Results", made)

    def _replied(self, op: Op, schema: Schema) -> Any:
        given = op.spec.gives.type if op.spec.gives is not None else None
        moved = {
            write.entity.state: move.to
            for write in op.writes
            for move in op.spec.moves
            if given is not None and given.name == write.entity.name == move.entity and write.how == "moves"
        }
        if op.kind == "bulk":
            failed = problems.example_of(self.system.name, problems.INVALID)
            value: Any = {
                "results": [{"index": 0, "status": 201}, {"index": 1, "status": 422, "problem": failed}]
            }
        else:
            value = self.examples.of(schema, "", op.name, **moved)
        return self.example(f"{op.id} reply", schema, value)

    def _stream(self, op: Op, schema: Schema) -> dict[str, Any]:
        """Server-sent events (HTML Living Standard): OpenAPI 3.1 can only call them text."""
        value = self._replied(op, schema)
        line = f"id: 1\nevent: {op.name}\ndata: {json.dumps(value, ensure_ascii=False)}\n"
        held: Schema = {
            "type": "string",
            "description": "Server-sent events; the data of each is JSON of the schema in x-event-data.",
            "x-event-data": schema,
        }
        return {"schema": held, "example": line}

    def _accepted(self, op: Op, headers: dict[str, Any]) -> dict[str, Any]:
        schema = self.progress_schema()
        place = self.progress.replace(
            "{id}", self.examples.of({"type": "string", "format": "uuid"}, "Progress.id")
        )
        headers = {
            "Location": {
                "description": "Where its progress is found.",
                "schema": {"type": "string", "format": "uri-reference"},
                "example": place,
            },
            "Retry-After": self.header("Retry-After"),
            **headers,
        }
        value = self.example(f"{op.id} reply", schema, self.progress_value(op.name))
        content = {JSON: {"schema": schema, "example": value}}
        return {"202": {"description": "Taken; it is worked on.", "headers": headers, "content": content}}

    def _place_of_new(self, route: Route) -> str:
        made = next((write.entity for write in route.op.writes if write.how == "creates"), None)
        for other in self.routes:
            same = (
                made is not None
                and other.resource is made
                and other.method == "GET"
                and len(other.inside) == 1
            )
            if same and made is not None and other.path.endswith(f"/{{{made.key}}}"):
                schema = self._plain(other.inside[0].type, made.service)
                return other.path.replace(
                    f"{{{made.key}}}", str(self.examples.of(schema, made.key, made.name))
                )
        return ""

    def _problems(self, route: Route) -> dict[str, Any]:
        op, system = route.op, self.system
        needs = requirements(system, op)
        met: list[Problem] = []
        if needs_key(system, route):
            met += [problems.KEY_MISSING, problems.KEY_IN_USE, problems.KEY_REUSED]
        elif (op.lists and op.spec.page is not None) or (self._versioned(route) and route.method != "GET"):
            met.append(problems.BAD_REQUEST)
        if needs and {} not in needs:
            met += [problems.UNAUTHENTICATED, *([problems.FORBIDDEN] if guarded(system, op) else [])]
        if route.item:
            met.append(problems.NOT_FOUND)
        if op.spec.moves:
            met.append(problems.WRONG_STATE)
        created = [write.entity for write in op.writes if write.how == "creates"]
        if any("unique" in type.marks for entity in created for type in entity.fields.values()):
            met.append(problems.EXISTS)
        if self._versioned(route) and route.method != "GET":
            met.append(problems.CHANGED)
        if op.spec.size is not None or op.kind in ("upload", "bulk"):
            met.append(problems.TOO_LARGE)
        if route.inside or route.query or route.body or (op.lists and op.spec.page is not None):
            met.append(problems.INVALID)
        if limited(system, op):
            met.append(problems.TOO_MANY)
        if any(edge.waits for edge in op.edges):
            met.append(problems.UNAVAILABLE)
        own = op.spec.gives.problems if op.spec.gives is not None else ()
        standard = {problem.name: problem for problem in problems.STANDARD}
        named = [standard.get(name) or problems.problem_named(name) for name in own]
        met = list(dict.fromkeys([*named, *met]))
        made: dict[str, Any] = {}
        for status in sorted({problem.status for problem in met}):
            together = [problem for problem in met if problem.status == status]
            made[str(status)] = self.problem(together)
        made["default"] = self.unexpected()
        return made


def _once(type: Type) -> Type:
    return replace(type, many="")
