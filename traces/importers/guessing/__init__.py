"""Which kind of import a file is for, and how one can tell."""
