"""Which expert is in which slot of which device, and placements balanced by load."""
