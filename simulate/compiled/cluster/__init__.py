"""Lockstep over linked devices, compiled: one step of a run at a time, the rules of `simulate.policies.cluster`."""
