"""The commands of `python -m simulate`, one module each: they parse, read, call and write."""
