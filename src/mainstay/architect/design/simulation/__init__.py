"""Simulation: the judge of the formulas in ``risks/``.

`world.py` runs a system event by event (simpy): requests arrive at random, work and answers take lognormal times,
components are up or down, connections and rows are queued for, timeouts and retries happen. It shares no formula with
the risks, only the blueprint. `measure.py` counts what came of it; `verdict.py` holds each formula against it.
"""

from mainstay.architect.design.simulation.measure import Estimate, Measured, Observed, Queue, simulate
from mainstay.architect.design.simulation.verdict import Row, judge

__all__ = ["Estimate", "Measured", "Observed", "Queue", "Row", "judge", "simulate"]
