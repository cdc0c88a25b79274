"""Typed events with an outbox: published in the publisher's own transaction, one message for each subscriber.

`event.py` is what an event is and how older versions of it are read; `publishing.py` the one INSERT; `subscriber.py`
how a function becomes a subscriber; `subscriptions.py` what the database knows of subscribers; `relay.py` the way
out to a broker and `receiving.py` the way in. The table is in `patterns/schema/0005_events.sql`.
"""

from mainstay.patterns.events.compatibility import Incompatible, assert_compatible
from mainstay.patterns.events.envelope import carry
from mainstay.patterns.events.event import Event, MissingUpcaster, NewerVersion, upcast

__all__ = [
    "Event",
    "Incompatible",
    "MissingUpcaster",
    "NewerVersion",
    "assert_compatible",
    "carry",
    "upcast",
]
