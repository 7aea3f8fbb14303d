"""A fresh set of logs: every collector in its order, at the scale of a GPU or of a CPU."""
