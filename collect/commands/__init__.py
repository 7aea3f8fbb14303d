"""The commands of `python -m collect`, one module per subject; `__main__` imports them all."""
