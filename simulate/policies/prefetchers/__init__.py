"""Prefetchers, one per file: which experts to load ahead of their use."""
