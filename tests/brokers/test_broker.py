"""Opening a broker by its address."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mainstay.patterns.brokers import broker


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("mqtt://user:secret@host", "amqp://, kafka://, nats://, redis://"),
        ("127.0.0.1:4222", "begins with"),
        ("nats:", "begins with"),
        ("me:secret@host", "begins with"),
        ("kafkas://me:secret@host", "takes TLS from its options"),
        ("natss://me:secret@host", "takes TLS from its options"),
    ],
)
def test_an_address_of_no_broker_is_refused(address: str, says: str) -> None:
    """With those that there are, and without the password."""
    with pytest.raises(ValueError, match=says) as caught:
        broker(address, "topic")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("topic", ["", "a b", "a.*", "a..b", ">", "x" * 300])
def test_a_topic_that_not_all_brokers_take_is_refused(topic: str) -> None:
    """Names work alike everywhere."""
    with pytest.raises(ValueError, match="a topic is named"):
        broker("nats://host", topic)


def test_limits_must_make_sense() -> None:
    """A time-out of nothing or for ever is none."""
    for limits in ({"timeout": 0.0}, {"timeout": float("inf")}, {"largest": 0}):
        with pytest.raises(ValueError, match=r"timeout|largest"):
            broker("nats://host", "topic", **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scheme", "package", "extra"),
    [
        ("nats", "nats", "nats"),
        ("amqps", "aio_pika", "rabbitmq"),
        ("redis", "redis", "redis"),
        ("kafka", "confluent_kafka", "kafka"),
    ],
)
def test_a_missing_client_library_names_its_extra(scheme: str, package: str, extra: str) -> None:
    """And until then nothing has been imported."""
    code = f"""
import sys
sys.modules["{package}"] = None
from mainstay.patterns.brokers import broker
assert not {{"nats", "aio_pika", "redis", "confluent_kafka"}} & {{k for k, v in sys.modules.items() if v}}
try:
    broker("{scheme}://host", "topic")
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"extra '{extra}'" in said and said.count("\n") == 1
