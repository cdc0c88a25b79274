"""How callers of an operation show who they are, and what it takes to be let in: OpenAPI and AsyncAPI share it.

The scheme follows from the actor's ``auth``. Other services of the system call with certificates of their own (mutual
TLS), since a service has no user to sign in. A permission (``orders:read``, ``orders:write``) is asked for where the
scheme can carry one.
"""

from __future__ import annotations

from typing import Any

from mainstay.architect.design.contracts.naming import called_by_services, scope
from mainstay.architect.design.system import ANYONE, Op, System

SERVICE = "service"
"""The scheme of other services of the system."""
CARRIES_SCOPES = ("oidc", "jwt")


def scheme(kind: str, system: str) -> dict[str, Any]:
    """The security scheme of OpenAPI for a kind of ``auth``."""
    host = f"id.{system.replace('_', '-')}.example"
    match kind:
        case "oidc":
            return {
                "type": "openIdConnect",
                "description": "OpenID Connect: an access token of the identity provider.",
                "openIdConnectUrl": f"https://{host}/.well-known/openid-configuration",
            }
        case "jwt":
            return {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "A signed token (RFC 7519, RFC 8725): issuer, audience and expiry are checked.",
            }
        case "api_key":
            return {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "One key a client."}
        case "session":
            return {
                "type": "apiKey",
                "in": "cookie",
                "name": "__Host-session",
                "description": "A session cookie: HttpOnly, Secure, SameSite=Lax.",
            }
        case "signature":
            return {
                "type": "apiKey",
                "in": "header",
                "name": "Signature",
                "description": "HTTP Message Signature (RFC 9421) over method, path, date and digest of the body.",
            }
    about = (
        "A client certificate" if kind == "mtls" else "Other services of the system, each with a certificate"
    )
    return {"type": "mutualTLS", "description": f"{about} (mutual TLS)."}


def requirements(system: System, op: Op) -> list[dict[str, list[str]]]:
    """Which schemes let a caller in; any of them does. An empty one is open to all; none at all: nothing is written."""
    found: list[dict[str, list[str]]] = []
    grants = op.spec.by.grants if op.spec.by is not None else ()
    is_open = False
    for grant in grants:
        if grant.actor in system.deps:
            continue
        kind = None if grant.actor == ANYONE else system.actors[grant.actor].spec.auth
        if grant.actor == ANYONE or kind == "none":
            is_open = True
        elif kind is not None:
            needed: dict[str, list[str]] = {kind: [scope(op)] if kind in CARRIES_SCOPES else []}
            if needed not in found:
                found.append(needed)
    if called_by_services(system, op):
        found.append({SERVICE: []})
    return [*found, *([{}] if is_open else [])]


def allowed(system: System, op: Op) -> list[dict[str, str]]:
    """Who may call it, beyond what a scheme can say: which role, and whose rows."""
    rows = {"own": "its own", "tenant": "its tenant's", "all": "all", "": ""}
    made = []
    for grant in op.spec.by.grants if op.spec.by is not None else ():
        if grant.actor not in system.deps:
            entry = {"actor": grant.actor, "role": grant.role, "rows": rows[grant.scope]}
            made.append({key: value for key, value in entry.items() if value})
    return made


def callers(system: System, op: Op) -> list[str]:
    """Who may call it and with which permission, as a sentence for formats that have no other place for it."""
    who = [
        entry["actor"]
        + (f" ({entry['role']})" if "role" in entry else "")
        + (f", {entry['rows']}" if "rows" in entry else "")
        for entry in allowed(system, op)
    ]
    needed = dict.fromkeys(
        one for need in requirements(system, op) for scopes in need.values() for one in scopes
    )
    if not who:
        return []
    asked = f"; permission {' '.join(needed)}" if needed else ""
    return [f"For {'; '.join(who)}{asked}."]


def guarded(system: System, op: Op) -> bool:
    """Somebody may be refused: by role, by rows, or by permission."""
    return any(len(entry) > 1 for entry in allowed(system, op)) or any(
        scopes for need in requirements(system, op) for scopes in need.values()
    )
