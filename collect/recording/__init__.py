"""Recording which experts a model of the project's own selects: images, text, frames of clips."""
