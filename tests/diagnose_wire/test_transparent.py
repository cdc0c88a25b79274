"""The proxy changes nothing: any sequence of messages is answered byte for byte as without it."""

from __future__ import annotations

import asyncio

from gates import Record
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mainstay.architect.diagnose import wire
from mainstay.architect.diagnose.postgres import Database, Postgres
from mainstay.architect.diagnose.proxy import Proxy

SET_UP = """
CREATE TABLE IF NOT EXISTS item (id int PRIMARY KEY, n int); TRUNCATE item;
INSERT INTO item SELECT n, n FROM generate_series(1, 5) AS n
"""

statements = st.sampled_from(
    [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "",
        "SELECT * FROM item ORDER BY id",
        "SELECT 1 / 0",
        "SELEC",
        "SELECT * FROM missing",
        "UPDATE item SET n = n + 1",
        "INSERT INTO item VALUES (6, 6)",
        "INSERT INTO item VALUES (1, 1)",
        "COPY item TO STDOUT",
        "NOTIFY orders",
        "SET lock_timeout = '1s'",
        "DEALLOCATE ALL",
        "DISCARD ALL",
    ]
)
several = st.lists(statements, min_size=1, max_size=3).map(";".join)
names = st.sampled_from(["", "a", "b"])
queries = st.builds(wire.Query, statements | several).map(lambda query: [query])
steps = st.one_of(
    st.builds(wire.Parse, names, statements),
    st.builds(wire.Parse, names, st.just("SELECT n FROM item WHERE id >= $1 ORDER BY id")),
    st.builds(wire.Bind, names, names, st.just(()), st.sampled_from([(), (b"2",), (b"x",), (None,)])),
    st.builds(wire.Describe, st.sampled_from("SP"), names),
    st.builds(wire.Close, st.sampled_from("SP"), names),
    st.builds(wire.Execute, names, st.sampled_from([0, 0, 2])),
    st.builds(wire.Sync),
    st.builds(wire.Flush),
).map(lambda step: [step])


def _usual(name: str, sql: str, rows: int) -> list[wire.Message]:
    """What drivers send for one statement."""
    return [
        wire.Parse(name, sql),
        wire.Bind(name, name),
        wire.Describe("P", name),
        wire.Execute(name, rows),
    ]


usual = st.builds(_usual, names, statements, st.sampled_from([0, 2]))
usual_and_sync = usual.map(lambda messages: [*messages, wire.Sync()])


class _Copy(wire.Message):
    """CopyData, CopyDone or CopyFail."""

    def __init__(self, kind: bytes, data: bytes = b"") -> None:
        self.kind, self.data = kind, data

    def encode(self) -> bytes:
        return self.kind + (len(self.data) + 4).to_bytes(4, "big") + self.data


copied = st.sampled_from([b"7\t7\n", b"1\t1\n", b"nonsense\n"]).map(
    lambda line: [_Copy(b"d", line), _Copy(b"d", b"8\t8\n"), _Copy(b"c")]
) | st.just([_Copy(b"d", b"7\t7\n"), _Copy(b"f", b"changed my mind\0")])
# The extended one the way libpq does it: with a Sync before the data, which the server ignores, and one after.
copy_in = copied.map(lambda data: [wire.Query("COPY item FROM STDIN"), *data]) | copied.map(
    lambda data: [*_usual("", "COPY item FROM STDIN", 0), wire.Sync(), *data, wire.Sync()]
)
talk = st.lists(queries | steps | usual | usual_and_sync | copy_in, max_size=12).map(
    lambda parts: [message for part in parts for message in part]
)

END = [wire.Sync(), wire.Query("ROLLBACK"), wire.Query("SELECT 'the end' AS end")]


async def _answers(reader: asyncio.StreamReader, login_first: bool) -> list[bytes]:
    """All messages up to the end of the talk."""
    framer = wire.Framer()
    answers: list[bytes] = []
    begun = not login_first
    ending = False
    while True:
        data = await asyncio.wait_for(reader.read(1 << 16), 30)
        assert data, "the connection was closed"
        for kind, begin, end in framer.feed(data):
            message = framer.data[begin:end]
            if not begun:
                begun = kind == ord("Z")
                continue
            answers.append(message)
            ending = ending or (kind == ord("D") and b"the end" in message)
        if ending and answers[-1][:1] == b"Z":
            return answers


async def _direct(postgres: Postgres, database: Database, stream: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_unix_connection(f"{postgres.host}/.s.PGSQL.{postgres.port}")
    writer.write(wire.Startup({"user": postgres.user, "database": database.name}).encode() + stream)
    try:
        return await _answers(reader, login_first=True)
    finally:
        writer.close()


async def _through(proxy: Proxy, stream: bytes, cuts: list[int]) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    stream = wire.Startup({"user": "any"}).encode() + stream
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        writer.write(stream[begin:end])
        await asyncio.sleep(0)
    try:
        return await _answers(reader, login_first=True)
    finally:
        writer.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=talk, cuts=st.lists(st.floats(0, 1), max_size=5))
@example(  # a Flush for the Execute, though the Sync before it is not answered yet
    messages=[wire.Sync(), *_usual("a", "ROLLBACK", 2), wire.Query("ROLLBACK"), wire.Parse("", "SELECT 1")],
    cuts=[],
)
@example(messages=[wire.Bind("", ""), wire.Bind("", "")], cuts=[])  # the Sync after an error is never skipped
async def test_any_talk_is_answered_as_without_the_proxy(
    messages: list[wire.Message], cuts: list[float], postgres: Postgres, database: Database, proxy: Proxy
) -> None:
    """Queries, extended batches, pipelines, portals, errors and COPY, in any order, cut to pieces anywhere.

    Besides: what comes to the gate leaves it, one statement at a time.
    """
    proxy.gate = record = Record()
    stream = b"".join(message.encode() for message in [*messages, *END])
    places = sorted(int(cut * len(stream)) for cut in cuts)
    answers = []
    for ask in (_direct(postgres, database, stream), _through(proxy, stream, places)):
        async with await postgres.connect(database) as admin:
            await admin.execute(SET_UP)
        answers.append(await ask)
    assert answers[1] == answers[0]
    assert record.sql[-2:] == ["ROLLBACK", "SELECT 'the end' AS end"]
    assert [s.number for s in record.seen] == sorted(s.number for s in record.seen)
    ran = b"".join(answers[0]).count(b"ERROR")
    assert sum(1 for s in record.seen if s.sqlstate) <= ran
