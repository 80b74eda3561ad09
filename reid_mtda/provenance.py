"""What produced a number: the versions of packages, Python, the processor and the commit."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_RECORDED_PACKAGES = ("reid-mtda", "torch", "torchreid", "kornia", "numpy", "opencv-python", "onnxruntime", "faiss-cpu")


def versions() -> dict[str, str]:
    """What produced a number: package versions, Python, processor and git commit."""
    found = {}
    for name in _RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return {**found, "python": platform.python_version(), "machine": platform.machine(), "commit": _commit()}


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
