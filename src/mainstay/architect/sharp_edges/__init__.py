"""Sharp edges: one folder each, with page, validation, experiment, and a small service with and without it.

The law of the house, held by ``tests/test_the_law.py`` for every folder here: review finds the edge in
``sharp.py`` and is silent on ``safe.py``; diagnose proves it on ``sharp.py`` with a witness that replays,
and the same experiment passes on ``safe.py``.
"""
