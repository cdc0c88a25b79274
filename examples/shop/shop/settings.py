"""Settings, from the environment."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the database and the two providers are."""

    database_url: str
    """``postgresql+psycopg://user:password@host:port/name``"""
    payment_url: str
    """Base URL of the payment provider."""
    shipping_url: str
    """Base URL of the carrier."""

    @classmethod
    def from_environment(cls) -> "Settings":
        """Raises `SystemExit` with the name of the first variable that is not set."""
        try:
            return cls(
                database_url=os.environ["DATABASE_URL"],
                payment_url=os.environ["PAYMENT_URL"],
                shipping_url=os.environ["SHIPPING_URL"],
            )
        except KeyError as missing:
            raise SystemExit(f"the shop needs the environment variable {missing.args[0]}") from None


settings = Settings.from_environment()
