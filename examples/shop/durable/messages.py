"""The messages of the shop: its saga, events and jobs, in the same database as the orders."""

from mainstay.patterns.messages import Messages
from safe.database import db

messages = Messages(db)
