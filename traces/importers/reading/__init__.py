"""What the importers share: how their files are read and checked, and the trace that their rows make."""
