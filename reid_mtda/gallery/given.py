"""What a gallery is given, as it needs it: lists, float64 and single rows are taken; other meanings are refused."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reid_mtda.camera_means import choose_centring
from reid_mtda.centring import CameraMeans, Centred
from reid_mtda.errors import GalleryError, ShapeError
from reid_mtda.model import Model
from reid_mtda.types import DoubleArray, FloatArray, ImageArray, ModelManifest
from reid_mtda.vision.crops import THUMBNAIL_PX, encode_jpeg
from reid_mtda.vision.preprocess import check_image_size, read_image

Picture = ImageArray | Path | str
"""uint8 (h, w, 3) RGB, or the path of a picture file."""

log = logging.getLogger(__name__)

_UNIT_TOLERANCE = 1e-3


def as_vectors(where: str, vectors: npt.ArrayLike, dim: int) -> FloatArray:
    """Take rows of length 1 as float32 (N, ``dim``); one row alone is N = 1.

    Args:
        where: opens the message of a refusal.
        vectors: (N, ``dim``) or (``dim``,), numbers of any kind.
        dim: length D of a row.

    Raises:
        ShapeError: rows of another length, or no numbers.
        GalleryError: a row that is not finite or not of length 1.
    """
    rows = np.asarray(vectors)
    if rows.dtype.kind not in "fiu":
        raise ShapeError(f"{where}, vector: got {rows.dtype}, expected numbers")
    if rows.size == 0 and rows.ndim < 2:
        rows = np.zeros((0, dim), np.float32)
    if rows.ndim not in (1, 2) or rows.shape[-1] != dim:
        raise ShapeError(f"{where}, vector: got {rows.dtype} {rows.shape}, expected ({dim},), or (N, {dim})")
    rows = rows.reshape(-1, dim).astype(np.float32, copy=False)
    length = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~(np.abs(length - 1) <= _UNIT_TOLERANCE))
    if len(bad):
        raise GalleryError(f"{where}: got a vector of length {length[bad[0]]:.4g}, expected 1; normalise it first")
    return np.ascontiguousarray(rows)


def as_numbers(where: str, ids: object) -> list[int]:
    """Take numbers of sightings, integers of any kind; those that no sighting can have are left out.

    Raises:
        GalleryError: something else than a row of integers.
    """
    try:
        numbers = [operator.index(number) for number in ids]  # type: ignore[attr-defined]
    except TypeError:
        shown = repr(ids)[:60]
        raise GalleryError(f"{where}: got {shown}, expected a list of sightings' numbers") from None
    return [number for number in numbers if 0 < number < 2**63]


def as_count(where: str, k: object) -> int:
    """Take ``k``, an integer of any kind, as an int.

    Raises:
        GalleryError: no integer, or below 1.
    """
    try:
        count = operator.index(k)  # type: ignore[arg-type]
    except TypeError:
        count = 0
    if count < 1 or isinstance(k, bool):
        raise GalleryError(f"{where}: got k = {k!r}, expected an integer, 1 or more")
    return count


def check_cameras(where: str, names: Iterable[object]) -> None:
    """Refuse what cannot be a camera's name: no text, empty, or with the signs of a path or of control.

    Raises:
        GalleryError: it names the first.
    """
    for name in dict.fromkeys(names):
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or {"/", "\\"} & set(name):
            raise GalleryError(f"{where}: got a camera called {name!r}, expected a name, without / and \\")


def as_vector(where: str, vector: npt.ArrayLike, dim: int) -> FloatArray:
    """Take one row of length 1, (``dim``,) or (1, ``dim``), as float32 (``dim``,); refusals as for ``as_vectors``.

    Args:
        where: opens the message.
        vector: (D,) of length 1.
        dim: length D of a vector.
    """
    rows = as_vectors(where, vector, dim)
    if len(rows) != 1:
        raise ShapeError(f"{where}, vector: got {len(rows)} rows, expected one of length {dim}")
    row: FloatArray = rows[0]
    return row


def as_times(
    where: str, start_s: float | Sequence[float], end_s: float | Sequence[float] | None, count: int
) -> tuple[DoubleArray, DoubleArray]:
    """Take when sightings began and ended as float64 (N,) each.

    Args:
        where: opens the message of a refusal.
        start_s: POSIX seconds, one for all or N.
        end_s: the same; None: ``start_s``.
        count: N.

    Raises:
        GalleryError: another number of times, or a time range that is none.
    """
    found = []
    for name, times in (("start_s", start_s), ("end_s", start_s if end_s is None else end_s)):
        array = np.asarray(times, np.float64)
        if array.shape not in ((), (count,)):
            raise GalleryError(f"{where}: got {name} {array.shape} for {count} vectors, expected one or as many")
        found.append(np.array(np.broadcast_to(array, (count,))))
    starts, ends = found
    bad = np.flatnonzero(~(np.isfinite(starts) & np.isfinite(ends) & (starts <= ends)))
    if len(bad):
        raise GalleryError(f"{where}: got a sighting from {starts[bad[0]]} to {ends[bad[0]]}, expected start <= end")
    return starts, ends


def as_jpeg(picture: Picture | None) -> bytes | None:
    """Encode a sighting's picture as it is stored; None where there is none."""
    if picture is None:
        return None
    image = read_image(Path(picture)) if isinstance(picture, str | os.PathLike) else picture
    return encode_jpeg(image, longest_px=THUMBNAIL_PX)


def as_picture(query: object) -> ImageArray | None:
    """Take what is searched for as a picture uint8 (H, W, 3); None when it is none but a vector.

    Raises:
        ImageError: a file that is no picture, or a picture out of bounds.
    """
    image = read_image(Path(query)) if isinstance(query, str | os.PathLike) else query
    if not (isinstance(image, np.ndarray) and image.ndim == 3):
        return None
    check_image_size("picture", *image.shape[:2])
    return image


def as_centring(
    where: str, model: Model | ModelManifest | str | None, centred: Centred | CameraMeans
) -> CameraMeans | None:
    """What vectors of a model are centred with, None where they are not.

    Args:
        where: opens the message of a refusal.
        model: as `Gallery.open` takes it.
        centred: means of one's own, or whether those of the model's folder are taken.

    Raises:
        GalleryError: ``on`` without a model that lies in a folder, or none of these words.
        ConfigError: ``on``, and the folder says too little of its cameras.
    """
    if isinstance(centred, CameraMeans):
        return centred
    if centred == "off":
        return None
    if centred not in ("auto", "on"):
        raise GalleryError(f"{where}: centred: got {centred!r}, expected one of off, auto, on")
    if not isinstance(model, Model) or model.folder is None:
        said = "opened without a model that lies in a folder, so nothing is known to centre vectors with"
        if centred == "on":
            raise GalleryError(f"{where}: {said}; open it with load_model(FOLDER), or with centred='off'")
        log.warning("%s: %s; they are compared as they are", where, said)
        return None
    return choose_centring(model.folder, model.manifest, centred)
