"""The connections to a gallery's file: one that writes, one that reads, each used by one thread at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reid_mtda import sqlite
from reid_mtda.gallery.gallery_file import (
    FILE,
    FORMAT,
    bring_up_to_date,
    check_format,
    connect,
    errors_of_gallery,
    make_gallery_file,
    write_tables,
)


class GalleryConnections:
    """An open gallery file.

    Args:
        folder: where it lies; None: in memory, with a folder for pictures that ends with ``close``.
        model_id: of a gallery that may be made; None: it must be there.
        dim: length of its vectors.

    Raises:
        GalleryError: the file is damaged, or of another kind or version.
        StorageError: the disk is full or refuses.
    """

    def __init__(self, folder: Path | None, model_id: str | None, dim: int | None) -> None:
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        in_memory = folder is None
        if folder is None:  # thumbnails are files all the same
            self._copy = tempfile.TemporaryDirectory(prefix="reid-mtda-gallery-")
            folder = Path(self._copy.name)
        self.folder, self.format = folder, FORMAT
        # A folder that may only be read, such as a mount of another machine's, can still be searched.
        self.is_read_only = (folder / FILE).is_file() and not os.access(folder, os.W_OK)
        self.write_lock = threading.RLock()
        # One connection has no second one to read by.
        self._read_lock = self.write_lock if in_memory or self.is_read_only else threading.RLock()
        with errors_of_gallery(folder):
            if self.is_read_only:
                self._writer, self._copy = sqlite.connect_read_only(folder / FILE)
            else:
                if model_id is not None and not in_memory and not (folder / FILE).exists():
                    make_gallery_file(folder, model_id, dim)
                self._writer = connect(None if in_memory else folder)
            try:
                if self.is_read_only:
                    self.format = check_format(self._writer, folder)
                else:
                    if in_memory:
                        write_tables(self._writer, model_id, dim)
                    bring_up_to_date(self._writer, folder)
                self._reader = self._writer if in_memory or self.is_read_only else connect(folder)
            except BaseException:
                self._writer.close()
                raise
            self._identity = sqlite.file_identity(folder / FILE)

    def close(self) -> None:
        """Close both; a second call does nothing."""
        with self.write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()
            if self._copy is not None:
                self._copy.cleanup()

    def read(self, query: str, values: Sequence[str | float | int] = ()) -> list[Any]:
        """The rows of a query."""
        with errors_of_gallery(self.folder), self._read_lock:
            return self._reader.execute(query, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block's statements or none; on the disk when it ends."""
        with self.write_lock, errors_of_gallery(self.folder):
            self.check_place()
            with sqlite.transaction(self._writer) as connection:
                yield connection

    def empty_log(self) -> bool:
        """Leave nothing of what was deleted in the log of changes; False while another process reads the file."""
        with errors_of_gallery(self.folder):
            return sqlite.empty_log(self._writer)

    def check_place(self) -> None:
        """See that the open file is still the one of that name.

        Raises:
            StorageError: it was removed or replaced.
        """
        sqlite.check_place(self.folder / FILE, self._identity)
