"""What serving engines leave: responses with routed experts, and passes of recorders, read into rows of a trace."""
