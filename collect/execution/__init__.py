"""Executing the rules of `simulate.policies` on real weights, and cost tables measured in that loop."""
