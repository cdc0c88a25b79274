"""What a client has set up in its session, so that it can be set up again in another database.

The service and its connection pool stay up while the laboratory moves their connections from one clone to
the next. A client must not notice: its settings, the channels it listens to and its prepared statements come along.
Not kept, because no pooled service can rely on them: temporary tables, cursors WITH HOLD, session-level advisory
locks, and settings made inside functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mainstay.architect.diagnose import wire

_COMMENTS = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)+", re.DOTALL)
_SETTING = re.compile(
    r"(?:SET\s+(?!LOCAL\b|CONSTRAINTS\b|TRANSACTION\b)(?:SESSION\s+(?!CHARACTERISTICS|AUTHORIZATION))?"
    r"(?P<set>TIME\s+ZONE|SESSION\s+CHARACTERISTICS|SESSION\s+AUTHORIZATION|[\w.]+)"
    r"|RESET\s+(?P<reset>[\w.]+)"
    r"|(?:UN)?LISTEN\s+(?P<listen>\"[^\"]+\"|[\w]+|\*)"
    r"|PREPARE\s+(?!TRANSACTION\b)(?P<prepare>\"[^\"]+\"|\w+)"
    r"|DEALLOCATE\s+(?:PREPARE\s+)?(?P<deallocate>\"[^\"]+\"|\w+)"
    r"|DISCARD\s+(?P<discard>\w+)"
    r"|SELECT\s+(?:pg_catalog\.)?set_config\s*\((?P<config>[^,]+),)",
    re.IGNORECASE,
)
# A quick look, so that ordinary statements cost nothing.
_HINT = re.compile(
    r"^[\s;]*(?:--|/\*|SET|RESET|LISTEN|UNLISTEN|PREPARE|DEALLOCATE|DISCARD|CLOSE)|set_config|UNLISTEN", re.I
)
# Statements that pools send together with the above when a connection comes back, and that need no replay.
_HARMLESS = re.compile(r"(?:CLOSE\s+ALL|SELECT\s+pg_advisory_unlock_all\s*\(\s*\))$", re.IGNORECASE)


@dataclass(slots=True)
class Prepared:
    """A prepared statement: what its Parse said, and what the server told of it."""

    name: str
    sql: str
    types: tuple[int, ...]
    raw: bytes
    """The Parse message itself."""
    columns: tuple[wire.Column, ...] = ()


@dataclass(slots=True)
class Session:
    """Prepared statements, and what a new backend must be told before the client may go on with it."""

    prepared: dict[str, Prepared] = field(default_factory=dict)
    _set_up: dict[str, list[bytes]] = field(default_factory=dict)
    _uncommitted: list[tuple[str, list[bytes]]] = field(default_factory=list)

    def ran(self, sql: str, first_parameter: str | None, again: Callable[[], list[bytes]]) -> None:
        """A statement succeeded. If it changes the session, the batch that `again` gives will do so again.

        It counts once its transaction has ended (`ended`).
        """
        if not _HINT.search(sql):
            return
        pieces = [_COMMENTS.sub(" ", piece).strip() for piece in sql.split(";")]
        pieces = [piece for piece in pieces if piece and not _HARMLESS.match(piece)]
        matches = [_SETTING.match(piece) for piece in pieces]
        if not matches or None in matches:
            return  # with other statements in it, it must not run again
        messages = again()
        for piece, match in zip(pieces, matches, strict=True):
            assert match is not None
            if match["config"] and re.search(r",\s*(?:true|'t'|'true'|'on')\s*\)", piece, re.IGNORECASE):
                continue  # is local to the transaction
            self._uncommitted.append((_key(match, first_parameter), messages))

    def ended(self, committed: bool) -> None:
        """The transaction (or the statement outside one) is over: what was set up in it stays, or is undone."""
        for key, messages in self._uncommitted if committed else ():
            self._apply(key, messages)
        self._uncommitted.clear()

    def _apply(self, key: str, messages: list[bytes]) -> None:
        kind, _, name = key.partition(" ")
        if key in ("reset all", "discard all"):
            self._set_up = {
                known: each for known, each in self._set_up.items() if not known.startswith("set ")
            }
        if key in ("listen *", "discard all"):
            self._set_up = {
                known: each for known, each in self._set_up.items() if not known.startswith("listen ")
            }
        if key in ("deallocate all", "discard all"):
            self.prepared.clear()
            self._set_up = {
                known: each for known, each in self._set_up.items() if not known.startswith("prepare ")
            }
        if kind in ("set", "listen", "prepare") and name != "*":
            self._set_up.pop(key, None)  # the latest goes last
            self._set_up[key] = messages
        elif kind == "deallocate":
            self._set_up.pop(f"prepare {name}", None)
            self.prepared.pop(name, None)
        elif kind == "reset":
            self._set_up.pop(f"set {name}", None)

    @property
    def listens(self) -> bool:
        """Whether the client waits for notifications, and so must be connected at all times."""
        return any(key.startswith("listen ") for key in self._set_up)

    def replay(self) -> list[list[bytes]]:
        """The batches, each ending with Query or Sync, that set a new backend up as the old one was."""
        unique: dict[int, list[bytes]] = {id(messages): messages for messages in self._set_up.values()}
        batches = list(unique.values())
        # Each in a batch of its own, so that one that fails (its table is not there) leaves the others be.
        sync = wire.Sync().encode()
        return [*batches, *([prepared.raw, sync] for prepared in self.prepared.values())]


def _key(match: re.Match[str], first_parameter: str | None) -> str:
    """What the statement sets up or takes down, so that of two that do the same only the latest is kept."""
    for kind in ("set", "reset", "listen", "prepare", "deallocate", "discard"):
        if match[kind]:
            name = match[kind]
            return f"{kind} {name[1:-1] if name.startswith(chr(34)) else ' '.join(name.lower().split())}"
    name = match["config"].strip()
    return f"set {(first_parameter or '') if name.startswith('$') else name.strip(chr(39))}".lower()
