"""The upper and lower halves of crops, which a teacher can be asked about like whole ones."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from reid_mtda.data.batches import Pictures
from reid_mtda.models.embedder import Embedder
from reid_mtda.train.common import embed_pictures
from reid_mtda.types import ImageArray


def embed_halves(teacher: Embedder, pictures: Pictures) -> Tensor:
    """Embeddings (N, 2, D) of the upper and of the lower half of each picture, stretched to a whole one's size."""
    halves = [Pictures(half, pictures.preprocess) for half in cut_halves(pictures.resized)]
    return torch.stack([embed_pictures(teacher, half).embedding for half in halves], dim=1)


def cut_halves(pictures: ImageArray) -> tuple[ImageArray, ImageArray]:
    """Cut pictures uint8 (N, h, w, 3) into upper and lower halves, each stretched to (N, h, w, 3) again."""
    height, width = pictures.shape[1:3]
    middle = height // 2
    upper, lower = (
        np.stack([cv2.resize(picture, (width, height)) for picture in half]) if len(half) else half
        for half in (pictures[:, :middle], pictures[:, middle:])
    )
    return upper, lower
