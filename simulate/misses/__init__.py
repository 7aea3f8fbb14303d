"""Misses against expert slots without time: whole curves for LRU and the optimum, counts for every policy."""
