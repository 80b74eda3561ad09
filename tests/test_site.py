"""Site files: what is read, what is refused, and that the table in cameras/README.md says the same."""

import re
from pathlib import Path

import pytest

from reid_mtda.camera_settings import NAME, Camera, Travel
from reid_mtda.errors import ConfigError
from reid_mtda.live.site_reload import SiteWatcher
from reid_mtda.site import Site, load_site, resolve
from reid_mtda.synthetic.street import CAMERAS, parse_url

REPOSITORY = Path(__file__).parent.parent


def camera_file(folder: Path, text: str, name: str = "gate.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_reads_cameras_by_name(tmp_path: Path) -> None:
    camera_file(tmp_path, "url: b.mp4\nfps: 2\n", "b-side.yaml")
    camera_file(tmp_path, "url: a.mp4\nstart_time: 2026-03-01T08:00:00+00:00\n", "a.yml")
    site = load_site(tmp_path)
    assert list(site.cameras) == ["a", "b-side"]
    assert site.cameras["b-side"].fps == 2
    assert site.cameras["a"].start_time == "2026-03-01T08:00:00+00:00"  # YAML alone would make a date of it
    assert site.name == tmp_path.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url: a.mp4\ndetectr: motion\n", "unknown key 'detectr'; did you mean 'detector'?"),
        ("url: a.mp4\nzzz: 1\n", "unknown key 'zzz'; known keys: "),
        ("fps: 5\n", "missing key 'url'"),
        ("url: a.mp4\nfps: -5\n", "fps: got -5"),
        ("url: a.mp4\nfps: fast\n", "fps: got 'fast'"),
        ("url: a.mp4\nfps: 5\nfps: 6\n", "line 3: key 'fps' stands twice"),
        ("url: a.mp4\nmin_height_px: 48.5\n", "min_height_px: got 48.5"),
        ("url: a.mp4\nmin_height_px: true\n", "min_height_px: got True"),
        ("url: a.mp4\nmin_score: 1.5\n", "min_score: got 1.5"),
        ("url: a.mp4\nretention_days: 0\n", "retention_days: got 0"),
        ("url: 12\n", "url: got 12"),
        ("url: a\nmasks: [[[0, 0], [1, 1], [1, 0], [0, 1]]]\n", "masks.0: its sides cross: that from corner 1"),
        (
            "url: a\nmasks: [[[0, 0], [1, 0], [1, 1.2]]]\n",
            "masks.0: corner 3 lies outside of the picture, got [1, 1.2]",
        ),
        ("url: a\nmasks: [[0, 0], [1, 0], [1, 1]]\n", "masks.0.0: got 0, expected a list"),
        ("url: a\nmasks: [[[0, 0], [1, 0]]]\n", "masks.0: got 2 corners, expected 3 to 64"),
        ("url: a\nzones: {door: [[0, 0], [1, 0], [.inf, 1]]}\n", "zones.door.2.0: got"),
        ("url: a\nzones: {'../x': [[0, 0], [1, 0], [1, 1]]}\n", "zones.../x"),
        ("- url\n", "got list, expected 'key: value' lines"),
        ("url: [\n", "not valid YAML"),
        ("", "missing key 'url'"),
    ],
)
def test_refusals_name_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = camera_file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_site(tmp_path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_site_yaml_is_no_camera_and_says_the_time_zone(tmp_path: Path) -> None:
    camera_file(tmp_path, "url: a.mp4\n")
    assert load_site(tmp_path).timezone is None
    camera_file(tmp_path, "timezone: Asia/Tokyo\n", "site.yaml")
    site = load_site(tmp_path)
    assert site.timezone == "Asia/Tokyo" and list(site.cameras) == ["gate"]
    assert SiteWatcher(site).poll() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "timezone: Europe/Berln\n",
            "timezone: got 'Europe/Berln', expected the name of a time zone; did you mean Europe/B",
        ),
        ("timezone: ../etc/passwd\n", "timezone: got '../etc/passwd', expected the name of a time zone; e.g. Europe"),
        ("timezone: Europe\n", "timezone: got 'Europe', expected the name of a time zone"),
        ("timezon: UTC\n", "unknown key 'timezon'; did you mean 'timezone'?"),
        ("url: a.mp4\n", "unknown key 'url'"),
    ],
)
def test_what_is_no_time_zone_is_refused(tmp_path: Path, text: str, message: str) -> None:
    camera_file(tmp_path, "url: a.mp4\n")
    path = camera_file(tmp_path, text, "site.yaml")
    with pytest.raises(ConfigError) as caught:
        load_site(tmp_path)
    assert str(path) in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    ("neighbours", "message"),
    [
        ("{plazza: {min_s: 5}}", "gate.yaml: neighbours: got 'plazza', no camera of this site; did you mean 'plaza'?"),
        ("{harbour: {min_s: 5}}", "got 'harbour', no camera of this site; other cameras: plaza"),
        ("{gate: {min_s: 5}}", "got 'gate', the camera itself"),
        ("{plaza: {min_s: -1}}", "neighbours.plaza.min_s: got -1, expected >= 0"),
        ("{plaza: {max_s: 0}}", "neighbours.plaza.max_s: got 0, expected > 0"),
        ("{plaza: {min_s: 9, max_s: 5}}", "neighbours.plaza: got max_s 5 below min_s 9, expected min_s <= max_s"),
        ("{plaza: {mins: 5}}", "unknown key 'neighbours.plaza.mins'; did you mean 'min_s'?"),
        ("{plaza: 5}", "neighbours.plaza: got 5"),
        ("[plaza]", "neighbours: got"),
    ],
)
def test_wrong_neighbours_are_named(tmp_path: Path, neighbours: str, message: str) -> None:
    camera_file(tmp_path, f"url: a.mp4\nneighbours: {neighbours}\n")
    camera_file(tmp_path, "url: b.mp4\n", "plaza.yaml")
    with pytest.raises(ConfigError) as caught:
        load_site(tmp_path)
    assert message in str(caught.value)


