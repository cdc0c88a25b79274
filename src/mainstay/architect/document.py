"""YAML documents that people write: read without guessing, and refused with file, line and column.

A plain scalar stays the text that was written until a field asks for a number or a truth value, so a
version ``1.10`` or a code ``0123`` survives. Fields that hold JSON (`Json`) read plain scalars by the rules
of YAML 1.2's core schema: numbers, ``true``, ``false``, ``null``. Keys that appear twice, aliases (which can
explode), and documents too deep or too large are refused in one sentence.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError

from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Location
from mainstay.architect.nearest import nearest, quoted

LARGEST = 1_000_000
"""Bytes. Nobody writes a longer document by hand."""
LARGEST_NAME = 300
DEEPEST = 50
MOST_VALUES = 200_000
MANY = 40
"""Keys that are listed where none is near to an unknown one."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML was built with it: several times faster on long documents."""

Model = TypeVar("Model", bound=BaseModel)
Where = tuple[Hashable, ...]


class Plain(str):
    """A scalar written without quotes."""

    __slots__ = ()


def json_value(value: Any) -> Any:
    """Plain scalars as JSON's types, the rest as it is."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, Plain):
        if value in ("true", "false"):
            return value == "true"
        if re.fullmatch(r"[-+]?[0-9]+", value) and len(value) < 1000:
            return int(value)
        if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", value):
            number = float(value)
            if not math.isfinite(number):
                raise ValueError(f"{value} is too large for a JSON number")
            return number
    return str(value) if isinstance(value, str) else value


Json = Annotated[Any, BeforeValidator(json_value)]
"""A field that holds any JSON value."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as plain values, with the place of each of them."""

    file: str
    value: Any
    places: dict[Where, tuple[int, int]]
    """Line and column, from 1, of each key (or item) by its way from the root."""
    content: bytes = b""
    """Of the file it was read from."""

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file. Raises `MainstayError` in one sentence where it is not a readable YAML document."""
        content = _content(path)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise MainstayError(_not_utf8(path, content, error)) from None
        return replace(cls.parse(text, str(path)), content=content)

    @classmethod
    def parse(cls, text: str, file: str) -> Document:
        """The document in `text`; `file` is the name used in errors."""
        try:
            _check_depth(text, file)
            node = yaml.compose(text, Loader=LOADER)
        except yaml.MarkedYAMLError as error:
            raise MainstayError(_unreadable(error, text, file)) from None
        except yaml.reader.ReaderError:
            found = yaml.reader.Reader.NON_PRINTABLE.search(text)
            line, column = _line_and_column(text, found.start() if found else 0)
            character = f"U+{ord(found[0]):04X}" if found else "that cannot be read"
            raise MainstayError(
                f"{file}:{line}:{column}: this is not YAML: the control character {character} stands here; take it out"
            ) from None
        except yaml.YAMLError as error:
            raise MainstayError(f"{file}: this is not YAML: {' '.join(str(error).split())}") from None
        if node is None:
            raise MainstayError(f"{file} is empty; write a document in it")
        places: dict[Where, tuple[int, int]] = {}
        return cls(file, _plain(node, (), places, file), places)

    def place(self, *where: Hashable) -> tuple[int, int]:
        """Line and column of the deepest known place on the way to `where`."""
        best: Where = ()
        for step in where:
            if (*best, step) in self.places:
                best = (*best, step)
        return self.places.get(best, (1, 1))

    def location(self, *where: Hashable) -> Location:
        """The place of a value, with the file relative to the working directory where it lies below it."""
        line, column = self.place(*where)
        return Location(relative(Path(self.file)), line, column, line, column + len(str(where[-1])))

    def spot(self, *where: Hashable) -> str:
        """The place of a value as an error names it: ``file:line:column``."""
        line, column = self.place(*where)
        return f"{self.file}:{line}:{column}"

    def validate(self, model: type[Model], other_words: Mapping[str, str] | None = None) -> Model:
        """The document as `model`.

        Args:
            model: what it is to be.
            other_words: what people call a key of the model who know it by another name.

        Raises:
            MainstayError: for the first thing that does not fit.
        """
        try:
            return model.model_validate(self.value)
        except ValidationError as error:
            # An unknown key explains more than what it makes fail elsewhere.
            problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
            problem = problems[0]
            where = tuple(problem["loc"])
            name = where[-1] if where else ""
            match problem["type"]:
                case "extra_forbidden":
                    hint = _known(
                        str(name), problem["input"], known_keys(model, where[:-1]), other_words or {}
                    )
                    message = f"unknown key {quoted(str(name))}{hint}"
                case "missing":
                    message = f"{str(name)!r} is missing"
                case "value_error":
                    message = str(problem["ctx"]["error"])
                case _:
                    name = next((part for part in reversed(where) if isinstance(part, str)), "")
                    message = f"{name}: {_expected(problem)}" if name else _expected(problem)
            raise refuse(self, where, message) from None


def _known(name: str, value: Any, known: list[str], other_words: Mapping[str, str]) -> str:
    """What was probably meant by an unknown key."""
    meant = other_words.get(name.replace("-", "_"))
    if meant in known:
        return f" (did you mean {meant!r}?)"
    if hint := nearest(name, known):
        return hint
    if value is None and not re.fullmatch(r"[a-z_]+", name):
        return "; a comma within { } begins the next key, so put a value that has one in quotes or in [ ]"
    return f"; what can stand here: {', '.join(known)}" if 0 < len(known) <= MANY else ""


def _expected(problem: Any) -> str:
    """What pydantic says of a value, in the words of a document."""
    context, value = problem.get("ctx", {}), problem["input"]
    given = (
        "a mapping"
        if isinstance(value, dict)
        else "a list"
        if isinstance(value, list | tuple)
        else quoted(str(value))
        if isinstance(value, str)
        else repr(value)
    )
    given = "nothing" if value is None else given
    match problem["type"]:
        case "dict_type" | "model_type" | "model_attributes_type" | "dataclass_type" | "mapping_type":
            return f"this must be a mapping, not {given}"
        case "list_type" | "tuple_type" | "set_type":
            return f"this must be a list, not {given}"
        case "string_type":
            return f"this must be text, not {given}"
        case "int_type" | "int_parsing" | "int_from_float" | "int_parsing_size":
            return f"this must be a whole number, not {given}"
        case "float_type" | "float_parsing" | "finite_number":
            return f"this must be a number, not {given}"
        case "bool_type" | "bool_parsing":
            return f"this must be true or false, not {given}"
        case "greater_than_equal" | "greater_than":
            sign = "at least" if problem["type"] == "greater_than_equal" else "above"
            least = context.get("ge", context.get("gt"))
            return f"this must be {sign} {least}, not {given}"
        case "less_than_equal" | "less_than":
            sign = "at most" if problem["type"] == "less_than_equal" else "below"
            most = context.get("le", context.get("lt"))
            return f"this must be {sign} {most}, not {given}"
        case "literal_error" | "enum":
            words = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            return f"{given} is not one of {', '.join(words)}{nearest(str(value), words)}"
        case "string_too_short" | "too_short":
            return "this must not be empty"
    return f"{problem['msg'][0].lower()}{problem['msg'][1:]}"


def refuse(document: Document, where: Where, message: str) -> MainstayError:
    """The error for a place in a document."""
    return MainstayError(f"{document.spot(*where)}: {message}")


def relative(path: Path, root: Path | None = None) -> str:
    """The path from `root` (default: the working directory) with forward slashes; as it is where it lies elsewhere."""
    here = Path(os.path.realpath(root or Path.cwd()))  # which ends for links that go round in a ring, too
    try:
        return Path(os.path.realpath(path)).relative_to(here).as_posix()
    except ValueError:
        return path.as_posix()


def _content(path: Path) -> bytes:
    """What is in a file: all of it, or `MainstayError`. Of a pipe, what is written to it."""
    try:
        # Without waiting, since nobody may ever write to a pipe; what somebody writes is waited for below.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as opened:
            os.set_blocking(handle, True)
            content = opened.read(LARGEST + 1)
    except FileNotFoundError:
        raise MainstayError(f"{path} does not exist{_beside(path)}; name a YAML file that does") from None
    except OSError as error:
        raise MainstayError(
            f"{str(path)[:LARGEST_NAME]} cannot be read ({os.strerror(error.errno or 0)}); name a YAML file"
        ) from None
    if len(content) > LARGEST:
        raise MainstayError(
            f"{path} is larger than {LARGEST // 1_000_000} MB; that is no document of this kind"
        )
    return content


def _beside(path: Path) -> str:
    """The file in the same folder whose name is nearest."""
    try:
        names = [file.name for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    return nearest(path.name, names)


def _not_utf8(path: Path, content: bytes, error: UnicodeDecodeError) -> str:
    for name, marks in (
        ("UTF-32", (b"\xff\xfe\0\0", b"\0\0\xfe\xff")),
        ("UTF-16", (b"\xff\xfe", b"\xfe\xff")),
    ):
        if content.startswith(marks):
            return f"{path}:1:1: this is {name}; save the file as UTF-8"
    line = content[: error.start].count(b"\n") + 1
    before = content[content.rfind(b"\n", 0, error.start) + 1 : error.start]
    column = len(before.decode("utf-8", errors="replace")) + 1
    return (
        f"{path}:{line}:{column}: the byte 0x{content[error.start]:02X} is not UTF-8; save the file as UTF-8"
    )


def _mark(event: yaml.Event, file: str) -> str:
    mark = event.start_mark
    return f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    """Of a position in a text, both from 1."""
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def _unreadable(error: yaml.MarkedYAMLError, text: str, file: str) -> str:
    """Why a text is not YAML, with what is to be done where the reason is a common one."""
    problem = str(error.problem or error.context)
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"{file}: this is not YAML: {problem}"
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    character = line[mark.column : mark.column + 1]
    opened = error.context_mark
    if "cannot start any token" in problem:
        problem = (
            "lines are indented by spaces, not tabs" if character == "\t" else f"put {character!r} in quotes"
        )
    elif "mapping values are not allowed" in problem:
        mark, problem = _second_colon(lines, mark)
    elif "found another document" in problem or "<document start>" in problem:
        problem = "a file holds one document; a second one begins here"
    elif "end of stream" in problem and "quoted scalar" in str(error.context) and opened is not None:
        mark, problem = opened, "the quotation mark that opens here is never closed"
    elif "escape" in problem:
        problem = "this is no escape sequence; in single quotes a backslash is only a backslash"
    elif "could not find expected ':'" in problem and opened is not None:
        mark, problem = opened, "a colon is missing after this key"
    elif match := re.search(r"',' or '([\]}])'", problem):
        sign = {"]": "[", "}": "{"}[match[1]]
        if character and character in "[]{}":
            problem = f"put a value with {character} in it in quotes, or close the {sign} before it"
        elif opened is not None:
            problem = (
                f"a comma or {match[1]} is missing here, "
                f"for the {sign} in line {opened.line + 1}, column {opened.column + 1}"
            )
    elif "node content" in problem:
        problem = f"a value is missing here, or begins with {character!r} and must stand in quotes"
    elif "unexpected ':'" in problem:
        problem = "a value with a colon in it must stand in quotes"
    elif "comment or line break" in problem or "alphabetic or numeric" in problem:
        problem = "a value that begins with one of | > & * must stand in quotes"
    elif problem in ("did not find expected key", "did not find expected '-' indicator"):
        problem = "this line is not indented as those around it, or what is above it was not closed"
    return f"{file}:{mark.line + 1}:{mark.column + 1}: this is not YAML: {problem}"


def _second_colon(lines: list[str], mark: yaml.Mark) -> tuple[yaml.Mark, str]:
    """Why a colon cannot stand where it stands, and the place of the reason."""
    before = lines[mark.line][: mark.column]
    above = next((at for at in range(mark.line - 1, -1, -1) if lines[at].strip()), -1)
    if above < 0 or not re.fullmatch(r"\s*[\w.-]+", before):
        return mark, "a value with a colon and a space in it must stand in quotes"
    if ":" in lines[above]:
        return mark, f"this line is indented, and line {above + 1}, the key above it, has a value already"
    column = len(lines[above]) - len(lines[above].lstrip())
    return yaml.Mark(mark.name, 0, above, column, None, 0), "a colon is missing after this key"


def _check_depth(text: str, file: str) -> None:
    """Refuse what would make the composer recurse too deep, aliases explode, or a tag change what is read."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=LOADER)):
        if number > MOST_VALUES:
            raise MainstayError(
                f"{file} holds more than {MOST_VALUES:,} values; that is no document of this kind"
            )
        if isinstance(event, yaml.AliasEvent):
            raise MainstayError(
                f"{_mark(event, file)}: aliases (*{event.anchor}) are not read; write the value out"
            )
        if getattr(event, "tag", None) and not isinstance(event, yaml.AliasEvent):
            tag = str(getattr(event, "tag", "")).replace("tag:yaml.org,2002:", "!!")
            raise MainstayError(f"{_mark(event, file)}: tags ({tag}) are not read; write the plain value")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise MainstayError(f"{_mark(event, file)}: this is nested deeper than {DEEPEST} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _plain(node: yaml.Node, where: Where, places: dict[Where, tuple[int, int]], file: str) -> Any:
    places.setdefault(where, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            place = (key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                raise MainstayError(f"{file}:{place[0]}:{place[1]}: a key must be a plain word")
            if key.value == "<<" and not key.style:
                raise MainstayError(
                    f"{file}:{place[0]}:{place[1]}: merge keys (<<) are not read; write the keys out"
                )
            if key.value in mapping:
                first = places[(*where, key.value)][0]
                raise MainstayError(
                    f"{file}:{place[0]}:{place[1]}: the key {quoted(key.value)} appears twice, first in line {first}"
                )
            places[(*where, key.value)] = place
            mapping[key.value] = _plain(value, (*where, key.value), places, file)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*where, at), places, file) for at, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and not node.style:
        return None if node.value in ("", "~", "null") else Plain(node.value)
    return str(node.value)


def known_keys(model: Any, where: Where) -> list[str]:
    """The keys a model knows at a place; every key of every model below where the way cannot be followed."""
    found: list[str] = []
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def follow(part: Any, rest: Where) -> None:
        if "$ref" in part:
            part = definitions[part["$ref"].rpartition("/")[2]]
        for choice in (*part.get("anyOf", ()), *part.get("allOf", ()), *part.get("oneOf", ())):
            follow(choice, rest)
        if not rest:
            found.extend(part.get("properties", {}))
        elif rest[0] in part.get("properties", {}):
            follow(part["properties"][rest[0]], rest[1:])
        elif isinstance(rest[0], int) and "items" in part:
            follow(part["items"], rest[1:])
        elif isinstance(part.get("additionalProperties"), dict):
            follow(part["additionalProperties"], rest[1:])

    follow(schema, where)
    return found
