"""Model folders at work: ONNX Runtime or OpenVINO, no torch.

A model folder holds ``manifest.json`` and either ``model.onnx`` or ``model.xml`` with ``model.bin``.
"""

from reid_mtda.runtime.folder import ONNX, new_model_folder, read_manifest
from reid_mtda.runtime.model import finish_folder, load_exported, write_manifest

__all__ = [
    "ONNX",
    "finish_folder",
    "load_exported",
    "new_model_folder",
    "read_manifest",
    "write_manifest",
]
