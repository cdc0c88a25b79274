"""What the operations of one OpenAPI document share, written once under `components`: headers, parameters, problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mainstay.architect.design.contracts import problems
from mainstay.architect.design.contracts.examples import Examples
from mainstay.architect.design.contracts.http_headers import HEADERS, PARAMETERS
from mainstay.architect.design.contracts.json_schema import Schema, Schemas
from mainstay.architect.design.contracts.naming import sentence
from mainstay.architect.design.contracts.payloads import reply_of
from mainstay.architect.design.contracts.problems import Problem
from mainstay.architect.design.contracts.routes import Route
from mainstay.architect.design.generated import Example
from mainstay.architect.design.system import System

JSON, PATCH, BINARY, EVENTS = (
    "application/json",
    "application/merge-patch+json",
    "application/octet-stream",
    "text/event-stream",
)


@dataclass
class Shared:
    """What the operations of one document share."""

    system: System
    service: str
    routes: list[Route]
    progress: str
    """The path under which the progress of long operations is found; empty where there are none."""
    schemas: Schemas = field(init=False)
    examples: Examples = field(init=False)
    parameters: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, Any] = field(default_factory=dict)
    responses: dict[str, Any] = field(default_factory=dict)
    checked: list[Example] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schemas = Schemas(self.system, self.service)
        self.examples = Examples(self.schemas)

    # ------------------------------------------------------------------------------------ shared pieces

    def example(self, name: str, schema: Schema, value: Any) -> Any:
        """The value, noted as one that must satisfy the schema."""
        components = {"schemas": self.schemas.components}
        self.checked.append(Example(name, value, {**schema, "components": components}))
        return value

    def header(self, name: str) -> dict[str, str]:
        """A reference to a header that several answers have."""
        self.headers[name] = HEADERS[name]
        return {"$ref": f"#/components/headers/{name}"}

    def parameter(self, name: str) -> dict[str, str]:
        """A reference to a parameter that several operations take."""
        self.parameters[name] = PARAMETERS[name]
        return {"$ref": f"#/components/parameters/{name}"}

    def problem(self, met: list[Problem]) -> dict[str, Any]:
        """The answer for all problems of one status; a reference where there is just one."""
        made = self._problem(met)
        if len(met) > 1:
            return made
        self.responses[met[0].name] = made
        return {"$ref": f"#/components/responses/{met[0].name}"}

    def _problem(self, met: list[Problem]) -> dict[str, Any]:
        refs = [problems.schema_of(self.schemas, problem) for problem in met]
        values = [problems.example_of(self.system.name, problem) for problem in met]
        for problem, ref, value in zip(met, refs, values, strict=True):
            self.example(f"problem {problem.name}", ref, value)
        made: dict[str, Any] = {"description": " ".join(problem.about for problem in met)}
        headers: dict[str, Any] = {}
        if any(problem.wait for problem in met):
            headers["Retry-After"] = self.header("Retry-After")
        if met[0].status == 401:
            headers["WWW-Authenticate"] = self.header("WWW-Authenticate")
        if met[0].status == 429:
            headers |= {name: self.header(name) for name in ("RateLimit-Policy", "RateLimit")}
        if headers:
            made["headers"] = headers
        if len(met) == 1:
            content: dict[str, Any] = {"schema": refs[0], "example": values[0]}
        else:
            content = {
                "schema": {"oneOf": refs},
                "examples": {
                    problem.name: {"summary": sentence(problem.name), "value": value}
                    for problem, value in zip(met, values, strict=True)
                },
            }
        made["content"] = {problems.MEDIA: content}
        return made

    def unexpected(self) -> dict[str, str]:
        """Any other answer."""
        if "Unexpected" not in self.responses:
            schema = self.schemas.named("problem", "Problem", problems.base())
            value = {
                "type": "about:blank",
                "title": "Internal Server Error",
                "status": 500,
                "detail": "It was not done; the fault is ours.",
            }
            self.example("problem Unexpected", schema, value)
            content = {problems.MEDIA: {"schema": schema, "example": value}}
            self.responses["Unexpected"] = {
                "description": "Anything else that went wrong.",
                "content": content,
            }
        return {"$ref": "#/components/responses/Unexpected"}

    def progress_schema(self) -> Schema:
        """How far a long operation is, and what came of it."""
        given = {
            route.op.name: reply_of(self.schemas, route.op)
            for route in self.routes
            if route.op.kind == "long"
        }
        results = [schema for schema in given.values() if schema is not None]
        unique = [schema for at, schema in enumerate(results) if schema not in results[:at]]
        problem = self.schemas.named("problem", "Problem", problems.base())
        properties: dict[str, Any] = {
            "id": {"type": "string", "format": "uuid"},
            "operation": {"type": "string", "enum": list(given)},
            "status": {"type": "string", "enum": ["running", "succeeded", "failed"]},
            "progress": {"type": "integer", "minimum": 0, "maximum": 100, "description": "In percent."},
        }
        if unique:
            about = "What came of it, once it succeeded."
            properties["result"] = (
                {"description": about, **unique[0]}
                if len(unique) == 1
                else {"description": about, "anyOf": unique}
            )
        properties["problem"] = {"description": "What went wrong, where it failed.", **problem}
        made = {
            "type": "object",
            "required": ["id", "operation", "status", "progress"],
            "properties": properties,
        }
        return self.schemas.named("progress", "Progress", made)

    def progress_value(self, operation: str) -> dict[str, Any]:
        """How far an operation is, as an example."""
        id = self.examples.of({"type": "string", "format": "uuid"}, "Progress.id")
        return {"id": id, "operation": operation, "status": "running", "progress": 40}
