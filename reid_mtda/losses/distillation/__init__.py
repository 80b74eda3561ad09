"""Losses by which a student learns from a frozen teacher."""
