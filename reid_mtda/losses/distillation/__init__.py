"""Losses by which a student learns from a frozen teacher, one file each.

A new one gets its settings and its name in ``train/objectives/known_objectives.py``.
"""
