"""Studies: what the collectors measure for one figure each, over seeds, rules and sizes."""
