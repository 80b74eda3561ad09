"""The command line: every refusal is one line on standard error and exit code 2; Ctrl-C loses nothing."""

import json
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import typer
from builders import COMMAND, environment, reid_mtda, same_weights, without_student, write_config, write_site
from colour_model import write_colour_model
from PIL import Image

from reid_mtda import cli
from reid_mtda.camera_means import write_cameras
from reid_mtda.centring import camera_means, centre
from reid_mtda.evaluation.average_precision import rank_scores
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.model import load_model
from reid_mtda.models.checkpoint import load_embedder
from reid_mtda.workflow import front_door

VERBS = sorted(typer.main.get_command(cli.app).commands)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``reid-mtda ARGS`` in this process; returns (exit code, standard output, standard error)."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["reid-mtda", *map(str, args)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def without_motion_notice(err):
    """Lines of standard error but the one that says that no person detector was pulled."""
    return [line for line in err.strip().splitlines() if "people are found by motion alone" not in line]


def check_refused(result, *named):
    code, _, err = result
    assert code == 2, err
    assert "Traceback" not in err, err
    (line,) = without_motion_notice(err)
    assert line.startswith("reid-mtda: "), err
    for part in named:
        assert part in err, err


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_every_verb_explains_itself(run, verb):
    code, out, err = run(*([verb] if verb else []), "--help")
    assert code == 0 and not err and "Usage:" in out
    assert verb is not None or all(name in out for name in VERBS)


def test_no_verb_is_help(run):
    assert "Usage:" in run()[1]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["search"], "Missing argument 'picture'"),
        (["search", "a.jpg"], "Missing option '--model'"),
        (["search", "--bogus"], "No such option: --bogus"),
        (["search", "-k", "0", "a.jpg", "--model", "m", "--gallery", "g"], "Invalid value for '-k'"),
        (["harvest", "site", "--out"], "requires an argument"),
        (["harvest", "site", "--out", "x", "--max-crops", "many"], "Invalid value for '--max-crops'"),
        (["index", "a"], "Missing option '--model'"),
    ],
)
def test_wrong_usage(run, args, named):
    check_refused(run(*args), named, "--help")


# --- sites and presets


@pytest.mark.parametrize("verb", ["harvest", "adapt", "index"])
def test_a_missing_site(run, tmp_path, verb):
    more = {
        "harvest": ["--out", tmp_path / "o"],
        "adapt": ["--config", write_config(tmp_path / "c.yaml"), "--out", tmp_path / "o"],
        "index": ["--model", tmp_path / "m", "--gallery", tmp_path / "g"],
    }[verb]
    check_refused(run(verb, tmp_path / "nowhere", *more), "nowhere: got no such folder, expected a site")
    (tmp_path / "empty").mkdir()
    check_refused(run(verb, tmp_path / "empty", *more), "empty: no camera files")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("url: a.mp4\nfsp: 5", "unknown key 'fsp'; did you mean 'fps'?"),
        ("fps: 5", "missing key 'url'"),
        ("url: a.mp4\nfps: -5", "fps: got -5"),
        ("url: [", "not valid YAML"),
    ],
)
def test_a_bad_camera_file(run, tmp_path, text, named):
    site = write_site(tmp_path / "town", (), gate=text)
    check_refused(run("harvest", site, "--out", tmp_path / "o"), "gate.yaml", named)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("distill.steps=5", "unknown key 'distill'; did you mean 'distil'?"),
        ("distil.step=5", "unknown key 'distil.step'; did you mean 'steps'?"),
        ("distil.steps=many", "distil.steps: got 'many'"),
        ("distil.steps", "got no 'key=value'"),
        ("seed.x=1", "'seed' is a value, not a section"),
        ("adapt.method=dmdm", "adapt.method: got 'dmdm', expected one of"),
        ("adapt.settings.stepps=3", "unknown key 'stepps'"),
    ],
)
def test_bad_overrides(run, tmp_path, setting, named):
    args = ("--config", write_config(tmp_path / "c.yaml"), "--out", tmp_path / "o", "--set", setting)
    check_refused(run("adapt", write_site(tmp_path / "town"), *args), named)
    assert not (tmp_path / "o").exists()


