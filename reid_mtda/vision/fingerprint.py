"""What footage is, whatever its name and date: a fingerprint of its bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from reid_mtda.vision.address import address_scheme
from reid_mtda.vision.picture_folder import folder_pictures

_PARTS = 32
_PART_BYTES = 1 << 16


def footage_fingerprint(url: str) -> str | None:
    """A fingerprint of recorded footage: 32 hexadecimal digits that a copy under any name shares.

    Of a large file its length and 32 parts spread over it are looked at (2 MB), of a folder each picture so.

    Returns:
        The fingerprint; None for what is no file or folder (streams, devices, the drawn street).
    """
    if address_scheme(url):
        return None
    path = Path(url).expanduser()
    content = hashlib.sha256()
    if path.is_dir():
        for picture in folder_pictures(path):
            _take_in(content, picture, parts=2)
    elif path.is_file():
        _take_in(content, path, parts=_PARTS)
    else:
        return None
    return content.hexdigest()[:32]


def _take_in(content: hashlib._Hash, path: Path, *, parts: int) -> None:
    size = path.stat().st_size
    content.update(f"{size};".encode())
    with path.open("rb") as file:
        last = max(0, size - _PART_BYTES)
        for start in sorted({round(last * part / (parts - 1)) for part in range(parts)}):
            file.seek(start)
            content.update(file.read(_PART_BYTES))
