"""What the channels of one AsyncAPI document share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mainstay.architect.design.contracts.examples import Examples
from mainstay.architect.design.contracts.json_schema import Schema, Schemas
from mainstay.architect.design.generated import Example
from mainstay.architect.design.system import System


@dataclass
class Book:
    """What the channels of one document share."""

    system: System
    service: str
    schemas: Schemas = field(init=False)
    examples: Examples = field(init=False)
    servers: dict[str, Any] = field(default_factory=dict)
    channels: dict[str, Any] = field(default_factory=dict)
    operations: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, Any] = field(default_factory=dict)
    schemes: set[str] = field(default_factory=set)
    checked: list[Example] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schemas = Schemas(self.system, self.service)
        self.examples = Examples(self.schemas)

    def example(self, name: str, schema: Schema, value: Any) -> Any:
        """The value, noted as one that must satisfy the schema."""
        self.checked.append(
            Example(name, value, {**schema, "components": {"schemas": self.schemas.components}})
        )
        return value

    def host(self, name: str) -> str:
        """A host that the reader replaces (RFC 2606)."""
        return f"{name}.{self.system.name}.example".replace("_", "-")

    def operation(self, name: str, made: dict[str, Any]) -> None:
        """Add an operation under a name that no other has."""
        wanted, number = name, 2
        while name in self.operations:
            name, number = f"{wanted}{number}", number + 1
        self.operations[name] = made