def test_numbers_of_overrides_are_numbers(tmp_path):
    from reid_mtda.presets import load_config

    path = write_config(tmp_path / "c.yaml")
    config = load_config(path, ["distil.learning_rate=1e-3", "adapt.settings.steps=9", "baselines=[blending]"])
    assert config.distil.learning_rate == 0.001 and config.adapt.parsed().steps == 9
    assert config.baselines == ("blending",)


def test_a_missing_preset_and_other_settings(run, tmp_path, small_street):
    site = small_street.site
    missing = ("--config", tmp_path / "no.yaml", "--out", tmp_path / "o")
    check_refused(run("adapt", site, *missing), "no.yaml: no such file")
    args = ("--config", small_street.config, "--out", small_street.out, "--set", "distil.steps=9")
    check_refused(run("adapt", site, *args), "holds a run with other settings (distil.steps)")


def test_an_out_folder_that_cannot_be_written(run, tmp_path):
    site = write_site(tmp_path / "town", ("gate",), duration=1)
    (tmp_path / "file").touch()
    config = write_config(tmp_path / "c.yaml")
    check_refused(run("adapt", site, "--config", config, "--out", tmp_path / "file" / "o"), "could not be written")
    code, out, err = run("harvest", site, "--out", tmp_path / "file" / "o")
    assert out == "", "no table where nothing was harvested"
    assert code == 2 and "could not be written" in err and "Traceback" not in err


# --- footage


def test_bad_footage_of_some_cameras_leaves_the_others_done(tmp_path):
    site = write_site(
        tmp_path / "town", ("gate",), duration=12, missing="url: none.mp4\n", empty="url: empty.mp4\n",
        broken="url: broken.mp4\n", pictures="url: pictures\n", wrong="url: synthetic://street?camera=nowhere\n",
    )  # fmt: skip
    (site / "empty.mp4").touch()
    (site / "broken.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (site / "pictures").mkdir()
    done = reid_mtda("harvest", site, "--out", tmp_path / "o")
    lines = without_motion_notice(done.stderr)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    failed = ("broken", "empty", "missing", "pictures", "wrong")
    for name, line in zip(failed, lines, strict=True):
        assert line.startswith(f"reid-mtda: camera {name} failed: ") and line.count(f"camera {name}") == 1, line
        part = {"pictures": "town/pictures", "missing": "none.mp4", "wrong": "nowhere"}.get(name, f"{name}.mp4")
        assert part in line
    assert "gate" in done.stdout and [p.name for p in (tmp_path / "o").iterdir()] == ["gate"]


def test_an_adaptation_without_any_footage_names_the_reason(run, tmp_path):
    site = write_site(tmp_path / "town", (), gate="url: none.mp4\n")
    result = run("adapt", site, "--config", write_config(tmp_path / "c.yaml"), "--out", tmp_path / "o")
    check_refused(result, "no camera gave people to learn from", "none.mp4: no such video file")


# --- pictures, models, galleries


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def town(tmp_path):
    """(model folder, gallery folder) with nobody in it."""
    write_colour_model(tmp_path / "model")
    with Gallery.open(tmp_path / "gallery", load_model(tmp_path / "model")):
        pass
    return tmp_path / "model", tmp_path / "gallery"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b"not a picture at all", "not a picture"),
        (png_header(1, 1), "too small, got 1x1 px"),
        (png_header(30000, 30000), "too large"),
        (png_header(64, 64), "damaged or cut short"),
    ],
)
def test_a_bad_picture(run, tmp_path, town, content, named):
    model, gallery = town
    if content is not None:
        (tmp_path / "who.png").write_bytes(content)
    check_refused(run("search", tmp_path / "who.png", "--model", model, "--gallery", gallery), "who.png", named)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "who.ppm"
    path.write_bytes(b"P6 32 64 255 " + bytes(32 * 64 * 3))
    return path


