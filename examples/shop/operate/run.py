"""Run the durable shop: service, worker and stub providers, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from operate.stack import Stack

TELL = """
The shop        {service}/docs
payment stub    {payments}/ledger   (misbehave: curl -X PUT {payments}/faults -d '{{"lose": 0.5}}')
carrier stub    {carrier}/ledger
mail stub       {mail}/ledger
database        {database}

Place an order, and see how far it has come:

  curl -s {service}/orders -H 'Content-Type: application/json' -H 'Idempotency-Key: "order-one"' \\
    -d '{{"customer_id": 1, "lines": [{{"product_id": 1, "quantity": 2}}]}}'
  curl -s {service}/orders/1/progress

The first line again gives the same order. Ctrl-C ends everything, the database included.
"""


async def run(database_url: str | None, workers: int, delay: float) -> None:
    """Start, tell, wait for the signal, end."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    starting = Stack(database_url, workers=workers, faults={"delay": delay})
    entering = asyncio.ensure_future(starting.__aenter__())
    asking = asyncio.ensure_future(ended.wait())
    await asyncio.wait((entering, asking), return_when=asyncio.FIRST_COMPLETED)
    if not entering.done():
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        return
    stack = await entering
    try:
        sys.stdout.write(TELL.format(**stack.urls, database=_shown(stack.conninfo)))
        sys.stdout.flush()
        await asking
        sys.stdout.write("\nending\n")
    finally:
        await stack.__aexit__()


def _shown(conninfo: str) -> str:
    """The address without the password."""
    parameters = conninfo_to_dict(conninfo)
    parameters.pop("password", None)
    return make_conninfo(**parameters)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make shop", description=__doc__)
    parser.add_argument(
        "--database-url", help="an empty database on a server to use; default: a server of its own"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--delay", type=float, default=0.5, help="mean delay of the stub providers, in seconds"
    )
    arguments = parser.parse_args()
    asyncio.run(run(arguments.database_url, arguments.workers, arguments.delay))


if __name__ == "__main__":
    main()
