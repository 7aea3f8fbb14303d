"""Linked devices, compiled: a step of lockstep at a time, or queues; the rules of `simulate.policies.cluster`."""