def test_an_empty_gallery_answers_nobody(run, town, picture):
    model, gallery = town
    code, out, err = run("search", picture, "--model", model, "--gallery", gallery)
    assert code == 0 and "nobody found among 0 sightings" in err
    code, out, err = run("search", picture, "--model", model, "--gallery", gallery, "--json")
    assert code == 0 and json.loads(out)["hits"] == [] and not err


def test_a_camera_the_gallery_does_not_know(run, town, picture):
    model, folder = town
    args = ("search", picture, "--model", model, "--gallery", folder)
    check_refused(run(*args, "--camera", "gate"), "camera 'gate'", "cameras there: none")
    with Gallery.open(folder) as gallery:
        vector = np.zeros(gallery.dim, np.float32)
        vector[0] = 1
        for camera in ("plaza", "gate", "gate"):
            gallery.add(vector, camera, len(gallery), 1.0, 2.0, np.zeros((8, 8, 3), np.uint8))
        assert gallery.cameras() == ("gate", "plaza")
    check_refused(run(*args, "--camera", "gate", "--camera", "plazza"), "did you mean 'plaza'?", "gate, plaza")
    code, out, _ = run(*args, "--camera", "plaza", "--json")
    assert code == 0 and [hit["camera"] for hit in json.loads(out)["hits"]] == ["plaza"]


def test_a_centred_search_and_evaluation(run, town, picture, tmp_path):
    """Refused where the model says too little of its cameras, or where it means nothing; else scores are centred."""
    folder, gallery = town
    search = ("search", picture, "--model", folder, "--gallery", gallery)
    score = ("evaluate", "--model", folder, "--root", tmp_path / "set")
    for args in (search, score):
        check_refused(run(*args, "--centred"), "cameras.json says too little", "adapt again")
    check_refused(run("evaluate", "--features", "a.npz", "--centred"), "--centred with --features")
    check_refused(run(*search, "--seen-camera", "gate"), "'gate' without centred")
    server = ("search", picture, "--server", "http://h", "--token", "t", "--purpose", "find", "--case", "case")
    check_refused(run(*server, "--centred"), "got --centred with --server")

    model, rng = load_model(folder), np.random.default_rng(0)
    crops = rng.integers(0, 256, (2, 6, 48, 24, 3)).astype(np.uint8)
    rows = {name: model.embed(list(own)) for name, own in zip(("camera 1", "camera 2"), crops, strict=True)}
    write_cameras(folder, model.manifest, rows, {"camera 1": 6, "camera 2": 2})
    means = camera_means(rows, {"camera 1": 6, "camera 2": 2})
    with Gallery.open(gallery, model) as opened:
        opened.add_many(rows["camera 1"], "camera 1")
    there, query = centre(rows["camera 1"], ["camera 1"] * 6, means), model.embed(picture)
    for camera, more in ((None, ()), ("camera 1", ("--seen-camera", "camera 1"))):
        code, out, _ = run(*search, "--centred", "--json", *more)
        expected = np.sort(there @ centre(query, [camera], means)[0])[::-1]
        assert code == 0
        np.testing.assert_allclose([hit["score"] for hit in json.loads(out)["hits"]], expected, atol=1e-5)
    plain, again = (json.loads(run(*search, "--json", *more)[1])["hits"] for more in ((), ("--rerank",)))
    assert sorted(hit["score"] for hit in plain) == sorted(hit["score"] for hit in again) and len(again) == len(plain)
    check_refused(
        run(*search, "--centred", "--seen-camera", "camera 3"), "camera 'camera 3'", "did you mean 'camera 1'"
    )

    for side, kind in enumerate(("query", "bounding_box_test")):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for pid in range(6):
            Image.fromarray(crops[side, pid]).save(tmp_path / "set" / kind / f"{pid + 1:04d}_c{side + 1}s1_0_0.png")
    (tmp_path / "set" / "bounding_box_train").mkdir()
    sides = [centre(rows[name], [name] * 6, means) for name in rows]
    truth = [(np.arange(6), np.full(6, side)) for side in (0, 1)]
    expected = rank_scores((sides[0], *truth[0]), (sides[1], *truth[1])).mAP
    code, out, err = run(*score, "--centred", "--json")
    assert code == 0 and json.loads(out)["mAP"] == pytest.approx(expected), err
    assert json.loads(run(*score, "--json")[1])["mAP"] != pytest.approx(expected)
    assert front_door.evaluate(model, root=tmp_path / "set", centred=True).mAP == pytest.approx(expected)


