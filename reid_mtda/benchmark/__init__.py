"""Closed-set adaptation tables: one budget for every row, results kept cell by cell."""

from reid_mtda.benchmark.runner import run_benchmark

__all__ = ["run_benchmark"]
