"""Simulation: what a recorded workload would have cost under another queue size, arrival process or placement.

The rules (who joins which queue, which batch starts when) are in `simulate.policies`, free of any clock. The SimPy
engine tells them simulated times; `collect` tells the same objects the times of a real execution."""