def test_models_of_another_kind(run, tmp_path, town, picture):
    model, gallery = town
    check_refused(run("search", picture, "--model", tmp_path / "no", "--gallery", gallery), "no")
    (tmp_path / "plain").mkdir()
    check_refused(run("search", picture, "--model", tmp_path / "plain", "--gallery", gallery), "plain")
    shutil.copytree(model, tmp_path / "cut")
    (tmp_path / "cut" / "model.onnx").write_bytes(b"weights")
    check_refused(run("search", picture, "--model", tmp_path / "cut", "--gallery", gallery), "cut")
    (tmp_path / "cut" / "manifest.json").write_text("{", encoding="utf-8")
    check_refused(run("search", picture, "--model", tmp_path / "cut", "--gallery", gallery), "manifest.json")


def test_galleries_of_another_model_or_none(run, tmp_path, town, picture):
    model, gallery = town
    write_colour_model(tmp_path / "other", turn=1)
    check_refused(run("search", picture, "--model", tmp_path / "other", "--gallery", gallery), "gallery", "model")
    check_refused(run("search", picture, "--model", model, "--gallery", tmp_path / "no"), "no such gallery")
    for database in gallery.glob("*"):
        if database.is_file():
            database.write_bytes(b"damaged" * 300)
    check_refused(run("search", picture, "--model", model, "--gallery", gallery), "gallery")


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("value", ["yesterday", "2026-03-01T08:00:00"])
def test_times_want_a_zone(run, town, picture, option, value):
    model, gallery = town
    check_refused(run("search", picture, "--model", model, "--gallery", gallery, option, value), option, value)


def test_a_sheet_that_cannot_be_written(run, tmp_path, town, picture):
    model, gallery = town
    (tmp_path / "file").touch()
    args = ("--model", model, "--gallery", gallery, "--sheet", tmp_path / "file" / "a.png")
    check_refused(run("search", picture, *args), "a.png")


def test_a_sheet_is_refused_by_its_name_before_the_work(run, tmp_path):
    missing = (tmp_path / "no.jpg", "--model", tmp_path / "no", "--gallery", tmp_path / "no")
    check_refused(run("search", *missing, "--sheet", "x.txt"), "x.txt: got the suffix '.txt', expected .png")


def write_features(path):
    """Two people in cameras 0 and 3, every answer right."""
    rows, ids = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]], np.array([1, 1, 2, 2])
    truth = {"embeddings": rows, "pids": ids, "camids": np.array([0, 3, 0, 3])}
    np.savez(path, **{f"{side}_{name}": value for side in ("query", "gallery") for name, value in truth.items()})
    return path


def test_cameras_of_features_are_their_own_numbers(run, tmp_path):
    write_features(tmp_path / "f.npz")
    code, out, _ = run("evaluate", "--features", tmp_path / "f.npz")
    assert code == 0 and "camera 0 " in out and "camera 3 " in out


def test_scores_between_cameras_are_shown(run, tmp_path):
    """They stood in --json alone, and a mean over cameras hides the pair that fails."""
    write_features(tmp_path / "f.npz")
    _, out, _ = run("evaluate", "--features", tmp_path / "f.npz")
    pairs = [line.split() for line in out.splitlines() if line.count("camera") == 2]
    assert pairs[1:] == [
        ["camera", "0", "camera", "3", "2", "100.0", "100.0"],
        ["camera", "3", "camera", "0", "2", "100.0", "100.0"],
    ]
    _, out, _ = run("evaluate", "--json", "--features", tmp_path / "f.npz")
    found = [(row["query_camera"], row["gallery_camera"]) for row in json.loads(out)["per_camera_pair"]]
    assert found == [(0, 3), (3, 0)]


