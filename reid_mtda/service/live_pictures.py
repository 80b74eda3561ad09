"""Live pictures as JPEG: each is encoded once, however many people look at it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from reid_mtda.live.camera import LivePicture
from reid_mtda.types import ImageArray


@dataclass(eq=False)
class _Encoding:
    lock: threading.Lock = field(default_factory=threading.Lock)
    data: bytes | None = None


class LivePictures:
    """Encodes live pictures; each is forgotten with its frame. Safe to use from several threads.

    Args:
        encode: a picture (h, w, 3) RGB -> its JPEG.
    """

    def __init__(self, encode: Callable[[ImageArray], bytes]) -> None:
        self._encode = encode
        self._lock = threading.Lock()
        self._encodings: WeakKeyDictionary[LivePicture, _Encoding] = WeakKeyDictionary()

    def jpeg(self, picture: LivePicture) -> bytes:
        """The JPEG of ``picture``; whoever asks while it is being encoded waits for it."""
        with self._lock:
            encoding = self._encodings.setdefault(picture, _Encoding())
        with encoding.lock:
            if encoding.data is None:
                encoding.data = self._encode(picture.frame.image)
            return encoding.data
