"""What people do with a running service from a terminal: tables, workers, messages, schedules, sagas.

Part of the run-time wing: needs the extra ``cli`` beside it, and nothing of the architect's wing.
"""
