"""The program: modules, classes and functions of all files, and how names in one lead to another.

Types of values are small tuples, so that they can be compared and kept in sets:

``("mod", module)``  ``("ext", "full.name")``  ``("cls", class)``  ``("obj", class, traits)``
``("lib", type, model, traits, class)``  ``("fun", function, receiver type)``  ``("super", class, receiver type)``
``("op", operation, receiver type, name)``  ``("manager", function, what the call says of its arguments)``
``("ctx", scope kind, type, place, more scope kinds)``  ``("lam", number)``  ``("list", item)``  ``("dict", value)``
``("tuple", items)``  ``("slice", whether few)``  ``("str", text)``  ``("const",)``  ``("const", word)``
``("col", class, field)``  ``("colmethod", class, field, name)``  ``("cond", fields)``  ``("rowvalue",)``
``("listmethod", name, type)`` (a method of one of Python's own types)
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mainstay.architect.effects import Condition, Origin, Sequence, Tree
from mainstay.architect.findings import Location
from mainstay.architect.review.facts import (
    ASSIGN,
    ATTR,
    CALL,
    CLASS,
    CONST,
    DEF,
    EXPR,
    FOR,
    IF,
    ITEMS,
    NAME,
    SUB,
    TRY,
    WITH,
    Facts,
    annotation_names,
    last_name,
)
from mainstay.architect.review.libraries import Libraries, Models

Type = Any
"""One of the tuples above, or None where nothing is known."""

NONE: frozenset[Any] = frozenset()


@dataclass(frozen=True, slots=True)
class Yield:
    """Where a function yields: for a context manager, where the body of the ``with`` runs."""

    when: frozenset[Condition]
    """What must hold of the parameters to come there."""
    scopes: tuple[tuple[str, frozenset[Condition]], ...]
    """Kinds of the scopes around it, each with what must hold for it to be opened."""


@dataclass(slots=True)
class Function:
    """A function or method of the program."""

    id: str
    name: str
    """As a reader would name it: ``Order.total``, ``checkout``."""
    module: Module
    klass: Class | None
    parameters: Facts
    returns: Facts
    decorators: Facts
    body: bytes
    place: tuple[int, int, int, int]
    flags: str
    parent: str = ""
    """The function it is nested in."""
    tree: Tree = field(default_factory=Sequence)
    gives: Type = None
    """Type of what it returns (or yields)."""
    gives_from: frozenset[Origin] = NONE
    yields: tuple[Yield, ...] = ()
    """Its yields, in order."""
    state: int = 0
    """0 not looked at, 1 in progress, 2 done."""
    learned: dict[int, Type] = field(default_factory=dict)
    """Parameter position -> type, as seen where it is called."""
    outer: dict[str, Any] | None = None
    """Values of the enclosing function's variables, for a nested function."""
    decorated: frozenset[str] = NONE
    """Last names of its decorators."""
    fills: set[str] = field(default_factory=set)
    """Collections that it puts entries into by key, as written."""

    @property
    def location(self) -> Location:
        line, column, end_line, end = self.place
        return Location(self.module.path, line, column, end_line, end)


@dataclass(slots=True)
class Class:
    """A class of the program."""

    id: str
    name: str
    module: Module
    bases: Facts
    keywords: Facts
    methods: dict[str, str]
    """Name -> function."""
    attributes: dict[str, tuple[Facts, Facts, Any]]
    """Name -> (value, annotation, place), as written in the class body."""
    place: tuple[int, int, int, int]
    nested: dict[str, str] = field(default_factory=dict)
    ancestry: tuple[tuple[Class, ...], frozenset[str]] | None = None
    """Itself and its ancestors in the program, and full names of those outside it."""
    members: dict[str, Any] = field(default_factory=dict)
    """Attributes of instances, worked out on demand."""
    assigned: dict[str, tuple[Facts, str]] | None = None
    """``self.name = value`` in its methods: name -> (value, function)."""
    models: Models | bool | None = False
    relations: dict[str, Relation] | None = None


@dataclass(slots=True)
class Relation:
    """An attribute of a row that leads to other rows."""

    name: str
    kind: str
    """``one`` or ``many``."""
    target: str
    """Class at the other end; empty where unknown."""
    eager: bool = False
    """Loaded along with its row, or never loaded by being looked at."""
    back: str = ""
    """The attribute at the other end that leads back."""


