"""Example values for the schemas of a contract: the same every time, valid, and such as people would send.

They are made from the schemas that they must satisfy, so the two cannot come apart; names of fields only choose among
valid values. One row has one id throughout a document: what refers to an ``Order.id`` has the id of the example Order.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mainstay.architect.design.contracts.json_schema import (
    COUNTRY,
    CURRENCY,
    DECIMAL,
    MONEY,
    NOT_NEGATIVE,
    PHONE,
    Schema,
    Schemas,
)
from mainstay.architect.design.contracts.naming import dashed, words

MOMENT = "2026-03-14T09:26:53Z"
FORMATS = {
    "date-time": MOMENT,
    "date": "2026-03-14",
    "time": "09:26:53Z",
    "duration": "PT15M",
    "email": "ada@example.org",
}
PATTERNS = {CURRENCY: "EUR", COUNTRY: "NL", PHONE: "+31201234567"}
AMOUNTS = {
    "total": "59.90",
    "tax": "10.40",
    "discount": "5.00",
    "fee": "1.25",
    "balance": "250.00",
    "shipping": "4.95",
}
"""Two of what costs 29.95."""
NUMBERS = {
    "quantity": 2, "count": 3, "stock": 120, "age": 34, "year": 2026, "month": 3, "day": 14, "port": 443, "rank": 1,
    "position": 1, "line": 1, "attempt": 1, "attempts": 1, "version": 1, "page": 1, "limit": 50, "size": 2048,
    "bytes": 2048, "weight": 450, "width": 120, "height": 80, "depth": 40, "minutes": 15, "seconds": 30, "hours": 8,
    "days": 14, "score": 87, "rating": 4, "percent": 12, "progress": 40, "priority": 2, "seats": 25, "status": 200,
    "latitude": 52.37, "longitude": 4.9, "temperature": 21.5, "ratio": 0.25, "share": 0.25, "rate": 0.21,
}  # fmt: skip
TEXTS = {
    "first name": "Ada", "last name": "Lovelace", "full name": "Ada Lovelace", "display name": "Ada",
    "user name": "ada", "username": "ada", "login": "ada", "street": "12 Canal Street", "address": "12 Canal Street",
    "city": "Utrecht", "postcode": "3511 AB", "postal code": "3511 AB", "zip": "3511 AB", "country": "NL",
    "region": "eu-west", "state": "ready", "sku": "LAMP-0142", "slug": "walnut-desk-lamp", "code": "A7K2",
    "number": "2026-000142", "title": "Walnut desk lamp", "description": "A desk lamp of walnut and brass.",
    "text": "Please leave it with the neighbours.", "body": "Please leave it with the neighbours.",
    "note": "Please leave it with the neighbours.", "comment": "Please leave it with the neighbours.",
    "message": "Your order is on its way.", "subject": "Your order is on its way", "reason": "Ordered by mistake",
    "password": "correct horse battery staple", "secret": "correct horse battery staple",
    "token": "tok_7f3d9c51", "key": "key_7f3d9c51", "hash": "9f86d081884c7d65", "currency": "EUR", "language": "en",
    "locale": "en-GB", "timezone": "Europe/Amsterdam", "time zone": "Europe/Amsterdam", "ip": "203.0.113.7",
    "iban": "NL91ABNA0417164300", "color": "walnut", "colour": "walnut", "carrier": "PostNL",
    "tracking": "3SABCD0123456789", "email": "ada@example.org", "phone": "+31201234567", "url": "https://shop.example",
    "host": "shop.example", "domain": "shop.example", "path": "/", "file name": "invoice.pdf",
    "filename": "invoice.pdf",
    "content type": "application/pdf", "media type": "application/pdf", "type": "standard", "kind": "standard",
    "category": "lighting", "tag": "lighting", "tags": "lighting", "brand": "Brightwell", "company": "Brightwell",
    "tenant": "brightwell", "organisation": "Brightwell", "organization": "Brightwell", "team": "Warehouse",
    "role": "member", "plan": "team", "query": "lamp", "q": "lamp", "search": "lamp", "next": "WyIyMDI2LTAzLTE0Il0",
    "cursor": "WyIyMDI2LTAzLTE0Il0",
    "reference": "2026-000142", "version": "1.4.2", "device": "ios-7f3d9c51", "platform": "ios",
    "signature": "v1,9f86d081",
    "trace": "4bf92f3577b34da6a3ce929d0e0e4736", "level": "info", "service": "orders", "operation": "place_order",
    "greeting": "Good morning", "detail": "Two of three lamps are left.", "error": "The card was declined.",
    "event": "OrderPaid",
    "action": "orders.read", "scope": "orders:read", "scopes": "orders:read", "label": "urgent", "source": "web",
}  # fmt: skip
NAMES = (
    (("product", "item", "article", "good", "offer", "variant", "part", "material"), "Walnut desk lamp"),
    (
        ("tenant", "organisation", "organization", "company", "account", "shop", "store", "merchant"),
        "Brightwell",
    ),
    (
        ("user", "customer", "person", "member", "author", "contact", "patient", "employee", "driver"),
        "Ada Lovelace",
    ),
    (("team", "group", "workspace"), "Warehouse"),
    (("channel", "room"), "general"),
    (("role",), "member"),
    (("service",), "orders"),
    (("file", "document"), "invoice.pdf"),
)
"""What ``name`` is, by words of what it names."""
KEYWORDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


@dataclass
class Examples:
    """Examples for the schemas of one document.

    Args:
        schemas: where references lead.
    """

    schemas: Schemas
    _known: dict[str, Any] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)

    def of(self, schema: Schema, name: str = "", within: str = "", **fixed: Any) -> Any:
        """A value that is valid.

        Args:
            schema: what it must satisfy.
            name: of the field or parameter that holds it.
            within: the entity or operation whose field it is.
            fixed: fields whose value is known, such as the state that an operation moves to.
        """
        made = self._of(schema, name, within)
        known = {key: value for key, value in fixed.items() if isinstance(made, dict) and key in made}
        return {**made, **known} if known else made

    def _of(self, schema: Schema, name: str, within: str) -> Any:
        if "const" in schema:
            return schema["const"]
        if "$ref" in schema:
            return self._referred(schema, name)
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self._one_of(schema, schema[several], name, within)
        if "allOf" in schema:
            made: dict[str, Any] = {}
            for part in schema["allOf"]:
                made |= self._of(part, name, within)
            return made | {
                key: self._of(inner, key, within) for key, inner in schema.get("properties", {}).items()
            }
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = "null" if self._is_open(schema) else kind[0]
        match kind:
            case "object":
                return {
                    key: self._of(inner, key, within or name)
                    for key, inner in schema.get("properties", {}).items()
                }
            case "array":
                return self._list(schema, name, within)
            case "string":
                return text(schema, name, within)
            case "integer" | "number":
                return number(schema, name)
            case "boolean":
                return not name.startswith(("is_deleted", "deleted", "disabled", "failed"))
            case "null":
                return None
        return {"note": "Any JSON value."}

    def _referred(self, schema: Schema, name: str) -> Any:
        component = schema["$ref"].removeprefix(self.schemas.prefix)
        made = self.schemas.components[component]
        if made is MONEY:
            return {"amount": amount(schema, name), "currency": "EUR"}
        if component not in self._known:
            self._open.append(component)
            value = self._of(made, "", component)
            self._open.pop()
            self._known[component] = value
        return self._known[component]

    def _one_of(self, schema: Schema, choices: list[Schema], name: str, within: str) -> Any:
        beside = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "description")}
        for choice in choices:
            if choice.get("type") != "null" and not self._is_open(choice):
                return self._of({**beside, **choice}, name, within)
        return None

    def _list(self, schema: Schema, name: str, within: str) -> list[Any]:
        if self._is_open(schema["items"]) and not schema.get("minItems"):
            return []
        return [self._of(schema["items"], name, within)]

    def _is_open(self, schema: Schema) -> bool:
        """It is being made further out: a value that holds itself must end somewhere."""
        if "items" in schema:
            return bool(schema.get("minItems")) and self._is_open(schema["items"])
        return schema.get("$ref", "").removeprefix(self.schemas.prefix) in self._open


def text(schema: Schema, name: str, within: str) -> str:
    """A text that is valid and sounds like its name."""
    format, pattern = schema.get("format", ""), schema.get("pattern", "")
    if "x-references" in schema:
        within, _, name = schema["x-references"].partition(".")
    if format == "uuid":
        return same_uuid(f"{within}.{name}" if name == "id" or "x-references" in schema else name)
    if format in FORMATS:
        return FORMATS[format]
    if format == "uri":
        return f"https://example.org/{dashed(name) or 'page'}"
    if pattern in PATTERNS:
        return PATTERNS[pattern]
    if pattern in (DECIMAL, NOT_NEGATIVE):
        return amount(schema, name)
    if "contentMediaType" in schema:
        return "(the content of the file)"
    said = _said(words(name), words(within))
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if len(said) < least:
        said = (f"{said} " * (least // len(said) + 1))[:least]
    return said[:most]


def _said(name: list[str], within: list[str]) -> str:
    if name[-1:] == ["name"] and len(name) == 1:
        for words_of, value in NAMES:
            if set(words_of) & set(within):
                return value
        return "Spring 2026"
    if name[-1:] == ["id"]:
        return f"{'_'.join(name[:-1] or within) or 'id'}_7f3d9c51"
    for start in range(len(name)):
        if (known := " ".join(name[start:])) in TEXTS:
            return TEXTS[known]
    return " ".join(name).capitalize() or "Text"


def same_uuid(seed: str) -> str:
    """The UUID (version 4 in form) that stands for something in all examples."""
    digits = hashlib.sha256(seed.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


def amount(schema: Schema, name: str) -> str:
    """A decimal number as text, within the bounds that are stated beside it."""
    last = words(name)[-1:]
    value = Decimal(next((AMOUNTS[word] for word in last if word in AMOUNTS), "29.95"))
    bounds = {key: Decimal(str(schema[f"x-{key}"])) for key in KEYWORDS if f"x-{key}" in schema}
    low = max((bounds[key] for key in KEYWORDS[:2] if key in bounds), default=None)
    high = min((bounds[key] for key in KEYWORDS[2:] if key in bounds), default=None)
    if (low is not None and value <= low) or (high is not None and value >= high):
        low = high - 2 if low is None and high is not None else low
        high = low + 2 if high is None and low is not None else high
        assert low is not None and high is not None  # one of them was there
        value = (low + high) / 2
    return format(value, "f")


def number(schema: Schema, name: str) -> int | float:
    """A number within its bounds that is likely for its name."""
    whole = schema.get("type") in ("integer", ["integer", "null"])
    parts = words(name)
    value: int | float = next(
        (NUMBERS[known] for start in range(len(parts)) if (known := " ".join(parts[start:])) in NUMBERS),
        1042 if parts[-1:] == ["id"] else 3 if whole else 1.5,
    )
    value = int(value) if whole else value
    low = max((schema[key] for key in KEYWORDS[:2] if key in schema), default=None)
    high = min((schema[key] for key in KEYWORDS[2:] if key in schema), default=None)
    if whole:
        value = value if low is None or value >= low else low
        return value if high is None or value <= high else high
    if (low is None or value > low) and (high is None or value < high):
        return value
    if low is not None and high is not None:
        middle = low + (high - low) / 2
        return float(middle) if low < middle < high or low == high else math.nextafter(low, math.inf)
    return max(low + 1, math.nextafter(low, math.inf)) if low is not None else _below(high)


def _below(high: float | None) -> float:
    return min(high - 1, math.nextafter(high, -math.inf)) if high is not None else 0.0
