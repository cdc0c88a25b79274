"""Relations: how the rows of one model lead to those of others, as its fields say."""

from __future__ import annotations

from mainstay.architect.review.facts import CALL, CONST, LAMBDA, Facts, annotation_names, last_name
from mainstay.architect.review.program import Class, Program, Relation

_COLLECTIONS = {"list", "set", "sequence", "collection", "writeonlymapped", "dynamicmapped"}


def link_models(program: Program) -> None:
    """Work out the relations of all models, both ways."""
    for klass in list(program.classes.values()):
        is_row = program.models_of(klass) is not None
        if not is_row and not any(
            value and value[0] == CALL and last_name(value[1]) in program.field_names
            for value, _, _ in klass.attributes.values()
        ):
            continue
        table = klass.attributes.get("__tablename__")
        if table and table[0] and table[0][0] == CONST:
            program.tables.setdefault(str(table[0][1]), klass.name)
        for name, (value, annotation, _) in klass.attributes.items():
            found = program.field(klass, value)
            if found is not None and found[1] != "column":
                _add_relation(program, klass, name, value, annotation, found[1])
        if is_row:
            _own(klass)
            for above in program.ancestry(klass)[0][1:]:
                if _is_abstract(program, above):
                    program.concrete.setdefault(above.id, []).append(klass)


def _add_relation(
    program: Program, klass: Class, name: str, value: Facts, annotation: Facts, kind: str
) -> None:
    """Take in the relation that field `name` makes, and the one that leads back."""
    if kind == "generic":
        _own(klass)[name] = Relation(name, "one", "")
    elif kind == "relationship":
        _add_relationship(program, klass, name, value, annotation)
    else:
        _add_key(program, klass, name, value, kind)


def _target(program: Program, klass: Class, value: Facts) -> str:
    """The model that the first argument of a field names; empty where unknown."""
    keywords = dict(value[3])
    first = value[2][0] if value[2] else keywords.get("to") or keywords.get("argument")
    if first is None:
        return ""
    if first[0] == CONST and isinstance(first[1], str):
        return klass.id if first[1] == "self" else program.find_class(first[1], klass.module)
    found = program.evaluate_at(klass.module, first[2] if first[0] == LAMBDA else first, None)
    if found and found[0] == "cls" and found[1]:
        return str(found[1])
    if program.user_model and last_name(first) in ("AUTH_USER_MODEL", "get_user_model"):
        return program.find_class(program.user_model, klass.module)
    return ""


def _add_relationship(program: Program, klass: Class, name: str, value: Facts, annotation: Facts) -> None:
    """``relationship(...)`` of SQLAlchemy, which names the attribute at the other end."""
    keywords = dict(value[3])
    names = list(annotation_names(annotation))
    target = _target(program, klass, value)
    if not target:
        target = next(filter(None, (program.find_class(one, klass.module) for one in names)), "")
    if names:
        many = any(one.lower() in _COLLECTIONS for one in names)
    else:
        many = keywords.get("uselist") != (CONST, False) and not _has_key_to(program, klass, target, name)
    lazy = keywords.get("lazy")
    mode = lazy[1] if lazy and lazy[0] == CONST else "select"
    made = Relation(name, "many" if many else "one", target, eager=mode not in ("select", "dynamic", True))
    for keyword in ("back_populates", "backref"):
        back = keywords.get(keyword)
        if back and back[0] == CONST:
            made.back = str(back[1])
        elif back and back[0] == CALL and back[2] and back[2][0] and back[2][0][0] == CONST:
            made.back = str(back[2][0][1])
    _own(klass)[name] = made
    if made.back and "backref" in keywords and target:
        kind = "one" if many else "many"
        _own(program.classes[target]).setdefault(made.back, Relation(made.back, kind, klass.id, back=name))


def _add_key(program: Program, klass: Class, name: str, value: Facts, kind: str) -> None:
    """``ForeignKey(...)`` and its like of Django, which give the other end an attribute."""
    target = _target(program, klass, value)
    related = dict(value[3]).get("related_name")
    one_to_one = "OneToOne" in last_name(value[1])
    default = klass.name.lower() if one_to_one else f"{klass.name.lower()}_set"
    back = str(related[1]) if related and related[0] == CONST else default
    back = back.replace("%(class)s", klass.name.lower())
    many = kind in ("many", "generic-many")
    _own(klass)[name] = Relation(name, "many" if many else "one", target, back=back)
    if target and kind != "generic-many" and not back.endswith("+"):
        there = Relation(back, "one" if one_to_one else "many", klass.id, back=name)
        _own(program.classes[target]).setdefault(back, there)


def _own(klass: Class) -> dict[str, Relation]:
    if klass.relations is None:
        klass.relations = {}
    return klass.relations


def _has_key_to(program: Program, klass: Class, target: str, name: str) -> bool:
    """Whether the model itself has the column of a relation, so that it leads to one row."""
    if f"{name}_id" in klass.attributes:
        return True
    table = program.classes[target].attributes.get("__tablename__") if target in program.classes else None
    wanted = str(table[0][1]) + "." if table and table[0] and table[0][0] == CONST else None
    if wanted is None:
        return False
    return any(f"'{wanted}" in repr(value) for value, _, _ in klass.attributes.values() if value)


def _is_abstract(program: Program, klass: Class) -> bool:
    meta = klass.nested.get("Meta")
    found = program.classes[meta].attributes.get("abstract") if meta else klass.attributes.get("__abstract__")
    return bool(found and found[0] == (CONST, True))