@dataclass(slots=True)
class Module:
    """One source file."""

    id: str
    path: str
    package: bool
    imports: dict[str, tuple[str, str | None, int]]
    stars: list[tuple[str, int]]
    names: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Top-level names: ``("def", function)``, ``("cls", class)``, ``("expr", value, annotation)``."""
    values: dict[str, Any] = field(default_factory=dict)
    """Types of top-level names, worked out on demand."""
    top: list[Facts] = field(default_factory=list)
    quiet: bool = False
    """Read for facts only: findings in it are not printed."""
    script: bool = False
    """Run by hand, once: findings in it are possible at most."""


class Program:
    """Everything that review knows about a tree of source files."""

    evaluate_at: Callable[[Module, Facts, Facts], Type]
    """Type of an expression at the top level of a module (with its annotation); set by `Evaluation`."""

    def __init__(self, libraries: Libraries) -> None:
        self.libraries = libraries
        self.modules: dict[str, Module] = {}
        self.functions: dict[str, Function] = {}
        self.classes: dict[str, Class] = {}
        self.packages: set[str] = set()
        """Top-level packages that any file imports."""
        self.loaded_names: set[str] = set()
        """Names of relations that any query of the program loads along."""
        self.by_hand: set[str] = set()
        """Functions that run with a migration, not with a request."""
        self.loaded_pairs: set[tuple[str, str]] = set()
        """Relations that any query loads along with another one: (the other one, its own)."""
        self.tables: dict[str, str] = {}
        """Table name -> the model's name, where a model says which table it has."""
        self.atomic_requests = False
        self.user_model = ""
        """What the settings name as the model of users, such as ``accounts.User``."""
        self.serializable = False
        """Whether an engine of the program runs every transaction SERIALIZABLE."""
        self._index: dict[str, list[str]] = {}
        self.concrete: dict[str, list[Class]] = {}
        """Abstract model -> the models below it."""
        self._derived_fields: dict[str, str] | None = None
        self.field_names = {full.rpartition(".")[2] for models in libraries.models for full in models.fields}

    # --------------------------------------------------------------------------------------- modules

    def add(self, path: str, roots: int, facts: Facts, *, quiet: bool, script: bool) -> None:
        """Take in the facts of one file. `roots` is how many leading folders of its path are no packages."""
        imports, body, _ = facts
        parts = path.removesuffix(".py").split("/")
        package = parts[-1] == "__init__"
        if package:
            parts.pop()
        name = ".".join(parts) or "__init__"
        module = Module(name, path, package, {}, [], quiet=quiet, script=script)
        for alias, source, member, level in imports:
            if member == "*":
                module.stars.append((source, level))
            else:
                module.imports[alias] = (source, member, level)
            if not level:
                self.packages.add(source.partition(".")[0])
        self.modules[name] = module
        for start in range(min(roots, len(parts) - 1) + 1):
            self._index.setdefault(".".join(parts[start:]), []).append(name)
        self._statements(module, body)

    def _statements(self, module: Module, body: Facts) -> None:
        for statement in body:
            kind = statement[0]
            if kind == DEF:
                made = self.add_function(module, None, statement[1], "")
                module.names[made.name] = ("def", made.id)
            elif kind == CLASS:
                klass = self.add_class(module, statement[1], "")
                module.names[klass.name] = ("cls", klass.id)
            elif kind == ASSIGN:
                for target in statement[1]:
                    if target and target[0] == NAME:
                        module.names.setdefault(target[1], ("expr", statement[2], statement[3]))
                        if target[1] == "AUTH_USER_MODEL" and statement[2] and statement[2][0] == CONST:
                            self.user_model = str(statement[2][1])
                        if target[1] == "DATABASES" or target[1] == "ATOMIC_REQUESTS":
                            self._atomic_requests(target[1], statement[2])
                    elif target and target[0] == SUB and "ATOMIC_REQUESTS" in str(target):
                        self.atomic_requests |= statement[2] == (CONST, True)
            elif kind == IF:
                self._statements(module, statement[2])
                self._statements(module, statement[3])
            elif kind == TRY:
                self._statements(module, statement[1])
                for handler in statement[2]:
                    self._statements(module, handler[2])
                self._statements(module, statement[3])
            elif kind == WITH:
                self._statements(module, statement[2])
                module.top.append(statement)
            elif kind in (EXPR, FOR):
                module.top.append(statement)

    def _atomic_requests(self, name: str, value: Facts) -> None:
        text = repr(value)
        if name == "ATOMIC_REQUESTS":
            self.atomic_requests |= value == (CONST, True)
        elif f"'ATOMIC_REQUESTS'), ({CONST}, True)" in text:
            self.atomic_requests = True

    def add_function(self, module: Module, klass: Class | None, facts: Facts, parent: str) -> Function:
        name, parameters, returns, decorators, body, place, flags = facts
        shown = f"{klass.id.partition(':')[2]}.{name}" if klass else name
        base = f"{module.id}:{shown}" if not parent else f"{parent}.{name}"
        found, number = base, 1
        while found in self.functions:  # overloads, conditional definitions, property setters
            number += 1
            found = f"{base}#{number}"
        decorated = frozenset(last_name(d) for d in decorators if d)
        function = Function(
            found, shown if not parent else f"{self.functions[parent].name}.{name}", module, klass, parameters,
            returns, decorators, body, place, flags, parent, decorated=decorated,
        )  # fmt: skip
        self.functions[found] = function
        return function

    def add_class(self, module: Module, facts: Facts, outer: str) -> Class:
        name, bases, keywords, _decorators, body, place = facts
        shown = f"{outer}.{name}" if outer else name
        klass = Class(f"{module.id}:{shown}", name, module, bases, keywords, {}, {}, place)
        if klass.id in self.classes:
            klass.id += f"#{place[0]}"
        self.classes[klass.id] = klass
        self._class_body(module, klass, body, shown)
        return klass

    def _class_body(self, module: Module, klass: Class, body: Facts, shown: str) -> None:
        for statement in body:
            kind = statement[0]
            if kind == DEF:
                made = self.add_function(module, klass, statement[1], "")
                plain = statement[1][0]
                if plain in klass.methods and {"setter", "deleter", "overload"} & made.decorated:
                    continue
                klass.methods[plain] = made.id
            elif kind == ASSIGN:
                for target in statement[1]:
                    if target and target[0] == NAME:
                        klass.attributes[target[1]] = (statement[2], statement[3], statement[4])
            elif kind == CLASS:
                nested = self.add_class(module, statement[1], shown)
                klass.nested[nested.name] = nested.id
            elif kind == IF:
                self._class_body(module, klass, statement[2], shown)
                self._class_body(module, klass, statement[3], shown)

    def resolve_module(self, name: str, near: Module) -> str | None:
        """The module that `name` means in an absolute import written in `near`."""
        found = self._index.get(name)
        if not found:
            return None
        if len(found) == 1:
            return found[0]
        here = near.id.split(".")

        def shared(other: str) -> int:
            count = 0
            for mine, theirs in zip(here, other.split("."), strict=False):
                if mine != theirs:
                    break
                count += 1
            return count

        return max(found, key=lambda other: (shared(other), -len(other)))

    def _source(self, module: Module, source: str, level: int) -> tuple[str | None, str]:
        """The module of the program that an import names, and its full name."""
        if not level:
            return self.resolve_module(source, module), source
        parts = module.id.split(".")
        keep = len(parts) - level + (1 if module.package else 0)
        base = parts[: max(keep, 0)]
        name = ".".join([*base, source] if source else base)
        return (name if name in self.modules else None), name

    def lookup(self, module: Module, name: str, depth: int = 0) -> Type:
        """What `name` means at the top level of `module`; None where it is not found."""
        if name in module.values:
            return module.values[name]
        if depth > 20:
            return None
        module.values[name] = None  # cuts circles
        found = self._lookup(module, name, depth)
        module.values[name] = found
        return found

    def _lookup(self, module: Module, name: str, depth: int) -> Type:
        entry = module.names.get(name)
        if entry is not None:
            if entry[0] == "def":
                return ("fun", entry[1], None)
            if entry[0] == "cls":
                return ("cls", entry[1])
            imported = module.imports.get(name)
            if not (imported and entry[1] == (CONST, None)):
                return self.evaluate_at(module, entry[1], entry[2])
        imported = module.imports.get(name)
        if imported is not None:
            source, member, level = imported
            return self.imported(module, source, member, level, depth)
        for source, level in module.stars:
            inner, full = self._source(module, source, level)
            if inner is not None and inner != module.id:
                found = self.lookup(self.modules[inner], name, depth + 1)
                if found is not None:
                    return found
            elif inner is None and f"{full}.{name}" in self.libraries.functions:
                return ("ext", f"{full}.{name}")
        return None

    def imported(self, module: Module, source: str, member: str | None, level: int, depth: int) -> Type:
        inner, full = self._source(module, source, level)
        if member is None:
            return ("mod", inner) if inner else ("ext", full)
        if inner is not None:
            found = self.lookup(self.modules[inner], member, depth + 1)
            if found is not None:
                return found
            below = f"{inner}.{member}"
            if below in self.modules:
                return ("mod", below)
            return None
        submodule = f"{full}.{member}"
        known = submodule if level and submodule in self.modules else None
        if not level:
            known = self.resolve_module(submodule, module)
        return ("mod", known) if known else ("ext", submodule)

    # --------------------------------------------------------------------------------------- classes

    def ancestry(self, klass: Class) -> tuple[tuple[Class, ...], frozenset[str]]:
        """`klass` and its ancestors in the program, nearest first, and the full names of outside ones."""
        if klass.ancestry is None:
            klass.ancestry = ((klass,), NONE)
            inside: list[Class] = [klass]
            outside: set[str] = set()
            for base in klass.bases:
                # Generic[T], Manager.from_queryset(X), with_metaclass(M, Base): look at all parts.
                for part in _base_parts(base):
                    kind = self.evaluate_at(klass.module, part, None)
                    if kind is None:
                        continue
                    if kind[0] == "cls":
                        more, others = self.ancestry(self.classes[kind[1]])
                        inside.extend(c for c in more if c not in inside)
                        outside |= others
                    elif kind[0] == "ext":
                        outside.add(kind[1])
                    elif kind[0] == "lib":
                        outside.add(f"lib:{kind[1]}")
            klass.ancestry = (tuple(inside), frozenset(outside))
        return klass.ancestry

    def library_type(self, klass: Class) -> str | None:
        """The type of a library table that `klass` descends from."""
        for full in sorted(self.ancestry(klass)[1]):
            if full in self.libraries.names:
                return self.libraries.names[full]
            if full.startswith("lib:"):
                return full[4:]
        return None

    def method(self, klass: Class, name: str) -> Function | None:
        """The method `name` of a class, its own or the nearest inherited one."""
        for one in self.ancestry(klass)[0]:
            if name in one.methods:
                return self.functions[one.methods[name]]
        return None

    def models_of(self, klass: Class) -> Models | None:
        """How `klass` is a model, or None where its instances are no rows."""
        if klass.models is False:
            klass.models = None
            inside, outside = self.ancestry(klass)
            for models in self.libraries.models:
                if models.bases & outside or any(models.marks & c.attributes.keys() for c in inside):
                    klass.models = models
                    break
            else:
                # A base from an application that is not in the tree: its fields still tell.
                named_so = any("odel" in o or "ase" in o for o in outside)
                for one in inside:
                    for value, _, _ in one.attributes.values():
                        found = self.field(one, value)
                        if found and found[1] in ("one", "many", "relationship") and named_so:
                            klass.models = found[0]
        return klass.models if isinstance(klass.models, Models) else None

    def field(self, klass: Class, value: Facts) -> tuple[Models, str] | None:
        """Where `value` constructs a field: for which kind of models, and ``one``, ``many``, ``column`` …"""
        if not value or value[0] != CALL or value[1] is None:
            return None
        last = last_name(value[1])
        if last in self.field_names:
            kind = self.evaluate_at(klass.module, value[1], None)
        elif last in self._own_fields():
            kind = ("ext", f"?.{self._own_fields()[last]}")
        else:
            return None
        full = kind[1] if kind and kind[0] == "ext" else f"?.{last}"
        for models in self.libraries.models:
            if full in models.fields:
                return models, models.fields[full]
        if kind is None or kind[0] in ("ext", "op", "lib"):
            # db.relationship of Flask-SQLAlchemy, sa.orm.relationship through a wrapper: by its last name.
            last = full.rpartition(".")[2]
            for models in self.libraries.models:
                for name, field_kind in models.fields.items():
                    if name.endswith(f".{last}"):
                        return models, field_kind
        return None

    def _own_fields(self) -> dict[str, str]:
        """Name of a field class that the program derives -> last name of the library's field."""
        if self._derived_fields is None:
            self._derived_fields = {}
            waiting = True
            while waiting:
                waiting = False
                for klass in self.classes.values():
                    for base in klass.bases:
                        last = last_name(base)
                        field_name = last if last in self.field_names else self._derived_fields.get(last)
                        if field_name and klass.name not in self._derived_fields:
                            self._derived_fields[klass.name] = field_name
                            waiting = True
        return self._derived_fields

    def is_row(self, class_id: str) -> bool:
        klass = self.classes.get(class_id)
        return klass is not None and self.models_of(klass) is not None

    def title(self, model: Any) -> str:
        """The name of a model or table for a reader."""
        if model is None:
            return ""
        klass = self.classes.get(model)
        return klass.name if klass else self.tables.get(str(model), str(model))

    def find_class(self, name: str, near: Module) -> str:
        """The model that a string names, as in a relation: ``"Line"``, ``"app.Line"``, ``"pkg.mod.Line"``."""
        last = name.rpartition(".")[2]
        kind = self.lookup(near, last)
        if kind and kind[0] == "cls":
            return str(kind[1])
        found = [c.id for c in self._by_class_name().get(last, ()) if self.models_of(c)]
        if len(found) == 1:
            return found[0]
        if "." in name and found:
            app = name.partition(".")[0]
            fitting = [c for c in found if f".{app}." in f".{c.partition(':')[0]}."]
            if len(fitting) == 1:
                return fitting[0]
        return ""

    def _by_class_name(self) -> dict[str, list[Class]]:
        if not hasattr(self, "_class_names"):
            self._class_names: dict[str, list[Class]] = {}
            for klass in self.classes.values():
                self._class_names.setdefault(klass.name, []).append(klass)
        return self._class_names

    def classes_named(self, title: str) -> list[Class]:
        """The models that a reader would call `title`."""
        return [klass for klass in self._by_class_name().get(title, ()) if self.models_of(klass) is not None]

    def is_column(self, klass: Class, name: str) -> bool:
        """Whether attribute `name` of a model is kept in the database."""
        for one in self.ancestry(klass)[0]:
            found = one.attributes.get(name)
            if found is not None:
                value, annotation, _ = found
                return bool(value and value[0] == CALL) or "Mapped" in set(annotation_names(annotation))
            if name.endswith("_id") and name[:-3] in one.attributes:
                return True
        return False

    def relation(self, klass: Class, name: str) -> Relation | None:
        """The relation `name` of a model, of its own or from an ancestor."""
        for one in self.ancestry(klass)[0]:
            if one.relations and name in one.relations:
                return one.relations[name]
        for one in self.concrete.get(klass.id, ()):  # an abstract model is always one of those below it
            if one.relations and name in one.relations:
                return one.relations[name]
        return None

    def unique_columns(self, class_id: str) -> set[frozenset[str]]:
        """Sets of columns of a model that a constraint keeps unique."""
        klass = self.classes.get(class_id)
        found: set[frozenset[str]] = set()
        if klass is None:
            return found
        keys: set[str] = set()
        for one in self.ancestry(klass)[0]:
            for name, (value, _, _) in one.attributes.items():
                if value and value[0] == CALL:
                    keywords = dict(value[3])
                    if keywords.get("unique") == (CONST, True) or last_name(value[1]) == "OneToOneField":
                        found.add(frozenset([name]))
                    if keywords.get("primary_key") == (CONST, True):
                        keys.add(name)
                if name in ("__table_args__", "unique_together"):
                    found |= _unique_in(value)
            meta = one.nested.get("Meta")
            if meta:
                for name, (value, _, _) in self.classes[meta].attributes.items():
                    if name in ("unique_together", "constraints"):
                        found |= _unique_in(value)
        if keys:
            found.add(frozenset(keys))
        return found

    def body(self, function: Function) -> Facts:
        """The statements of a function."""
        return marshal.loads(function.body)


