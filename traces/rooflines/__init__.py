"""Rooflines: cost tables estimated from a GPU's published peak rates, where nothing was measured."""
