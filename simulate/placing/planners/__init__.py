"""Planners of placements, one file each: `plan(known, shape)` returns the expert of every slot of every layer."""
