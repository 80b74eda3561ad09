"""Closed-set adaptation tables: one budget for every row, results kept trial by trial."""

from reid_mtda.bench.runner import run_benchmark

__all__ = ["run_benchmark"]
