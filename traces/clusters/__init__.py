"""Clusters: how fast the links of machines are, in files that people write and in files that come with the project."""
