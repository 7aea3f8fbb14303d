"""Expert memory: which experts hold the slots of a device, and which are loaded ahead of their use. No clock, no cost.

An expert is an integer key, layer * E + expert, under every scope; a cache serves the keys of one layer or of all.
A policy decides, `cache.Cache` counts; `named.CACHES` and `prefetch.named.PREFETCHERS` are the tables of names.
"""
