"""Commands about training graphs: orders of their operations."""
