"""Training, with checkpoints from which it resumes to the same result."""
