"""The shop, on Mainstay's patterns."""
