"""Headers and parameters that many operations share, each by the standard that defines it."""

from __future__ import annotations

from typing import Any

HEADERS: dict[str, Any] = {
    "ETag": {
        "description": "The version of what is given (RFC 9110, 8.8.3).",
        "schema": {"type": "string"},
        "example": '"7"',
    },
    "RateLimit": {
        "description": "How many requests are left (r), and seconds until there are more (t).",
        "schema": {"type": "string"},
        "example": '"default";r=12;t=1',
    },
    "RateLimit-Policy": {
        "description": "How many requests (q) in so many seconds (w) are allowed to one caller.",
        "schema": {"type": "string"},
        "example": '"default";q=100;w=1',
    },
    "Retry-After": {
        "description": "Seconds after which the same request may succeed (RFC 9110, 10.2.3).",
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
    "WWW-Authenticate": {
        "description": "How to sign in (RFC 9110, 11.6.1).",
        "schema": {"type": "string"},
        "example": "Bearer",
    },
}
PARAMETERS: dict[str, Any] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": True,
        "description": (
            "A value that the caller makes once for one intent and sends with every repetition of the request: it "
            "takes effect once, and every repetition gets the same reply (draft-ietf-httpapi-idempotency-key-header)."
        ),
        "schema": {"type": "string", "minLength": 1, "maxLength": 257},
        "example": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
    },
    "Cursor": {
        "name": "cursor",
        "in": "query",
        "description": "Where the page begins: `next` of the page before. The first page without.",
        "schema": {"type": "string", "minLength": 1},
        "example": "WyIyMDI2LTAzLTE0Il0",
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "The version that was read (ETag): it is changed only if nobody else changed it meanwhile.",
        "schema": {"type": "string"},
        "example": '"7"',
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The version that the caller has (ETag): it is given only if there is a newer one.",
        "schema": {"type": "string"},
        "example": '"6"',
    },
}
