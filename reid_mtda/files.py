"""Files written whole or not at all, and folders that one process has for itself."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.errors import ConfigError, StorageError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block ends well, remove it when it does not.

    Raises:
        StorageError: the disk refused (full, read-only, no permission); ``path`` is as it was before.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part" + path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); free space or choose another folder; "
            "what stood there before is untouched"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def as_path(where: str, value: object) -> Path:
    """Take ``value`` as a path.

    Raises:
        ConfigError: it is no text and no path, or one that no file can have.
    """
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{where}: got {type(value).__name__}, expected a path")
    path = Path(os.fsdecode(value))
    try:
        path.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{where}: got {str(path)[:80]!r}, which is no path ({reason})") from None
    return path


def not_a_folder(path: Path) -> str:
    """What is there where a folder was expected, for a message: ``is a file``, or ``no such folder``."""
    return "is a file" if path.exists() else "no such folder"


def remove_part_files(folder: Path, *, deep: bool = False) -> list[str]:
    """Remove what a kill left of ``atomic_write`` in ``folder``, ``deep``: and in its folders; their names.

    Call it where no other process writes: a file being written looks the same.

    Raises:
        StorageError: the disk refused.
    """
    removed = []
    try:
        for path in sorted(folder.rglob(".*.part*") if deep else folder.glob(".*.part*")):
            if path.is_file() and not path.is_symlink():
                path.unlink(missing_ok=True)
                removed.append(path.name)
    except OSError as error:
        raise StorageError(
            f"{folder}: what was half written could not be removed ({error.strerror or error}); remove its .part files"
        ) from error
    return removed


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, default=json_value) + "\n", encoding="utf-8")


def json_value(value: Any) -> Any:
    """The JSON form of an array, a NumPy number or a path: what ``json.dumps`` asks for as ``default``.

    Raises:
        TypeError: it is none of them.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def lock_folder(folder: Path, *, name: str = "run.lock", advice: str = "") -> None:
    """Keep other processes out of ``folder`` for as long as this one lives; the system lets go even after a kill.

    The lock belongs to the process, which may open the folder again. Where there are no such locks nothing is kept out.

    Args:
        folder: made when missing.
        name: of the lock's file.
        advice: what to do when another process has it.

    Raises:
        ConfigError: another process has it.
        StorageError: the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Never closed: closing any descriptor of the file would let go of the lock.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error.strerror}); choose another folder") from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise ConfigError(
            f"{folder}: another process works in this folder; "
            f"{advice or 'wait for its end or stop it, or choose another folder'}"
        ) from None
    except OSError as error:
        log.warning("%s: the disk has no locks (%s); start one process at a time", folder, error.strerror)
