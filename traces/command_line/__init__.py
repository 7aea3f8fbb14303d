"""What every command shares: options, numbers, inputs and outputs, provenance; one line and status 2 for bad input."""
