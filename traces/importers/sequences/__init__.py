"""Sequences of rows in other shapes: requests in files of their own, padded batches, rollouts."""
