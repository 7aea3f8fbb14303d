"""Prefetchers: which experts to load ahead of their use."""
