"""What a client is told about an error, and that no reply leaves before the commit."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header
from fastapi.responses import StreamingResponse
from pattern_models import Account, Document
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mainstay.patterns import (
    AnswerErrors,
    BadCursor,
    BadLimit,
    CommitUnknown,
    ConditionFailed,
    Database,
    LockNotAvailable,
    NestedTransaction,
    NotFound,
    ReplyInTransaction,
    Repository,
    StaleWrite,
    Transaction,
    answer_to,
    etag,
    if_match,
    transactional,
)

documents = Repository(Document)


class Code(Exception):
    """What a driver raises."""

    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def refusal(code: str) -> DBAPIError:
    return DBAPIError("SELECT secret", {"password": "secret"}, Code(code))


@pytest.mark.parametrize(
    ("error", "status", "again"),
    [
        (NotFound(Account, 7), 404, None),
        (StaleWrite(Account, 7, expected=1, found=2), 412, None),
        (StaleWrite(Account, 7, expected=0, found=2), 412, None),
        (StaleWrite(), 409, None),
        (ConditionFailed(Account, 0), 409, None),
        (LockNotAvailable("held"), 503, 1),
        (BadCursor("no cursor of ours"), 400, None),
        (BadLimit("1 to 200"), 400, None),
        (CommitUnknown("?"), 500, None),
        (refusal("40001"), 503, 1),
        (refusal("40P01"), 503, 1),
        (refusal("55P03"), 503, 1),
        (refusal("57014"), 503, 1),
        (refusal("53300"), 503, 1),
        (refusal("57P01"), 503, 1),
        (refusal("08006"), 503, 1),
        (refusal("25006"), 503, 1),
        (PoolTimeout("QueuePool limit"), 503, 1),
        (ConnectionRefusedError(), 503, 1),
        (refusal("23505"), None, None),
        (refusal("42P01"), None, None),
        (NestedTransaction("wrong"), None, None),
        (KeyError("x"), None, None),
    ],
    ids=lambda value: getattr(value, "orig", value).__class__.__name__ if value else "",
)
def test_answers(error: Exception, status: int | None, again: int | None) -> None:
    """Each error has its status, Retry-After where a retry helps, and no word of SQL; faults of the program none."""
    answer = answer_to(error)
    assert (answer and answer.status) == status
    if answer is not None:
        assert answer.retry_after == again
        problem = json.loads(answer.body)
        assert problem["status"] == status and problem["title"] and "secret" not in problem["detail"]
        assert ("retry-after" in answer.headers) == (again is not None)


async def test_a_database_that_is_not_there() -> None:
    """With both drivers: 503."""
    for driver in ("psycopg", "asyncpg"):
        async with Database(f"postgresql+{driver}://nobody@127.0.0.1:1/none") as db:
            with pytest.raises(Exception) as caught:
                async with db.transaction() as tx:
                    await tx.execute(select(1))
        answer = answer_to(caught.value)
        assert answer is not None and answer.status == 503


# ------------------------------------------------------------------------------------------ an application


@transactional
async def rename(tx: Transaction, id: int, title: str, version: int | None) -> Document:
    """A new title for the version that was seen."""
    return await documents.update(tx, id, version=version, title=title)


def application(db: Database) -> FastAPI:
    app = FastAPI()
    app.add_middleware(AnswerErrors)

    async def per_request() -> AsyncIterator[Transaction]:
        async with db.transaction() as tx:
            yield tx

    @app.put("/documents/{id}")
    async def put(
        id: int, title: str, if_match_: Annotated[str | None, Header(alias="If-Match")] = None
    ) -> Any:
        row = await rename(db, id, title, if_match(if_match_))
        return {"title": row.title, "etag": etag(row.version)}

    @app.post("/dependency")
    async def dependency(tx: Transaction = Depends(per_request)) -> str:  # noqa: B008
        tx.add(Account(owner="ann"))
        return "done"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            async with db.transaction() as tx:
                for n in await tx.scalars(text("SELECT generate_series(1, 3)")):
                    yield f"{n}\n"

        return StreamingResponse(lines())

    @app.get("/paged")
    async def paged() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            for first in (1, 3):
                async with db.transaction() as tx:
                    rows = list(await tx.scalars(text(f"SELECT generate_series({first}, {first + 1})")))
                for n in rows:
                    yield f"{n}\n"

        return StreamingResponse(lines())

    @app.get("/bug")
    async def bug() -> None:
        async with db.transaction() as tx:
            await tx.execute(text("INSERT INTO account (owner) VALUES (NULL)"))

    return app


@pytest.fixture
async def http(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, which sees errors that a server would answer with 500."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(application(db)), base_url="http://service"
    ) as client:
        yield client


async def test_optimistic_locking_over_http(db: Database, http: httpx.AsyncClient) -> None:
    """200 with the version seen, 412 with an old one, 428 with none, 400 with rubbish, 404 without the row."""
    async with db.transaction() as tx:
        id = (await documents.add(tx, Document(title="draft"))).id

    async def put(which: int, **headers: str) -> httpx.Response:
        return await http.put(
            f"/documents/{which}?title=x", headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    first = await put(id, if_match='"1"')
    assert first.json() == {"title": "x", "etag": '"2"'}
    stale = await put(id, if_match='"1"')
    assert (stale.status_code, stale.headers["content-type"]) == (412, "application/problem+json")
    assert stale.json()["title"] == "Precondition Failed"
    assert (await put(id)).status_code == 428
    assert (await put(id, if_match='W/"2"')).status_code == 400
    assert (await put(id + 1, if_match='"1"')).status_code == 404
    assert (await put(id, if_match="*")).json()["etag"] == '"3"'


async def test_a_lock_that_is_held_over_http(db: Database, other: Database) -> None:
    """503 with Retry-After."""
    async with other.transaction() as holder:
        row = await documents.add(holder, Document(title="draft"))
    async with Database(db.engine.url, lock_timeout=0.02) as hurried, other.transaction() as holder:
        await documents.lock(holder, row.id)
        transport = httpx.ASGITransport(application(hurried))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            reply = await client.put(f"/documents/{row.id}?title=x", headers={"if-match": "*"})
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "1"


async def test_no_reply_before_the_commit(db: Database, http: httpx.AsyncClient) -> None:
    """A transaction around the request, or around a stream, is refused before a byte is sent, and rolled back."""
    with pytest.raises(ReplyInTransaction, match="service function"):
        await http.post("/dependency")
    with pytest.raises((ReplyInTransaction, ExceptionGroup)) as caught:
        await http.get("/stream")
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ReplyInTransaction)
    async with db.transaction() as tx:
        assert await tx.scalar(select(Account)) is None
    assert (await http.get("/paged")).text == "1\n2\n3\n4\n"


async def test_a_request_inside_the_transaction_of_a_test(db: Database, http: httpx.AsyncClient) -> None:
    """What was open before the request came is none of its business, so a test can undo all of it."""
    with pytest.raises(KeyError):
        async with db.transaction() as tx:
            row = await documents.add(tx, Document(title="draft"))
            reply = await http.put(f"/documents/{row.id}?title=x", headers={"if-match": '"1"'})
            assert reply.json()["etag"] == '"2"'
            raise KeyError
    async with db.transaction() as tx:
        assert await tx.scalar(select(Document)) is None


async def test_a_fault_of_the_program_stays_one(http: httpx.AsyncClient) -> None:
    """A violated constraint that the service did not expect is the framework's to answer."""
    with pytest.raises(IntegrityError):
        await http.get("/bug")


async def test_an_error_after_the_reply_has_begun() -> None:
    """It goes on to the server: there is no second reply."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise NotFound(Account, 1)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    with pytest.raises(NotFound):
        await AnswerErrors(app)({"type": "http"}, None, send)  # type: ignore[arg-type]
    assert sent == ["http.response.start"]


async def test_what_is_not_http_passes() -> None:
    """Lifespan and websockets go through untouched."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], send))

    await AnswerErrors(app)({"type": "lifespan"}, None, "send")  # type: ignore[arg-type]
    assert seen == [("lifespan", "send")]
