"""Patterns: what a service imports at run time. Each pattern is a module with a page beside it.

Nothing here knows the architect's wing, and nothing here needs more than SQLAlchemy, psycopg and httpx.
"""
