"""Scores and pictures of results; NumPy in, numbers out."""
