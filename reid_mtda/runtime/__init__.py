"""Model folders at work: ONNX Runtime or OpenVINO, no torch.

A model folder holds ``manifest.json`` and either ``model.onnx`` or ``model.xml`` with ``model.bin``; that of an adapted
student also ``cameras.json``, the mean embedding of each camera it was adapted to.
"""

from reid_mtda.runtime.cameras import read_cameras, write_cameras
from reid_mtda.runtime.folder import ONNX, new_model_folder, read_manifest
from reid_mtda.runtime.model import finish_folder, load_exported, write_manifest

__all__ = [
    "ONNX",
    "finish_folder",
    "load_exported",
    "new_model_folder",
    "read_cameras",
    "read_manifest",
    "write_cameras",
    "write_manifest",
]
