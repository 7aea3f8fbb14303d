"""Placement: planners that put experts on devices by their loads, what their placements are worth, and how to split."""
