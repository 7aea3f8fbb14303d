"""Data structures of compiled code: chains of members, a heap of time-outs, times to come, checksums."""
