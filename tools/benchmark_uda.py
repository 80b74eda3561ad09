"""Run a closed-set benchmark: tools/benchmark_uda.py configs/benchmark/digits.yaml OUT --root DATA --workers 2."""

import typer

from reid_mtda.benchmark import run_benchmark

if __name__ == "__main__":
    typer.run(run_benchmark)
