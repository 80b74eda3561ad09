"""New people out of those a camera has seen: one's upper and another's lower body, clothes in other colours.

A site that has filmed few people teaches a student those people. Recombined crops have the camera's light, blur and
background and show nobody in particular; a teacher says what they look like, so no label is needed. In the spirit of
CutMix (Yun et al. 2019), cut where people are cut by their belt and judged by the teacher instead of by mixed labels.
"""

from __future__ import annotations

import cv2
import numpy as np

from reid_mtda.types import ImageArray

_HEAD = 0.17
"""Share of a crop's height that keeps its colours: the head."""
_SOFT = 0.012
"""Share of the height over which one body becomes the other."""


def mix_parts(pictures: ImageArray, count: int, seed: int) -> ImageArray:
    """Put ``count`` crops together out of pairs of one camera's.

    Args:
        pictures: uint8 (N, h, w, 3) RGB, people upright and filling their crops; fewer than two make none.
        count: how many to make.
        seed: of pairs, cuts, mirrorings and colours.

    Returns:
        uint8 (count, h, w, 3).
    """
    count = count if len(pictures) > 1 else 0
    rng = np.random.default_rng(seed)
    height = pictures.shape[1]
    made = np.empty((count, *pictures.shape[1:]), np.uint8)
    for number in range(count):
        upper, lower = (
            pictures[row][:, ::-1] if rng.random() < 0.5 else pictures[row]
            for row in rng.choice(len(pictures), 2, replace=False)
        )
        if rng.random() < 0.5:
            head = round(height * _HEAD)
            upper = np.concatenate([upper[:head], recoloured(upper[head:], rng)])
        if rng.random() < 0.5:
            lower = recoloured(lower, rng)
        belt = height * rng.uniform(0.42, 0.55)
        share = 1 / (1 + np.exp((np.arange(height) - belt) / (height * _SOFT)))[:, None, None]
        made[number] = np.round(upper * share + lower * (1 - share))
    return made


def recoloured(picture: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Turn hue, saturation and brightness in the middle columns, where the person stands; the background stays."""
    hsv = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(0, 180)) % 180
    hsv[..., 1:] = np.clip(hsv[..., 1:] * (rng.uniform(0.6, 1.6), rng.uniform(0.7, 1.3)), 0, 255)
    turned = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    width = picture.shape[1]
    person = np.exp(-(((np.arange(width) - (width - 1) / 2) / (0.33 * width)) ** 4))[None, :, None]
    return np.asarray(np.round(turned * person + picture * (1 - person)), np.uint8)
