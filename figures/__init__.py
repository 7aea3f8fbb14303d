"""Figures: one file, one claim each. They read the tables that `analysis` wrote, and compute nothing.

Every figure is a PDF, a PNG and a caption with the claim and its numbers; caption and metadata hold the digest of the
table behind it. A missing or failed input is a hole with a name in the figure, and the command fails.
"""
