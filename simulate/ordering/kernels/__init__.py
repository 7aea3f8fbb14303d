"""Compiled parts of the order searches; each file is whole in itself, since numba's cache looks at one file only."""
