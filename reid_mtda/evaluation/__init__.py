"""Ranking and scoring of people: NumPy in, numbers out; no torch, no training."""
