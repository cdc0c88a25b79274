"""Values as they travel on the wire, made readable: text stays, binary becomes PostgreSQL's text form."""

from __future__ import annotations

import contextlib
from uuid import UUID

from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

LONGEST = 4096
"""Longer values are cut here and end with ``…``, so that a 10 MB parameter is not kept for the report."""

# Types whose binary form is their text: char, name, text, json, xml, unknown, bpchar, varchar.
_TEXTS = frozenset({18, 19, 25, 114, 142, 705, 1042, 1043})
_BYTEA, _JSONB = 17, 3802

_psycopg = Transformer()


def readable(value: bytes | None, type_oid: int = 0, binary: bool = False) -> str | None:
    """The text of a parameter or field; None for NULL. What cannot be read is hexadecimal: ``\\x00ff``.

    `type_oid` is 0 where the type is not known. Types made by the user (enums above all) have OIDs that mean
    nothing here; their bytes are taken as text where they are printable text.
    """
    if value is None:
        return None
    if not binary or type_oid in _TEXTS:
        return shorten(value[: LONGEST * 4].decode("utf-8", "replace"))
    if type_oid == _JSONB:
        return shorten(value[1 : LONGEST * 4].decode("utf-8", "replace"))
    if type_oid != _BYTEA:
        # psycopg's loaders raise whatever a malformed or foreign value makes them raise.
        with contextlib.suppress(Exception):
            return shorten(_printed(value, type_oid))
    return shorten("\\x" + value[:LONGEST].hex())


def _printed(value: bytes, type_oid: int) -> str:
    if 0 < type_oid < 16384:  # a type that PostgreSQL itself brings
        loaded = _psycopg.get_loader(type_oid, Format.BINARY).load(value)
        if isinstance(loaded, str | UUID):
            return str(loaded)
        dumped = _psycopg.get_dumper(loaded, PyFormat.TEXT).dump(loaded)
        return bytes(dumped or b"").decode()
    text = value.decode()
    if not text.isprintable():
        raise ValueError("not a text")
    return text


def shorten(text: str) -> str:
    """`text`, cut to `LONGEST` characters."""
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
