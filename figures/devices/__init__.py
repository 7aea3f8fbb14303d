"""Experts on several devices: balance, and what placing them anew is worth."""
