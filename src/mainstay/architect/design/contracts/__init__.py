"""Contracts: what callers of each service may send and get, in the formats that tools of the field read."""
