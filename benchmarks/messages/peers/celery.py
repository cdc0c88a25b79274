"""Celery on Redis with one process in its pool, a larger prefetch as its guide says for short tasks, results off."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from handler import SLEEP, began, ended, handled

DISTRIBUTION = "celery"
URL = os.environ["BENCH_URL"]
KIND = os.environ.get("BENCH_KIND", "noop")
POOL = os.environ.get("BENCH_POOL", "prefork")

app = Celery("bench", broker=URL)
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True
if KIND != "sleep":
    app.conf.worker_prefetch_multiplier = 128
if os.environ.get("BENCH_LATE"):
    app.conf.task_acks_late = True
    app.conf.task_reject_on_worker_lost = True


@app.task(name="noop")
def noop(payload: dict[str, Any]) -> None:
    handled(payload)


@app.task(name="sleep")
def sleep(payload: dict[str, Any]) -> None:
    began(payload["n"])
    time.sleep(SLEEP)
    ended(payload["n"])


TASK = sleep if KIND == "sleep" else noop


async def prepare() -> None: ...


async def clear() -> None:
    redis.from_url(URL).flushdb()


async def remaining() -> int:
    server = redis.from_url(URL)
    return int(server.llen("celery")) + int(server.hlen("unacked"))


async def enqueue_one_by_one(payloads: list[dict[str, Any]]) -> None:
    for payload in payloads:
        TASK.delay(payload)


async def enqueue_batch(payloads: list[dict[str, Any]]) -> None:
    """It has no call for many; one producer for all saves taking it from the pool each time."""
    with app.producer_or_acquire() as producer:
        for payload in payloads:
            TASK.apply_async((payload,), producer=producer)


def worker(kind: str) -> None:
    os.chdir(Path(__file__).parents[1])
    concurrency = "4" if kind == "sleep" else "1"
    command = [sys.executable, "-m", "celery", "-A", "peers.celery", "worker", "--loglevel", "ERROR"]
    command += ["--pool", POOL, "--concurrency", concurrency]
    command += ["--without-gossip", "--without-mingle"]
    os.execv(command[0], command)
