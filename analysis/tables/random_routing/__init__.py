"""Dense, switch or random routing with averaged weights: accuracy, size, time."""
