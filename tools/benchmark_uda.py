"""The same as ``reid-mtda benchmark``."""

import sys

from reid_mtda.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["benchmark"]
    main()
