"""The same as ``reid-mtda serve``."""

import sys

from reid_mtda.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["serve"]
    main()
