"""The shop, on Mainstay's durable messages: an order is placed by one request and fulfilled by a saga."""
