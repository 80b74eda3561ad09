"""A site from addresses: cameras that answer have a file, the others are named; nothing that was there is lost."""

import socket
import stat

import cv2
import pytest
from builders import reid_mtda

from reid_mtda.errors import ConfigError
from reid_mtda.site import load_site
from reid_mtda.workflow.site_init import init_site, name_cameras

GATE = "synthetic://street?camera=gate&duration=2"


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """An empty models folder."""
    monkeypatch.setenv("REID_MTDA_MODELS", str(tmp_path / "models"))


def test_cameras_that_answer_have_a_file_and_a_place_in_the_picture(tmp_path):
    plaza = GATE.replace("gate", "plaza")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = f"rtsp://ann:pa55word@127.0.0.1:{silent.getsockname()[1]}/live"
        made = init_site(tmp_path / "shop", {"gate": GATE, "plaza": plaza, "mute": mute}, timeout_s=5)
    assert made.people == {"gate": None, "plaza": None} and "pa55word" not in made.failures["mute"]
    site = load_site(tmp_path / "shop")
    assert {name: camera.url for name, camera in site.cameras.items()} == {"gate": GATE, "plaza": plaza}
    assert site.cameras["gate"].detector == "auto"
    assert cv2.imread(str(made.picture)).shape == (720, 480, 3)
    for path in (tmp_path / "shop").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_nothing_that_is_there_is_written_over(tmp_path):
    init_site(tmp_path / "shop", {"gate": GATE}, timeout_s=60)
    before = (tmp_path / "shop" / "gate.yaml").read_bytes()
    with pytest.raises(ConfigError, match=r"gate\.yaml: is there already; choose another name"):
        init_site(tmp_path / "shop", {"plaza": GATE, "gate": GATE}, timeout_s=60)
    assert (tmp_path / "shop" / "gate.yaml").read_bytes() == before and not (tmp_path / "shop" / "plaza.yaml").exists()
    init_site(tmp_path / "shop", {"plaza": GATE}, timeout_s=60)
    assert set(load_site(tmp_path / "shop").cameras) == {"gate", "plaza"}


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ({"Gate": GATE}, "got a camera called 'Gate', expected a-z"),
        ({"site": GATE}, "and not 'site'"),
        ({"gate": "ann:pa55word@10.0.0.5/live"}, r"camera gate: got '\*\*\*@10\.0\.0\.5/live', neither an address"),
    ],
)
def test_what_cannot_be_a_camera_is_refused_before_anything_is_written(tmp_path, addresses, message):
    with pytest.raises(ConfigError, match=message):
        init_site(tmp_path / "shop", addresses, timeout_s=5)
    assert not (tmp_path / "shop").exists()


def test_names():
    assert name_cameras(["a", "b"]) == {"camera1": "a", "camera2": "b"}
    with pytest.raises(ConfigError, match="'gate' stands twice"):
        name_cameras([f"gate={GATE}", f"gate={GATE}"])
    with pytest.raises(ConfigError, match="got a camera called 'größe', expected a-z 0-9 _ -"):
        name_cameras([f"größe={GATE}"])
    assert name_cameras(["rtsp://10.0.0.5/live?a=b"]) == {"camera1": "rtsp://10.0.0.5/live?a=b"}


def test_the_verb_names_what_failed(tmp_path):
    done = reid_mtda("site", "init", tmp_path / "shop", f"gate={GATE}", "none.mp4", "--timeout", 60)
    assert done.returncode == 2 and "camera camera2 failed" in done.stderr and "no such video file" in done.stderr
    assert "gate" in done.stdout and set(load_site(tmp_path / "shop").cameras) == {"gate"}
    done = reid_mtda("site", "init", tmp_path / "other", "none.mp4")
    assert done.returncode == 2 and not (tmp_path / "other").exists()


@pytest.mark.data
def test_people_are_found_in_a_real_frame(tmp_path, data_folder, monkeypatch):
    from reid_mtda.workflow.pull import pull_models

    pull_models(["adas-0002"], source=data_folder / "weights")
    made = init_site(tmp_path / "shop", {"street": str(next((data_folder / "video/pets_s2l1").glob("*.[am][vp][i4]")))})
    assert made.people["street"] >= 3 and load_site(tmp_path / "shop").cameras["street"].detector == "auto"
