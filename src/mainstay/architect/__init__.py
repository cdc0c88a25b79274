"""The architect's wing: what studies a service. Never needed in production.

`effects` is the ground floor: the one vocabulary in which review (what code may do), diagnose
(what a running service did) and the sharp edges (shapes of effects) speak with each other.
"""
