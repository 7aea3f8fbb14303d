"""Served layers: what a whole MoE layer takes in a serving engine on one of several devices, as others measured it."""
