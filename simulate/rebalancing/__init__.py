"""Rebalancing: placements over time, what keeping them fresh moves, and how far that is from knowing the future."""
