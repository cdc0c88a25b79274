"""Problems that an operation answers with, as `application/problem+json` (RFC 9457): each with a type and a status.

The status of a problem that a blueprint names follows from its name: ``CardDeclined`` is 402, ``OutOfStock`` 409. A
name that says nothing is 409, a conflict with what is stored: the request was understood, what it met forbids it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mainstay.architect.design.contracts.json_schema import Schema, Schemas
from mainstay.architect.design.contracts.naming import dashed, sentence, words

MEDIA = "application/problem+json"
STATUSES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (401, ("unauthenticated", "unauthorized", "credentials", "wrong password", "invalid token", "signature")),
    (402, ("payment required", "declined", "insufficient funds", "insufficient balance", "unpaid")),
    (404, ("not found", "unknown", "no such", "missing")),
    (413, ("too large", "too big", "too long")),
    (
        429,
        ("too many", "limit exceeded", "limit reached", "quota", "rate limited", "throttled", "over limit"),
    ),
    (
        403,
        (
            "forbidden",
            "not allowed",
            "denied",
            "not permitted",
            "suspended",
            "blocked",
            "banned",
            "not yours",
        ),
    ),
    (
        409,
        (
            "already",
            "exists",
            "conflict",
            "taken",
            "out of stock",
            "sold out",
            "duplicate",
            "closed",
            "locked",
        ),
    ),
    (410, ("gone", "expired", "deleted", "revoked", "withdrawn")),
    (415, ("unsupported type", "unsupported media", "unsupported format")),
    (422, ("invalid", "malformed", "unsupported", "not valid", "unprocessable", "bad")),
    (503, ("unavailable", "down", "busy", "overloaded", "maintenance", "out of reach")),
    (504, ("timeout", "timed out")),
)
"""Statuses by what stands in a name, the first that fits."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem."""

    name: str
    status: int
    about: str
    """One sentence, for who reads the contract."""
    detail: str
    """One sentence, as an answer has it."""
    wait: bool = False
    """The same request may succeed after a while: the answer has ``Retry-After``."""


UNAUTHENTICATED = Problem(
    "Unauthenticated", 401, "Nobody is signed in, or what shows it is not valid.", "Sign in first."
)
FORBIDDEN = Problem("Forbidden", 403, "Who is signed in may not do this.", "This belongs to somebody else.")
NOT_FOUND = Problem(
    "NotFound", 404, "There is no such thing, or none that the caller may see.", "There is no such thing."
)
BAD_REQUEST = Problem(
    "BadRequest", 400, "A parameter or a header cannot be read.", "The cursor is not one of ours."
)
KEY_MISSING = Problem(
    "IdempotencyKeyMissing",
    400,
    "The header Idempotency-Key is missing or malformed.",
    "Send an Idempotency-Key.",
)
WRONG_STATE = Problem(
    "WrongState",
    409,
    "What it is about is not in a state that allows this.",
    "Its state does not allow this.",
)
EXISTS = Problem("AlreadyExists", 409, "There is one already.", "There is one with the same value already.")
KEY_IN_USE = Problem(
    "IdempotencyKeyInUse",
    409,
    "Another request with the same Idempotency-Key is being worked on.",
    "The same request is being worked on; ask again in a moment.",
    wait=True,
)
CHANGED = Problem(
    "PreconditionFailed",
    412,
    "It was changed since it was read (If-Match).",
    "It was changed since you read it; read it again.",
)
TOO_LARGE = Problem(
    "ContentTooLarge", 413, "The body is larger than is taken.", "The body is larger than is taken."
)
INVALID = Problem(
    "InvalidRequest",
    422,
    "The request was read, and a value in it is not allowed.",
    "One value is not allowed.",
)
KEY_REUSED = Problem(
    "IdempotencyKeyReused",
    422,
    "The Idempotency-Key was used before, for another request.",
    "This key was used for another request; take a new one.",
)
TOO_MANY = Problem(
    "TooManyRequests",
    429,
    "More requests than the limit allows.",
    "More requests than the limit allows; wait.",
    wait=True,
)
UNAVAILABLE = Problem(
    "Unavailable",
    503,
    "Busy, or something that it needs is out of reach.",
    "Busy at the moment; try again.",
    wait=True,
)
STANDARD = (
    UNAUTHENTICATED,
    FORBIDDEN,
    NOT_FOUND,
    BAD_REQUEST,
    KEY_MISSING,
    WRONG_STATE,
    EXISTS,
    KEY_IN_USE,
    CHANGED,
    TOO_LARGE,
    INVALID,
    KEY_REUSED,
    TOO_MANY,
    UNAVAILABLE,
)


def status_of(name: str) -> int:
    """The HTTP status of a problem that a blueprint names."""
    said = f" {' '.join(words(name))} "
    for status, signs in STATUSES:
        if any(f" {sign} " in said for sign in signs):
            return status
    return 404 if said.startswith(" no ") else 409


def problem_named(name: str) -> Problem:
    """The problem of that name, which operations answer with."""
    title = sentence(name)
    return Problem(name, status_of(name), f"{title}: nothing was done.", f"{title}.")


def type_uri(system: str, problem: Problem) -> str:
    """What names the kind of problem, for programs: a URI at a host that the reader replaces (RFC 2606)."""
    return f"https://{system.replace('_', '-')}.example/problems/{dashed(problem.name)}"


def schema_of(schemas: Schemas, problem: Problem) -> Schema:
    """A reference to the schema of one kind of problem."""
    shared = schemas.named("problem", "Problem", base())
    held: dict[str, Any] = {
        "type": {"type": "string", "enum": [type_uri(schemas.system.name, problem)]},
        "status": {"type": "integer", "enum": [problem.status]},
    }
    if problem is INVALID:
        held["errors"] = _errors()
    # Generators of clients pass over what stands beside an allOf of one, and do not narrow text to a const: the kind
    # would be lost to them.
    made: Schema = {
        "description": problem.about,
        "allOf": [shared, {"type": "object", "properties": held}],
    }
    wanted = problem.name if problem.name not in schemas.system.entities else f"{problem.name}Problem"
    return schemas.named(f"problem {problem.name}", wanted, made)


def example_of(system: str, problem: Problem) -> dict[str, Any]:
    """An answer of this kind."""
    made: dict[str, Any] = {
        "type": type_uri(system, problem),
        "title": sentence(problem.name),
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem is INVALID:
        made["errors"] = [{"pointer": "", "detail": "A field is missing."}]
    return made


def base() -> Schema:
    """The schema that all problems share."""
    return {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status"],
        "properties": {
            "type": {
                "type": "string",
                "format": "uri",
                "description": "Names the kind of problem; programs branch on it.",
            },
            "title": {
                "type": "string",
                "description": "The kind of problem, in words; always the same for a type.",
            },
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "What went wrong this time, for people."},
            "instance": {
                "type": "string",
                "format": "uri-reference",
                "description": "Names this one occurrence.",
            },
        },
    }


def _errors() -> Schema:
    return {
        "type": "array",
        "description": "What is wrong, value by value.",
        "items": {
            "type": "object",
            "required": ["pointer", "detail"],
            "properties": {
                "pointer": {
                    "type": "string",
                    "description": "JSON Pointer (RFC 6901) to the value; empty where the whole is meant.",
                },
                "detail": {"type": "string"},
            },
        },
    }
