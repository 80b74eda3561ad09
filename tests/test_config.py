"""A preset that cannot work is refused before the work: networks, data sets, folders and weights."""

from pathlib import Path

import pytest
from builders import write_config

from reid_mtda.errors import ConfigError
from reid_mtda.presets import load_config
from reid_mtda.schema import read_yaml

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PRESETS = CONFIGS / "adapt"
CLUSTER = "adapt={method: cluster}"


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
        (["ready_made={gate: no}"], r"ready_made\.gate: got no, expected an exported model's folder, or a name"),
        (
            ["ready_made={gate: retail-0287}"],
            r"ready_made\.gate: retail-0287: not in .*; run 'reid-mtda models pull ret",
        ),
        (["variants={a: {ready_made: no}}"], r"variants\.a\.ready_made: got no, expected an exported model's folder"),
        (["test.name=torchreid:viper"], r"test\.root: missing, expected where"),
        (
            ["source={name: msmt17, root: no/msmt17}"],
            r"got no/msmt17, expected the folder of 'msmt17': list_train\.txt, .*; unpack it there \(nothing is down",
        ),
        (
            ["targets=[{name: torchreid:cuhk03, root: no}]"],
            r"targets\.0\.root: got no, expected the folder of 'torchreid:cuhk03': cuhk03/ as torchreid's docum",
        ),
        (["targets=[{name: street, tracklets: camera}, {name: street}]"], "targets: got 'street' twice, expected each"),
        (
            ["targets=[{name: street}]"],
            r"got none in targets\.0; set adapt\.method to cluster, or targets\.0\.tracklets to given",
        ),
        (
            ["targets=[{name: street, tracklets: camera, options: {split_id: 1}}]"],
            r"targets\.0\.options: got some for 'street', expected none",
        ),
        (["distil.tracklets_are_identities=true"], r"distil\.tracklets_are_identities: is for measuring the leak"),
        (
            [
                "targets=[{name: street, tracklets: camera}]",
                "variants={a: {distil: {tracklets_are_identities: true}}}",
            ],
            r"variants\.a\.distil\.tracklets_are_identities: is for measuring the leak, with tracklets: identity",
        ),
        (["variants={a/b: {}}"], r"variants\.a/b: not fit for a file's name; rename it"),
        (["variants={a: {distil: {stps: 3}}}"], r"variants\.a\.distil: unknown key 'stps'; did you mean 'steps'"),
        (
            ["variants={a: {adapt: {method: mmd}}}"],
            r"variants\.a\.adapt\.method: got 'mmd', expected one of dmmd, clus",
        ),
        (["variants={a: {adapt: {settings: {stps: 3}}}}"], r"variants\.a\.adapt\.settings: unknown key 'stps'"),
        (["variants={a: {tracklets: identity}}"], r"variants\.a\.tracklets: filmed footage has its own; expected a da"),
        (
            ["variants={a: {ready_made: configs, adapt: {method: cluster}}}"],
            r"variants\.a: got adapt and ready_made, expected one of them; drop the other",
        ),
    ],
)
def test_what_is_not_there_is_told_at_once(tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(CONFIGS.parent)
    monkeypatch.setenv("REID_MTDA_MODELS", str(tmp_path / "models"))
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(tmp_path / "c.yaml"), settings)


def test_a_message_says_with_set_only_where_something_was(tmp_path):
    bad = write_config(tmp_path / "c.yaml", source={"name": "markt"})
    with pytest.raises(ConfigError, match=r"c\.yaml: source\.name: got 'markt'"):
        load_config(bad, given={"seed": 3})
    with pytest.raises(ConfigError, match=r"c\.yaml, with --set: source\.name: got 'markt'"):
        load_config(bad, ["seed=3"])
    with pytest.raises(ConfigError, match=r"^--set: source\.name"):
        load_config(None, ["source.name=markt"])
    with pytest.raises(ConfigError, match=r"^settings: source\.name"):
        load_config(None, given={"source": {"name": "markt"}})
    assert load_config(None, ["seed=3", CLUSTER], given={"seed": 4}).seed == 4


def test_what_is_there_is_taken(tmp_path):
    (tmp_path / "w.npz").touch()
    more = [f"source.root={tmp_path}", f"student.weights={tmp_path / 'w.npz'}", "source.name=market1501"]
    weights = [f"{role}.weights={tmp_path / 'w.npz'}" for role in ("teacher", "student")]
    assert load_config(write_config(tmp_path / "c.yaml"), ["source.name=none", CLUSTER, *weights]).source.root is None
    assert load_config(write_config(tmp_path / "c.yaml"), more).source.name == "market1501"


