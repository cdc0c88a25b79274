"""Idempotency keys over HTTP: a repeated request takes effect once and gets the first reply.

The key, a fingerprint of the request and the reply are stored in the same transaction as the effect, so that a
crash leaves both or neither. Two requests with one key are kept apart by an advisory lock of PostgreSQL, which
a crash frees at once: no row ever says "in progress".

    key.py         the header, the scope of a key, the fingerprint
    keys.py        taking a key, storing and giving replies, pruning
    reply.py       which replies are kept, and what of them
    exchange.py    one request: transaction, handler, reply, COMMIT, and only then the first byte
    middleware.py  ASGI
    fastapi.py     FastAPI (imported by name: ``mainstay.patterns.idempotency.fastapi``)
"""

from mainstay.patterns.idempotency.exchange import ReplyInPart, ReplyTooLarge
from mainstay.patterns.idempotency.key import BadKey, IdempotencyKey, parse_key
from mainstay.patterns.idempotency.keys import IdempotencyKeys
from mainstay.patterns.idempotency.middleware import BY_ROUTE, SHARED, IdempotencyMiddleware

__all__ = [
    "BY_ROUTE",
    "SHARED",
    "BadKey",
    "IdempotencyKey",
    "IdempotencyKeys",
    "IdempotencyMiddleware",
    "ReplyInPart",
    "ReplyTooLarge",
    "parse_key",
]
