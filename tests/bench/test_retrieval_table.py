"""Tables over seeds: figures from run folders alone, never from different experiments."""

import json
from pathlib import Path

import pytest

from reid_mtda.bench.results import fill_page
from reid_mtda.bench.retrieval_table import seeds_table, stages_table
from reid_mtda.errors import DataError


def finished_run(folder: Path, seed: int, mean_ap: float, **config: object) -> Path:
    folder.mkdir()
    row = {
        "method": "distilled student",
        "ours": True,
        "mAP": mean_ap,
        "rank1": mean_ap,
        "camera_to_camera": {"mAP": mean_ap, "rank1": mean_ap},
        "params": 340_000,
        "macs": 19.2e6,
        "ms": 0.3,
        "per_camera": {"gate": {"mAP": mean_ap, "rank1": mean_ap}},
    }
    card = {"config": {"seed": seed, **config}, "seed": seed, "versions": {"commit": "abc", "machine": "x86_64"}}
    for name, value in (
        ("run", card),
        ("scores", [row]),
        ("stages", {"harvest": {"seconds": 2.0, "peak_mb": 100.0}, "student": {"seconds": 3.0, "peak_mb": 200.0}}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_mean_and_sample_deviation_over_seeds(tmp_path: Path) -> None:
    runs = [finished_run(tmp_path / str(seed), seed, value) for seed, value in enumerate((0.50, 0.54, 0.58))]
    text = seeds_table(runs)
    assert f"| **distilled student** | {' | '.join(['54.0 ± 4.0'] * 4)} | 0.34 M | 19 M | 0.30 | 3 | 200 |" in text
    assert "seeds 0, 1, 2" in text and "last weights" in text


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    assert "| 50.0 | 50.0 |" in seeds_table([finished_run(tmp_path / "a", 0, 0.5)])


def test_a_run_from_before_a_number_was_kept_shows_a_question_mark(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "a", 0, 0.5)
    rows = json.loads((folder / "scores.json").read_text())
    del rows[0]["camera_to_camera"]
    (folder / "scores.json").write_text(json.dumps(rows))
    assert "| 50.0 | 50.0 | ? | 50.0 |" in seeds_table([folder])


def test_different_experiments_never_share_a_table(tmp_path: Path) -> None:
    runs = [finished_run(tmp_path / "a", 0, 0.5, steps=1), finished_run(tmp_path / "b", 1, 0.5, steps=2)]
    with pytest.raises(DataError, match="differ in more than the seed"):
        seeds_table(runs)


def test_one_seed_twice_is_refused(tmp_path: Path) -> None:
    runs = [finished_run(tmp_path / "a", 0, 0.5), finished_run(tmp_path / "b", 0, 0.6)]
    with pytest.raises(DataError, match=r"seeds \[0, 0\], expected each once"):
        seeds_table(runs)


def test_a_damaged_file_of_a_run_is_to_be_deleted(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "a", 0, 0.5)
    (folder / "stages.json").write_text("{")
    with pytest.raises(DataError, match=r"stages\.json: damaged .*; delete it and run the command of the run again"):
        seeds_table([folder])


def test_an_unfinished_run_is_named(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "a", 0, 0.5)
    (folder / "scores.json").unlink()
    with pytest.raises(DataError, match=r"scores\.json: cannot be read .* run it to its end"):
        seeds_table([folder])


@pytest.mark.parametrize(
    ("name", "text"),
    [("scores", "[]"), ("scores", '{"rows": 3}'), ("scores", "[{}]"), ("run", "[]"), ("stages", '{"a": 1}')],
)
def test_json_of_another_shape_is_damage_too(tmp_path: Path, name: str, text: str) -> None:
    folder = finished_run(tmp_path / "a", 0, 0.5)
    (folder / f"{name}.json").write_text(text)
    with pytest.raises(DataError, match=rf"{name}\.json: damaged, not what a run writes; delete it"):
        seeds_table([folder])


def test_stages_sum_up(tmp_path: Path) -> None:
    assert stages_table(finished_run(tmp_path / "a", 0, 0.5)).endswith("| all | 5 | 200 MB |")


def test_a_page_is_filled_between_its_markers_and_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- t -->\nold\n<!-- /t -->\nafter\n")
    for text in ("one", "two"):
        fill_page(page, "t", text)
        assert page.read_text() == f"before\n<!-- t -->\n{text}\n<!-- /t -->\nafter\n"
    with pytest.raises(DataError, match="expected the lines <!-- u -->"):
        fill_page(page, "u", "text")


def test_of_a_ready_made_teacher_the_time_alone_is_told(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "a", 0, 0.5)
    rows = json.loads((folder / "scores.json").read_text())
    rows.append({**rows[0], "method": "mean of teachers", "ours": False, "params": None, "macs": None, "ms": 4.0})
    (folder / "scores.json").write_text(json.dumps(rows))
    text = seeds_table([folder])
    assert "| mean of teachers | 50.0 | 50.0 | 50.0 | 50.0 | ? | ? | 4.00 |" in text
    assert "| **distilled student** | 50.0 | 50.0 | 50.0 | 50.0 | 0.34 M | 19 M | 0.30 | 3 | 200 |" in text


def test_the_share_of_the_way_to_the_teachers_is_told_seed_by_seed(tmp_path: Path) -> None:
    """(0.4 - 0.2) / (0.6 - 0.2) = 50 %, then 75 %; rank-1 likewise, which ``finished_run`` makes the same."""
    folders = [finished_run(tmp_path / str(seed), seed, student) for seed, student in ((1, 0.4), (2, 0.5))]
    for folder in folders:
        (row,) = json.loads((folder / "scores.json").read_text())
        others = [
            {**row, "ours": False, "method": name, "mAP": value, "camera_to_camera": {"mAP": value, "rank1": value}}
            for name, value in (("source only", 0.2), ("teachers, each on its camera", 0.6))
        ]
        (folder / "scores.json").write_text(json.dumps([*others, row]))
    text = seeds_table(folders)
    assert "recovers 62.5 ± 17.7 % by mAP (+25.0 points) and 62.5 ± 17.7 % by rank-1" in text
    assert "source only to the teachers." in text and "the oracle" not in text
    (folders[1] / "scores.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match="their scores have other rows"):
        seeds_table(folders)


def with_others(folders: list[Path], others: dict[str, list[float]]) -> list[Path]:
    """The runs' student beside rows of these mAP, a seed each."""
    for number, folder in enumerate(folders):
        (row,) = json.loads((folder / "scores.json").read_text())
        rows = [{**row, "ours": False, "method": name, "mAP": values[number]} for name, values in others.items()]
        (folder / "scores.json").write_text(json.dumps([*rows, row]))
    return folders


def test_a_share_of_a_way_no_longer_than_its_spread_is_not_told(tmp_path: Path) -> None:
    folders = [finished_run(tmp_path / str(seed), seed, 0.5) for seed in (1, 2)]
    rows = {
        "source only": [0.4, 0.4],
        "teachers, each on its camera": [0.41, 0.6],
        "oracle (target labels)": [0.6, 0.6],
    }
    text = seeds_table(with_others(folders, rows))
    assert "50.0 ± 0.0 % by mAP (+10.0 points) of the way from source only to the oracle" in text
    assert "% by mAP" not in text.split("to the oracle")[1] and "the teachers." not in text


def with_people(folder: Path, ap: list[float], other: list[float]) -> Path:
    """A student and a baseline with two queries of each person, plain and centred (a tenth of a point better)."""
    (row,) = json.loads((folder / "scores.json").read_text())

    def scored(values: list[float]) -> dict[str, object]:
        sums = [2 * value for value in values]
        people = [{"pids": list(range(len(values))), "queries": [2] * len(values), "ap": sums, "rank1": sums}]
        mean = sum(values) / len(values)
        return {"mAP": mean, "rank1": mean, "people": people}

    rows = [{**row, **scored(values), "ours": values is ap, "method": name} for name, values in
            (("blending", other), ("distilled student", ap))]  # fmt: skip
    for each, values in zip(rows, (other, ap), strict=True):
        each["centred"] = scored([value + 0.001 for value in values])
    (folder / "scores.json").write_text(json.dumps(rows))
    return folder


def test_rows_come_with_intervals_and_differences_are_paired(tmp_path: Path) -> None:
    """Everybody gains exactly two points, so the difference is sure while the rows are not."""
    base = [0.1, 0.9, 0.4, 0.6, 0.5]
    better = [value + 0.02 for value in base]
    folders = [with_people(finished_run(tmp_path / str(seed), seed, 0.5), better, base) for seed in (1, 2)]
    text = seeds_table(folders)
    assert "| mAP, centred | rank-1, centred |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| **distilled student** | ")]
    cells = row.split(" | ")
    assert cells[1].startswith("52.0 ± 0.0 [") and cells[3].startswith("52.1 ± 0.0 [")
    low, high = (float(number) for number in cells[1].split("[")[1].rstrip("]").split(", "))
    assert low < 45 and high > 59
    assert "| distilled student minus | mAP | rank-1 | mAP, centred | rank-1, centred |" in text
    assert "| blending |" + 4 * " +2.0 (+2.0, +2.0) [2.0, 2.0] |" in text
