"""Sends the scenario's requests for one actor: fills in ``${name}``, keeps cookies, saves values from replies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

import httpx
from jsonpath_ng.ext.parser import parse as parse_jsonpath
from lxml import etree, html
from lxml.cssselect import CSSSelector

from mainstay.architect.diagnose.oracle import Answer, shorten
from mainstay.architect.diagnose.scenario import Actor, Request, Save
from mainstay.architect.errors import MainstayError
from mainstay.architect.nearest import nearest

LIMIT = 30.0
"""Seconds until a reply that does not come is given up."""

LARGEST_REPLY = 5_000_000
"""Bytes of a reply that are read; a longer one ends the request."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def value(self) -> Any:
        """The JSON value, or the text where it is none."""
        if "json" in self.headers.get("content-type", ""):
            try:
                return json.loads(self.text)
            except ValueError:
                return self.text
        return self.text

    @property
    def answer(self) -> Answer:
        """The reply as the oracle sees it."""
        return Answer(self.status, self.value, self.headers.get("location", ""))

    def __str__(self) -> str:
        return f"{self.status} {shorten(self.text)}".strip()


class Hangup(Exception):
    """The service did not answer: it closed the connection, or the limit passed."""


@dataclass(slots=True)
class Client:
    """One actor's side of the conversation. `close` it in the end."""

    actor: str
    base_url: str
    model: Actor
    shared: Mapping[str, Any] = field(default_factory=dict)
    """Values that set-up requests saved."""
    saved: dict[str, Any] = field(default_factory=dict)
    _http: httpx.AsyncClient | None = None

    def forget(self) -> None:
        """Start anew: no cookies, nothing saved. The connection to the service is kept."""
        self.saved.clear()
        if self._http is not None:
            self._http.cookies.clear()

    async def send(self, name: str, request: Request) -> Reply:
        """Send one request. Raises `Hangup` where no reply comes, `MainstayError` where ``${…}`` is not known."""
        fill = self._filler(name)
        method, _, path = request.send.partition(" ")
        headers = {key: fill(value) for key, value in {**self.model.headers, **request.headers}.items()}
        content: bytes | None = None
        if request.content is not None:
            content = json.dumps(_fill_json(request.content, fill, self._known())).encode()
            headers.setdefault("Content-Type", "application/json")
        elif request.body is not None:
            content = fill(request.body).encode()
        form = {key: fill(value) for key, value in request.form.items()} if request.form is not None else None
        if self._http is None:
            # The environment's proxies are not for a service on this machine.
            self._http = httpx.AsyncClient(base_url=self.base_url, timeout=None, trust_env=False)
        url = fill(path, escape=lambda value: quote(value, safe="/:"))
        try:
            async with (
                asyncio.timeout(LIMIT),
                self._http.stream(method, url, headers=headers, content=content, data=form) as response,
            ):
                body = b""
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > LARGEST_REPLY:
                        raise Hangup(f"answered more than {LARGEST_REPLY // 1_000_000} MB")
                reply = Reply(
                    response.status_code,
                    {key.lower(): value for key, value in response.headers.items()},
                    body.decode(response.encoding or "utf-8", "replace"),
                )
        except httpx.HTTPError as error:
            raise Hangup(str(error) or type(error).__name__) from None
        except TimeoutError:
            raise Hangup(f"did not answer within {LIMIT:.0f} seconds") from None
        if reply.status < 400:
            for key, save in request.save.items():
                self.saved[key] = _pick(save, reply, f"request {name!r}: save.{key}")
        return reply

    def _known(self) -> dict[str, Any]:
        return {**self.shared, "actor": self.actor, **self.model.variables, **self.saved}

    def _filler(self, request: str) -> Callable[..., str]:
        known = self._known()

        def fill(text: str, escape: Callable[[str], str] = str) -> str:
            def value(match: re.Match[str]) -> str:
                if match[1] not in known:
                    raise MainstayError(
                        f"request {request!r} of {self.actor} needs ${{{match[1]}}}{nearest(match[1], known)}, "
                        "which nothing saved before it; add the request that does to its `before`"
                    )
                return escape(_text(known[match[1]]))

            return _VARIABLE.sub(value, text)

        return fill

    async def close(self) -> None:
        """Close the connection to the service."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _fill_json(value: Any, fill: Callable[..., str], known: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {fill(key): _fill_json(item, fill, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill_json(item, fill, known) for item in value]
    if isinstance(value, str):
        whole = _VARIABLE.fullmatch(value)
        return known[whole[1]] if whole and whole[1] in known else fill(value)
    return value


def _pick(save: Save, reply: Reply, where: str) -> Any:
    """The value that `save` names. Raises `MainstayError` where the reply does not have it."""

    def missing(what: str) -> MainstayError:
        return MainstayError(f"{where}: the reply has no {what}; it was: {reply}")

    if save.jsonpath is not None:
        try:
            found = parse_jsonpath(save.jsonpath).find(json.loads(reply.text))
        except ValueError:
            raise MainstayError(f"{where}: the reply is not JSON; it was: {reply}") from None
        if not found:
            raise missing(f"value at {save.jsonpath}")
        return found[0].value
    text = reply.text
    if save.header is not None:
        header = reply.headers.get(save.header.lower())
        if header is None:
            raise missing(f"header {save.header}")
        text = header
    if save.css is not None:
        elements: list[Any] = []
        with contextlib.suppress(etree.ParserError, ValueError):
            elements = cast("list[Any]", CSSSelector(save.css)(html.document_fromstring(text.encode())))
        if not elements:
            raise missing(f"element {save.css}")
        element = elements[0]
        picked = element.get(save.attribute) if save.attribute else element.text_content().strip()
        if picked is None:
            raise missing(f"attribute {save.attribute} at {save.css}")
        text = str(picked)
    if save.regex is not None:
        match = re.search(save.regex, text)
        if match is None:
            raise missing(f"match of {save.regex!r}")
        return match[1] if match.re.groups else match[0]
    return text
