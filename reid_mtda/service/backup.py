"""Backup of a service's gallery and state into one file, while it runs; restored whole, or refused.

Each database is copied as it stood at one moment. Files that others refer to by hash or number come first where the
reference may be older, and last where it may not be newer: so the audit's head is in its chain, and each row's picture
is there unless it was erased meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import reid_mtda
from reid_mtda import sqlite
from reid_mtda.errors import StorageError
from reid_mtda.files import atomic_write, write_json
from reid_mtda.gallery import gallery_file
from reid_mtda.service import audit, serving_record

FORMAT = 1
MANIFEST = "backup.json"
_DATABASE = ".sqlite"
_CHUNK = 1 << 20
_LONGEST_CARD = 1 << 30
_LEFT_OUT = (".lock", "-wal", "-shm", "-journal")


@dataclass(frozen=True)
class BackupReport:
    """What a backup holds: files, bytes, sightings, the audit's head, and when it was made."""

    files: int
    bytes: int
    sightings: int
    head: str
    made_s: float


def make_backup(gallery: Path, state: Path, out: Path) -> BackupReport:
    """Write gallery and state into the file ``out``, readable by its owner alone; the service may run meanwhile.

    Args:
        gallery: gallery folder.
        state: state folder of its service.
        out: the file; nothing may be there.

    Raises:
        StorageError: a folder is none of the kind, ``out`` is there already, or the disk refuses; nothing is left.
    """
    gallery, state = Path(gallery), Path(state)
    _check_sources(gallery, state)
    if out.exists():
        raise StorageError(f"{out}: is there already; name another file, or remove it")
    files: dict[str, dict[str, Any]] = {}
    facts: dict[str, Any] = {}
    with (
        atomic_write(out) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        tempfile.TemporaryDirectory(dir=out.parent, prefix=".backup-", suffix=".part") as folder,
    ):
        temporary.chmod(0o600)
        for name, path in _in_order(gallery, state):
            with contextlib.suppress(FileNotFoundError):  # erased since it was listed
                source = path
                if path.suffix == _DATABASE:
                    source = Path(folder) / "copy.sqlite"
                    _copy_database(path, source)
                    facts |= _facts(name, source)
                files[name] = _pack(archive, name, source)
                if source is not path:
                    source.unlink()
        made_s = time.time()
        card = {
            "format": FORMAT,
            "version": reid_mtda.__version__,
            "made_s": made_s,
            "gallery": str(gallery.resolve()),
            "state": str(state.resolve()),
            **facts,
            "files": files,
        }
        archive.writestr(MANIFEST, json.dumps(card, sort_keys=True))
    out.chmod(0o600)
    return _report(card)


def verify_backup(backup: Path) -> BackupReport:
    """Read all of a backup: every file's hash, every database's soundness, the audit's chain.

    Raises:
        StorageError: it is cut, changed, or of another version.
    """
    with tempfile.TemporaryDirectory(prefix="reid-mtda-verify-") as folder:
        return _unpack(backup, {"gallery": Path(folder) / "gallery", "state": Path(folder) / "state"})


def restore_backup(backup: Path, gallery: Path, state: Path) -> BackupReport:
    """Put a backup back into two folders that are not there yet; they appear whole or not at all.

    What was erased or grew old since it was made is in it again: the caller tells people so.

    Args:
        backup: the file.
        gallery: folder of the gallery to be; none, or an empty one, is there.
        state: folder of the service's files to be, likewise.

    Raises:
        StorageError: a folder is there already; the backup is cut, changed, or of another version; the disk refuses.
    """
    places = {"gallery": Path(gallery), "state": Path(state)}
    for place in places.values():
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise StorageError(f"{place}: is there already; restore into new folders, and compare or exchange them")
    parts = {name: place.with_name(f".{place.name}.{os.getpid()}.part") for name, place in places.items()}
    try:
        report = _unpack(backup, parts)
        _follow_places(parts["state"], backup, {name: place.resolve() for name, place in places.items()})
        for name, place in places.items():
            with contextlib.suppress(FileNotFoundError):
                place.rmdir()  # an empty one
            parts[name].replace(place)
    except OSError as error:
        raise StorageError(f"{backup}: could not be restored ({error.strerror or error}); free space") from error
    finally:
        for part in parts.values():
            shutil.rmtree(part, ignore_errors=True)
    return report


def _check_sources(gallery: Path, state: Path) -> None:
    for folder, file, kind in (
        (gallery, gallery_file.FILE, "a gallery"),
        (state, audit.FILE, "the state of a service"),
    ):
        if not (folder / file).is_file():
            raise StorageError(f"{folder}: holds no {file}, expected {kind}; check the path")


def _in_order(gallery: Path, state: Path) -> Iterator[tuple[str, Path]]:
    """Names in the backup and files: what the audit's chain must hold, then databases, then what rows refer to."""
    listed = {
        f"{kind}/{path.relative_to(folder).as_posix()}": path
        for kind, folder in (("state", state), ("gallery", gallery))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and ".part" not in path.name and not path.name.endswith(_LEFT_OUT)
    }
    databases = {name: path for name, path in listed.items() if path.suffix == _DATABASE}
    pictures = {name: path for name, path in listed.items() if path.suffix == ".jpg"}
    yield from ((name, path) for name, path in listed.items() if name not in databases and name not in pictures)
    yield from databases.items()
    # Those that came in meanwhile, too: their rows may be in the copies.
    for kind, folder in (("state", state), ("gallery", gallery)):
        for path in sorted(folder.rglob("*.jpg")):
            yield f"{kind}/{path.relative_to(folder).as_posix()}", path


