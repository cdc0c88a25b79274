"""What happens to orders, as told to whoever subscribes."""

from mainstay.patterns.events import Event


class OrderPlaced(Event, key="order_id"):
    order_id: int
    total_cents: int


class OrderPaid(Event, key="order_id"):
    order_id: int
    total_cents: int


class OrderShipped(Event, key="order_id"):
    order_id: int
    tracking_number: str


class OrderCancelled(Event, key="order_id"):
    order_id: int
