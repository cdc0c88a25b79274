"""The oracle: is what a race left behind what *some* serial order would have left?

A run leaves three things behind: the replies, the rows, and the calls that the outside world received. The
requests were safe together if all three equal those of one of them running after the other. Nobody has to
state an invariant.

Choices:

- *Masking.* Each serial order runs twice, the second time with every sequence moved on. What differs between
  the two (clocks, random ids, sequence values) is masked wherever it appears. A masked value that the
  database held before the run is kept, so "this row was touched" stays visible. Values that look like the
  present time are masked always, since two runs may share a second.
- *Rows that point at rows with masked keys* are compared by what they point at (colour refinement over the
  foreign keys), so a line that hangs on the wrong order is seen although both ids are masked.
- *Refused requests.* One that was answered an error (400 and above, or a status that the scenario does not
  expect) may count as not run: then the rows and the outside calls must be those of the others alone. So a
  request that the database refused (serialization failure, constraint, lock timeout) is safe if it left nothing
  behind, and not otherwise. How a refusal is worded is not compared: who is refused is.
- *Outside calls are counted*, not only rows: paying twice may leave the same rows as paying once. Calls that
  carry the same Idempotency-Key are one; safe methods are no effects.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mainstay.architect.diagnose.schema import Schema
from mainstay.architect.diagnose.snapshot import Row, Snapshot
from mainstay.architect.findings import Outcome

VARIES = "‹varies›"
NOW = "‹time›"
EVERY = "*"
"""Stands for any index of a list in a masked path."""

Path = tuple[str, ...]

_NEAR = timedelta(hours=36)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|[+-]\d\d(:?\d\d)?))?)?$")
_TOKEN = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-zA-Z_-]{20,}|\d+")


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as the oracle sees it."""

    status: int
    body: Any
    """The JSON value, or the text."""
    location: str = ""
    """The header, where the reply redirects or names what it made."""
    unexpected: bool = False
    """The scenario says that a request that is served is answered otherwise."""

    @property
    def refused(self) -> bool:
        """An error by its status, or not what the scenario expects, as a form shown again with status 200."""
        return self.status >= 400 or self.unexpected


@dataclass(frozen=True, slots=True)
class Left:
    """What one run left behind, as it was."""

    answers: dict[str, Answer]
    snapshot: Snapshot
    outside: dict[str, list[Any]]
    """Calls of each actor that are effects, as JSON values (``to``, ``send``, ``body``)."""


@dataclass(slots=True)
class Mask:
    """What two equal runs do differently."""

    cells: set[tuple[str, Path]] = field(default_factory=set)
    """Table and path: the column, then the way into a JSON value."""
    blank: set[tuple[str, Path]] = field(default_factory=set)
    """Like `cells`, but even values that the database held before are masked: the service chooses at random."""
    paths: set[Path] = field(default_factory=set)
    """Paths in the replies and outside calls."""
    texts: set[Path] = field(default_factory=set)
    """Like `paths`, for texts in which only ids and numbers differ: only those are masked."""
    trouble: list[str] = field(default_factory=list)
    """Sentences: differences that no mask covers. Then the oracle cannot judge."""


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The scalars of a JSON value, with their paths; indices of lists are `EVERY`."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for item in value:
            yield from leaves(item, (*path, EVERY))
    else:
        yield path, value


def moment(value: Any, now: datetime) -> bool:
    """Whether a value is a time within 36 hours of `now`: ISO 8601, or seconds or milliseconds since 1970."""
    if isinstance(value, str) and _MOMENT.match(value):
        text = value.replace(" ", "T", 1).replace(" ", "")
        text = re.sub(r"([+-]\d\d)$", r"\1:00", text) if "T" in text else text
        try:
            then = datetime.fromisoformat(text)
        except ValueError:
            return False
        return abs((then if then.tzinfo else then.replace(tzinfo=UTC)) - now) < _NEAR
    if isinstance(value, str) and re.fullmatch(r"\d{10}\.\d+", value):
        value = float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        near, at = _NEAR.total_seconds(), now.timestamp()
        return abs(value - at) < near or abs(value / 1000 - at) < near
    return False


