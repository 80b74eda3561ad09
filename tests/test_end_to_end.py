"""The whole thing, small: film, harvest, adapt, distil, export, index, search, score, and do nothing twice."""

import json
import shutil

import numpy as np
import pytest
from builders import write_site

from reid_mtda.bench import demo as demo_module
from reid_mtda.data.reid import load_folder
from reid_mtda.model import load_model
from reid_mtda.presets import load_config
from reid_mtda.site import load_site
from reid_mtda.synthetic.crops import draw_crops
from reid_mtda.workflow.adapt import adapt_cameras

CAMERAS = ["gate", "plaza"]


@pytest.fixture(scope="module")
def gallery(small_street, tmp_path_factory):
    """The street's people in a gallery."""
    from reid_mtda.workflow.footage import index_site

    folder = tmp_path_factory.mktemp("gallery") / "gallery"
    reports, failures = index_site(load_site(small_street.site), small_street.out / "student", folder)
    assert not failures and all(report.sightings for report in reports.values())
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``reid-mtda ARGS`` in this process; returns its standard output and error."""
    from reid_mtda import cli

    def call(*args):
        monkeypatch.setenv("COLUMNS", "250")
        monkeypatch.setattr("sys.argv", ["reid-mtda", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        assert stop.value.code == 0, out.err
        return out.out, out.err

    return call


def test_a_job_leaves_a_model_for_all_cameras(small_street):
    adapted = small_street.adapted
    assert not adapted.failures and list(adapted.harvests) == CAMERAS
    assert sorted(path.stem for path in (small_street.out / "teachers").iterdir()) == CAMERAS
    model = load_model(small_street.out / "student")
    manifest = model.manifest
    assert manifest == adapted.manifest and (manifest.preprocess.height, manifest.preprocess.width) == (32, 16)
    rows = model.network(np.zeros((2, 3, 32, 16), np.float32))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    stages = json.loads((small_street.out / "stages.json").read_text(encoding="utf-8"))
    assert list(stages) == ["source data", "harvest", "source training", "people", "teachers", "student", "export"]
    card = json.loads((small_street.out / "run.json").read_text(encoding="utf-8"))
    assert card["config"]["distil"]["steps"] == 4 and set(card["config"]["site"]) == set(CAMERAS)


def test_a_second_run_does_nothing_new(small_street):
    files = [path for path in small_street.out.rglob("*") if path.is_file() and path.name != "stages.json"]
    before = {path: path.read_bytes() for path in files}
    trained = {path: path.stat().st_mtime_ns for path in files if path.suffix in (".safetensors", ".jpg", ".jsonl")}
    shown = []
    site, config = load_site(small_street.site), load_config(small_street.config)
    again = adapt_cameras(site, config, small_street.out, lambda *step: shown.append(step))
    assert again.manifest == small_street.adapted.manifest and again.harvests == small_street.adapted.harvests
    assert trained == {path: path.stat().st_mtime_ns for path in trained} and not shown
    assert before == {path: path.read_bytes() for path in files}


def test_one_seed_gives_one_model(small_street, tmp_path):
    """All loops anew on the same crops: the same model, to its last bit, by its id."""
    out = tmp_path / "run"
    for name in ("crops", "source"):
        shutil.copytree(small_street.out / name, out / name)
    again = adapt_cameras(load_site(small_street.site), load_config(small_street.config), out)
    assert again.manifest == small_street.adapted.manifest


def test_a_search_finds_the_person(small_street, gallery, run, tmp_path):
    """A crop of the footage finds its own tracklet: the live path sees what the offline path saw.

    Three of some seventeen sightings by chance, and a net of 30 steps; the whole gallery is searched.
    """
    target = load_folder(small_street.out / "crops")["gate"]
    model = small_street.out / "student"
    found = 0
    tracks = np.unique(target.tracklets)[:4]
    for track in tracks:
        picture = target.paths[int(np.flatnonzero(target.tracklets == track)[1])]
        out, _ = run("search", picture, "--model", model, "--gallery", gallery, "--json", "-k", 3)
        hits = json.loads(out)["hits"]
        found += ("gate", track) in [(hit["camera"], hit["track_id"]) for hit in hits]
        assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert found >= len(tracks) - 1
    sheet = tmp_path / "answers.png"
    out, err = run("search", picture, "--model", model, "--gallery", gallery, "--sheet", sheet, "--camera", "plaza")
    assert sheet.stat().st_size > 1000 and "plaza" in out and "gate" not in out and str(sheet) in err.replace("\n", "")


def test_the_json_of_a_search(small_street, gallery, run):
    picture = load_folder(small_street.out / "crops")["gate"].paths[0]
    out, err = run("search", picture, "--model", small_street.out / "student", "--gallery", gallery, "--json")
    answer = json.loads(out)
    assert not err and set(answer) == {"model_id", "gallery_size", "hits"}
    assert answer["model_id"] == small_street.adapted.manifest.model_id
    assert 0 < len(answer["hits"]) <= 10 and len(answer["hits"]) <= answer["gallery_size"]
    kinds = {
        "rank": int, "score": float, "sighting_id": int, "camera": str, "track_id": int, "start_s": float,
        "end_s": float, "start": str, "end": str, "thumbnail": str,
    }  # fmt: skip
    for rank, hit in enumerate(answer["hits"], start=1):
        assert {name: type(value) for name, value in hit.items()} == kinds
        assert hit["rank"] == rank and hit["end_s"] >= hit["start_s"] and hit["camera"] in CAMERAS


def test_the_json_of_an_evaluation(small_street, run, tmp_path):
    draw_crops(tmp_path, part="test", people=3, per_camera=2)
    model = small_street.out / "student"
    out, err = run("evaluate", "--model", model, "--data", "market1501", "--root", tmp_path, "--json")
    scores = json.loads(out)
    assert not err and set(scores) == {
        "mAP", "mINP", "cmc", "num_queries", "num_valid_queries", "per_camera", "per_camera_pair", "tied", "intervals",
    }  # fmt: skip
    assert 0 < scores["mINP"] <= scores["mAP"] <= 1 and scores["cmc"] == sorted(scores["cmc"])
    assert 0 < scores["num_valid_queries"] <= scores["num_queries"]
    row = {"query_camera", "gallery_camera", "mAP", "rank1", "num_valid_queries"}
    assert all(set(found) == row for found in [*scores["per_camera"], *scores["per_camera_pair"]])
    table, _ = run("evaluate", "--model", model, "--root", tmp_path)
    assert f"{100 * scores['mAP']:.1f}" in table and "query camera" in table


def test_the_demo_goes_on_from_an_adapted_street_and_reports(small_street, run, tmp_path, monkeypatch):
    """The demo's own part: unseen people, scores, report; on the small street in the place of the embedded one."""
    site = tmp_path / "clone/cameras/street"
    shutil.copytree(small_street.site, site)
    out = tmp_path / "demo"
    shutil.copytree(small_street.out, out)
    monkeypatch.setattr(demo_module, "ROOT", tmp_path / "clone")
    table, err = run("demo", "--config", small_street.config, "--out", out)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    methods = [row["method"] for row in report["results"]]
    adapted = [f"{name}, BatchNorm of each camera" for name in ("source only", "distilled student")]
    teachers = ["mean of teachers", "teachers, each on its camera"]
    assert methods == ["source only", adapted[0], *teachers, "distilled student", adapted[1]]
    assert all(method in table for method in methods)
    assert (out / "report.html").stat().st_size > 1000 and (out / "retrieval.png").stat().st_size > 1000
    for command in report["next"]:
        assert command in err


def test_without_a_clone_the_demo_says_so(monkeypatch, tmp_path):
    from reid_mtda.errors import ConfigError

    monkeypatch.setattr(demo_module, "ROOT", tmp_path)
    with pytest.raises(ConfigError, match=r"cameras/street: no such site; run the demo in a clone"):
        demo_module.demo(tmp_path / "out")


def test_a_camera_without_people_is_reported_and_the_others_go_on(small_street, tmp_path):
    """Half a second of street shows nobody long enough; the job is done for the other camera, and says so."""
    site = write_site(tmp_path / "town", ("gate",))
    write_site(site, ("plaza",), duration=0.5)
    out = tmp_path / "run"
    for name in ("crops/gate", "source"):
        shutil.copytree(small_street.out / name, out / name)
    adapted = adapt_cameras(load_site(site), load_config(small_street.config), out)
    assert list(adapted.failures) == ["plaza"] and "expected 2 or more; film longer" in adapted.failures["plaza"]
    assert adapted.manifest.trained_on == "lab -> town (gate)" and list(adapted.harvests) == CAMERAS
