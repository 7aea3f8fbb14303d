"""Static figures of a user's own results."""
