"""Documents: decisions, tables and plans, computed from the same figures as the risks."""
