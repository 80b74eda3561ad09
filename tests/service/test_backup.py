"""Backups: made while the service works, whole when restored, refused when cut, changed or of another version."""

import json
import threading
import time
import zipfile
from pathlib import Path

import pytest
from builders import reid_mtda
from colour_model import write_colour_model
from service_fixtures import REASON, RunningService, crop_of

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.service.audit import verify_audit
from reid_mtda.service.audit_chain import head_text
from reid_mtda.service.backup import MANIFEST, make_backup, restore_backup, verify_backup
from reid_mtda.service.run import running_service
from reid_mtda.site import Site


@pytest.fixture
def made(running: RunningService) -> Path:
    """A backup of a service at work."""
    running.client("operator").post("/api/v1/search", json={"sighting_id": running.numbers[0, "gate"], **REASON})
    out = running.folder / "copy.backup"
    make_backup(running.folder / "gallery", running.folder / "state", out)
    return out


def test_what_is_restored_is_what_was_there(running: RunningService, made: Path, tmp_path: Path) -> None:
    gallery, state = tmp_path / "new" / "gallery", tmp_path / "new" / "state"
    gallery.parent.mkdir()
    report = restore_backup(made, gallery, state)
    assert report.sightings == 12 and report == verify_backup(made)
    assert report.head == head_text(running.service.audit.head) and verify_audit(state).is_sound
    assert made.stat().st_mode & 0o077 == 0 and (state / "access.sqlite").stat().st_mode & 0o077 == 0
    with Gallery.open(gallery) as there:
        for number, row in running.service.system.gallery.sightings().items():
            same = there.lookup([number])[number]
            assert (same.camera, same.track_id, same.start_s) == (row.camera, row.track_id, row.start_s)
            assert (there.vector(number) == running.service.system.gallery.vector(number)).all()
            assert same.thumbnail.read_bytes() == row.thumbnail.read_bytes()


def test_a_service_goes_on_from_a_restored_backup(running: RunningService, made: Path, tmp_path: Path) -> None:
    write_colour_model(tmp_path / "again")
    new = tmp_path / "new"
    new.mkdir()
    restore_backup(made, new / "gallery", new / "state")
    token = running.token("operator")  # after the backup: it does not know it
    camera = Camera(url="synthetic://street?camera=gate&duration=20")
    site = Site("s", tmp_path, {"gate": camera})
    with running_service(site, tmp_path / "again", new / "gallery", new / "state") as service:
        assert len(service.system.gallery) >= 12 and service.audit.verify().is_sound and service.audit.doubts() == ()
        assert token not in [one.id for one in service.auth.tokens()]


def test_a_backup_made_while_cameras_add_is_whole(running: RunningService) -> None:
    gallery, stop = running.service.system.gallery, threading.Event()
    vector = gallery.vector(running.numbers[0, "gate"])

    def add() -> None:
        n = 0
        while not stop.is_set():
            number = gallery.add(vector, "gate", 5000 + n, time.time(), time.time() + 1, crop_of(0))
            running.service.audit.add("ann", "looked", number=number)
            if n % 5 == 4:
                gallery.delete([number])
            n += 1

    thread = threading.Thread(target=add)
    thread.start()
    try:
        for turn in range(3):
            out = running.folder / f"{turn}.backup"
            make_backup(running.folder / "gallery", running.folder / "state", out)
            place = running.folder / f"restored{turn}"
            place.mkdir()
            restore_backup(out, place / "gallery", place / "state")
            with Gallery.open(place / "gallery") as there:
                rows = there.sightings()
                assert len(rows) >= 12
                # Rows that were deleted since their copy have no picture; all others have theirs.
                missing = [n for n, row in rows.items() if not row.thumbnail.exists()]
                assert not set(missing) & set(gallery.lookup(missing))
    finally:
        stop.set()
        thread.join()


def test_a_cut_backup_is_refused_and_leaves_nothing(made: Path, tmp_path: Path) -> None:
    whole = made.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.999):
        made.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(StorageError, match="is cut or damaged"):
            restore_backup(made, tmp_path / "g", tmp_path / "s")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[:1] in ("g", "s") or ".part" in path.name) == [
        "gallery",
        "state",
    ]


def rewritten(made: Path, change) -> None:
    """The backup with its manifest or a file changed."""
    with zipfile.ZipFile(made) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def with_card(**changes: object):
    def change(files: dict[str, bytes]) -> None:
        files[MANIFEST] = json.dumps({**json.loads(files[MANIFEST]), **changes}).encode()

    return change


def climbing(files: dict[str, bytes]) -> None:
    card = json.loads(files[MANIFEST])
    card["files"]["state/../../evil"] = {"sha256": "0", "bytes": 1}
    files[MANIFEST], files["state/../../evil"] = json.dumps(card).encode(), b"x"


def one_byte(files: dict[str, bytes]) -> None:
    name = next(name for name in files if name.endswith(".jpg"))
    files[name] = files[name][:-1] + b"!"


def other_audit(files: dict[str, bytes]) -> None:
    import hashlib
    import sqlite3
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(files["state/audit.sqlite"])
        connection = sqlite3.connect(file.name)
        connection.execute("DROP TRIGGER no_update")
        connection.execute("UPDATE audit SET user = 'nobody' WHERE number = 1")
        connection.commit()
        connection.close()
        files["state/audit.sqlite"] = data = Path(file.name).read_bytes()
    card = json.loads(files[MANIFEST])
    card["files"]["state/audit.sqlite"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    files[MANIFEST] = json.dumps(card).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_card(format=2, version="9.9"), "made by reid-mtda 9.9, got format 2, expected 1; use that version"),
        (with_card(files=None), "cannot be read"),
        (lambda files: files.pop(MANIFEST), "expected a file that 'reid-mtda backup' made"),
        (lambda files: files.pop("gallery/gallery.sqlite"), "gallery.sqlite is missing"),
        (climbing, "belongs nowhere"),
        (one_byte, "is not what was put in"),
        (other_audit, "its audit is not sound"),
    ],
)
def test_what_was_changed_or_is_of_another_version_is_refused(made: Path, tmp_path: Path, change, words: str) -> None:
    rewritten(made, change)
    with pytest.raises(StorageError, match=words):
        restore_backup(made, tmp_path / "g", tmp_path / "s")
    assert not (tmp_path / "g").exists() and not (tmp_path / "s").exists() and not (tmp_path.parent / "evil").exists()


def test_nothing_that_is_there_is_overwritten(running: RunningService, made: Path) -> None:
    with pytest.raises(StorageError, match="is there already; restore into new folders"):
        restore_backup(made, running.folder / "gallery", running.folder / "other")
    with pytest.raises(StorageError, match="is there already; name another file"):
        make_backup(running.folder / "gallery", running.folder / "state", made)
    with pytest.raises(StorageError, match=r"holds no gallery\.sqlite"):
        make_backup(running.folder, running.folder / "state", running.folder / "x")


def test_the_command_line_makes_verifies_and_restores(running: RunningService, tmp_path: Path) -> None:
    file, gallery, state = tmp_path / "one.backup", running.folder / "gallery", running.folder / "state"
    told = reid_mtda("backup", "make", file, "--gallery", gallery, "--state", state)
    assert told.returncode == 0 and told.stdout.startswith("12 sightings") and "cameras' passwords" in told.stdout
    assert reid_mtda("backup", "verify", file).stdout.startswith("whole: 12 sightings")
    told = reid_mtda("backup", "restore", file, "--gallery", tmp_path / "g2")
    assert "erased since is in it again" in told.stdout and (tmp_path / "g2-service" / "audit.sqlite").is_file()