def test_neighbours_may_be_left_out_and_change_no_footage(tmp_path: Path) -> None:
    camera_file(tmp_path, "url: a.mp4\nneighbours: {plaza: {min_s: 5, max_s: 120}, tunnel: {}}\n")
    for name in ("plaza", "tunnel"):
        camera_file(tmp_path, "url: b.mp4\n", f"{name}.yaml")
    cameras = load_site(tmp_path).cameras
    assert cameras["gate"].neighbours == {"plaza": Travel(min_s=5, max_s=120), "tunnel": Travel(min_s=0, max_s=None)}
    assert cameras["plaza"].neighbours == {}
    assert cameras["gate"].for_footage() == Camera(url="a.mp4").for_footage()


@pytest.mark.parametrize("url", ["rtsp:/user:pa55word@cam/1?k=abc", "user:pa55word@cam/1", "rtsp//user:pa55word@cam/1"])
def test_an_address_without_its_scheme_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    camera_file(tmp_path, f"url: {url}\n")
    with pytest.raises(ConfigError, match=r"gate\.yaml: url: got '\*\*\*@cam/1', .* expected rtsp://") as caught:
        load_site(tmp_path)
    assert "pa55word" not in str(caught.value) and "abc" not in str(caught.value)


def test_a_file_with_an_at_in_its_name_is_no_address(tmp_path: Path) -> None:
    (tmp_path / "gate@8:00.mp4").touch()
    camera_file(tmp_path, "url: gate@8:00.mp4\n")
    camera_file(tmp_path, "url: rtsp://user:pa55word@cam/1\n", "plaza.yaml")
    assert set(load_site(tmp_path).cameras) == {"gate", "plaza"}


def test_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_bytes(b"\xff\xfe\x00url")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        load_site(tmp_path)


def test_folder_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got no such folder, expected a site"):
        load_site(tmp_path / "absent")
    with pytest.raises(ConfigError, match="no camera files"):
        load_site(tmp_path)
    camera_file(tmp_path, "url: a.mp4\n", "Main Gate.yaml")
    with pytest.raises(ConfigError, match="got 'Main Gate', expected a-z 0-9 _ -"):
        load_site(tmp_path)


@pytest.mark.parametrize("name", ["gate\n", "a" * 65, "", "-gate", "gate\u0660"])
def test_what_is_no_name(name: str) -> None:
    assert NAME.match("gate-2_b") and not NAME.match(name)


