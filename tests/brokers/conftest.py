"""One real broker after the other, each with a topic of its own that is deleted afterwards."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
import pytest
from broker_places import CONSUMERS, KINDS, Place
from broker_proxy import Proxy
from sqlalchemy import URL, make_url

from mainstay.patterns import Database
from mainstay.patterns.schema import upgrade


@pytest.fixture(scope="session")
def kafka_port() -> Iterator[int]:
    """Port of Kafka on loopback; else of librdkafka's mock cluster, which lives in a producer of ours."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", 9092)) == 0:
            yield 9092
            return
    from confluent_kafka import Producer

    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "127.0.0.1:1"})
    yield next(iter(cluster.list_topics(timeout=10).brokers.values())).port


@pytest.fixture(params=KINDS)
async def place(
    request: pytest.FixtureRequest, needs_server: Callable[[int, str], None]
) -> AsyncIterator[Place]:
    """A topic that exists, at each broker in turn."""
    async with made(request.param, request, needs_server) as found:
        yield found


@asynccontextmanager
async def made(
    kind: str, request: pytest.FixtureRequest, needs_server: Callable[[int, str], None]
) -> AsyncIterator[Place]:
    """A topic of our own at that broker, deleted in the end."""
    topic = f"mainstay-test-{uuid4().hex[:12]}"
    if kind == "nats":
        needs_server(4222, "NATS")
        import nats

        client = await nats.connect("nats://127.0.0.1:4222")
        await client.jetstream().add_stream(name=topic, subjects=[f"{topic}.>"])
        try:
            yield Place(kind, "127.0.0.1", 4222, topic, {"redeliver_after": 2.0})
        finally:
            await client.jetstream().delete_stream(topic)
            await client.close()
    elif kind == "amqp":
        needs_server(5672, "RabbitMQ")
        import aio_pika

        connection = await aio_pika.connect("amqp://guest:guest@127.0.0.1/")
        channel = await connection.channel()
        exchange = await channel.declare_exchange(topic, "topic", durable=True)
        try:
            yield Place(kind, "127.0.0.1", 5672, topic, {})
        finally:
            for consumer in CONSUMERS:
                await channel.queue_delete(f"{topic}.{consumer}")
            await exchange.delete(if_unused=False)
            await connection.close()
    elif kind == "redis":
        needs_server(6379, "Redis")
        from redis.asyncio import Redis

        try:
            yield Place(kind, "127.0.0.1", 6379, topic, {"redeliver_after": 2.0})
        finally:
            async with Redis(port=6379) as redis:
                await redis.delete(topic)
    else:
        port = request.getfixturevalue("kafka_port")
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"})
        real = port == 9092
        if real:
            for result in admin.create_topics([NewTopic(topic, 2, 1)]).values():
                await asyncio.wrap_future(result)
        else:  # the mock cluster makes a topic when it is asked for, and all of it goes with its producer
            await asyncio.to_thread(admin.list_topics, topic, 10)
        try:
            yield Place(kind, "127.0.0.1", port, topic, {"session_timeout_ms": 6000})
        finally:
            if real:
                for result in admin.delete_topics([topic]).values():
                    await asyncio.wrap_future(result)


@pytest.fixture
async def proxy(place: Place) -> AsyncIterator[Proxy]:
    """A proxy in front of the broker."""
    async with Proxy(place.host, place.port) as found:
        yield found


@pytest.fixture(scope="session")
def database_url(postgresql_url: str) -> Iterator[URL]:
    """A database of our own with Mainstay's tables."""
    name = f"mainstay_brokers_{os.getpid()}"
    with psycopg.connect(postgresql_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # of a process that was killed
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        url = make_url(postgresql_url).set(database=name)
        try:
            with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
                connection.execute("CREATE TABLE effect (n bigserial PRIMARY KEY, name text NOT NULL)")
                connection.execute(
                    "CREATE TABLE dead (n bigserial PRIMARY KEY, name text NOT NULL, error text)"
                )
            asyncio.run(_upgrade(url))
            yield url
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def _upgrade(url: URL) -> None:
    async with Database(url) as database:
        await upgrade(database)


@pytest.fixture
async def db(database_url: URL) -> AsyncIterator[Database]:
    """That database, with its tables empty."""
    with psycopg.connect(database_url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute("TRUNCATE effect, dead, mainstay.inbox RESTART IDENTITY")
    async with Database(database_url) as database:
        yield database
