"""Expert memory: what a device may run and must fetch, what policies know, masked gating. No clock, no cost.

An expert is an integer key, layer * E + expert, under every scope; a cache serves the keys of one layer or of all.
A policy decides, the base class `simulate.policies.caches.cache.Cache` counts; `cache_names.CACHES` and
`prefetcher_names.PREFETCHERS` are the tables of names."""
