"""The systems outside, as small services: they keep books by idempotency key, and misbehave as told."""
