"""Orders of a training graph's operations by their peak memory: heuristics, exact searches, bounds, certificates."""
