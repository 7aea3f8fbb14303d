"""Models of the project's own: the classifier, the byte language model, vision transformers, and their experts."""
