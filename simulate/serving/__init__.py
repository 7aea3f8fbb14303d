"""Serving: recorded sequences put together as a serving engine would, on one device or a cluster; times to tokens."""