class Oracle:
    """Judges the runs that start from one template.

    `ignored` holds tables (``session``) and columns (``audit.seen_at``) that are not compared. `now` is the
    time of the runs, to the day.
    """

    def __init__(
        self,
        schema: Schema,
        template: Snapshot,
        ignored: Collection[str] = (),
        now: datetime | None = None,
    ) -> None:
        self.schema = schema
        self.template = template
        self.ignored = frozenset(ignored)
        self.now = now or datetime.now(UTC)
        self._known: dict[tuple[str, Path], set[str]] = {}

    # ---------------------------------------------------------------------------------------- masks

    def learn(self, twins: Iterable[Sequence[Left]]) -> Mask:
        """The mask from groups of runs that should have been equal."""
        mask = Mask()
        for group in twins:
            for other in group[1:]:
                self._learn_rows(group[0], other, mask)
                self._learn_document(_document(group[0]), _document(other), (), mask)
        return mask

    def _learn_rows(self, first: Left, second: Left, mask: Mask) -> None:
        changed = {*first.snapshot.changed(self.template), *second.snapshot.changed(self.template)}
        for table in sorted(changed - self.ignored):
            rows, others = first.snapshot.rows[table], second.snapshot.rows[table]
            if len(rows) != len(others):
                mask.trouble.append(
                    f"two equal runs left {len(rows)} and {len(others)} rows in table {table}"
                )
                continue
            for known, masked in ((False, mask.cells), (True, mask.blank)):
                values, other_values = self._values(table, rows, known), self._values(table, others, known)
                masked |= {
                    (table, path)
                    for path in values.keys() | other_values.keys()
                    if values.get(path) != other_values.get(path)
                }

    def _values(self, table: str, rows: Iterable[Row], known: bool) -> dict[Path, Counter[str]]:
        """How often each value stands at each path: those that the template has there too, or the new ones."""
        found: dict[Path, Counter[str]] = {}
        for row in rows:
            for path, value in leaves(row):
                text = json.dumps(value)
                if (text in self._template_values(table, path)) == known and not moment(value, self.now):
                    found.setdefault(path, Counter())[text] += 1
        return found

    def _template_values(self, table: str, path: Path) -> set[str]:
        key = (table, path)
        if key not in self._known:
            # One pass fills all paths of the table.
            for row in self.template.rows.get(table, ()):
                for found, value in leaves(row):
                    self._known.setdefault((table, found), set()).add(json.dumps(value))
            self._known.setdefault(key, set())
        return self._known[key]

    def _learn_document(self, first: Any, second: Any, path: Path, mask: Mask) -> None:
        if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
            for key, item in first.items():
                self._learn_document(item, second[key], (*path, key), mask)
        elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
            for item, other in zip(first, second, strict=True):
                self._learn_document(item, other, (*path, EVERY), mask)
        elif first != second and not (moment(first, self.now) and moment(second, self.now)):
            if len(path) == 3 and path[0] == "answers" and path[2] == "status":
                mask.trouble.append(f"two equal runs answered {path[1]} {first} and {second}")
            texts = isinstance(first, str) and isinstance(second, str) and _loosen(first) == _loosen(second)
            (mask.texts if texts else mask.paths).add(path)

    # ------------------------------------------------------------------------------------- outcomes

    def outcome(self, name: str, left: Left, mask: Mask) -> Judged:
        """The masked outcome of a run."""
        document = self._cover(_document(left), (), mask)
        tables = {}
        for table in left.snapshot.changed(self.template):
            if table not in self.ignored:
                rows = self._rows(table, left.snapshot, mask)
                # Nothing that is compared has changed: the run left the table as it was.
                if rows != self._rows(table, self.template, mask):
                    tables[table] = rows
        return Judged(
            name,
            document["answers"],
            tables,
            {
                actor: sorted(json.dumps(call, sort_keys=True) for call in calls)
                for actor, calls in document["outside"].items()
            },
            self._colours(left.snapshot, tables.keys(), mask),
            frozenset(actor for actor, answer in left.answers.items() if answer.refused),
        )

    def _cover(self, value: Any, path: Path, mask: Mask) -> Any:
        if path in mask.paths:
            return VARIES
        if path in mask.texts and isinstance(value, str):
            return _loosen(value)
        if isinstance(value, dict):
            return {key: self._cover(item, (*path, key), mask) for key, item in value.items()}
        if isinstance(value, list):
            return [self._cover(item, (*path, EVERY), mask) for item in value]
        return NOW if moment(value, self.now) else value

    def _rows(self, table: str, snapshot: Snapshot, mask: Mask) -> list[Row]:
        rows = [self._cover_row(table, row, mask) for row in snapshot.rows[table]]
        return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))

    def _cover_row(self, table: str, row: Row, mask: Mask) -> Row:
        def cover(value: Any, path: Path) -> Any:
            if isinstance(value, dict) and value:
                return {key: cover(item, (*path, key)) for key, item in value.items()}
            if isinstance(value, list) and value:
                return [cover(item, (*path, EVERY)) for item in value]
            if (table, path) in mask.blank:
                return VARIES
            if (masked := (table, path) in mask.cells) or moment(value, self.now):
                known = json.dumps(value) in self._template_values(table, path)
                return value if known or value is None else VARIES if masked else NOW
            return value

        return {
            column: cover(value, (column,))
            for column, value in row.items()
            if f"{table}.{column}" not in self.ignored
        }

    def _colours(self, snapshot: Snapshot, changed: Collection[str], mask: Mask) -> dict[str, Counter[str]]:
        """Rows of the changed tables as colours, refined along the foreign keys that have masked columns."""
        colours = {
            table: [_hash(self._cover_row(table, row, mask)) for row in snapshot.rows[table]]
            for table in changed
        }
        links: list[tuple[str, list[int], str]] = []
        for table in sorted(changed):  # the number of a link is part of the colours
            for key in self.schema.tables[table].foreign:
                if key.table not in colours or not any(
                    (table, (column,)) in mask.cells for column in key.columns
                ):
                    continue
                position = {
                    tuple(row[column] for column in key.target): at
                    for at, row in enumerate(snapshot.rows[key.table])
                }
                targets = [
                    position.get(tuple(row[column] for column in key.columns), -1)
                    for row in snapshot.rows[table]
                ]
                links.append((table, targets, key.table))
        for _ in range(3 if links else 0):
            ways: dict[str, list[list[str]]] = {name: [[] for _ in rows] for name, rows in colours.items()}
            for number, (table, targets, target) in enumerate(links):
                for at, to in enumerate(targets):
                    if to >= 0:
                        ways[table][at].append(f"{number}>{colours[target][to]}")
                        ways[target][to].append(f"{number}<{colours[table][at]}")
            colours = {
                name: [_hash([colour, sorted(ways[name][at])]) for at, colour in enumerate(found)]
                for name, found in colours.items()
            }
        return {table: Counter(found) for table, found in colours.items()}


