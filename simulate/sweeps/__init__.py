"""Sweeps: many configurations of one trace on all cores or machines, into one table, continued where they stopped."""
