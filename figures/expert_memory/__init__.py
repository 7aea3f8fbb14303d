"""Experts that do not all fit on the device: misses, swapping, links and budgets."""
