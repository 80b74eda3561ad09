"""Camera files that are written: masks and zones change, every other line stays, and nothing is lost on the way."""

import stat

import pytest

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import ConfigError, StorageError
from reid_mtda.live.camera_file_writer import camera_file, write_camera, write_regions
from reid_mtda.schema import load_yaml
from reid_mtda.site import STREET

MASK = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5))
DOOR = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9))


def test_a_new_file_is_its_owners_alone(tmp_path):
    write_camera(tmp_path / "shop" / "gate.yaml", {"url": "rtsp://ann:pa55word@10.0.0.5/live", "fps": 5.0})
    path = camera_file(tmp_path / "shop", "gate")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and load_yaml(path, Camera).url.endswith("@10.0.0.5/live")
    assert camera_file(tmp_path / "shop", "plaza") is None


def test_masks_and_zones_change_and_comments_stay(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text(
        "# The gate, hung by Ann.\nurl: a.mp4\nmasks:\n  - [[0, 0], [1, 0], [1, 1]]\n  # the flag\n\nfps: 2  # slow\n"
        "# how long\nretention_days: 3\nzones: {old: [[0, 0], [1, 0], [1, 1]]}\n"
    )
    path.chmod(0o640)
    camera = write_regions(path, [MASK], {"door": DOOR})
    assert camera == load_yaml(path, Camera) == Camera(
        url="a.mp4", fps=2, retention_days=3, masks=(MASK,), zones={"door": DOOR}
    )  # fmt: skip
    text = path.read_text()
    for comment in ("# The gate, hung by Ann.", "fps: 2  # slow", "# how long"):
        assert comment in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert write_regions(path, [], {}) == Camera(url="a.mp4", fps=2, retention_days=3)
    assert "masks" not in path.read_text() and [one.name for one in tmp_path.iterdir()] == ["gate.yaml"]


def test_what_is_no_area_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text("url: a.mp4\n")
    with pytest.raises(ConfigError, match=r"gate\.yaml: masks\.0: its sides cross"):
        write_regions(path, [((0, 0), (1, 1), (1, 0), (0, 1))], {})
    assert path.read_text() == "url: a.mp4\n" and [one.name for one in tmp_path.iterdir()] == ["gate.yaml"]


def test_a_file_that_is_not_one_key_a_line_is_refused_in_words(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text("{url: a.mp4, fps: 2}\n")
    before = path.read_text()
    with pytest.raises(ConfigError, match=r"gate\.yaml: "):
        write_regions(path, [MASK], {})
    assert path.read_text() == before


def test_the_embedded_street_is_not_written_to():
    with pytest.raises(ConfigError, match="is part of the package; copy the street's files"):
        write_regions(STREET / "gate.yaml", [MASK], {})


def test_a_disk_that_refuses_leaves_the_file(tmp_path, monkeypatch):
    path = tmp_path / "gate.yaml"
    path.write_text("url: a.mp4\n")

    def refused(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reid_mtda.files.tempfile.mkstemp", refused)
    with pytest.raises(StorageError, match="No space left"):
        write_regions(path, [MASK], {})
    assert path.read_text() == "url: a.mp4\n"
