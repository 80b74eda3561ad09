"""A whole experiment on two data sets of coats in seconds: rows, resuming, ready-made teachers, variants, refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import TINY_CONFIG, same_weights, write_config, write_crops

from reid_mtda.bench import baselines as baselines_module
from reid_mtda.bench import experiment as module
from reid_mtda.bench.experiment import export_students, run_experiment, run_seeds
from reid_mtda.bench.pseudo_identities import score_overlaps
from reid_mtda.camera_means import need_centring
from reid_mtda.config import AdaptConfig
from reid_mtda.errors import ConfigError, DataError
from reid_mtda.export import export_student
from reid_mtda.model import load_model
from reid_mtda.models.checkpoint import load_embedder
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.presets import load_config
from reid_mtda.runs import Run
from reid_mtda.train import METHODS
from reid_mtda.types import Preprocess
from reid_mtda.vision.preprocess import read_image
from reid_mtda.workflow import training as training_module
from reid_mtda.workflow.targets import load_benchmark
from reid_mtda.workflow.teacher_cache import collect_teacher_outputs

ROWS = [
    "source only",
    "source only, BatchNorm of each camera",
    "blending",
    "blending, BatchNorm of each camera",
    "one small model per camera",
    "merge of small models",
    "merge of small models, BatchNorm of each camera",
    "mean of teachers",
    "teachers, each on its camera",
    "distilled student",
    "distilled student, BatchNorm of each camera",
    "oracle (target labels)",
    "oracle (target labels), BatchNorm of each camera",
    "distilled student, alone",
    "distilled student, leak",
    "distilled student, ready",
    "distilled student, ready, BatchNorm of each camera",
]
LOOP = {"steps": 2, "identities_per_batch": 3, "pictures_per_identity": 2}


def write_archive(path, *, people=8, tints=((0.7, 0.9, 1.1), (1.2, 1.0, 0.7))):
    """``people`` coats in each of the tinted cameras."""
    x, pid, cam = [], [], []
    for number, tint in enumerate(tints):
        paths, pids = write_crops(
            path.parent / f"{path.stem}{number}", people=people, pictures=3, tint=tint, seed=number
        )
        x += [read_image(picture) for picture in paths]
        pid += pids.tolist()
        cam += [number] * len(paths)
    np.savez(path, x=np.stack(x), pid=np.array(pid), cam=np.array(cam))
    return path


def write_source(folder):
    for part, people in (("bounding_box_train", 6), ("query", 2), ("bounding_box_test", 2)):
        for camera in (1, 2):
            name = "{pid:04d}_c%ds1_{n:06d}_00.png" % camera  # noqa: UP031
            write_crops(folder / part, people=people, pictures=2, name=name, seed=camera)
    return folder


def write_ready_made(folder, like):
    """An exported network with an embedding size and a picture size of its own."""
    return export_student(
        build_embedder(EmbedderSpec(arch="resnet10_w8"), seed=5), folder, arch="resnet10_w8",
        preprocess=Preprocess(height=48, width=24), trained_on="nothing", check_crops=[read_image(like)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a source, an archive of two cameras, an exported network, and the preset that uses them."""
    folder = tmp_path_factory.mktemp("experiment")
    source = write_source(folder / "source")
    archive = write_archive(folder / "coats.npz")
    write_ready_made(folder / "ready", next((source / "query").iterdir()))
    write_config(
        folder / "preset.yaml",
        source={"name": "market1501", "root": str(source)},
        test=None,
        targets=[{"name": "archive", "root": str(archive), "tracklets": "camera"}],
        teacher_source=LOOP,
        student_source=LOOP,
        adapt={"method": "dmmd", "settings": LOOP},
        distil={**TINY_CONFIG["distil"], "steps": 2, "target_pictures": 2},
        baselines=["blending", "per_camera", "merged", "oracle"],
        variants={
            "alone": {"adapt": {"method": "cluster", "settings": {"epochs": 1, "steps_per_epoch": 2}}},
            "leak": {"tracklets": "identity", "distil": {"tracklets_are_identities": True}},
            "ready": {"ready_made": str(folder / "ready"), "distil": {"batchnorm": "per_domain", "part_mixed": 6}},
        },
    )
    return folder


@pytest.fixture(scope="module")
def finished(place):
    """The run of seed 0 with its table."""
    return run_seeds(place / "preset.yaml", place / "out", [0])


def models_of(run):
    return {path.relative_to(run): path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}


