"""Throughput and latency against queue size B: executed, simulated, in theory."""
