"""Closed-set adaptation tables: one budget for every row, results kept trial by trial."""