def test_every_row_stands_in_the_scores_and_in_the_table(place, finished):
    rows = json.loads((place / "out/0/scores.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in rows] == ROWS
    assert [row["method"] for row in rows if row["ours"]] == ["distilled student"]
    assert {tuple(row["per_camera"]) for row in rows} == {("camera1", "camera2")}
    assert len({row["num_valid_queries"] for row in rows}) == 1
    text = finished.read_text(encoding="utf-8")
    assert all(f"{name}" in text for name in ROWS) and "Seed 0, in percent" in text


def test_the_mean_of_teachers_is_the_mean_of_each_alone(place, finished):
    rows = {row["method"]: row for row in json.loads((place / "out/0/scores.json").read_text(encoding="utf-8"))}
    run, config = Run(place / "out/0", 0), load_config(place / "preset.yaml")
    split = load_benchmark(config.targets, run).tests["coats"]
    from reid_mtda.bench.embedded import by_one, torch_model
    from reid_mtda.bench.score import score_tests

    each = [
        score_tests({"coats": split}, by_one(torch_model(load_embedder(path), config.input.preprocess()).embed))["mAP"]
        for path in sorted((run.folder / "teachers").glob("*.safetensors"))
    ]
    assert len(each) == 2 and rows["mean of teachers"]["mAP"] == pytest.approx(np.mean(each))


def test_a_finished_runs_pseudo_identities_are_told_beside_the_truth(place, finished):
    text = score_overlaps(place / "out/0", (1.0, 0.5), differing={"eps: 0.9": {"eps": 0.9, "min_samples": 2}})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    ways = ["clusters, as trained", "clusters, eps: 0.9", "mutual neighbours, as distil joins tracklets"]
    ways.append("the same, negative_quantile 0.995")
    assert [row[:2] for row in rows] == [[way, f"{share} %"] for share in (100, 50) for way in ways]
    assert int(rows[0][2]) > int(rows[4][2]) and rows[0][3] == rows[4][3]
    with pytest.raises(ConfigError, match=r"overlap: got 1\.5, expected shares above 0 and up to 1"):
        score_overlaps(place / "out/0", (1.5,))


def test_a_finished_run_is_not_made_again(place, finished, monkeypatch):
    before = models_of(place / "out/0")
    assert {str(path) for path in before if path.parent.name == "variants"} == {
        f"variants/{name}.safetensors" for name in ("alone", "leak", "ready")
    }

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(training_module, "distil", never)
    monkeypatch.setattr(training_module, "train_source", never)
    monkeypatch.setattr(training_module, "find_method", lambda name: (None, never))
    assert run_seeds(place / "preset.yaml", place / "out", [0]) == finished
    assert models_of(place / "out/0") == before


def test_each_rows_student_is_a_model_folder_on_wish(place, finished):
    folders = export_students(place / "preset.yaml", place / "out", [0])
    names = {folder.name for folder in folders}
    assert {"source_only", "distilled_student", "oracle_target_labels"} <= names and len(names) == len(folders)
    for folder in folders:
        model = load_model(folder)
        assert model.manifest.trained_on.startswith("preset, seed 0: ")
        means = need_centring(folder, model.manifest)
        assert means.by_camera.keys() == {"camera1", "camera2"}
    assert export_students(place / "preset.yaml", place / "out", [0]) == folders


def test_what_is_missing_alone_is_made_again_and_alike(place, finished, tmp_path, monkeypatch):
    """A stopped experiment: one variant and the scores were still to come."""
    run = tmp_path / "out/0"
    shutil.copytree(place / "out/0", run)
    path = run / "variants/leak.safetensors"
    wanted, before = load_embedder(path), models_of(run)
    path.unlink()
    (run / "scores.json").unlink()
    shutil.rmtree(run / "leak_training")
    run_seeds(place / "preset.yaml", tmp_path / "out", [0])
    after = models_of(run)
    assert {name for name in after if after[name] != before[name]} == {path.relative_to(run)}
    assert same_weights(load_embedder(path), wanted)


def test_the_leak_alone_gets_true_identities(place, finished, monkeypatch, tmp_path):
    """What the loops receive as tracklets, against the identities in the files' names."""
    seen = {}
    monkeypatch.setattr(
        training_module,
        "distil",
        lambda student, outputs, targets, *rest, **_: seen.setdefault(rest[3].folder.name, targets) and student,
    )
    monkeypatch.setattr(module, "score_run", lambda *_: [])
    monkeypatch.setattr(module, "plot_seeds", lambda *_: None)
    run_experiment(load_config(place / "preset.yaml"), tmp_path / "0")
    assert set(seen) == {"student_training", "alone_training", "leak_training", "ready_training"}
    for name, targets in seen.items():
        numbers = {}
        for camera, target in targets.items():
            for path, number in zip(target.paths, target.tracklets.tolist(), strict=True):
                numbers.setdefault(path.name[:4], set()).add(number)
            assert target.domain == camera
        assert all(len(own) == (1 if name == "leak_training" else 2) for own in numbers.values())


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A preset without a source whose student learns over camera-aware proxies, from teachers that see more."""
    folder = tmp_path_factory.mktemp("real")
    write_archive(folder / "coats.npz")
    weights = build_embedder(EmbedderSpec(arch="resnet10_w8"), seed=3).backbone.state_dict()
    np.savez(folder / "weights.npz", **{name: value.numpy() for name, value in weights.items()})
    network = {"arch": "resnet10_w8", "neck": False, "weights": str(folder / "weights.npz")}
    small = {"target_identities": 3, "target_pictures": 2, "eps": 0.5}
    write_config(
        folder / "preset.yaml",
        input={"height": 32, "width": 16},
        teacher_input={"height": 64, "width": 32},
        source={"name": "none"},
        test=None,
        targets=[{"name": "archive", "root": str(folder / "coats.npz"), "tracklets": "camera"}],
        teacher=network,
        student=network,
        adapt={"method": "cluster", "settings": {"epochs": 0}},
        distillation="camera_proxies",
        camera_proxies={"steps": 4, **small},
        mean_of_teachers=False,
        baselines=["blending", "oracle"],
        variants={"within cameras alone": {"camera_proxies": {"cross_weight": 0}}},
    )
    return folder


def test_a_student_learns_over_camera_proxies_from_teachers_that_see_larger_crops(real, tmp_path):
    rows = run_experiment(load_config(real / "preset.yaml"), tmp_path / "run")
    named = {row["method"]: row for row in rows}
    assert "mean of teachers" not in named and "blending" in named and "oracle (target labels)" in named
    assert named["teachers, each on its camera"]["macs"] == pytest.approx(4 * named["source only"]["macs"], rel=0.05)
    assert all("centred" in row for row in rows)

    def parts(name):
        lines = (tmp_path / f"run/{name}/metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [record for record in map(json.loads, lines) if record["part"] != "proxies"]

    assert [record["step"] for record in parts("student_training")] == [0, 1, 2, 3]
    within = parts("within cameras alone_training")
    assert "cross-camera" in parts("student_training")[-1] and "cross-camera" not in within[-1]
    assert len([record for record in parts("blending") if record["part"] == "cluster"]) == 4, "blending learns as long"
    teacher, start = (
        load_embedder(tmp_path / f"run/{name}.safetensors") for name in ("teachers/camera1", "models/teacher_source")
    )
    own = dict(start.named_parameters())
    assert all(torch.equal(value, own[name]) for name, value in teacher.named_parameters()), "statistics alone"
    assert not same_weights(teacher, start)


def test_baselines_get_the_students_steps_batches_rate_and_average(real, tmp_path, monkeypatch):
    seen = {}

    def blending(model, source, target, preprocess, settings, *rest):
        seen["blending"] = settings
        return model

    def oracle(model, labelled, preprocess, settings, *rest):
        seen["oracle"] = settings
        return model

    monkeypatch.setitem(METHODS, "cluster", (METHODS["cluster"][0], blending))
    monkeypatch.setattr(baselines_module, "train_source", oracle)
    monkeypatch.setattr(module, "score_run", lambda *_: [])
    config = load_config(real / "preset.yaml", ["variants={}", "camera_proxies.ema=0.7", "camera_proxies.steps=8"])
    run_experiment(config, tmp_path / "run")
    student = config.camera_proxies
    assert seen["blending"].epochs * seen["blending"].steps_per_epoch == seen["oracle"].steps == student.steps == 8
    for settings in seen.values():
        found = settings.ema, settings.learning_rate, settings.identities_per_batch, settings.pictures_per_identity
        wanted = student.ema, student.learning_rate, student.target_identities, student.target_pictures
        assert found == wanted


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("source={name: lab}", "camera_proxies: learns of targets alone, got source 'lab'; use source: "),
        ("distil.part_mixed=4", "part_mixed: are made at the student's size, got a teacher_input as well; drop one"),
        ("variants.a={camera_proxies: {stepz: 3}}", "variants.a.camera_proxies"),
        ("distillation=distil", "camera_proxies: its student learns by distil; set distillation, too"),
    ],
)
def test_settings_of_proxies_that_make_no_sense_are_refused(real, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(real / "preset.yaml", [override])


def test_a_ready_made_teacher_stands_in_for_one_camera_or_for_all(place, finished):
    config, run = load_config(place / "preset.yaml"), Run(place / "out/0", 0)
    targets = load_benchmark(config.targets, run).unlabelled
    mixed = collect_teacher_outputs(
        run, targets, config.model_copy(update={"ready_made": {"camera2": str(place / "ready")}})
    )
    assert mixed["camera1"].teacher_id == "" and mixed["camera1"].logits.shape[1] == 6
    assert mixed["camera2"].teacher_id and mixed["camera2"].logits is None
    both = collect_teacher_outputs(run, targets, config.model_copy(update={"ready_made": {"*": str(place / "ready")}}))
    assert {teacher_output.teacher_id for teacher_output in both.values()} == {mixed["camera2"].teacher_id}
    alone = build_embedder(EmbedderSpec(arch="resnet10_w8"), seed=5).eval()
    from reid_mtda.train.teacher_outputs import compute_teacher_outputs

    wanted = compute_teacher_outputs(alone, targets["camera2"], Preprocess(height=48, width=24)).embedding.numpy()
    assert np.allclose(both["camera2"].embedding.numpy(), wanted, atol=1e-4)


def test_a_ready_made_teacher_of_one_camera_goes_the_whole_way(place, tmp_path):
    """No teacher is trained for that camera; the row of teachers takes each from where it is."""
    config = load_config(
        place / "preset.yaml", ["baselines=[]", "variants={}", f"ready_made={{camera2: {place / 'ready'}}}"]
    )
    rows = {row["method"] for row in run_experiment(config, tmp_path / "run")}
    assert {path.stem for path in (tmp_path / "run/teachers").iterdir()} == {"camera1"}
    assert {"distilled student", "teachers, each on its camera", "mean of teachers"} <= rows
    recorded = (tmp_path / "run/student_training/metrics.jsonl").read_text(encoding="utf-8")
    assert "camera1/logits" in recorded and "camera2/logits" not in recorded


def test_a_target_that_cannot_be_adapted_to_stops_the_table(place, tmp_path):
    config = load_config(place / "preset.yaml")

    def fail(model, source, target, *_):
        raise DataError(f"{target.domain}: too dark")

    with pytest.MonkeyPatch.context() as patch:
        settings, adapt = METHODS["dmmd"]

        def fails_one(*given):
            return (fail if given[2].domain == "camera2" else adapt)(*given)

        patch.setitem(METHODS, "dmmd", (settings, fails_one))
        with pytest.raises(
            DataError, match=r"a table needs every target, got 1 without a teacher: camera2: camera2: too dark"
        ):
            run_experiment(config, tmp_path / "run")


# --- refusals, before anything is made


@pytest.mark.parametrize("seeds", [[], [0, 0], [-1], [1, -2]])
def test_seeds_are_numbers_from_0_each_once(place, tmp_path, seeds):
    listed = ", ".join(map(str, seeds)) or "none"
    with pytest.raises(ConfigError, match=f"--seed: got {listed}, expected numbers from 0, each once"):
        run_seeds(place / "preset.yaml", tmp_path / "out", seeds)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"p\.yaml: it is empty, expected a preset"),
        ("test: {name: market1501, root: .}", r"p\.yaml: got neither rows"),
        ("- a", r"p\.yaml: got list, expected 'key: value' lines"),
        ("targets: [{nam: street}]", r"p\.yaml: unknown key 'targets\.0\.nam'; did you mean 'name'"),
        ("target: []", r"unknown key 'target'; did you mean 'targets'"),
        ("targets: [{name: archive}]", r"targets\.0\.root: missing, expected where 'archive' lies"),
        ("targets: [{name: archive, root: no.npz}]", r"targets\.0\.root: got no\.npz, expected an \.npz file of crops"),
    ],
)
def test_a_preset_that_is_none_is_refused_before_anything_is_made(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        run_seeds(Path("p.yaml"), tmp_path / "out", [0])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("option", "value"), [("root", Path()), ("weights", Path()), ("targets_by", "set")])
def test_the_embedded_street_takes_no_place_of_data(tmp_path, option, value):
    preset = Path(__file__).parents[2] / "configs" / "benchmark" / "street.yaml"
    with pytest.raises(ConfigError, match=f"films the embedded street, got --{option.replace('_', '-')}, which"):
        run_seeds(preset, tmp_path / "out", [0], **{option: value})
    assert not (tmp_path / "out").exists()


def test_the_defaults_name_no_targets():
    assert AdaptConfig().targets == () and AdaptConfig().test is None
