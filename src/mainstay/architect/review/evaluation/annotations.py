"""Annotations: the type that is promised, by an annotation or by what a dependency gives."""

from __future__ import annotations

from mainstay.architect.review import facts as f
from mainstay.architect.review.evaluation.frame import Frame
from mainstay.architect.review.facts import Facts, last_name
from mainstay.architect.review.program import NONE, Class, Type

_LISTS = {"list", "List", "Sequence", "Iterable", "Iterator", "set", "Set", "frozenset", "Collection", "tuple", "Tuple",
          "AsyncIterator", "AsyncGenerator", "Generator", "AsyncIterable", "MutableSequence", "FrozenSet", "deque",
          "Page", "InstrumentedList", "WriteOnlyMapped", "DynamicMapped"}  # fmt: skip
THROUGH = {"Optional", "Annotated", "Awaitable", "Coroutine", "Mapped", "Final", "ClassVar", "Required", "NotRequired",
            "Union", "Depends"}  # fmt: skip
_CONTEXTS = {"AbstractContextManager", "AbstractAsyncContextManager", "ContextManager", "AsyncContextManager"}


def annotated(frame: Frame, annotation: Facts, depth: int = 0) -> Type:
    """The type that an annotation promises."""
    if not annotation or depth > 8:
        return None
    kind = annotation[0]
    if kind in (f.NAME, f.ATTR):
        found = (
            frame.program.lookup(frame.module, annotation[1])
            if kind == f.NAME
            else frame.expression(annotation).t
        )
        if found is None and kind == f.NAME and annotation[1] in frame.names:
            found = frame.names[annotation[1]].t
        return _instance_of(frame, found)
    if kind == f.CONST and isinstance(annotation[1], str):
        name = annotation[1].strip()
        if name.isidentifier():
            return annotated(frame, (f.NAME, name), depth + 1)
        return None
    if kind == f.ANY:
        for part in annotation[1]:
            found = annotated(frame, part, depth + 1)
            if found is not None:
                return found
        return None
    if kind == f.SUB:
        outer = last_name(annotation[1])
        inner = annotation[2]
        parts = inner[1] if inner and inner[0] == f.ITEMS else (inner,)
        if outer in _CONTEXTS:
            entered = annotated(frame, parts[0], depth + 1)
            return ("ctx", "session", entered, None, ()) if _is_session(entered) else None
        if outer in THROUGH:
            for part in parts:
                if part and part[0] == f.CALL and last_name(part[1]) in ("Depends", "Security"):
                    continue
                found = annotated(frame, part, depth + 1)
                if found is not None:
                    return found
            for part in parts:
                if part and part[0] == f.CALL and last_name(part[1]) in ("Depends", "Security") and part[2]:
                    return given_by(frame, part[2][0])
            return None
        if outer in _LISTS:
            return ("list", annotated(frame, parts[0], depth + 1)) if parts else None
        if outer in ("dict", "Dict", "Mapping", "defaultdict", "MutableMapping"):
            return ("dict", annotated(frame, parts[-1], depth + 1))
        if outer in ("type", "Type"):
            found = annotated(frame, parts[0], depth + 1)
            return ("cls", found[1]) if found and found[0] == "obj" else None
        found = annotated(frame, annotation[1], depth + 1)
        if found and found[0] == "lib" and found[2] is None and parts and parts[0]:
            model = annotated(frame, parts[0], depth + 1)
            if model and model[0] == "obj":
                return (*found[:2], model[1], found[3], found[4])
        return found
    return None


def instance(frame: Frame, klass: Class) -> Type:
    """The type of an instance of `klass`."""
    library = frame.program.library_type(klass)
    if library is not None and frame.program.models_of(klass) is None:
        return ("lib", library, None, NONE, klass.id)
    return ("obj", klass.id, NONE)


def _instance_of(frame: Frame, found: Type) -> Type:
    if found is None:
        return None
    if found[0] == "cls":
        return instance(frame, frame.program.classes[found[1]])
    if found[0] == "ext":
        named = frame.libraries.names.get(found[1])
        return ("lib", named, None, NONE, None) if named else None
    if found[0] in ("obj", "lib", "list", "dict"):
        return found  # an alias: SessionDep = Annotated[Session, Depends(...)]
    return None


def given_by(frame: Frame, dependency: Facts) -> Type:
    """The type that ``Depends(dependency)`` gives."""
    found = frame.expression(dependency).t if dependency else None
    if found and found[0] == "fun":
        function = frame.evaluation.function(frame.program.functions[found[1]])
        gives = function.gives
        if gives and gives[0] == "list" and "generator" in function.flags:
            gives = gives[1]
        return gives
    if found and found[0] == "cls":
        return instance(frame, frame.program.classes[found[1]])
    return None


def _is_session(t: Type) -> bool:
    return bool(t and t[0] == "lib" and t[1] in ("Session", "AsyncSession", "ScopedSession"))
