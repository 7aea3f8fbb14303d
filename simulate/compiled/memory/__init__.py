"""Expert memory, compiled: the rules of `simulate.policies.memory` over flat arrays."""
