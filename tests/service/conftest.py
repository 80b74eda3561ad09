"""What the service's tests share; the helpers themselves stand in ``town.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from town import model_folder, town

__all__ = ["model_folder", "town"]
