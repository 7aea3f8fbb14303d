"""Commands of `python -m analysis` that have a module each: they parse, read, call and write."""
