"""Commands of `python -m traces` that need more than a few lines: what they take, what they print."""