def _copy_database(source: Path, target: Path) -> None:
    """A database as it stands at one moment, in one file; whoever writes to it does not wait."""
    try:
        connection, copy = sqlite.connect_read_only(source)
        try:
            with contextlib.closing(sqlite.connect(target)) as made:
                connection.backup(made)
        finally:
            connection.close()
            if copy is not None:
                copy.cleanup()
    except sqlite3.Error as error:
        raise StorageError(f"{source}: could not be copied ({error}); see that it is not damaged") from error


def _pack(archive: zipfile.ZipFile, name: str, source: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file, archive.open(name, "w", force_zip64=True) as into:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            into.write(chunk)
    return {"sha256": digest.hexdigest(), "bytes": size}


def _facts(name: str, copy: Path) -> dict[str, Any]:
    """What the manifest says of a database: how many sightings, the audit's head."""
    queries = {
        f"gallery/{gallery_file.FILE}": ("sightings", "SELECT count(*) FROM sightings"),
        f"state/{audit.FILE}": ("audit_head", "SELECT number || ':' || hash FROM audit ORDER BY number DESC LIMIT 1"),
    }
    if name not in queries:
        return {}
    key, query = queries[name]
    with contextlib.closing(sqlite.connect(copy)) as connection:
        row = connection.execute(query).fetchone()
    return {key: row[0] if row else ""}


def _unpack(backup: Path, places: dict[str, Path]) -> BackupReport:
    """All files into ``places``, checked one by one and as a whole."""
    try:
        with zipfile.ZipFile(backup) as archive:
            card = _card(backup, archive)
            for name, told in card["files"].items():
                _take(backup, archive, name, told, places)
    except FileNotFoundError:
        raise StorageError(f"{backup}: no such file; check the path") from None
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise StorageError(f"{backup}: is cut or damaged ({error}); take another backup") from None
    except OSError as error:
        raise StorageError(f"{backup}: could not be unpacked ({error.strerror or error}); free space") from error
    _check_whole(backup, places)
    return _report(card)


def _card(backup: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    if MANIFEST not in archive.namelist():
        raise StorageError(f"{backup}: holds no {MANIFEST}; expected a file that 'reid-mtda backup' made")
    card = json.loads(archive.read(MANIFEST)) if archive.getinfo(MANIFEST).file_size < _LONGEST_CARD else None
    if not isinstance(card, dict) or not isinstance(card.get("files"), dict):
        raise StorageError(f"{backup}: its {MANIFEST} cannot be read; take another backup")
    if card.get("format") != FORMAT:
        raise StorageError(
            f"{backup}: made by reid-mtda {str(card.get('version'))[:20]}, got format {card.get('format')!r}, expected "
            f"{FORMAT}; use that version"
        )
    return card


def _take(backup: Path, archive: zipfile.ZipFile, name: str, told: Any, places: dict[str, Path]) -> None:
    kind, *parts = PurePosixPath(name).parts
    if kind not in places or not parts or any(part in ("..", "") for part in parts) or "\\" in name:
        raise StorageError(
            f"{backup}: holds {name[:80]!r}, which belongs nowhere; it was not made by 'reid-mtda backup'"
        )
    target = places[kind].joinpath(*parts)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size, most = hashlib.sha256(), 0, int(told["bytes"])
    try:
        member = archive.open(name)
    except KeyError:
        raise StorageError(f"{backup}: {name} is missing; take another backup") from None
    with member, target.open("wb") as into:
        target.chmod(0o600)
        while size <= most and (chunk := member.read(_CHUNK)):
            digest.update(chunk)
            size += len(chunk)
            into.write(chunk)
    if size != most or digest.hexdigest() != told["sha256"]:
        raise StorageError(f"{backup}: {name} is not what was put in; it was changed or damaged, take another backup")


def _check_whole(backup: Path, places: dict[str, Path]) -> None:
    for place in places.values():
        for path in place.rglob(f"*{_DATABASE}"):
            try:
                with contextlib.closing(sqlite.connect(path)) as connection:
                    (found,) = connection.execute("PRAGMA integrity_check").fetchone()
            except sqlite3.Error as error:
                found = str(error)
            if found != "ok":
                raise StorageError(f"{backup}: {path.name} is damaged ({found}); take another backup")
    report = audit.verify_audit(places["state"])
    if not report.is_sound:
        raise StorageError(f"{backup}: its audit is not sound ({report.fault}); compare with another backup")


def _follow_places(state: Path, backup: Path, places: dict[str, Path]) -> None:
    """The record of which model answers names folders: of the gallery and the state as they lie from now on."""
    record = state / serving_record.FILE
    if not record.is_file():
        return
    with zipfile.ZipFile(backup) as archive:
        card = json.loads(archive.read(MANIFEST))
    kept = json.loads(record.read_text(encoding="utf-8"))
    for place in (kept.get("now"), kept.get("before")):
        for name in ("gallery", "state"):
            if isinstance(place, dict) and Path(place["gallery"]).is_relative_to(card[name]):
                place["gallery"] = str(places[name] / Path(place["gallery"]).relative_to(card[name]))
                break
    write_json(record, kept)


def _report(card: dict[str, Any]) -> BackupReport:
    return BackupReport(
        len(card["files"]),
        sum(int(told["bytes"]) for told in card["files"].values()),
        int(card["sightings"]),
        str(card["audit_head"]),
        float(card["made_s"]),
    )