@dataclass(frozen=True, slots=True)
class Judged:
    """An outcome that can be compared with another of the same oracle and mask."""

    name: str
    answers: dict[str, Any]
    tables: dict[str, list[Row]]
    """Changed tables with all their rows, masked and sorted."""
    outside: dict[str, list[str]]
    colours: dict[str, Counter[str]]
    refused: frozenset[str] = frozenset()
    """The actors that were refused."""

    def fits(self, serial: Judged, missing: Collection[str] = ()) -> bool:
        """Whether this outcome is the serial one; replies of those that are missing there are not compared."""
        return (
            self.colours == serial.colours
            and self._calls() == serial._calls()
            and all(self.answers_as(serial, actor) for actor in self.answers if actor not in missing)
        )

    def answers_as(self, serial: Judged, actor: str) -> bool:
        """Whether an actor is told the same in both: equal replies, or a refusal in either wording."""
        if actor in self.refused and actor in serial.refused:
            return True
        return bool(self.answers[actor] == serial.answers.get(actor))

    def _calls(self) -> dict[str, list[str]]:
        return {actor: calls for actor, calls in self.outside.items() if calls}

    def refusals(self) -> list[str]:
        """The actors that were refused, in order."""
        return [actor for actor in self.answers if actor in self.refused]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the oracle says of one race."""

    fits: str | None
    """Name of a serial outcome that explains it; None: there is none, the race is proven."""
    refused: tuple[str, ...] = ()
    """Actors that had to count as not run, or were refused with another status than serially."""


def judge(observed: Judged, serial: Mapping[tuple[str, ...], Judged]) -> Judgement:
    """Compare an outcome with the serial ones, by the order of actors that ran.

    Orders of all actors are tried first, then those that leave out actors that were answered an error.
    """
    refusals = set(observed.refusals())
    everyone = set(observed.answers)
    for order, outcome in sorted(serial.items(), key=lambda item: -len(item[0])):
        missing = everyone - set(order)
        if missing <= refusals and observed.fits(outcome, missing):
            otherwise = {
                actor
                for actor in refusals & outcome.refused
                if observed.answers[actor]["status"] != outcome.answers[actor]["status"]
            }
            return Judgement(outcome.name, tuple(sorted(missing | otherwise)))
    return Judgement(None)


# ----------------------------------------------------------------------------------------- in words


def told(observed: Judged, serial: Collection[Judged]) -> tuple[Outcome, list[Outcome]]:
    """The outcomes for a witness: only the tables in which one differs, and for each serial one what differs."""
    everything = [observed, *serial]
    names = sorted({table for judged in everything for table in judged.tables})
    differing = [
        table for table in names if len({json.dumps(_hashes(judged, table)) for judged in everything}) > 1
    ]

    # A table that the order left as it was is not among its changed ones: show it as the template has it.
    def one(judged: Judged, differs: list[str]) -> Outcome:
        return Outcome(
            judged.name,
            {actor: _reply(answer) for actor, answer in judged.answers.items()},
            {table: judged.tables.get(table, []) for table in differing},
            [
                f"{actor}: {_call(json.loads(call))}"
                for actor, calls in sorted(judged.outside.items())
                for call in calls
            ],
            differs,
        )

    return one(observed, []), [one(judged, differences(observed, judged)) for judged in serial]


def _hashes(judged: Judged, table: str) -> Any:
    return sorted(judged.colours.get(table, Counter()).items())


def differences(observed: Judged, serial: Judged) -> list[str]:
    """What in a serial outcome is not as observed, a sentence each."""
    found = []
    for actor, answer in observed.answers.items():
        other = serial.answers.get(actor)
        if other is None:
            if actor not in observed.refused:
                found.append(f"{actor} is not served at all, here {actor} was answered {_reply(answer)}")
        elif not observed.answers_as(serial, actor):
            found.append(f"{actor} is answered {_apart(other, answer)}")
    for table in sorted({*observed.tables, *serial.tables}):
        rows, others = observed.tables.get(table), serial.tables.get(table)
        if observed.colours.get(table) == serial.colours.get(table):
            continue
        if rows is None or others is None:
            found.append(
                f"table {table} is {'left as it was' if others is None else 'changed'}, here it is not"
            )
        elif len(rows) != len(others):
            counted = f"{len(others)} row{'' if len(others) == 1 else 's'}"
            found.append(f"table {table} has {counted}, here {len(rows)}")
        elif rows == others:
            found.append(f"rows of table {table} belong together differently")
        else:
            found.append(_changed_values(table, rows, others))
    for actor in sorted({*observed.outside, *serial.outside}):
        calls, other_calls = observed.outside.get(actor, []), serial.outside.get(actor, [])
        if len(calls) != len(other_calls):
            found.append(
                f"{actor} calls the outside world {times(len(other_calls))}, here {times(len(calls))}"
            )
        elif calls != other_calls:
            mine, theirs = ("; ".join(map(_short_call, side)) for side in (calls, other_calls))
            found.append(f"{actor} calls the outside world with {theirs}, here {mine}")
    return found


def _changed_values(table: str, rows: list[Row], others: list[Row]) -> str:
    texts, other_texts = ([json.dumps(row, sort_keys=True) for row in side] for side in (rows, others))
    mine = [json.loads(text) for text in (Counter(texts) - Counter(other_texts)).elements()]
    theirs = [json.loads(text) for text in (Counter(other_texts) - Counter(texts)).elements()]
    if len(mine) == len(theirs) == 1:
        columns = [column for column in mine[0] if mine[0][column] != theirs[0].get(column)]
        return "; ".join(
            f"{table}.{column} is {theirs[0].get(column)}, here {mine[0][column]}" for column in columns
        )
    return f"{len(theirs)} rows of table {table} have other values"


def times(count: int) -> str:
    """``once``, ``3 times``, ``never``."""
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _short_call(call: str) -> str:
    return _call(json.loads(call))


def _call(call: Any) -> str:
    body = call.get("body")
    return f"{call['send']} to {call['to']}" + (f" {shorten(body)}" if body not in (None, "") else "")


def _reply(answer: Any) -> str:
    text = f"{answer['status']} {shorten(answer['body'])}".strip()
    return f"{text} → {answer['location']}" if answer.get("location") else text


def _apart(other: Any, answer: Any) -> str:
    """Two replies, each cut so that the part in which they differ is to be seen."""
    if (said := _reply(other)) != (here := _reply(answer)):
        return f"{said}, here {here}"
    texts = [_line(each["body"]) for each in (other, answer)]
    at = next(
        (at for at, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), min(map(len, texts))
    )
    begin = max(0, at - 60)
    said, here = (f"…{shorten(text[begin:], 140)}" for text in texts)
    return f"{other['status']} {said}, here {here}"


def _line(value: Any) -> str:
    """A JSON value or text on one line."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())


def shorten(value: Any, most: int = 200) -> str:
    """A JSON value or text on one line of at most `most` characters."""
    text = _line(value)
    return text if len(text) <= most else text[: most - 1] + "…"


# ---------------------------------------------------------------------------------------- utilities


def _document(left: Left) -> dict[str, Any]:
    return {
        "answers": {
            actor: {"status": answer.status, "body": answer.body, "location": answer.location}
            for actor, answer in left.answers.items()
        },
        "outside": left.outside,
    }


def _loosen(text: str) -> str:
    """A text with everything that looks like an id or a number masked."""
    return _TOKEN.sub(VARIES, text)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]
