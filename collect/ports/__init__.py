"""Exchanges executed between processes: their patterns, sockets paced like ports, and the link that fits them."""
