"""Precision and recall of pseudo-identities across cameras, of a finished run, at several overlaps of people.

Labels of the run's targets are the measure; nothing is trained.
"""

import argparse
from pathlib import Path

from reid_mtda.bench.pseudo_identities import OVERLAPS, score_overlaps
from reid_mtda.schema import read_value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="OUT/SEED of 'reid-mtda benchmark'")
    parser.add_argument("--overlap", type=float, action="append", help="share of the people seen by several cameras")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a further way: a setting")
    options = parser.parse_args()
    ways = {text: {text.partition("=")[0]: read_value(text.partition("=")[2])} for text in options.set}
    print(score_overlaps(options.run, options.overlap or OVERLAPS, differing=ways))


if __name__ == "__main__":
    main()
