"""Who may do what, over what: one row for each operation that somebody outside calls."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.documents.markdown import table
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.questions import entered
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import ANYONE, Op, System

AUTH = {
    "oidc": "OpenID Connect",
    "session": "session cookie",
    "jwt": "bearer token (JWT)",
    "api_key": "API key",
    "mtls": "client certificate",
    "signature": "signature",
    "none": "none",
}


def generate(result: Result) -> Iterator[Generated]:
    """The matrix, and how each actor signs in."""
    system = result.study.system
    ops = [op for op in system.ops.values() if entered(op)]
    if not ops:
        return
    names = [name for name in (ANYONE, *system.actors, *system.deps) if any(_cell(op, name) for op in ops)]
    text = "# Authorization\n\nA dash: refused. *own*: what belongs to the caller. "
    text += "*tenant*: what belongs to its tenant. *any*: nothing narrows it.\n\n"
    text += table(("operation", *names), [(op.id, *(_cell(op, name) or "-" for name in names)) for op in ops])
    text += "\n## How they sign in\n\n"
    text += table(("who", "by", "roles", "limit of one"), [_actor(system, name) for name in names])
    inner = [op.id for op in system.ops.values() if not entered(op) and op.kind == "request"]
    if inner:
        text += f"\nCalled from within only: {', '.join(inner)}.\n"
    yield Generated(
        "documents/authorization.md",
        text,
        "Authorization",
        "markdown",
        "Operation by actor: role and scope; how each actor signs in.",
    )


def _cell(op: Op, name: str) -> str:
    grants = [grant for grant in op.spec.by.grants if grant.actor == name] if op.spec.by else []
    return ", ".join((f"{grant.role}: " if grant.role else "") + (grant.scope or "any") for grant in grants)


def _actor(system: System, name: str) -> tuple[str, str, str, str]:
    if name == ANYONE:
        return name, "nothing", "", ""
    if name in system.deps:
        return name, system.deps[name].spec.auth or "**not said**", "", ""
    spec = system.actors[name].spec
    return (
        name,
        AUTH[spec.auth] if spec.auth else "**not said**",
        ", ".join(spec.roles),
        str(spec.limit or ""),
    )
