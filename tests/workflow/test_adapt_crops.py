"""Adaptation without a site: to a folder of crops, a data set or an archive, as whoever has no footage has them."""

import json
import shutil
import sys

import numpy as np
import pytest
from builders import write_config, write_crops

from reid_mtda import cli
from reid_mtda.camera_means import read_centring
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.model import load_model
from reid_mtda.presets import load_config
from reid_mtda.runs import Run
from reid_mtda.workflow.adapt import adapt_crops
from reid_mtda.workflow.targets import choose_target, load_targets


def write_folder(root, cameras=("gate", "yard")):
    for number, camera in enumerate(cameras):
        write_crops(root / camera, people=4, pictures=3, seed=number)
    return root


def write_market(root, tracklets=None):
    for number in (1, 2):
        write_crops(
            root / "bounding_box_train", people=4, pictures=3, seed=number, name=f"{{pid:04d}}_c{number}_{{n}}.png"
        )
    if tracklets is not None:
        names = sorted(path.name for path in (root / "bounding_box_train").glob("*.png"))
        lines = "".join(f"{name},{tracklets(name)}\n" for name in names)
        (root / "bounding_box_train/tracklets.csv").write_text(f"file,tracklet\n{lines}", encoding="utf-8")
    return root


@pytest.fixture
def preset(tmp_path):
    return write_config(
        tmp_path / "p.yaml", adapt={"method": "cluster", "settings": {"steps_per_epoch": 2, "epochs": 2}}
    )


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*args):
        monkeypatch.setattr(sys, "argv", ["reid-mtda", *map(str, args)])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return call


def test_a_student_of_a_folder_of_crops(tmp_path, preset, run, caplog):
    crops, out = write_folder(tmp_path / "crops"), tmp_path / "out"
    code, err = run("adapt", "--config", preset, "--out", out, "--crops", crops)
    assert code == 0 and f"{out}/student" in err, err
    told = [text for text in caplog.messages if "expected 20 or more to adapt to" in text]
    assert len(told) == 2 and told[0].startswith("camera gate: about "), "before anything is trained"
    assert "too few people to call this student better than the model before: gate, yard (" in err
    kept = json.loads((out / "people.json").read_text())
    assert kept["cameras"]["gate"]["crops"] == 12 and sorted(kept["too_few"]) == ["gate", "yard"]
    assert load_model(out / "student").manifest.trained_on == "lab -> crops (gate, yard)"
    assert sorted(path.stem for path in (out / "teachers").glob("*")) == ["gate", "yard"]
    model = load_model(out / "student")
    centring = read_centring(model.folder, model.manifest)
    assert centring is not None and centring.by_camera.keys() == {"gate", "yard"}, "searches with it can be centred"
    assert run("adapt", "--config", preset, "--out", out, "--crops", crops)[0] == 0, "a finished job is found again"
    shutil.copyfile(crops / "gate/0_0.png", crops / "gate/new.png")
    code, err = run("adapt", "--config", preset, "--out", out, "--crops", crops)
    assert code == 2 and "pictures" in err, "crops that changed would be numbered otherwise"


def test_a_student_of_a_data_set(tmp_path, preset, run):
    root, out = write_market(tmp_path / "set"), tmp_path / "out"
    wanted = ("adapt", "--config", preset, "--data", "market1501", "--root", root)
    code, err = run(*wanted, "--out", tmp_path / "refused")
    assert "--set" not in err, "none was given"
    assert code == 2 and "tracklets: given, but the data set tells none" in err
    code, err = run(*wanted, "--out", out, "--tracklets", "none", "--set", "least_people=1")
    assert "too few people" not in err
    assert code == 0 and f"--data market1501 --root {root}" in err, err
    assert load_model(out / "student").manifest.trained_on == "lab -> market1501 (camera 1, camera 2)"


def test_tracklets_of_a_data_set_are_its_own_or_none(tmp_path):
    root = write_market(tmp_path / "set", tracklets=lambda name: int(name[:4]) * 2)
    for tracklets, found in (("given", [0, 2, 4, 6]), ("none", None)):
        (target,) = [choose_target("market1501", root, tracklets, None)]
        config = load_config(None, [f"targets={json.dumps([target])}", "adapt.method=cluster"])
        gate = load_targets(config.targets, Run(tmp_path / tracklets, 0))["camera 1"]
        own = None if gate.tracklets is None else len(np.unique(gate.tracklets))
        assert own == (found and len(found))


@pytest.mark.parametrize(
    ("named", "split", "learnt"), [(True, None, 6), (True, "validation", 4), (False, None, 8), (False, "drawn", 4)]
)
def test_splits_of_an_archive_can_be_named(tmp_path, named, split, learnt):
    """Without a word an archive's own test people are left out; where it names none everybody is learnt from."""
    pids = np.repeat(np.arange(8), 2)
    arrays = {"x": np.zeros((16, 16, 8, 3), np.uint8), "pid": pids, "cam": np.tile([1, 2], 8)}
    if named:
        arrays["split"] = np.where(pids < 6, "adapt", "test")
    np.savez(tmp_path / "a.npz", **arrays)
    target = choose_target("archive", tmp_path / "a.npz", "none", split)
    config = load_config(None, [f"targets={json.dumps([target])}", "adapt.method=cluster"])
    sets = load_targets(config.targets, Run(tmp_path / "run", 0))
    assert {len(each) for each in sets.values()} == {learnt} and len(sets) == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "got neither of a folder of crops and data sets"),
        (["--data", "market1501"], "--data and --root belong together"),
        (["--split", "given", "--crops", "x"], "--tracklets and --split are for --data"),
        (["--data", "market1501", "--root", "x", "--crops", "x"], "got --data beside a site or crops"),
        (
            ["--data", "market1501", "--root", "x", "--tracklets", "identity"],
            "--tracklets: got 'identity', expected gi",
        ),
        (["--data", "market1501", "--root", "x", "--split", "given"], "--split: got 'given' for market1501"),
        (["--data", "markt", "--root", "x"], "markt"),
        (["--crops", "nowhere"], "nowhere: no such folder, expected one folder of pictures for each camera"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(tmp_path, preset, run, options, named):
    code, err = run("adapt", "--config", preset, "--out", tmp_path / "out", *options)
    assert code == 2 and named in err and len(err.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_identities_do_not_come_in_as_tracklets(tmp_path, preset):
    target = {"name": "market1501", "root": str(write_market(tmp_path / "set")), "tracklets": "camera"}
    config = load_config(preset, [f"targets={json.dumps([target])}"])
    with pytest.raises(ConfigError, match="tracklets: camera, which are true identities"):
        adapt_crops(config, tmp_path / "out")


def test_a_camera_of_one_crop_is_told_and_the_others_go_on(tmp_path, preset):
    crops = write_folder(tmp_path / "crops")
    write_crops(crops / "lane", people=1, pictures=1)
    (crops / "empty").mkdir()
    adapted = adapt_crops(load_config(preset), tmp_path / "out", crops=crops)
    assert set(adapted.failures) == {"lane", "empty"} and "got 1 crops, expected 2 or more" in adapted.failures["lane"]
    for camera in ("gate", "yard"):
        shutil.rmtree(crops / camera)
    with pytest.raises(DataError, match="no camera gave crops to learn from"):
        adapt_crops(load_config(preset), tmp_path / "again", crops=crops)
