"""What the service's tests share; the helpers themselves stand in ``running.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from service_fixtures import model_folder, running

__all__ = ["model_folder", "running"]
