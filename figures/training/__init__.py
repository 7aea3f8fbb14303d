"""What a training step allocates."""
