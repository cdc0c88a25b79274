"""Brokers as publishers and consumers of CloudEvents: NATS JetStream, RabbitMQ, Redis streams, Kafka.

`broker(address, topic)` opens one; each needs the extra that carries its client library.
"""

from mainstay.patterns.brokers.broker import (
    Broker,
    BrokerUnavailable,
    Delivery,
    PublishError,
    Refused,
    broker,
)
from mainstay.patterns.brokers.cloudevent import BadEvent, CloudEvent

__all__ = [
    "BadEvent",
    "Broker",
    "BrokerUnavailable",
    "CloudEvent",
    "Delivery",
    "PublishError",
    "Refused",
    "broker",
]