def test_a_training_half_of_one_camera_does_not_keep_a_sound_test_half_from_being_scored(run, tmp_path, town):
    root = tmp_path / "set"
    for part, names in {
        "bounding_box_train": ["0001_c1s1_0_0.png", "0002_c1s1_0_0.png"],
        "query": ["0003_c1s1_0_0.png", "0004_c1s1_0_0.png"],
        "bounding_box_test": ["0003_c2s1_0_0.png", "0004_c2s1_0_0.png"],
    }.items():
        for name in names:
            (root / part).mkdir(parents=True, exist_ok=True)
            shade = 40 * int(name[3])
            Image.fromarray(np.full((48, 24, 3), (shade, 255 - shade, 90), np.uint8)).save(root / part / name)
    code, out, err = run("evaluate", "--model", town[0], "--root", root)
    assert code == 0 and "100.0" in out, err


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([], "expected one of --root FOLDER, --features FILE.npz, --crops FOLDER"),
        (["--features", "no.npz", "--root", "x"], "expected one of"),
        (["--features", "no.npz"], "no.npz"),
        (["--root", "x"], "no model given"),
    ],
)
def test_evaluate_wants_one_thing(run, args, named):
    check_refused(run("evaluate", *args), named)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
def test_damaged_features(run, tmp_path, content):
    (tmp_path / "f.npz").write_bytes(content)
    check_refused(run("evaluate", "--features", tmp_path / "f.npz"), "f.npz")


def test_features_without_what_they_need(run, tmp_path):
    np.savez(tmp_path / "f.npz", x=np.zeros(3))
    check_refused(run("evaluate", "--features", tmp_path / "f.npz"), "f.npz")


def test_unknown_data_sets_and_crops(run, tmp_path, town):
    model, _ = town
    check_refused(run("evaluate", "--model", model, "--data", "markt", "--root", tmp_path), "markt", "market1501")
    check_refused(run("evaluate", "--model", model, "--root", tmp_path / "no"), "no such folder")
    check_refused(run("evaluate", "--model", model, "--crops", tmp_path), "--truth")
    args = ("--crops", tmp_path / "no", "--truth", tmp_path)
    check_refused(run("evaluate", "--model", model, *args), "no such folder")


@pytest.mark.parametrize(
    ("name", "content", "more", "named"),
    [
        ("no.safetensors", None, [], "no such checkpoint"),
        ("w.safetensors", b"damaged", [], "not a readable checkpoint"),
        ("w.npz", b"damaged", ["--arch", "osnet_x0_25"], "not readable weights"),
        ("w.npz", b"damaged", ["--arch", "osnet"], "arch: got 'osnet'"),
    ],
)
def test_bad_weights_to_export(run, tmp_path, name, content, more, named):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run("export", tmp_path / name, "--crops", tmp_path, "--out", tmp_path / "m", *more)
    check_refused(result, named)
    assert not (tmp_path / "m").exists()


def test_export_needs_real_crops(run, tmp_path, small_street):
    weights = small_street.out / "models/student.safetensors"
    result = run("export", weights, "--crops", tmp_path / "none", "--out", tmp_path / "m")
    check_refused(result, "no such folder, expected a folder of real crops")


# --- a full disk


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (["--device", "cuda:77"], ("--device: got 'cuda:77', which this machine or its torch", "auto or one of cpu")),
        (["--device", "gpu"], ("--device: got 'gpu'", "expected auto or one of cpu")),
        (["--precision", "fp8"], ("--precision: got 'fp8', expected one of fp32, bf16",)),
    ],
)
def test_a_device_or_precision_that_is_not_here_is_refused_before_the_work(run, tmp_path, option, named):
    config, site = write_config(tmp_path / "c.yaml"), write_site(tmp_path / "town")
    check_refused(run("adapt", site, "--config", config, "--out", tmp_path / "out", *option), *named)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("args", [["--help"], ["evaluate", "--features"], ["evaluate", "--json", "--features"]])
