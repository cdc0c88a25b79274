"""The shop, as it was first written."""
