"""Cache policies, one per file: which expert leaves when another needs its slot. The base class counts.

A policy is one new file and one line in `cache_names`; the contract test finds it there."""
