"""A gallery where nothing may be written can be searched: on a read-only mount, as backups and other machines' are."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.gallery.gallery import Gallery

ROOT = Path(__file__).resolve().parents[2]
SEARCH = """
import json, sys
import numpy as np
from pathlib import Path
from reid_mtda.errors import StorageError
from reid_mtda.gallery.gallery import Gallery
gallery = Gallery.open(Path(sys.argv[1]), "model", 4)
hits = gallery.search(np.array([1, 0, 0, 0], np.float32), k=9).hits
try:
    gallery.add(np.array([0, 0, 0, 1], np.float32), "gate", 99, 0.0, 1.0, None)
    refused = "no"
except StorageError as error:
    refused = str(error)
gallery.close()
print(json.dumps({"hits": [(hit.sighting_id, hit.sighting.camera) for hit in hits], "refused": refused}))
"""


def fill(folder, tracks=range(3)):
    gallery = Gallery.open(folder, "model", 4)
    for track in tracks:
        vector = np.eye(4, dtype=np.float32)[track]
        gallery.add(vector, "gate", track, float(track), track + 1.0, np.zeros((20, 10, 3), np.uint8))
    return gallery


def search_read_only(folder):
    """Search ``folder`` through a mount that may only be read, in a process of its own."""
    script = f'mount --bind "{folder}" "{folder}" && mount -o remount,bind,ro "{folder}" && exec "$@"'
    try:
        subprocess.run(
            ["unshare", "-rm", "sh", "-c", script, "sh", "true"], check=True, capture_output=True, timeout=60
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounts cannot be made here: {error}")
    command = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-c", SEARCH, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_gallery_on_a_read_only_mount_is_searched_and_takes_nothing(tmp_path):
    fill(tmp_path / "gallery").close()
    found = search_read_only(tmp_path / "gallery")
    assert [number for number, _ in found["hits"]] == [1, 2, 3] and "readonly database" in found["refused"]


def test_what_somebody_else_is_just_adding_is_found_there(tmp_path):
    with fill(tmp_path / "gallery") as writer:
        found = search_read_only(tmp_path / "gallery")
        assert len(writer) == 3 == len(found["hits"])


def test_a_log_that_was_left_behind_is_not_lost(tmp_path):
    """A copy of the files of a gallery at work, as a backup takes it: the last sightings stand in the log alone."""
    with fill(tmp_path / "gallery"):
        (tmp_path / "backup").mkdir()
        for name in ("gallery.sqlite", "gallery.sqlite-wal"):
            shutil.copyfile(tmp_path / "gallery" / name, tmp_path / "backup" / name)
    assert len(search_read_only(tmp_path / "backup")["hits"]) == 3