def test_a_file_name_that_ends_in_a_newline_is_refused(tmp_path: Path) -> None:
    camera_file(tmp_path, "url: a.mp4\n", "gate\n.yaml")
    with pytest.raises(ConfigError, match="expected a-z 0-9 _ -"):
        load_site(tmp_path)


def test_same_name_twice_is_refused(tmp_path: Path) -> None:
    camera_file(tmp_path, "url: a.mp4\n", "gate.yaml")
    camera_file(tmp_path, "url: b.mp4\n", "gate.yml")
    with pytest.raises(ConfigError, match="camera 'gate' stands twice"):
        load_site(tmp_path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("footage/gate.mp4", "/site/footage/gate.mp4"),
        ("/video/gate.mp4", "/video/gate.mp4"),
        ("device:0", "device:0"),
        ("rtsp://10.0.0.2/stream", "rtsp://10.0.0.2/stream"),
    ],
)
def test_relative_paths_start_at_the_site(value: str, expected: str) -> None:
    assert resolve(Site("site", Path("/site"), {}), value) == expected


def test_embedded_street() -> None:
    site = load_site(REPOSITORY / "cameras" / "street")
    assert set(site.cameras) == set(CAMERAS)
    for name, camera in site.cameras.items():
        street = parse_url(camera.url)
        assert (street.camera, street.seed, street.part, street.people) == (name, 7, "train", 40)
        assert street.duration_s >= 120  # everybody passes
        assert (camera.detector, camera.fps) == ("motion", 5.0)


def readme_table() -> dict[str, list[str]]:
    text = (REPOSITORY / "cameras" / "README.md").read_text()
    table = text.split("## ")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


def in_yaml(value: object) -> str:
    value = list(value) if isinstance(value, tuple) else value
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_readme_says_what_the_camera_class_says() -> None:
    table = readme_table()
    assert list(table) == list(Camera.model_fields)
    for key, (meaning, unit, bounds, default, example) in table.items():
        field = Camera.model_fields[key]
        wanted = "required" if field.is_required() else "none" if field.default is None else in_yaml(field.default)
        assert default == wanted, key
        assert field.examples and example == in_yaml(field.examples[0]), key
        assert meaning, key
        limits = [getattr(rule, name) for rule in field.metadata for name in ("gt", "ge", "le") if hasattr(rule, name)]
        assert [float(number) for number in re.findall(r"\d+(?:\.\d+)?", bounds)] == [float(n) for n in limits], key
        for suffix in ("px", "days"):
            assert not key.endswith(f"_{suffix}") or unit == suffix
        Camera(**{"url": "a.mp4", key: field.examples[0]})


def test_readmes_masks_and_zones_are_read(tmp_path: Path) -> None:
    text = (REPOSITORY / "cameras" / "README.md").read_text()
    block = re.search(r"```yaml\n(masks:.*?)```", text, re.DOTALL)
    assert block
    camera_file(tmp_path, f"url: a.mp4\n{block[1]}")
    camera = load_site(tmp_path).cameras["gate"]
    assert camera.masks == (((0.0, 0.0), (0.3, 0.0), (0.3, 0.2), (0.0, 0.2)),) and set(camera.zones) == {"door"}
    footage = camera.for_footage()  # masks change what is harvested, zones do not
    assert footage["masks"] == camera.masks and "zones" not in footage
    assert "masks" not in Camera(url="a.mp4").for_footage()  # harvests of before there were masks are the same


def test_readme_says_what_travel_times_are(tmp_path: Path) -> None:
    text = (REPOSITORY / "cameras" / "README.md").read_text()
    block = re.search(r"```yaml\n(neighbours:.*?)```", text, re.DOTALL)
    assert block and set(Travel.model_fields) <= set(re.findall(r"`(m\w+_s)`", text))
    camera_file(tmp_path, f"url: a.mp4\n{block[1]}")
    for name in ("plaza", "market"):
        camera_file(tmp_path, "url: b.mp4\n", f"{name}.yaml")
    assert load_site(tmp_path).cameras["gate"].neighbours["plaza"] == Travel(min_s=5, max_s=120)


def test_readme_example_is_a_camera(tmp_path: Path) -> None:
    text = (REPOSITORY / "cameras" / "README.md").read_text()
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block
    camera_file(tmp_path, block[1], "entrance.yaml")
    assert load_site(tmp_path).cameras["entrance"].url == "footage/entrance.mp4"