def _unique_in(value: Facts) -> set[frozenset[str]]:
    """Column sets in ``UniqueConstraint(...)``, ``Index(..., unique=True)`` or ``unique_together``."""
    found: set[frozenset[str]] = set()
    if not value:
        return found
    if value[0] == ITEMS:
        texts = [v[1] for v in value[1] if v and v[0] == CONST and isinstance(v[1], str)]
        if texts:
            found.add(frozenset(texts))
        for item in value[1]:
            found |= _unique_in(item)
    elif value[0] == CALL:
        last, keywords = last_name(value[1]), dict(value[3])
        if last in ("UniqueConstraint", "PrimaryKeyConstraint") or (
            last == "Index" and keywords.get("unique") == (CONST, True)
        ):
            fields = keywords.get("fields")
            source = fields[1] if fields and fields[0] == ITEMS else value[2][1 if last == "Index" else 0 :]
            names = set()
            for v in source:
                if v and v[0] == CONST and isinstance(v[1], str):
                    names.add(v[1])
                elif v and v[0] in (NAME, ATTR):
                    names.add(last_name(v))
                elif v and v[0] == CALL and v[2] and v[2][0] and v[2][0][0] == CONST:
                    names.add(str(v[2][0][1]))
            if names:
                found.add(frozenset(names))
    return found


def _base_parts(base: Facts) -> Iterable[Facts]:
    if not base:
        return
    if base[0] == SUB:
        yield from _base_parts(base[1])
    elif base[0] == CALL:
        yield base
        if base[1] and base[1][0] == ATTR and base[1][2] == "from_queryset":
            yield base[1][1]
        for argument in base[2]:
            yield from _base_parts(argument)
    else:
        yield base
