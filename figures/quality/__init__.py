"""What a rule of routing, or fewer experts, changes in what the model answers."""
