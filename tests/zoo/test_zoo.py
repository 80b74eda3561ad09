"""Ready-made networks: what is fetched is what the table says, or one line says why not and nothing is left."""

import hashlib
import json
import resource
import sys

import numpy as np
import pytest
from colour_model import DIM, SIZE, write_colour_model
from file_server import file_server

from reid_mtda import cli
from reid_mtda.errors import ConfigError, ModelError, StorageError
from reid_mtda.model import load_model
from reid_mtda.schema import parse
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.detector_card import DetectorCard, read_card
from reid_mtda.workflow.add_model import add_model
from reid_mtda.workflow.export import GivenNetwork
from reid_mtda.workflow.pull import pull_models, verify_models
from reid_mtda.zoo.download import ATTEMPTS, download
from reid_mtda.zoo.folder import find_installed, models_folder
from reid_mtda.zoo.table import ZooEntry, load_table

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A server with a file, and an empty models folder; yields the server."""
    monkeypatch.setenv("REID_MTDA_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with file_server({"/file": CONTENT}) as server:
        yield server


@pytest.fixture
def weights(tmp_path):
    """The bytes of a small re-identification network in ONNX."""
    write_colour_model(tmp_path / "made" / "colours")
    return (tmp_path / "made" / "colours" / "model.onnx").read_bytes()


def table_of(address, content, **more):
    file = {"url": f"{address}/file", "bytes": len(content), "sha384": hashlib.sha384(content).hexdigest()}
    crop = {"height": SIZE.height, "width": SIZE.width}
    entry = {"task": "reid", "about": "colours", "licence": "MIT", "card": "none", "preprocess": crop}
    return {"colours": parse(ZooEntry, {**entry, "files": {"model.onnx": {**file, **more}}}, where="table")}


def left_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


# ------------------------------------------------------------------------------------------------------- download


def fetch(house, target, **more):
    waits = []
    download(f"{house.address}/file", target, size=len(CONTENT), sleep=waits.append, **more)
    assert target.read_bytes() == CONTENT
    return waits


def test_a_file_is_fetched_with_progress(house, tmp_path):
    said = []
    assert fetch(house, tmp_path / "f", part="f", progress=lambda *step: said.append(step)) == []
    assert said[-1] == ("f", 300, 300) and [done for _, done, _ in said] == sorted(done for _, done, _ in said)


def test_a_cut_connection_is_taken_up_where_it_was_cut(house, tmp_path):
    house.faults = ["cut", "cut"]
    assert fetch(house, tmp_path / "f") == [1, 2]
    assert house.asked == [("/file", 0), ("/file", 150_000), ("/file", 225_000)]


@pytest.mark.parametrize("fault", ["503", "429", "no ranges"])
def test_what_passes_is_tried_again(house, tmp_path, fault):
    """A server that is busy, or that knows no ranges and begins anew."""
    house.faults = ["cut", fault]
    fetch(house, tmp_path / "f")


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["404"], "answered 404 Not Found, expected the file; give a mirror (--mirror) or a folder"),
        (["503"] * ATTEMPTS, "could not be fetched (answered 503 Service Unavailable); try again, or give a mirror"),
        (["page"], "got a web page, expected a file of 300000 bytes; a proxy or a sign-in page may answer"),
        (["short"], "got 299999 bytes, expected 300000; another file stands there"),
        (["long"], "got more than 300000 bytes; another file stands there"),
        (["cut", "elsewhere"], "asked from byte 150000 on, got 0"),
        (["cut"] * ATTEMPTS, f"bytes in {ATTEMPTS} attempts (RemoteProtocolError: peer closed connection"),
    ],
)
def test_what_is_not_the_file_is_refused(house, tmp_path, faults, message):
    house.faults = list(faults)
    with pytest.raises(ModelError) as refused:
        fetch(house, tmp_path / "f")
    assert message in str(refused.value) and str(refused.value).startswith(house.address)
    assert len(house.asked) == len(faults)


def test_nobody_there_and_no_address(tmp_path):
    with pytest.raises(ModelError, match=r"could not be fetched \(ConnectError"):
        download("http://127.0.0.1:9/file", tmp_path / "f", size=1, sleep=lambda _: None)
    with pytest.raises(ModelError, match="UnsupportedProtocol"):
        download("models/file", tmp_path / "f", size=1, sleep=lambda _: None)


# ----------------------------------------------------------------------------------------------------------- pull


def test_a_pulled_network_is_used_by_its_name(house, weights):
    house.files["/file"] = weights
    table = table_of(house.address, weights)
    assert pull_models(["colours"], table=table) == {"colours": True}
    model = load_model("colours")
    assert model.embed([np.full((60, 30, 3), 99, np.uint8)] * 2).shape == (2, DIM)
    assert model.manifest.arch == "colours" and "ready-made" in model.manifest.trained_on
    assert left_in(models_folder()) == [
        "colours", "colours/manifest.json", "colours/model.onnx", "colours/origin.json",
    ]  # fmt: skip
    assert pull_models(["colours"], table=table) == {"colours": False} and len(house.asked) == 1


def test_a_mirror_has_them_by_name_and_file(house, weights):
    house.files["/zoo/colours/model.onnx"] = weights
    table = table_of("http://nowhere.invalid", weights)
    pull_models(["colours"], table=table, mirror=f"{house.address}/zoo/")
    assert house.asked == [("/zoo/colours/model.onnx", 0)]
    assert find_installed("colours", "reid").origin.source == f"{house.address}/zoo/"


def test_a_folder_has_them_under_any_name_and_nothing_is_asked(house, weights, tmp_path):
    (tmp_path / "stick" / "deep").mkdir(parents=True)
    (tmp_path / "stick" / "a.bin").write_bytes(weights[::-1])  # of the same length
    (tmp_path / "stick" / "deep" / "whatever.bin").write_bytes(weights)
    pull_models(["colours"], table=table_of(house.address, weights), source=tmp_path / "stick")
    assert not house.asked and not verify_models()["colours"]
    with pytest.raises(ModelError, match=r"stick2: holds no model\.onnx of colours, a file of \d+ bytes; fetch it"):
        (tmp_path / "stick2").mkdir()
        pull_models(["colours"], folder=tmp_path / "m", table=table_of("http://a", weights), source=tmp_path / "stick2")
    with pytest.raises(ConfigError, match="no such folder"):
        pull_models(["colours"], table=table_of("http://a", weights), source=tmp_path / "stick3")


@pytest.mark.parametrize("fault", ["other", "404", "page", "short", "long"])
def test_nothing_is_left_of_a_network_that_cannot_be_had(house, weights, fault):
    house.files["/file"], house.faults = weights, [fault]
    with pytest.raises(ModelError) as refused:
        pull_models(["colours"], table=table_of(house.address, weights))
    assert "\n" not in str(refused.value) and not left_in(models_folder())
    if fault == "other":
        assert "model.onnx of colours is not the file of the table, its hash differs" in str(refused.value)


def test_a_network_that_was_there_stays_where_a_new_one_cannot_be_had(house, weights):
    house.files["/file"] = weights
    pull_models(["colours"], table=table_of(house.address, weights))
    before = left_in(models_folder())
    (models_folder() / "colours" / "model.onnx").write_bytes(weights + b"x")  # damaged, so it is fetched anew
    house.faults = ["404"]
    with pytest.raises(ModelError, match="404"):
        pull_models(["colours"], table=table_of(house.address, weights))
    assert left_in(models_folder()) == before
    pull_models(["colours"], table=table_of(house.address, weights))
    assert (models_folder() / "colours" / "model.onnx").read_bytes() == weights


def test_a_full_disk_is_named_and_nothing_is_left(house, weights):
    house.files["/file"] = weights
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(weights) - 1, limits[1]))
    try:
        with pytest.raises(StorageError, match="colours: could not be written"):
            pull_models(["colours"], table=table_of(house.address, weights))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not left_in(models_folder())


def test_what_is_no_network_is_refused_though_its_hash_is_right(house):
    with pytest.raises(ModelError, match="ONNX Runtime cannot open it"):
        pull_models(["colours"], table=table_of(house.address, CONTENT))
    assert not left_in(models_folder())


# ------------------------------------------------------------------------------------------------- names and hashes


def test_the_table_is_sound_and_names_terms():
    table = load_table()
    assert {"yolox-nano", "retail-0287", "retail-0013", "adas-0002"} <= set(table)
    assert {entry.task for entry in table.values() if entry.recommended} == {"detector", "reid"}
    for name, entry in table.items():
        parse(DetectorCard, entry.detector, where=name)
        assert entry.licence == "Apache-2.0" and entry.card.startswith("https://")
        assert all(file.url.startswith("https://") for file in entry.files.values())
    hashes = [file.sha384 or file.sha256 for entry in table.values() for file in entry.files.values()]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"sha384": None}, "expected one of sha384 and sha256"), ({"sha256": "0" * 64}, "expected one of"),
     ({"url": "ftp://a"}, "url: got 'ftp://a'"), ({"bytes": 0}, "bytes: got 0")],
)  # fmt: skip
def test_a_table_that_is_not_sound_is_refused(more, message):
    with pytest.raises(ConfigError, match=message):
        table_of("http://a", b"x", **more)


def test_a_file_exchanged_after_add_is_found(house, weights, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(weights)
    add_model(tmp_path / "mine.onnx", "mine", task="reid", given=GivenNetwork(height=SIZE.height, width=SIZE.width))
    load_model("mine")
    write_colour_model(tmp_path / "other", turn=1)
    (models_folder() / "mine" / "model.onnx").write_bytes((tmp_path / "other" / "model.onnx").read_bytes())
    assert "model.onnx is not the file that came in" in verify_models()["mine"]
    with pytest.raises(ModelError, match=r"mine: model\.onnx is not the file that came in.*pull or add it again"):
        load_model("mine")
    (models_folder() / "mine" / "model.onnx").write_bytes(weights)
    load_model("mine")
    card = models_folder() / "mine" / "manifest.json"
    sound = card.read_text()
    card.write_text(sound.replace("0.485", "0.5"))
    assert "manifest.json is not the file that came in" in verify_models()["mine"] and "0.485" in sound
    card.write_text(sound)
    (models_folder() / "mine" / "model.onnx").unlink()
    assert verify_models()["mine"] == "model.onnx is missing"
    (models_folder() / "mine" / "origin.json").write_text("[")
    assert "origin.json is damaged" in verify_models()["mine"]


def test_names_are_told_apart(house, weights, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(weights)
    given = GivenNetwork(height=SIZE.height, width=SIZE.width)
    add_model(tmp_path / "mine.onnx", "mine", task="reid", given=given)
    for name, message in (
        ("yolox-nona", "did you mean 'yolox-nano'"),
        ("mine", "mine: a re-identification network, expected a person detector"),
        ("retail-0287", "retail-0287: a re-identification network, expected a person detector"),
        ("qqq", "no file and no person detector of that name; known names: adas-0002,"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_detector(name)
    with pytest.raises(ModelError, match=r"yolox-nano: not in .* yet; run 'reid-mtda models pull yolox-nano'"):
        load_detector("yolox-nano")
    with pytest.raises(ModelError, match=r"retail-0287: not in .* yet; run 'reid-mtda models pull retail-0287'"):
        load_model("retail-0287")
    with pytest.raises(ConfigError, match="yolox-nano: a person detector, expected a re-identification network"):
        load_model("yolox-nano")
    for name, message in (("Mine", "expected a-z"), ("../mine", "expected a-z"), ("yolox-nano", "name of the table")):
        with pytest.raises(ConfigError, match=message):
            add_model(tmp_path / "mine.onnx", name, task="reid", given=given)
    with pytest.raises(ModelError, match=r"mine\.onnx: output layout not known"):
        add_model(tmp_path / "mine.onnx", "people", task="detector")
    assert sorted(path.name for path in models_folder().iterdir()) == ["mine"]


# ---------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``reid-mtda models ARGS``; returns (exit code, standard output, standard error)."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["reid-mtda", "models", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        return stop.value.code or 0, out.out, out.err

    return call


def test_the_verbs(run, house, weights, tmp_path):
    assert run("verify")[0] == 0
    (tmp_path / "mine.onnx").write_bytes(weights)
    sizes = ("--height", SIZE.height, "--width", SIZE.width)
    code, _, err = run("add", tmp_path / "mine.onnx", "--name", "mine", "--task", "reid", *sizes)
    assert code == 0 and "its terms: not stated, and weights carry" in " ".join(err.split())
    code, out, _ = run("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    assert rows["mine"]["is_here"] and not rows["yolox-nano"]["is_here"] and rows["mine"]["licence"] == "not stated"
    assert "mine" in run("list")[1]
    assert run("verify") == (0, "mine: sound\n", "")
    (models_folder() / "mine" / "model.onnx").write_bytes(b"x")
    code, out, err = run("verify")
    assert code == 2 and not out and "mine: model.onnx is not the file that came in" in err
    code, _, err = run("pull", "retail-0287", "--mirror", house.address)
    assert code == 2 and err.startswith("reid-mtda: ") and len(err.splitlines()) == 1 and "404" in err
    assert run("pull", "nothing")[0] == 2 and run("add", "a.onnx", "--name", "x", "--task", "fly")[0] == 2


# ------------------------------------------------------------------------------------------------- the real files


@pytest.mark.data
def test_the_files_of_the_table_by_http_and_at_work(run, house, data_folder):
    """The real networks from a server with cut connections; one finds people, one tells them apart."""
    full = {
        "retail-0287": "person-reidentification-retail-0287",
        "retail-0286": "person-reidentification-retail-0286",
        "adas-0002": "pedestrian-detection-adas-0002",
    }
    for short, name in full.items():
        for end in ("xml", "bin"):
            content = (data_folder / "weights" / f"{name}.FP16.{end}").read_bytes()
            house.files[f"/{short}/model.{end}"] = content
    house.faults = ["cut", "", "", "cut"]
    code, _, err = run("pull", *full, "--mirror", house.address)
    assert code == 0, err
    assert ("/retail-0287/model.xml", 307473) in house.asked
    assert verify_models() == dict.fromkeys(full, "")
    model = load_model("retail-0287")
    assert model.embed(np.full((60, 30, 3), 99, np.uint8)).shape == (1, 256)
    assert model.manifest.preprocess.channels == "BGR"
    assert read_card(find_installed("adas-0002", "detector").weights).person_class == 1
    assert len(load_detector("adas-0002", threads=1)(np.zeros((100, 200, 3), np.uint8))) == 0


@pytest.mark.data
def test_another_release_of_a_network_is_refused(run, house, data_folder):
    """The development data's retail-0013 is of another year than the table's."""
    content = (data_folder / "weights" / "person-detection-retail-0013.FP16.xml").read_bytes()
    house.files["/retail-0013/model.xml"] = content
    code, _, err = run("pull", "retail-0013", "--mirror", house.address)
    assert code == 2 and "got 358263 bytes, expected 571233" in err and not left_in(models_folder())
