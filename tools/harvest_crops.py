"""The same as ``reid-mtda harvest``."""

import sys

from reid_mtda.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["harvest"]
    main()
