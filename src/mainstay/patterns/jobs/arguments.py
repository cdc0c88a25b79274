"""The arguments of a job: told from the function's annotations, checked as it is enqueued, parsed before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, get_type_hints

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreConfig, PydanticSerializationError, SchemaSerializer
from typing_extensions import TypedDict  # which pydantic wants before Python 3.12

from mainstay.patterns.errors import Misuse
from mainstay.patterns.messages.handler import GiveUp, NotNow
from mainstay.patterns.messages.message import Message, Unserializable
from mainstay.patterns.transaction import Transaction

# Infinity, NaN and bytes have no JSON of their own; so they come back as what they were.
_READ = ConfigDict(extra="forbid", val_json_bytes="base64")
_WRITE = CoreConfig(ser_json_inf_nan="strings", ser_json_bytes="base64")
NEWER_PAYLOAD = 60.0
"""Seconds after which a job is tried again whose payload has arguments that this version does not know."""


class BadArguments(Misuse, TypeError):
    """A job was enqueued with arguments that its function does not take."""


class Arguments:
    """What a job's function takes.

    Attributes:
        transaction: the parameter that the worker fills with its transaction, or None.
        message: the parameter that the worker fills with the message, or None.
        names: the parameters that the payload fills, in order.

    Raises:
        Misuse: a parameter cannot be told from a payload, with the reason and the remedy.
    """

    def __init__(self, job: str, function: Callable[..., Any]) -> None:
        self._job = job
        self.transaction: str | None = None
        self.message: str | None = None
        hints = hints_of(job, function)
        fields: dict[str, Any] = {}
        self._positional = 0
        for name, parameter in inspect.signature(function).parameters.items():
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL | inspect.Parameter.VAR_KEYWORD:
                    raise Misuse(
                        f"job {job} takes {parameter}, and a payload needs a name and a type for each argument;"
                        " write them out"
                    )
                case inspect.Parameter.POSITIONAL_ONLY:
                    raise Misuse(
                        f"job {job} takes {name} by position only, and a payload has names; drop the /"
                    )
            if name not in hints:
                raise Misuse(
                    f"parameter {name} of job {job} has no annotation, so nobody could parse it; add one"
                )
            if hints[name] is Transaction:
                self.transaction = name
            elif hints[name] is Message:
                self.message = name
            else:
                optional = parameter.default is not parameter.empty
                fields[name] = NotRequired[hints[name]] if optional else hints[name]
                self._positional += parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        self.names = tuple(fields)
        make: Any = TypedDict  # whose fields type checkers want written out
        payload = make("payload", fields)
        payload.__pydantic_config__ = _READ
        try:
            self._adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(payload)
        except (PydanticSchemaGenerationError, PydanticUserError):
            raise Misuse(
                f"parameter {_culprit(hints, self.names)} of job {job} has a type that cannot be written as JSON;"
                " pass what it is made from, such as an id"
            ) from None
        # A serializer of its own, because a TypedDict's configuration only counts for validation.
        self._serializer = SchemaSerializer(self._adapter.core_schema, _WRITE)

    def dump(self, given: tuple[Any, ...], named: Mapping[str, Any]) -> str:
        """The payload for these arguments.

        Raises:
            BadArguments: one is missing, unknown, given twice or of another type.
            Unserializable: one cannot be written as JSON.
        """
        values = dict(named)
        if given:
            if len(given) > self._positional:
                raise BadArguments(
                    f"job {self._job} takes at most {self._positional} arguments by position, not {len(given)}"
                )
            for name, value in zip(self.names, given, strict=False):
                if name in values:
                    raise BadArguments(f"argument {name} of job {self._job} is given twice")
                values[name] = value
        try:
            checked = self._adapter.validate_python(values)
        except ValidationError as error:
            raise BadArguments(self._complaint(error)) from None
        try:
            payload = self._serializer.to_json(checked)
            self._adapter.validate_json(
                payload
            )  # or the worker would be the first to learn that it cannot be read
            return payload.decode()
        except ValidationError as error:
            raise Unserializable(
                f"the arguments of job {self._job} cannot be read back from JSON: {self._complaint(error)}"
            ) from None
        except (PydanticSerializationError, UnicodeError) as error:
            # Which one it is, the serializer does not tell.
            raise Unserializable(
                f"the arguments of job {self._job} cannot be written as JSON: {self._unserializable(values, error)}"
            ) from None

    def load(self, payload: str) -> dict[str, Any]:
        """The arguments from a payload, typed.

        Raises:
            NotNow: a newer version enqueued it, with arguments that this one does not know.
            GiveUp: an older version enqueued it, and it no longer fits.
        """
        try:
            return self._adapter.validate_json(payload)
        except ValidationError as error:
            complaint = f"the payload does not fit: {self._complaint(error)}"
            if any(one["type"] == "extra_forbidden" for one in error.errors(include_url=False)):
                raise NotNow(
                    f"{complaint}; a newer version of it may know them", after=NEWER_PAYLOAD
                ) from None
            raise GiveUp(
                f"{complaint}; another version of the job enqueued it: give new parameters a default, and redrive it"
            ) from None

    def _complaint(self, error: ValidationError) -> str:
        """One sentence, without the values: they may be nobody's business."""
        found = error.errors(include_url=False, include_input=False, include_context=False)
        first = found[0]
        where = ".".join(str(step) for step in first["loc"])
        if first["type"] == "missing" and len(first["loc"]) == 1:
            text = f"job {self._job} needs the argument {where}"
        elif first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            text = f"job {self._job} has no argument {where} (it has {', '.join(self.names) or 'none'})"
        else:
            text = f"argument {where or 'list'} of job {self._job}: {first['msg']}"
        return text if len(found) == 1 else f"{text}, and {len(found) - 1} more like it"

    def _unserializable(self, values: Mapping[str, Any], error: Exception) -> str:
        for name in values:
            try:
                TypeAdapter(Any).dump_json(values[name])
            except (PydanticSerializationError, UnicodeError) as one:
                return f"argument {name}: {one}"
        return str(error)


def hints_of(job: str, function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, resolved.

    Raises:
        Misuse: one names something that is not there when the function is defined.
    """
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise Misuse(
            f"an annotation of job {job} names {error.name}, which cannot be found where the job is defined;"
            " import it at the top of the module, not under TYPE_CHECKING"
        ) from None


def _culprit(hints: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        try:
            TypeAdapter(hints[name])
        except (PydanticSchemaGenerationError, PydanticUserError):
            return name
    return " or ".join(names)
