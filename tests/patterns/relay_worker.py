"""A worker process that relays, for the tests: ``relay_worker.py database broker topic point``.

At the point `confirmed` it has the broker's confirmation and nothing is written down yet: it says so and waits to be
killed. With `none` it goes on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from mainstay.patterns import Database
from mainstay.patterns.brokers import CloudEvent, broker
from mainstay.patterns.messages import Messages

DATABASE, BROKER, TOPIC, POINT = sys.argv[1:5]


async def main() -> None:
    """Stand in the way behind the broker's confirmation, then work."""
    messages = Messages(Database(DATABASE))
    to = broker(BROKER, TOPIC, timeout=5.0)
    publish = to.publish

    async def confirmed(events: Sequence[CloudEvent]) -> None:
        await publish(events)
        if POINT == "confirmed":
            print("confirmed", flush=True)
            await asyncio.Event().wait()

    to.publish = confirmed  # type: ignore[method-assign]
    messages.relay(to=to, source="/shop")
    print("ready", flush=True)
    await messages.worker(lease=1.0, poll=0.5).run()


asyncio.run(main())
