"""The probe: tells the laboratory which line of the service's code each statement and outside call comes from.

The laboratory puts this folder on the PYTHONPATH of the service and names the service's folder in
MAINSTAY_PROBE. Python imports `sitecustomize` when it starts. From then on statements of psycopg and asyncpg end with a
comment, and HTTP requests carry a header, that names the innermost frame below that folder; the laboratory takes both
away again. Nothing of Mainstay is imported, and whatever fails in here fails silently: the service must never notice.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

ROOT = os.path.realpath(os.environ.get("MAINSTAY_PROBE", "")) + os.sep
HEADER = "X-Mainstay-Place"
SKIPPED = (os.sep + "site-packages" + os.sep, os.sep + ".venv" + os.sep, os.sep + "node_modules" + os.sep)


@functools.lru_cache(maxsize=4096)
def own(file: str) -> str:
    """The file's name below the service's folder; empty for every other file."""
    if file.startswith("<"):
        return ""
    path = os.path.realpath(file)
    # Only what lies below the service's folder is asked: the service itself may well be installed.
    inside = path.startswith(ROOT) and not any(part in path[len(ROOT) - 1 :] for part in SKIPPED)
    return path[len(ROOT) :].replace(os.sep, "/") if inside else ""


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames from the innermost out. SQLAlchemy's async sessions run sync code in a greenlet, which waits while
    the driver works: its frames come in where `greenlet_spawn` waits for it."""
    while frame is not None:
        if frame.f_code.co_name == "greenlet_spawn":
            waiting = getattr(frame.f_locals.get("context"), "gr_frame", None)
            if waiting is not None:
                yield from frames(waiting)
        yield frame
        frame = frame.f_back


def place() -> str:
    """``file:line:function`` of the innermost frame of the service's own code, or an empty string."""
    with contextlib.suppress(Exception):
        for frame in frames(sys._getframe(2)):
            name = own(frame.f_code.co_filename)
            if name:
                function = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
                return f"{name}:{frame.f_lineno}:{function}".replace("*/", "").replace("%", "")
    return ""


def marked(sql: str) -> str:
    """The statement with its place in a comment at the end."""
    if "/*mainstay:" in sql[-400:]:
        return sql
    where = place()
    return f"{sql} /*mainstay:{where}*/" if where else sql


def psycopg_queries(module: Any) -> None:
    """psycopg 3: every statement of every kind of cursor is made here."""
    for name in ("PostgresQuery", "PostgresClientQuery", "PostgresRawQuery"):
        kind = getattr(module, name, None)
        if kind is not None and "convert" in vars(kind):
            kind.convert = psycopg_convert(kind.convert)


def psycopg_convert(convert: Callable[..., Any]) -> Callable[..., Any]:
    """`convert` that adds the comment to what it made, once."""

    @functools.wraps(convert)
    def converted(self: Any, query: Any, vars: Any) -> Any:
        result = convert(self, query, vars)
        with contextlib.suppress(Exception):
            if b"/*mainstay:" not in self.query[-400:]:
                where = place()
                if where:
                    self.query += f" /*mainstay:{where}*/".encode()
        return result

    return converted


def asyncpg_connection(module: Any) -> None:
    """asyncpg: statements are prepared, or sent as they are where there are no arguments."""
    kind = module.Connection
    prepare, execute = kind._get_statement, kind.execute

    @functools.wraps(prepare)
    async def get_statement(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        return await prepare(self, marked(query), *arguments, **options)

    @functools.wraps(execute)
    async def run(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        return await execute(self, marked(query), *arguments, **options)

    kind._get_statement, kind.execute = get_statement, run


def sqlalchemy_asyncpg(module: Any) -> None:
    """SQLAlchemy on asyncpg keeps prepared statements by their text: mark it before it is looked up."""
    kind = module.AsyncAdapt_asyncpg_connection
    prepare = kind._prepare

    @functools.wraps(prepare)
    async def prepared(self: Any, operation: str, *arguments: Any, **options: Any) -> Any:
        return await prepare(self, marked(operation), *arguments, **options)

    kind._prepare = prepared


def httpx_client(module: Any) -> None:
    """httpx, sync and async."""
    for kind in (module.Client, module.AsyncClient):
        kind.build_request = httpx_build(kind.build_request)


def httpx_build(build: Callable[..., Any]) -> Callable[..., Any]:
    """`build_request` that adds the header."""

    @functools.wraps(build)
    def built(self: Any, *arguments: Any, **options: Any) -> Any:
        request = build(self, *arguments, **options)
        with contextlib.suppress(Exception):
            where = place()
            if where and request.url.host in ("127.0.0.1", "localhost"):
                request.headers[HEADER] = where
        return request

    return built


def http_client(module: Any) -> None:
    """requests, urllib3 and urllib all send their headers here."""
    kind = module.HTTPConnection
    end = kind.endheaders

    @functools.wraps(end)
    def endheaders(self: Any, *arguments: Any, **options: Any) -> Any:
        with contextlib.suppress(Exception):
            where = place()
            if where and self.host in ("127.0.0.1", "localhost"):
                self.putheader(HEADER, where)
        return end(self, *arguments, **options)

    kind.endheaders = endheaders


def aiohttp_client(module: Any) -> None:
    """aiohttp."""
    kind = module.ClientSession
    request = kind._request

    @functools.wraps(request)
    async def requested(self: Any, method: str, url: Any, **options: Any) -> Any:
        with contextlib.suppress(Exception):
            where = place()
            if where and ("127.0.0.1" in str(url) or "localhost" in str(url)):
                options["headers"] = {**dict(options.get("headers") or {}), HEADER: where}
        return await request(self, method, url, **options)

    kind._request = requested


WATCHED: dict[str, Callable[[Any], None]] = {
    "psycopg._queries": psycopg_queries,
    "asyncpg.connection": asyncpg_connection,
    "sqlalchemy.dialects.postgresql.asyncpg": sqlalchemy_asyncpg,
    "httpx._client": httpx_client,
    "http.client": http_client,
    "aiohttp.client": aiohttp_client,
}


class Finder:
    """Lets the watched modules be imported as ever, and dresses them when they are."""

    @staticmethod
    def find_spec(
        name: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's own spec, with a loader that dresses the module."""
        if name not in WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            with contextlib.suppress(Exception):
                WATCHED[name](module)

        with contextlib.suppress(Exception):
            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def chain() -> None:
    """Run the `sitecustomize` that would have been found without this one."""
    here = Path(__file__).resolve().parent
    path = [folder for folder in sys.path if Path(folder).resolve() != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


with contextlib.suppress(Exception):
    if os.environ.get("MAINSTAY_PROBE"):
        sys.meta_path.insert(0, Finder())
with contextlib.suppress(ImportError):
    chain()
