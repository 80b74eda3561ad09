"""A preset that cannot work is refused before the work: networks, data sets, folders and weights."""

from pathlib import Path

import pytest
from builders import write_config

from reid_mtda.config import load_config
from reid_mtda.errors import ConfigError

PRESETS = Path(__file__).resolve().parents[1] / "configs/adapt"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["teacher.arch=osnet_x9"], r"c\.yaml, with --set: teacher\.arch: got 'osnet_x9', expected resnet10_wN or one"),
        (["student.arch=resnet10_w999"], r"student\.arch: got 'resnet10_w999', expected a width of 4\.\.256"),
        (["teacher.arch=hacnn"], r"teacher\.arch: hacnn runs on CUDA alone; choose another"),
        (["student.embedding_dim=0"], r"student\.embedding_dim: got 0, expected >= 1"),
        (["student.weights=no/w.npz"], r"student\.weights: got no/w\.npz, expected a weights file; check the path"),
        (
            ["source.name=markt"],
            r"source\.name: got 'markt', expected one of lab, none, market1501, .*or torchreid:NAME",
        ),
        (["source.name=market1501"], r"source\.root: missing, expected where 'market1501' lies"),
        (
            ["source.name=msmt17", "source.root=no/where"],
            r"source\.root: got no/where, expected the folder of",
        ),
        (["test.name=stret"], r"test\.name: got 'stret', expected one of street, market1501"),
        (["source.name=none"], r"teacher\.weights: missing, expected weights, since there is no source"),
        (["targets=[{name: strt}]"], r"targets\.0\.name: got 'strt', expected one of street, archive, market1501"),
        (
            ["targets=[{name: archive, root: no.npz}]"],
            r"targets\.0\.root: got no\.npz, expected an \.npz file",
        ),
        (["ready_made={gate: no}"], r"ready_made\.gate: got no, expected an exported model's folder; check the path"),
        (["variants={a: {ready_made: no}}"], r"variants\.a\.ready_made: got no, expected an exported model's folder"),
        (["test.name=torchreid:viper"], r"test\.root: missing, expected where"),
    ],
)
def test_what_is_not_there_is_told_at_once(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(tmp_path / "c.yaml"), settings)


def test_what_is_there_is_taken(tmp_path):
    (tmp_path / "w.npz").touch()
    more = [f"source.root={tmp_path}", f"student.weights={tmp_path / 'w.npz'}", "source.name=market1501"]
    weights = [f"{role}.weights={tmp_path / 'w.npz'}" for role in ("teacher", "student")]
    assert load_config(write_config(tmp_path / "c.yaml"), ["source.name=none", *weights]).source.root is None
    assert load_config(write_config(tmp_path / "c.yaml"), more).source.name == "market1501"


def test_the_presets_lack_at_most_the_users_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(PRESETS / "demo.yaml").test.name == "street"
    with pytest.raises(ConfigError, match=r"osnet\.yaml: source\.root: got data/market1501"):
        load_config(PRESETS / "osnet.yaml", [])
    assert load_config(PRESETS / "osnet.yaml", [f"source.root={tmp_path}"]).teacher.arch == "osnet_x1_0"
