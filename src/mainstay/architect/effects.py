"""The vocabulary of effects: what matters about a backend, in any language.

An *effect* is one thing a backend does to the world outside its own memory: it reads or writes rows,
begins or ends a transaction, takes a lock, calls another system, sends a message, starts a task, blocks.
Two engines speak this vocabulary. **Review** derives from source the effects that code *may* have and
arranges them as a tree per function. **Diagnose** records from the wire the effects that a running
service *did* have, in the order they happened. A *sharp edge* is a shape of effects, so it can be
described once and looked for in both.

Nothing in this file knows Python, SQL dialects or a library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from mainstay.architect.findings import Location


class Kind(StrEnum):
    """What an effect does."""

    READ = "read"  # rows are read from the database
    WRITE = "write"  # rows are inserted, updated or deleted
    LOCK = "lock"  # a row, table or advisory lock is taken and kept until the transaction ends
    BEGIN = "begin"  # a transaction starts
    COMMIT = "commit"  # a transaction ends and its writes become visible
    ROLLBACK = "rollback"  # a transaction ends and its writes are gone
    CALL = "call"  # a request goes to another system, and the caller waits for the reply
    SEND = "send"  # a message is handed to a broker or queue
    SPAWN = "spawn"  # work is started that goes on beside the caller
    BLOCK = "block"  # the thread waits: a sleep, a blocking read


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect, as both engines see it."""

    kind: Kind
    target: str = ""
    """What it touches: a table or model, a host, a queue. Empty where unknown."""
    text: str = ""
    """The statement, request or call as written, shortened for reading."""
    location: Location | None = None
    """The place in source that has the effect, where it is known."""


# ------------------------------------------------------------------------------------- effect trees
# What a function may do, in the order it may do it. `Origin`s tie effects to each other: the rows
# that a read returned are looked at by a decision, walked by a loop, or overwritten by a write.


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: a read, a parameter of the function, or the turns of a loop."""

    read: Location | None = None
    target: str = ""
    """The table or model read; empty where unknown, or where the value is no read."""
    parameter: int = -1
    """Position of the parameter, from 0; -1 where the value is none."""
    field: str = ""
    """The column or attribute looked at, where one was."""
    loop: Location | None = None
    """The loop whose turns give this value: it is another one in each turn."""
    traits: frozenset[str] = frozenset()
    """Traits of the read, such as ``locks-rows`` or ``one``."""


@dataclass(frozen=True, slots=True)
class Do:
    """One effect, with the values it rests on."""

    effect: Effect
    uses: frozenset[Origin] = frozenset()
    """Values that decide which rows or what is written: arguments, conditions, assigned expressions."""
    traits: frozenset[str] = frozenset()
    """Plain words that a library table adds, such as ``atomic`` (the write decides in the database),
    ``locks-rows``, ``unique``, ``insert``, ``bulk``, ``lazy``."""


Condition = tuple[int, str]
"""What must hold of a parameter (by position): it is ``none``, ``some`` (not none), ``true`` or ``false``,
``is:VALUE`` or ``not:VALUE`` (equals a text or number, as Python writes it, or does not).
Position -1 is none of them: ``miss:NAME`` says that the collection NAME had no entry for a key yet,
``detached`` that a row belongs to no session, or that what is asked of it is loaded, ``switch`` that a switch
of the settings is set, ``other-database`` that the database is another one than PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Invoke:
    """A call of one of the functions known to the program (several where the receiver is not certain)."""

    functions: tuple[str, ...]
    location: Location
    arguments: tuple[frozenset[Origin], ...] = ()
    """Origins of the argument for each parameter position of the callee."""
    known: tuple[tuple[int, str | int], ...] = ()
    """What is known of arguments, by parameter position of the callee: a word as in `Condition`, or the
    position of the caller's own parameter that is handed on."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    items: tuple[Tree, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """One of several ways is taken."""

    ways: tuple[Tree, ...]
    on: frozenset[Origin] = frozenset()
    """The values that the decision looks at."""
    exits: tuple[str, ...] = ()
    """How each way leaves what follows: ``raise``, ``answer`` (returns a value), ``leave`` (returns nothing, or
    ends the turn of a loop), or empty where it goes on."""
    location: Location | None = None
    when: tuple[frozenset[Condition], ...] = ()
    """What must hold of the function's parameters for each way to be taken."""
    then: frozenset[Condition] = frozenset()
    """What holds of them in everything after the branch."""


@dataclass(frozen=True, slots=True)
class Loop:
    """The body runs again and again."""

    body: Tree
    location: Location
    over: frozenset[Origin] = frozenset()
    """The values walked: rows of a read, a parameter; empty where unknown."""
    bound: str = "unknown"
    """``rows`` grows with data, ``constant`` does not, ``batches`` walks in chunks, ``retry`` repeats one
    attempt, else ``unknown``."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """A block with a meaning for what is inside: a transaction, a savepoint, a held lock."""

    kind: str
    """``transaction``, ``savepoint``, ``lock``, ``after-commit`` (runs once the transaction is over), ``thread``
    (runs elsewhere) or ``leaving`` (ends the loop or function it is in, so that it runs once)."""
    body: Tree
    location: Location
    text: str = ""
    when: frozenset[Condition] = frozenset()
    """What must hold of the function's parameters for the block to have that meaning."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A body, what handles its errors, and what runs in any case."""

    body: Tree
    handlers: tuple[Tree, ...] = ()
    finally_: Tree = field(default_factory=Sequence)
    handles: frozenset[str] = frozenset()
    """Names of the errors that are handled; ``*`` for all."""


Tree = Do | Invoke | Sequence | Branch | Loop | Scope | Attempt


def children(tree: Tree) -> tuple[Tree, ...]:
    """The trees directly inside `tree`, in order."""
    match tree:
        case Sequence(items):
            return items
        case Branch(ways=ways):
            return ways
        case Loop(body=body) | Scope(body=body):
            return (body,)
        case Attempt(body=body, handlers=handlers, finally_=finally_):
            return (body, *handlers, finally_)
    return ()


def walk(tree: Tree) -> Iterator[Tree]:
    """`tree` and everything inside it, in order, without recursion (trees may be deep)."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        yield item
        waiting.extend(reversed(children(item)))
