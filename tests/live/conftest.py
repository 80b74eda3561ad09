"""What the live tests share; the helpers themselves stand in ``streets.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from streets import make

__all__ = ["make"]
