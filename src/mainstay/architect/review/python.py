"""The Python front end: source text to facts (see `facts`), with nothing imported and nothing run."""

from __future__ import annotations

import ast
import io
import marshal
import tokenize
import warnings
from collections.abc import Callable
from typing import Any

from mainstay.architect.review.facts import (
    AND,
    ANY,
    ASSIGN,
    ATTR,
    AUG,
    AWAIT,
    BREAK,
    CALL,
    CHOICE,
    CLASS,
    COMP,
    COMPARE,
    CONST,
    CONTINUE,
    DEF,
    DICT,
    EXPR,
    FOR,
    IF,
    ITEMS,
    LAMBDA,
    MATCH,
    NAME,
    NOT,
    OR,
    RAISE,
    RETURN,
    SLICE,
    STAR,
    SUB,
    TEXT,
    TRY,
    WALRUS,
    WHILE,
    WITH,
    YIELD,
    Facts,
)

LONGEST_TEXT = 4000
"""String constants longer than this many characters are cut: no statement worth reading is longer."""
LARGEST_FILE = 2_000_000
"""Files of more bytes are data in disguise."""
LONGEST_LINE = 100_000
"""So are lines of more bytes; a syntax tree of them would take a gigabyte."""


class Unreadable(Exception):
    """The source cannot be read; the message is a clause for a `Problem`, `line` where it is known."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def read_facts(data: bytes) -> Facts:
    """Facts of one module. Raises `Unreadable` for anything that is not Python of this version or older."""
    if len(data) > LARGEST_FILE:
        raise Unreadable(too_large(len(data)))
    longest = max(map(len, data.splitlines()), default=0)
    if longest > LONGEST_LINE:
        raise Unreadable(f"skipped: a line of {longest:,} bytes is data, not source")
    if b"\0" in data:
        raise Unreadable("skipped: contains NUL bytes, so it is not Python source")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise Unreadable(f"skipped: not in the encoding it claims ({_first_line(error)})") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except SyntaxError as error:
        raise Unreadable(f"skipped: syntax error ({_first_line(error.msg)})", error.lineno or 0) from None
    except (RecursionError, MemoryError):
        raise Unreadable("skipped: nested more deeply than Python can parse") from None
    except ValueError as error:
        raise Unreadable(f"skipped: {_first_line(error)}") from None
    lines = text.count("\n") + (not text.endswith("\n"))
    try:
        return _Reader(text).module(tree, lines)
    except (RecursionError, ValueError):  # ValueError: deeper than marshal writes
        raise Unreadable("skipped: nested more deeply than review follows") from None


def too_large(size: int) -> str:
    """What is said of a file of more than `LARGEST_FILE` bytes."""
    return f"skipped: {size / 1_000_000:.1f} MB is more than review reads in one file"


def _first_line(error: object) -> str:
    return (str(error).splitlines() or ["no reason given"])[0][:200]


class _Reader:
    """Walks one syntax tree. A method a node class, found by a table rather than by name for speed."""

    def __init__(self, text: str) -> None:
        # Columns of the syntax tree count UTF-8 bytes; for pure ASCII they are characters already.
        self.lines = None if text.isascii() else text.split("\n")
        self.imports: list[tuple[str, str, str | None, int]] = []
        self.generator = False
        self.expressions: dict[type, Callable[[Any], Facts]] = {
            ast.Name: self.name,
            ast.Attribute: self.attribute,
            ast.Call: self.call,
            ast.Constant: self.constant,
            ast.Tuple: self.items,
            ast.List: self.items,
            ast.Set: self.items,
            ast.Dict: self.dict,
            ast.Subscript: self.subscript,
            ast.BinOp: self.binary,
            ast.UnaryOp: self.unary,
            ast.BoolOp: self.boolean,
            ast.Compare: self.compare,
            ast.JoinedStr: self.joined,
            ast.FormattedValue: lambda node: self.expression(node.value),
            ast.ListComp: self.comprehension,
            ast.SetComp: self.comprehension,
            ast.GeneratorExp: self.comprehension,
            ast.DictComp: self.comprehension,
            ast.Lambda: self.lambda_,
            ast.Await: lambda node: (AWAIT, self.expression(node.value)),
            ast.Yield: self.yield_,
            ast.YieldFrom: self.yield_,
            ast.IfExp: self.choice,
            ast.NamedExpr: lambda node: (WALRUS, node.target.id, self.expression(node.value)),
            ast.Slice: self.slice,
            ast.Starred: lambda node: (STAR, self.expression(node.value)),
        }
        self.statements: dict[type, Callable[[Any], Facts]] = {
            ast.Expr: self.expression_statement,
            ast.Assign: self.assign,
            ast.AnnAssign: self.annotated,
            ast.AugAssign: self.augmented,
            ast.Return: lambda node: (RETURN, self.expression(node.value), self.place(node)),
            ast.Raise: lambda node: (RAISE, self.expression(node.exc)),
            ast.Break: lambda node: (BREAK,),
            ast.Continue: lambda node: (CONTINUE,),
            ast.If: self.if_,
            ast.For: self.for_,
            ast.AsyncFor: self.for_,
            ast.While: self.while_,
            ast.With: self.with_,
            ast.AsyncWith: self.with_,
            ast.Try: self.try_,
            ast.TryStar: self.try_,
            ast.FunctionDef: lambda node: (DEF, self.function(node)),
            ast.AsyncFunctionDef: lambda node: (DEF, self.function(node)),
            ast.ClassDef: lambda node: (CLASS, self.class_(node)),
            ast.Import: self.import_,
            ast.ImportFrom: self.import_from,
            ast.Assert: lambda node: (EXPR, self.expression(node.test)),
            ast.Match: self.match,
        }

    def module(self, tree: ast.Module, lines: int) -> Facts:
        body = self.body(tree.body)
        return (tuple(self.imports), body, lines)

    def place(self, node: Any) -> tuple[int, int, int, int]:
        line, column, end_line, end = node.lineno, node.col_offset, node.end_lineno, node.end_col_offset
        if self.lines is not None:
            column, end = self.characters(line, column), self.characters(end_line, end)
        return (line, column + 1, end_line, end + 1)

    def characters(self, line: int, offset: int) -> int:
        assert self.lines is not None
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        return offset if text.isascii() else len(text.encode()[:offset].decode(errors="replace"))

    # ------------------------------------------------------------------------------------ statements

    def body(self, nodes: list[Any]) -> Facts:
        table, found = self.statements, []
        for node in nodes:
            read = table.get(type(node))
            if read is not None:
                statement = read(node)
                if statement is not None:
                    found.append(statement)
        return tuple(found)

    def expression_statement(self, node: Any) -> Facts:
        value = self.expression(node.value)
        return None if value is None or value[0] == CONST else (EXPR, value)

    def assign(self, node: Any) -> Facts:
        targets = tuple([self.expression(target) for target in node.targets])
        return (ASSIGN, targets, self.expression(node.value), None, self.place(node))

    def annotated(self, node: Any) -> Facts:
        target = (self.expression(node.target),)
        return (
            ASSIGN, target, self.expression(node.value), self.annotation(node.annotation), self.place(node)
        )  # fmt: skip

    def augmented(self, node: Any) -> Facts:
        return (
            AUG, self.expression(node.target), type(node.op).__name__, self.expression(node.value), self.place(node)
        )  # fmt: skip

    def if_(self, node: Any) -> Facts:
        # A chain of elif is nested in the syntax tree; long ones are unrolled here, not by recursion.
        chain = [node]
        while len(chain[-1].orelse) == 1 and type(chain[-1].orelse[0]) is ast.If:
            chain.append(chain[-1].orelse[0])
        otherwise = self.body(chain[-1].orelse)
        for link in reversed(chain):
            found = (IF, self.expression(link.test), self.body(link.body), otherwise, self.place(link.test))
            otherwise = (found,)
        return found

    def for_(self, node: Any) -> Facts:
        return (
            FOR, self.expression(node.target), self.expression(node.iter), self.body(node.body),
            self.body(node.orelse), (*self.place(node)[:2], *self.place(node.iter)[2:]),
        )  # fmt: skip

    def while_(self, node: Any) -> Facts:
        place = (*self.place(node)[:2], *self.place(node.test)[2:])
        return (WHILE, self.expression(node.test), self.body(node.body), self.body(node.orelse), place)

    def with_(self, node: Any) -> Facts:
        items = tuple(
            [(self.expression(item.context_expr), self.expression(item.optional_vars)) for item in node.items]
        )
        return (WITH, items, self.body(node.body), self.place(node.items[0].context_expr))

    def try_(self, node: Any) -> Facts:
        handlers = tuple([(self.expression(h.type), h.name, self.body(h.body)) for h in node.handlers])
        return (TRY, self.body(node.body), handlers, self.body(node.orelse), self.body(node.finalbody))

    def match(self, node: Any) -> Facts:
        return (
            MATCH,
            self.expression(node.subject),
            tuple([self.body(c.body) for c in node.cases]),
            self.place(node),
        )

    def function(self, node: Any) -> Facts:
        outer_generator, self.generator = self.generator, False
        decorators = tuple([self.expression(d) for d in node.decorator_list])
        parameters = self.parameters(node.args)
        body = marshal.dumps(self.body(node.body))
        flags = ("async " if type(node) is ast.AsyncFunctionDef else "") + (
            "generator" if self.generator else ""
        )
        line, column, _, _ = self.place(node)
        place = (line, column, node.end_lineno, 1)
        self.generator = outer_generator
        return (node.name, parameters, self.annotation(node.returns), decorators, body, place, flags)

    def parameters(self, args: Any) -> Facts:
        found = []
        plain = [*args.posonlyargs, *args.args]
        defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
        for arg, default in zip(plain, defaults, strict=True):
            found.append((arg.arg, self.annotation(arg.annotation), self.expression(default), ""))
        if args.vararg:
            found.append((args.vararg.arg, self.annotation(args.vararg.annotation), None, "*"))
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            found.append((arg.arg, self.annotation(arg.annotation), self.expression(default), "k"))
        if args.kwarg:
            found.append((args.kwarg.arg, self.annotation(args.kwarg.annotation), None, "**"))
        return tuple(found)

    def annotation(self, node: Any) -> Facts:
        """An annotation; one written as a string is parsed."""
        if type(node) is ast.Constant and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                return None
            if type(node) not in (ast.Name, ast.Attribute, ast.Subscript, ast.BinOp):
                return None
            for part in ast.walk(node):  # places inside the string mean nothing in the file
                if isinstance(part, ast.expr):
                    part.lineno = part.end_lineno = 1
                    part.col_offset = part.end_col_offset = 0
        return self.expression(node)

    def class_(self, node: Any) -> Facts:
        keywords = tuple([(k.arg, self.expression(k.value)) for k in node.keywords])
        line, column, _, _ = self.place(node)
        return (
            node.name, tuple([self.expression(base) for base in node.bases]), keywords,
            tuple([self.expression(d) for d in node.decorator_list]), self.body(node.body),
            (line, column, node.end_lineno, 1),
        )  # fmt: skip

    def import_(self, node: Any) -> Facts:
        for alias in node.names:
            if alias.asname:
                self.imports.append((alias.asname, alias.name, None, 0))
            else:
                first = alias.name.partition(".")[0]
                self.imports.append((first, first, None, 0))
        return None

    def import_from(self, node: Any) -> Facts:
        for alias in node.names:
            self.imports.append((alias.asname or alias.name, node.module or "", alias.name, node.level))
        return None

    # ----------------------------------------------------------------------------------- expressions

    def expression(self, node: Any) -> Facts:
        read = self.expressions.get(type(node))
        return None if read is None else read(node)

    def name(self, node: Any) -> Facts:
        return (NAME, node.id)

    def attribute(self, node: Any) -> Facts:
        return (ATTR, self.expression(node.value), node.attr, self.place(node))

    def call(self, node: Any) -> Facts:
        func = node.func
        if type(func) is ast.Name:
            function: Facts = (NAME, func.id)
        else:
            function = self.expression(func)
        arguments = tuple([self.expression(argument) for argument in node.args])
        keywords = tuple([(k.arg, self.expression(k.value)) for k in node.keywords]) if node.keywords else ()
        return (CALL, function, arguments, keywords, self.place(node))

    def constant(self, node: Any) -> Facts:
        value = node.value
        if type(value) is str:
            return (CONST, value[:LONGEST_TEXT])
        if value is None or type(value) in (bool, float) or (type(value) is int and abs(value) < 1 << 60):
            return (CONST, value)
        return None

    def items(self, node: Any) -> Facts:
        # A long table of constants says no more than its first entries.
        elements = node.elts if len(node.elts) <= 200 else node.elts[:200]
        return (ITEMS, tuple([self.expression(element) for element in elements]))

    def dict(self, node: Any) -> Facts:
        keys, values = node.keys[:200], node.values[:200]
        return (
            DICT, tuple([(self.expression(k), self.expression(v)) for k, v in zip(keys, values, strict=True)])
        )  # fmt: skip

    def subscript(self, node: Any) -> Facts:
        return (SUB, self.expression(node.value), self.expression(node.slice), self.place(node))

    def slice(self, node: Any) -> Facts:
        return (SLICE, tuple([self.expression(part) for part in (node.lower, node.upper, node.step)]))

    def binary(self, node: Any) -> Facts:
        # Left-leaning chains (long concatenations) are walked, not recursed into.
        operator, parts = type(node.op), []
        while type(node) is ast.BinOp and type(node.op) is operator:
            parts.append(self.expression(node.right))
            node = node.left
        parts.append(self.expression(node))
        parts.reverse()
        if operator is ast.Add and any(part and part[0] in (TEXT, CONST) for part in parts):
            return (TEXT, tuple(parts))
        if operator is ast.Mod and parts[0] and parts[0][0] in (TEXT, CONST):
            return (TEXT, tuple(parts[:1])) if len(parts) < 2 else (TEXT, (parts[0], (ANY, tuple(parts[1:]))))
        if operator is ast.BitOr:
            return (ANY, tuple(parts))
        kept = tuple([part for part in parts if part is not None and part[0] != CONST])
        return (ANY, kept) if kept else None

    def unary(self, node: Any) -> Facts:
        operand = self.expression(node.operand)
        return (NOT, operand) if type(node.op) is ast.Not and operand is not None else operand

    def boolean(self, node: Any) -> Facts:
        kind = AND if type(node.op) is ast.And else OR
        return (kind, tuple([self.expression(value) for value in node.values]))

    def compare(self, node: Any) -> Facts:
        parts = tuple([self.expression(part) for part in (node.left, *node.comparators)])
        return (COMPARE, parts, tuple([type(op).__name__ for op in node.ops]))

    def joined(self, node: Any) -> Facts:
        return (TEXT, tuple([self.expression(value) for value in node.values]))

    def comprehension(self, node: Any) -> Facts:
        generators = tuple(
            [
                (
                    self.expression(g.target),
                    self.expression(g.iter),
                    tuple([self.expression(i) for i in g.ifs]),
                )
                for g in node.generators
            ]
        )
        kind = type(node).__name__
        if kind == "DictComp":
            element: Facts = (ITEMS, (self.expression(node.key), self.expression(node.value)))
        else:
            element = self.expression(node.elt)
        return (COMP, kind, element, generators, self.place(node))

    def lambda_(self, node: Any) -> Facts:
        return (LAMBDA, self.parameters(node.args), self.expression(node.body))

    def yield_(self, node: Any) -> Facts:
        self.generator = True
        return (YIELD, self.expression(node.value))

    def choice(self, node: Any) -> Facts:
        return (CHOICE, self.expression(node.test), self.expression(node.body), self.expression(node.orelse))
