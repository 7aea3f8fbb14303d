"""Which expert stands in which slot of which device, and placements balanced by load."""
