"""Queue size, throughput and latency, and whether the simulator may be believed."""
