"""Cache policies, compiled: the rules of `simulate.policies.caches` over flat arrays."""
