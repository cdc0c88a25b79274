"""Brokers of our own, which can be killed, paused and started again on what they have kept.

Where the program is not installed, the broker on loopback is used, with a topic of this run's own; it is left alone.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from chaos_events import PLAIN, TYPED
from cluster import free_port

from mainstay.patterns.brokers import CloudEvent, broker

PROGRAMS = {"nats": ("nats-server", 4222), "redis": ("redis-server", 6379)}
"""By kind, the program and its usual port."""
KEPT_APART = 0.1
"""Seconds within which JetStream drops what is published twice. As short as it allows, so that duplicates arrive."""


def answers(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def available() -> list[str]:
    """The kinds of brokers that can be had here."""
    return [kind for kind, (program, port) in PROGRAMS.items() if shutil.which(program) or answers(port)]


class BrokerServer:
    """One broker with one topic."""

    def __init__(self, kind: str) -> None:
        program, usual = PROGRAMS[kind]
        self.kind = kind
        self.topic = f"chaos-{uuid4().hex[:12]}"
        self._program = shutil.which(program)
        self.own = self._program is not None
        self.port = free_port() if self.own else usual
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def address(self, port: int | None = None) -> str:
        """Of the broker, or of a proxy at that port."""
        return f"{self.kind}://127.0.0.1:{port or self.port}"

    def told(self) -> str:
        """Which broker it is, for people."""
        if not self.own:
            return f"{self.kind} on loopback, which is left alone"
        version = subprocess.run(
            [str(self._program), "--version"], capture_output=True, check=True, text=True
        )
        found = re.search(r"v=?(\d+(?:\.\d+)+)", version.stdout)
        return f"{Path(str(self._program)).name} {found[1] if found else version.stdout.strip()}"

    # ------------------------------------------------------------------------------------- the process

    def start(self) -> None:
        """Start it, if it is our own and does not run, and wait until it answers."""
        if not self.own or self._process is not None:
            return
        if self._folder is None:
            memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
            self._folder = Path(tempfile.mkdtemp(prefix="mainstay_broker_", dir=memory))
        place = ["--bind", "127.0.0.1", "--dir", str(self._folder), "--appendonly", "yes", "--save", ""]
        options = {
            "nats": ["-a", "127.0.0.1", "-js", "-sd", str(self._folder)],
            "redis": [*place, "--appendfsync", "always"],
        }[self.kind]
        self._process = subprocess.Popen(
            [
                str(self._program),
                *options,
                *(["-p"] if self.kind == "nats" else ["--port"]),
                str(self.port),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 30
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self._program} does not start on port {self.port}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash; it keeps what it has written."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self, paused: bool) -> None:
        """Let it answer nobody, or go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    # --------------------------------------------------------------------------------------- the topic

    async def prepare(self) -> None:
        """Make the topic, where it does not come about by itself."""
        if self.kind == "nats":
            import nats
            from nats.js.api import StreamConfig

            async with await nats.connect(self.address()) as client:
                await client.jetstream().add_stream(
                    StreamConfig(name=self.topic, subjects=[f"{self.topic}.>"], duplicate_window=KEPT_APART)
                )

    async def count(self) -> tuple[int, int]:
        """How many events it has kept, and how many of them its consumers have still to take or to acknowledge."""
        if self.kind == "nats":
            import nats

            async with await nats.connect(self.address()) as client:
                stream = client.jetstream()
                kept = (await stream.stream_info(self.topic)).state.messages
                consumers = [
                    await stream.consumer_info(self.topic, f"{self.topic}-{name}") for name in (TYPED, PLAIN)
                ]
            return kept, sum((one.num_pending or 0) + (one.num_ack_pending or 0) for one in consumers)
        from redis.asyncio import Redis

        async with Redis(port=self.port) as redis:
            groups = {one["name"].decode(): one for one in await redis.xinfo_groups(self.topic)}
            left = [groups[name]["pending"] + (groups[name]["lag"] or 0) for name in (TYPED, PLAIN)]
            return await redis.xlen(self.topic), sum(left)

    async def read(self, most: int) -> list[CloudEvent]:
        """The first so many events that it has kept, in their order."""
        found: list[CloudEvent] = []
        async with broker(self.address(), self.topic) as opened, opened.consume("reader") as deliveries:
            while len(found) < most:
                delivery = await anext(deliveries)
                found.append(delivery.event())
                await delivery.ack()
        return found

    async def close(self) -> None:
        """Leave nothing behind."""
        if self.own:
            self.kill()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
        elif self.kind == "nats":
            import nats

            async with await nats.connect(self.address()) as client:
                await client.jetstream().delete_stream(self.topic)
        else:
            from redis.asyncio import Redis

            async with Redis(port=self.port) as redis:
                await redis.delete(self.topic)
