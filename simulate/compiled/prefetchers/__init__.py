"""Prefetchers, compiled: the rules of `simulate.policies.prefetchers` over flat arrays."""
