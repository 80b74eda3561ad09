"""Closed label sets: Digits, Office-31, OfficeHome, ImageClef-DA as typed domains with pictures in memory.

A domain gives three things that never mix: a labelled source, an unlabelled target (no label field to leak) and a
test set that only scoring sees.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from reid_mtda.arrays import read_arrays
from reid_mtda.data.closed_domain import ClosedDomain, LabelledPictures, ScoredPictures, UnlabelledPictures
from reid_mtda.data.tables import read_text
from reid_mtda.errors import DataError
from reid_mtda.types import ImageArray, IntArray
from reid_mtda.vision.picture_files import find_pictures
from reid_mtda.vision.preprocess import read_image


def _closed(
    name: str, classes: int, size: int, train: ImageArray, y_train: object, test: ImageArray, y_test: object
) -> ClosedDomain:
    train, test = _sized(train, size), _sized(test, size)
    return ClosedDomain(
        source=LabelledPictures(train, np.asarray(y_train, np.int64), classes, name),
        target=UnlabelledPictures(train, name),
        test=ScoredPictures(test, np.asarray(y_test, np.int64), classes, name),
    )


def _transductive(name: str, classes: int, pictures: ImageArray, labels: IntArray) -> ClosedDomain:
    """The Office protocol: adaptation sees all pictures of the target without labels, scoring sees them with."""
    return ClosedDomain(
        source=LabelledPictures(pictures, labels, classes, name),
        target=UnlabelledPictures(pictures, name),
        test=ScoredPictures(pictures, labels, classes, name),
    )


def _sized(pictures: ImageArray, size: int) -> ImageArray:
    """Grey becomes RGB, every picture (size, size)."""
    colour = pictures if pictures.ndim == 4 else np.repeat(pictures[..., None], 3, axis=3)
    if colour.shape[1:3] == (size, size):
        return np.ascontiguousarray(colour)
    how = cv2.INTER_AREA if colour.shape[1] > size else cv2.INTER_LINEAR
    resized: ImageArray = np.stack([cv2.resize(picture, (size, size), interpolation=how) for picture in colour])
    return resized


DIGITS = ("mnist", "mnistm", "usps", "svhn_small", "fonts")


def load_digits(root: Path, *, size: int = 28) -> dict[str, ClosedDomain]:
    """The digit domains found under ``root``: ``mnist.npz mnistm.npz usps.npz svhn_small.npz fonts.npz``.

    Raises:
        DataError: no such folder, or a file is missing or not of the expected arrays.
    """
    root = Path(root)
    return {name: _load_digit_domain(root / f"{name}.npz", name, size) for name in DIGITS}


def _load_digit_domain(path: Path, name: str, size: int) -> ClosedDomain:
    arrays = _read_npz(
        path, ("x", "y", "font") if name == "fonts" else ("x_train", "y_train", "x_test", "y_test"), "Digits"
    )
    if name != "fonts":
        return _closed(name, 10, size, arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"])
    pictures = coloured(arrays["x"], seed=0)
    fonts = np.random.default_rng(0).permutation(np.unique(arrays["font"]))
    held_out = np.isin(arrays["font"], fonts[: len(fonts) // 4])
    y = arrays["y"]
    return _closed(name, 10, size, pictures[~held_out], y[~held_out], pictures[held_out], y[held_out])


def coloured(glyphs: npt.NDArray[np.uint8], *, seed: int) -> ImageArray:
    """Give grey glyphs (N, h, w) a random ink and paper colour each: they stand for synthetic digits.

    Ink and paper differ by at least 80 grey levels, so that every digit stays readable.
    """
    rng = np.random.default_rng(seed)
    ink, paper = rng.integers(0, 256, (2, len(glyphs), 3)).astype(np.float32)
    low = np.abs(ink.mean(1) - paper.mean(1)) < 80
    paper[low] = (ink[low] + 128) % 256
    share = glyphs[..., None].astype(np.float32) / 255
    painted: ImageArray = (share * ink[:, None, None] + (1 - share) * paper[:, None, None]).round().astype(np.uint8)
    return painted


OFFICE31 = ("amazon", "dslr", "webcam")


def load_office31(root: Path, *, size: int = 160) -> dict[str, ClosedDomain]:
    """Office-31 from ``<root>/<domain>/images/<class>/*.jpg`` or from ``<root>/office31_160_jpeg.npz``.

    Raises:
        DataError: neither is there, or a class or domain is missing.
    """
    root = Path(root)
    packed = root / "office31_160_jpeg.npz"
    if not packed.is_file():
        return _load_folders({name: _images(root / name) for name in OFFICE31}, size, root, "Office-31", 31)
    arrays = _read_npz(packed, ("buf", "off", "y", "domain", "classes", "domains"), "Office-31")
    buffer, offsets = arrays["buf"], arrays["off"]
    pictures = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(buffer[a:b].tobytes())).convert("RGB").resize((size, size)))
            for a, b in itertools.pairwise(offsets)
        ]
    )
    labels = arrays["y"].astype(np.int64)
    names = [str(name) for name in arrays["domains"]]
    rows = {name: arrays["domain"] == index for index, name in enumerate(names)}
    return {n: _transductive(n, len(arrays["classes"]), pictures[rows[n]], labels[rows[n]]) for n in names}


OFFICEHOME = ("Art", "Clipart", "Product", "RealWorld")


def load_officehome(root: Path, *, size: int = 160) -> dict[str, ClosedDomain]:
    """OfficeHome from ``<root>/<domain>/<class>/*.jpg``; ``Real World`` is accepted for ``RealWorld``."""
    root = Path(root)
    folders = {name: root / name for name in OFFICEHOME}
    if (root / "Real World").is_dir():
        folders["RealWorld"] = root / "Real World"
    return _load_folders(folders, size, root, "OfficeHome", None)


IMAGECLEF = ("b", "c", "i", "p")


def load_imageclef(root: Path, *, size: int = 160) -> dict[str, ClosedDomain]:
    """ImageClef-DA from ``<root>/list/<d>List.txt`` (``path label`` lines) or ``<root>/<d>/<class>/*.jpg``."""
    root = Path(root)
    lists = {name: root / "list" / f"{name}List.txt" for name in IMAGECLEF}
    if not lists["c"].is_file():
        there = {name: root / name for name in IMAGECLEF if (root / name).is_dir() or name != "b"}
        return _load_folders(there, size, root, "ImageClef-DA", 12)
    domains = {}
    for name, file in lists.items():
        if not file.is_file():
            continue
        entries = _read_list(file, 12)
        files = [root / picture.lstrip("/") for picture, _ in entries]
        # The published lists hold paths of their authors' machine: only the last two parts say where a picture is.
        files = [file if file.is_file() else root / name / file.name for file in files]
        labels = np.array([label for _, label in entries], np.int64)
        domains[name] = _transductive(name, 12, _read_all(files, size), labels)
    return domains


def _read_list(file: Path, num_classes: int) -> list[tuple[str, int]]:
    """Lines ``path label`` of a list, blanks, a tab or a comma between."""
    entries = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"(.+?)[\s,;]+(\d{1,9})", line.strip())
        if match is None or int(match[2]) >= num_classes:
            raise DataError(
                f"{file}, line {number}: got {line[:60]!r}, expected a picture's path and a class from 0 to "
                f"{num_classes - 1}; {_ADVICE}"
            )
        entries.append((match[1], int(match[2])))
    return entries


def _images(folder: Path) -> Path:
    """Office-31 keeps its classes under ``images``; some copies leave that folder out."""
    return folder / "images" if (folder / "images").is_dir() else folder


def _load_folders(
    folders: dict[str, Path], size: int, root: Path, name: str, num_classes: int | None
) -> dict[str, ClosedDomain]:
    """Domains of ``<folder>/<class>/*.jpg`` with one list of classes for all of them."""
    missing = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if missing:
        raise DataError(f"{root}: no {name} there, got no folder {missing[0]}, expected {LAYOUTS[name]}; {_ADVICE}")
    classes = {domain: sorted(c.name for c in folder.iterdir() if c.is_dir()) for domain, folder in folders.items()}
    first = next(iter(classes.values()))
    for domain, found in classes.items():
        if found != first or not found:
            odd = sorted(set(found) ^ set(first))[:3]
            raise DataError(f"{folders[domain]}: classes differ from the other domains ({odd}), expected the same list")
    if num_classes is not None and len(first) != num_classes:
        raise DataError(f"{root}: got {len(first)} classes, expected the {num_classes} of {name}; complete the folders")
    domains = {}
    for domain, folder in folders.items():
        files = [(f, i) for i, c in enumerate(first) for f in find_pictures(folder / c)]
        labels = np.array([label for _, label in files], np.int64)
        domains[domain] = _transductive(domain, len(first), _read_all([f for f, _ in files], size), labels)
    return domains


def _read_all(files: Sequence[Path], size: int) -> ImageArray:
    if not files:
        raise DataError("pictures: got none, expected at least one; check the data set's folder")
    return np.concatenate([_sized(read_image(file)[None], size) for file in files])


_ADVICE = "pass its folder with --root; nothing is downloaded"
LAYOUTS = {
    "Digits": "mnist.npz, mnistm.npz, usps.npz, svhn_small.npz (x_train y_train x_test y_test), fonts.npz (x y font)",
    "Office-31": "amazon/images/<class>/*.jpg, dslr/..., webcam/..., or office31_160_jpeg.npz",
    "OfficeHome": "Art/<class>/*.jpg, Clipart/..., Product/..., RealWorld/...",
    "ImageClef-DA": "list/<c|i|p|b>List.txt beside the pictures, or c/<class>/*.jpg, i/..., p/...",
}


def _read_npz(path: Path, names: Sequence[str], data_set: str) -> dict[str, npt.NDArray[Any]]:
    return read_arrays(path, tuple(names), expected=f"expected {data_set}: {LAYOUTS[data_set]}; {_ADVICE}")


CLOSED_SETS: dict[str, Callable[..., dict[str, ClosedDomain]]] = {
    "digits": load_digits,
    "office31": load_office31,
    "officehome": load_officehome,
    "imageclef": load_imageclef,
}
"""Closed label sets by name: (root, size=) -> domains by name."""