def test_the_presets_lack_at_most_the_users_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(PRESETS / "demo.yaml").test.name == "street"
    with pytest.raises(ConfigError, match=r"osnet\.yaml: source\.root: got data/market1501"):
        load_config(PRESETS / "osnet.yaml", [])
    assert load_config(PRESETS / "osnet.yaml", [f"source.root={tmp_path}"]).teacher.arch == "osnet_x1_0"


def test_dmmd_without_a_source_is_refused_and_not_asked_for_beside_a_ready_made_teacher(tmp_path):
    (tmp_path / "w.npz").touch()
    sourceless = ["source.name=none", *(f"{role}.weights={tmp_path / 'w.npz'}" for role in ("teacher", "student"))]
    preset = write_config(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match=r"adapt\.method: dmmd aligns to a source, got none; use cluster"):
        load_config(preset, sourceless)
    assert load_config(preset, [*sourceless, f"ready_made={{'*': {tmp_path}}}"]).adapt.method == "dmmd"


def test_relative_paths_start_from_root(tmp_path):
    (tmp_path / "msmt17").mkdir()
    more = ["source={name: msmt17, root: msmt17}", "test={name: market1501, root: .}"]
    more.append("targets=[{name: cuhk03np, root: ., tracklets: camera}]")
    config = load_config(write_config(tmp_path / "c.yaml"), more, root=tmp_path)
    assert config.source.root == str(tmp_path / "msmt17")
    assert Path(config.test.root) == Path(config.targets[0].root) == tmp_path


KD_REID = CONFIGS / "benchmark/kd_reid.yaml"


def test_the_preset_of_kd_reid_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refusal:
        load_config(KD_REID)
    assert str(refusal.value) == (
        f"{KD_REID}: source.root: got msmt17, expected the folder of 'msmt17': list_train.txt, list_query.txt and "
        "list_gallery.txt beside train/ and test/; unpack it there (nothing is downloaded) or check the path"
    )
    (tmp_path / "msmt17").mkdir()
    with pytest.raises(
        ConfigError, match=r"targets\.0\.root: got sets, expected the folder of 'torchreid:market1501': "
    ):
        load_config(KD_REID, ["targets=[{name: torchreid:market1501, root: sets}]"])


def test_the_preset_of_kd_reid_is_the_papers_loss_alone(tmp_path):
    (tmp_path / "msmt17").mkdir()
    config = load_config(KD_REID, root=tmp_path)
    assert [target.title for target in config.targets] == ["market1501", "cuhk03"]
    assert {target.by for target in config.targets} == {"set"} and {t.tracklets for t in config.targets} == {"none"}
    budgets = [(loop.steps, loop.target_identities, loop.target_pictures) for loop in (config.kd_reid, config.distil)]
    assert (config.distillation, config.kd_reid.learning_rate) == ("kd_reid", 0.01) and budgets[0] == budgets[1]
    assert config.variants["all our parts"].distillation == "distil"
    assert (config.teacher.arch, config.student.arch) == ("resnet50", "osnet_x0_25")
    leak = config.variants["the published leak"]
    assert leak.tracklets == "identity" and leak.kd_reid["tracklets_are_identities"] and leak.adapt.method == "dmmd"


def test_an_entry_of_a_list_is_overridden_by_its_number(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("targets: [{name: street}]\nadapt: {method: cluster}\n", encoding="utf-8")
    config = load_config(preset, ["targets.0.by=set", "targets.0.people=7"])
    assert (config.targets[0].by, config.targets[0].people) == ("set", 7)
    assert (
        load_config(preset, targets_by="set").targets[0].by == "set" and load_config(preset).targets[0].by == "camera"
    )
    for wrong in ("targets.1.by=set", "targets.x.by=set"):
        with pytest.raises(ConfigError, match=f"--set {wrong}"):
            load_config(preset, [wrong])


@pytest.mark.parametrize("name", sorted(path.name for path in (CONFIGS / "benchmark").glob("*.yaml")))
def test_each_preset_of_the_benchmarks_names_what_there_is(name, monkeypatch):
    """Keys, methods and variants; the data and weights that most of them name are not part of the project."""
    path = CONFIGS / "benchmark" / name
    if read_yaml(path)["kind"] != "reid":  # closed sets and the objectives are held to theirs in tests/bench
        return
    monkeypatch.setattr("reid_mtda.presets._check_presence", lambda where, config: None)
    assert load_config(path).adapt.parsed()


def test_an_empty_preset_is_no_preset(tmp_path):
    """Training for hours on defaults is not what somebody with an emptied file wants."""
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"empty\.yaml: it is empty, expected a preset"):
        load_config(tmp_path / "empty.yaml")
