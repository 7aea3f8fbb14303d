"""The compiled engine: the rules of `simulate.policies` over flat arrays, equal to the reference to the nanosecond."""
