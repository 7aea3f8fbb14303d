"""Experts that do not all fit: weights in a slow tier, slots on the device, and the copies between them."""
