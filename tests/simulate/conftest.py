"""Puts this folder on the path: the tests in the rooms below import its worlds by name."""
