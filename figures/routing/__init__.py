"""How load is spread over experts and over time."""