def test_output_to_a_full_device_is_one_line(tmp_path, args, unbuffered):
    more = [write_features(tmp_path / "f.npz")] if "evaluate" in args else []
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *args, *more], stdout=full, stderr=subprocess.PIPE, text=True,
            env={**environment(), "PYTHONUNBUFFERED": unbuffered}, timeout=60, check=False,
        )  # fmt: skip
    check_refused((done.returncode, "", done.stderr), "disk or standard output: no space left")


FULL_DISK = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); del sys.argv[1];"
    "from reid_mtda.cli import main; main()"
)


def on_a_full_disk(limit, *args):
    """Run with a file size limit in bytes: the kernel refuses to write on, as on a full disk."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(limit), *map(str, args)],
        capture_output=True, text=True, env=environment(), timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_disk_that_fills_while_training_keeps_what_is_finished(tmp_path, small_street):
    out = without_student(small_street, tmp_path / "run")
    before = (out / "teachers/gate.safetensors").read_bytes()
    result = on_a_full_disk(20_000, "adapt", small_street.site, "--config", small_street.config, "--out", out)
    assert result[0] == 2 and "Traceback" not in result[2] and "could not be written" in result[2], result[2]
    assert (out / "teachers/gate.safetensors").read_bytes() == before
    assert not list(out.rglob("*.part*")) and not (out / "models/student.safetensors").exists()


def test_a_disk_that_fills_while_harvesting_leaves_no_half_harvest(tmp_path):
    site = write_site(tmp_path / "town", ("gate",), duration=12)
    code, _, err = on_a_full_disk(500, "harvest", site, "--out", tmp_path / "o")
    assert code == 2 and "Traceback" not in err and "could not be written" in err, err
    assert not list((tmp_path / "o").iterdir())


# --- Ctrl-C and kill


def stopped_when(ready, number, *args):
    """Start a command, send signal ``number`` as soon as ``ready()``; returns (exit code, standard error)."""
    # A suite in a shell's background has Ctrl-C ignored, and its children inherit that: here it counts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(
        [*COMMAND, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    )
    signal.signal(signal.SIGINT, before)
    try:
        deadline = time.monotonic() + 90
        while not ready() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    return child.returncode, "", err


def last_line(text):
    """What stands below the warnings, about cameras of few people say."""
    return text.strip().splitlines()[-1] + "\n"


def lines_in(path):
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_job_stopped_in_training_goes_on_to_the_same_weights(run, tmp_path, small_street, number):
    out = without_student(small_street, tmp_path / "run")
    metrics = out / "student_training/metrics.jsonl"
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    args = ("adapt", small_street.site, "--config", small_street.config, "--out", out)
    result = stopped_when(lambda: lines_in(metrics) >= 3, number, *args)
    if number == signal.SIGINT:
        check_refused((*result[:2], last_line(result[2])), "stopped by Ctrl-C; what was finished is kept")
        assert "Traceback" not in result[2]
    else:
        assert result[0] == -signal.SIGKILL
    assert not (out / "models/student.safetensors").exists()
    assert run(*args)[0] == 0
    for name in ("teachers/plaza.safetensors", "models/student.safetensors"):
        assert same_weights(load_embedder(out / name), load_embedder(small_street.out / name)), name
    assert load_model(out / "student").manifest == load_model(small_street.out / "student").manifest
    assert kept == {path: path.stat().st_mtime_ns for path in kept}, "what was finished was made again"


def test_ctrl_c_while_harvesting_keeps_the_cameras_that_are_done(run, tmp_path):
    site, out = write_site(tmp_path / "town", duration=20), tmp_path / "o"
    args = ("harvest", site, "--out", out)
    check_refused(stopped_when((out / ".plaza.part").exists, signal.SIGINT, *args), "stopped by Ctrl-C")
    assert [path.name for path in out.iterdir()] == ["gate"]
    finished = (out / "gate/harvest.json").stat().st_mtime_ns
    assert run(*args)[0] == 0 and sorted(path.name for path in out.iterdir()) == ["gate", "plaza"]
    assert (out / "gate/harvest.json").stat().st_mtime_ns == finished


# --- benchmarks: whatever is wrong with a preset is said before anything is made

CLOSED, REID = "kind: closed_set\n", "kind: reid\n"


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        (None, [], ["p.yaml: no such file; check the path"]),
        (
            CLOSED + "rows: {}\n",
            ["--full"],
            ["--full: p.yaml has no long table, expected p_full.yaml; leave it out"],
        ),
        ("", [], ["p.yaml: kind: got None, expected one of closed_set, reid, objectives, which its table is of"]),
        ("rows: {}\n", [], ["p.yaml: kind: got None, expected one of closed_set, reid, objectives"]),
        ("kind: digits\n", [], ["p.yaml: kind: got 'digits', expected one of closed_set, reid, objectives"]),
        (REID, [], ["p.yaml: got neither rows (a closed set), targets (data sets) nor test"]),
        (CLOSED + "rows: {}\n", ["--export"], ["--export: p.yaml is a benchmark of closed sets"]),
        (CLOSED + "rows: {}\n", ["--part", "a"], ["--part: p.yaml has no parts, expected a preset of kind objectives"]),
        ("kind: objectives\nparts: {}\nrows: {}\n", ["--part", "a"], ["p.yaml: got part 'a', expected one of"]),
        ("kind: objectives\nparts: {}\nrows: {}\n", ["--seed", "1"], ["--seed: p.yaml is a benchmark of objectives"]),
        ("a: [", [], ["p.yaml: not valid YAML"]),
        (CLOSED + "rows: {a: {kind: source}}\n", [], ["p.yaml: rows.a.kind: got 'source', expected"]),
        (CLOSED + "rows: {a: {kind: source_only}}\nsize: 2\n", [], ["p.yaml: size: got 2, expected >= 28"]),
        (CLOSED + "rows: {}\nsizes: 28\n", [], ["p.yaml: unknown key 'sizes'; did you mean 'size'?"]),
        (
            CLOSED + "rows: {a: {kind: source_only}}\n",
            [],
            ["digits: got no --root, expected the data set's folder"],
        ),
        (CLOSED + "rows: {a: {kind: source_only}}\n", ["--root", "no"], ["no", "expected"]),
        (
            CLOSED + "rows: {}\n",
            ["--seed", "1"],
            ["--seed: p.yaml is a benchmark of closed sets, which does not take it; write"],
        ),
        (CLOSED + "rows: {}\n", ["--set", "size=32"], ["--set: p.yaml is a benchmark of closed sets"]),
        (
            REID + "test: {name: street}\n",
            ["--workers", "2"],
            ["--workers: p.yaml is a benchmark of re-identification"],
        ),
        (
            REID + "test: {name: street}\n",
            ["--seed", "1", "--seed", "1"],
            ["--seed: got 1, 1, expected numbers from 0, each o"],
        ),
        (REID + "test: {name: street}\n", ["--seed", "-1"], ["--seed: got -1, expected numbers from 0"]),
        (REID + "test: {name: street}\n", ["--set", "steps=3"], ["p.yaml, with --set: unknown key 'steps'"]),
        (
            REID + "test: {name: street}\nvariants: {a: {adpt: {}}}\n",
            [],
            ["unknown key 'variants.a.adpt'; did you mean 'adapt'"],
        ),
        (
            REID + "targets: [{name: archive, root: a.npz}]\n",
            ["--root", "data"],
            ["targets.0.root: got data/a.npz, expected an"],
        ),
    ],
)
def test_a_benchmark_that_cannot_work_is_refused_at_once(run, tmp_path, monkeypatch, text, options, named):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("p.yaml").write_text(text, encoding="utf-8")
    check_refused(run("benchmark", "p.yaml", "--out", "out", *options), *named)
    assert not Path("out").exists()


def test_a_folder_is_no_preset(run, tmp_path):
    check_refused(
        run("benchmark", tmp_path, "--out", tmp_path / "out"), f"{tmp_path}: cannot be read as text (", "a YAML"
    )
