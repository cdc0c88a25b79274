"""Design: a blueprint in, computed risks, contracts, diagrams and decisions out.

A blueprint (`blueprint.py`, read by `reading.py`) says what a system's parts own and do, never how they are joined:
operations imply the edges. `system.py` links the names and makes the graph, in which every number knows where it was
written or that it was assumed. Everything else reads that graph: ``risks/`` (one file a risk, judged by
``simulation/``), ``contracts/``, ``diagrams/``, ``decisions.py``, and ``package.py``, which writes the files.
"""
