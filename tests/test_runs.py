"""Files are written whole or not at all; a run is one set of settings; seeds are named."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.errors import ConfigError, StorageError
from reid_mtda.files import atomic_write, write_json
from reid_mtda.provenance import versions
from reid_mtda.runs import HOST, Compute, Run, open_run, peak_memory_mb, stage

CONFIG = {"seed": 1, "distil": {"steps": 5, "names": ("a", "b")}, "site": {"gate": {"fps": 5.0}}}


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old", encoding="utf-8")
    return path


def nothing_else(path):
    return [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_file_is_replaced_whole(old):
    with atomic_write(old) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert old.read_text(encoding="utf-8") == "old" and temporary.suffix == ".json"
    assert old.read_text(encoding="utf-8") == "new" and nothing_else(old)


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_an_exception_keeps_the_old_file(old, error):
    with pytest.raises(type(error)), atomic_write(old) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise error
    assert old.read_text(encoding="utf-8") == "old" and nothing_else(old)


def test_a_full_disk_keeps_the_old_file(old):
    with (
        pytest.raises(StorageError, match=r"result\.json: could not be written \(No space left on device\)") as caught,
        atomic_write(old) as temporary,
    ):
        temporary.write_text("half", encoding="utf-8")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert isinstance(caught.value.__cause__, OSError)
    assert old.read_text(encoding="utf-8") == "old" and nothing_else(old)


def test_a_disk_that_fills_when_flushed_keeps_the_old_file(old, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("reid_mtda.files.os.fsync", full)
    with pytest.raises(StorageError, match="what stood there before is untouched"):
        write_json(old, {"a": 1})
    assert old.read_text(encoding="utf-8") == "old" and nothing_else(old)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/x\.json: could not be written"):
        write_json(tmp_path / "file" / "x.json", 1)


def test_json_holds_numpy_and_paths(tmp_path):
    write_json(tmp_path / "a" / "x.json", {"b": np.float32(0.5), "a": np.arange(2), "c": Path("p")})
    assert json.loads((tmp_path / "a" / "x.json").read_text(encoding="utf-8")) == {"a": [0, 1], "b": 0.5, "c": "p"}
    with pytest.raises(TypeError, match="object has no JSON form"):
        write_json(tmp_path / "y.json", object())
    assert not (tmp_path / "y.json").exists()


def test_the_same_run_opens_again_and_keeps_its_card(tmp_path):
    run = open_run(tmp_path / "run", seed=3, config=CONFIG)
    card = (run.folder / "run.json").read_bytes()
    assert open_run(tmp_path / "run", seed=3, config=CONFIG) == run
    assert (run.folder / "run.json").read_bytes() == card
    assert {"numpy", "python", "commit"} <= json.loads(card)["versions"].keys() == versions().keys()


def test_a_run_of_reid_mtda_0_1_is_refused(tmp_path):
    """Its card has no format; 0.1.0 is what it says of the package."""
    card = tmp_path / "run.json"
    card.write_text(json.dumps({"config": CONFIG, "seed": 3, "versions": {"reid-mtda": "0.1.0"}}), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"holds a run of an earlier version \(reid-mtda 0\.1\.0\), which .*; choose anot"
    ):
        open_run(tmp_path, seed=3, config=CONFIG)


def test_a_run_that_goes_on_elsewhere_says_so(tmp_path, caplog):
    assert open_run(tmp_path, seed=3, config=CONFIG).compute == HOST
    there = Compute(device="cuda:0", precision="bf16")
    run = open_run(tmp_path, seed=3, config=CONFIG, compute=there)
    assert "began with {'device': 'cpu', 'precision': 'fp32'} and goes on with" in caplog.text
    assert run.compute == run.child("step").compute == there


@pytest.mark.parametrize(
    ("seed", "change", "named"),
    [
        (4, {}, r"seed"),
        (3, {"distil": {"steps": 6, "names": ("a", "b")}}, r"distil\.steps"),
        (3, {"distil": {"steps": 5}}, r"distil\.names"),
        (3, {"new": 1}, r"new"),
        (3, {"site": {"gate": {"fps": 4.0}}}, r"site\.gate\.fps"),
    ],
)
def test_a_run_of_other_settings_is_refused_and_they_are_named(tmp_path, seed, change, named):
    open_run(tmp_path / "run", seed=3, config=CONFIG)
    with pytest.raises(ConfigError, match=rf"run: holds a run with other settings \({named}\); choose another folder"):
        open_run(tmp_path / "run", seed=seed, config={**CONFIG, **change})


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\udcff"])
def test_a_damaged_card_is_refused(tmp_path, text):
    open_run(tmp_path / "run", seed=3, config=CONFIG)
    (tmp_path / "run" / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"run\.json: damaged|holds a run with other settings"):
        open_run(tmp_path / "run", seed=3, config=CONFIG)


HOLD = (
    "import sys, time; from pathlib import Path; from reid_mtda.runs import open_run;"
    "open_run(Path(sys.argv[1]), seed=0, config={}); print('open', flush=True); time.sleep(60)"
)


def test_one_process_works_in_a_run_folder_and_a_killed_one_leaves_no_lock(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "open\n"
            with pytest.raises(ConfigError, match=f"{tmp_path}: another process works in this folder; wait"):
                open_run(tmp_path, seed=0, config={})
        finally:
            other.kill()
    assert open_run(tmp_path, seed=0, config={}) == open_run(tmp_path, seed=0, config={})
    last = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "another process works in this folder" in last.stderr, "opening twice here let go of the lock"


def test_child_seeds_follow_from_seed_and_name(tmp_path):
    run, same, other = Run(tmp_path, 1), Run(tmp_path / "elsewhere", 1), Run(tmp_path, 2)
    seeds = [run.child_seed(name) for name in ("a", "b", "step 1", "step 11")]
    assert len({*seeds, other.child_seed("a")}) == 5 and all(0 <= seed < 2**32 for seed in seeds)
    assert same.child_seed("a") == run.child_seed("a")
    assert run.child("a").seed == run.child_seed("a") and run.child("a").folder == tmp_path / "a"
    assert run.rng("x").random() == Run(tmp_path, 1).rng("x").random() != run.rng("y").random()


def test_records_are_lines_in_order(tmp_path):
    run = open_run(tmp_path, seed=0, config={})
    for step in range(3):
        run.record("dmmd", step=step, loss=np.float32(0.5))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["part"], line["step"], line["loss"]) for line in lines] == [("dmmd", step, 0.5) for step in range(3)]


def test_records_after_a_place_can_be_forgotten(tmp_path):
    run = open_run(tmp_path, seed=0, config={})
    run.forget_records(run.recorded_bytes())
    run.record("dmmd", step=0)
    size = run.recorded_bytes()
    run.record("dmmd", step=1)
    run.forget_records(10**6)
    assert run.recorded_bytes() > size
    run.forget_records(size)
    assert json.loads((tmp_path / "metrics.jsonl").read_text(encoding="utf-8"))["step"] == 0


def test_a_record_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(StorageError, match="metrics could not be written"):
        Run(tmp_path, 0).record("x")


def test_stages_keep_their_order_and_add_up(tmp_path):
    run = open_run(tmp_path, seed=0, config={})
    with stage(run, "second"), pytest.raises(ValueError, match="x"):
        raise ValueError("x")
    with stage(run, "first"):
        pass
    path = tmp_path / "stages.json"
    before = json.loads(path.read_text(encoding="utf-8"))
    before["second"]["seconds"] = 100.0
    path.write_text(json.dumps(before), encoding="utf-8")
    with pytest.raises(RuntimeError, match="stop"), stage(run, "second"):
        raise RuntimeError("stop")
    after = json.loads(path.read_text(encoding="utf-8"))
    assert list(after) == ["second", "first"] and after["second"]["seconds"] >= 100.0
    assert after["first"]["peak_mb"] > 10 and peak_memory_mb() > 10


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_damaged_stage_times_do_not_stop_a_job(tmp_path, text):
    run = open_run(tmp_path, seed=0, config={})
    (tmp_path / "stages.json").write_text(text, encoding="utf-8")
    with stage(run, "index"):
        pass
    assert list(json.loads((tmp_path / "stages.json").read_text(encoding="utf-8"))) == ["index"]
