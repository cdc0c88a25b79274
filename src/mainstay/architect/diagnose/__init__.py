"""Diagnose: a laboratory in which a running service shows its sharp edges, with proof.

`engine` says how it is used; `laboratory` sets a service up, `scheduler` decides who goes on, `oracle` judges
races, `growth` counts statements over more rows, `proxy` sees what goes over the wire.
"""

from mainstay.architect.diagnose.engine import diagnose, replay
from mainstay.architect.diagnose.laboratory import Budget, Laboratory
from mainstay.architect.diagnose.proof import Proof, Replay
from mainstay.architect.diagnose.scenario import Scenario, load_scenario

__all__ = ["Budget", "Laboratory", "Proof", "Replay", "Scenario", "diagnose", "load_scenario", "replay"]
