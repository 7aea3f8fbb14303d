"""What the figures share: style, captions, tables that were read, and the panels of the large ones."""
