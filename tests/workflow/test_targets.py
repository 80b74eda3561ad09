"""Labelled data sets as unlabelled targets: no label passes, but for the leak that is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import write_crops

from reid_mtda.config import TargetData
from reid_mtda.errors import DataError
from reid_mtda.runs import Run
from reid_mtda.types import LabelledSet, UnlabelledSet
from reid_mtda.workflow.targets import Benchmark, concat_sets, load_benchmark, with_tracklets, without_labels

NAMES = ("gate", "plaza")


def labelled(people=3, cameras=2, pictures=2):
    """Every person seen in every camera."""
    labels = np.repeat(np.arange(people), cameras * pictures)
    camids = np.tile(np.repeat(np.arange(cameras), pictures), people)
    paths = tuple(Path(f"{pid}_{cam}_{n}") for n, (pid, cam) in enumerate(zip(labels, camids, strict=True)))
    return LabelledSet(paths, labels, people, "set", camids)


def targets_of(train=None, prefix="", **settings):
    return without_labels(train or labelled(), NAMES, TargetData(name="market1501", **settings), prefix=prefix)


def relabelled(train):
    """The same pictures of other people: each picture's person drawn anew."""
    labels = np.random.default_rng(0).permutation(train.labels)
    return LabelledSet(train.paths, labels, train.num_classes, train.domain, train.camids)


def check_no_label_passes(by, tracklets):
    first, second = (targets_of(train, by=by, tracklets=tracklets) for train in (labelled(), relabelled(labelled())))
    assert first.keys() == second.keys()
    for name in first:
        for field in UnlabelledSet.__dataclass_fields__:
            a, b = getattr(first[name], field), getattr(second[name], field)
            assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, "a label reached the targets"


@pytest.mark.parametrize("by", ["camera", "set"])
def test_no_label_passes_unless_tracklets_are_asked_for(by):
    check_no_label_passes(by, "none")


@pytest.mark.parametrize("by", ["camera", "set"])
@pytest.mark.parametrize("tracklets", ["camera", "identity"])
def test_the_check_finds_what_tracklets_tell(by, tracklets):
    with pytest.raises(AssertionError, match="a label reached the targets"):
        check_no_label_passes(by, tracklets)


def test_by_camera_each_camera_is_a_target_of_its_own_pictures():
    train = labelled()
    found = targets_of(by="camera")
    assert list(found) == ["gate", "plaza"]
    for camid, (name, target) in enumerate(found.items()):
        assert target.domain == name and target.cameras is None and target.tracklets is None
        assert target.paths == tuple(p for p, own in zip(train.paths, train.camids, strict=True) if own == camid)


def test_by_set_the_whole_is_one_target_that_knows_its_cameras():
    train, found = labelled(), targets_of(by="set")
    assert list(found) == ["market1501"]
    (target,) = found.values()
    assert target.paths == train.paths and target.tracklets is None
    assert np.array_equal(target.cameras, train.camids)


def test_a_tracker_follows_a_person_within_a_camera_alone():
    train = labelled()
    (whole,) = targets_of(by="set", tracklets="camera").values()
    same = whole.tracklets[:, None] == whole.tracklets[None]
    person = train.labels[:, None] == train.labels[None]
    camera = train.camids[:, None] == train.camids[None]
    assert np.array_equal(same, person & camera)
    parts = targets_of(by="camera", tracklets="camera").values()
    assert not set(parts_of(parts, 0)) & set(parts_of(parts, 1)), "numbers of two cameras' tracklets agree"


def test_given_tracklets_are_the_sets_own_and_those_of_two_cameras_stay_apart():
    train = replace(labelled(), tracklets=np.array([5, 5, 7, -1, 5, 9, 8, 8, 1, 1, 2, 2]))
    (whole,) = targets_of(train, by="set", tracklets="given").values()
    assert whole.tracklets[0] == whole.tracklets[1] == whole.tracklets[4] and whole.tracklets[3] == -1
    other = replace(train, tracklets=np.where(train.camids == 0, train.tracklets, 5))
    gate, plaza = targets_of(other, tracklets="given").values()
    assert len(set(plaza.tracklets.tolist())) == 1 and not set(gate.tracklets.tolist()) & set(plaza.tracklets.tolist())
    assert len(set(gate.tracklets.tolist())) == 3
    with pytest.raises(DataError, match="market1501: tracklets: given, but the data set tells none; expected"):
        targets_of(labelled(), tracklets="given")


def parts_of(targets, number):
    return list(targets)[number].tracklets.tolist()


def test_the_leak_is_the_labels_themselves():
    (whole,) = targets_of(by="set", tracklets="identity").values()
    assert np.array_equal(whole.tracklets, labelled().labels)
    by_camera = targets_of(by="camera", tracklets="identity")
    assert set(by_camera["gate"].tracklets.tolist()) == set(by_camera["plaza"].tracklets.tolist()) == {0, 1, 2}


def test_a_camera_that_no_test_picture_names_is_numbered():
    assert list(targets_of(labelled(cameras=3), by="camera")) == ["gate", "plaza", "camera 3"]


def test_a_set_that_tells_no_cameras_is_one():
    train = labelled()
    bare = LabelledSet(train.paths, train.labels, train.num_classes, "set")
    assert {name: len(target) for name, target in targets_of(bare, by="camera").items()} == {"gate": 12}


def test_sets_together_keep_their_people_apart():
    both = concat_sets([labelled(people=3), labelled(people=2)])
    assert both.num_classes == 5 and both.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


# --- from disk


def market(folder, train=((1, 1), (1, 2), (2, 1), (2, 2)), test=((3, 1), (3, 2), (4, 1), (4, 2))):
    """A data set in Market-1501's layout with one picture for each (person, camera)."""
    for part, shown in (("bounding_box_train", train), ("query", test), ("bounding_box_test", test)):
        (folder / part).mkdir(parents=True)
        for pid, camera in shown:
            write_crops(folder / part, people=1, pictures=1, name=f"{pid:04d}_c{camera}s1_000000_00.png", seed=pid)
    return TargetData(name="market1501", root=str(folder))


def load(tmp_path, *targets):
    return load_benchmark(targets, Run(tmp_path, 0))


def test_people_to_learn_from_and_people_to_test_are_others(tmp_path):
    found = load(tmp_path, market(tmp_path / "m"))
    learnt = {path.name[:4] for target in found.unlabelled.values() for path in target.paths}
    tested = {path.name[:4] for split in found.tests.values() for path in (*split.query.paths, *split.gallery.paths)}
    assert learnt == {"0001", "0002"} and tested == {"0003", "0004"}


def test_cameras_of_one_name_in_two_sets_are_two_targets(tmp_path):
    first = market(tmp_path / "m")
    market(tmp_path / "c" / "detected")
    second = TargetData(name="cuhk03np", root=str(tmp_path / "c"), by="camera")
    found = load(tmp_path, first, second)
    assert list(found.unlabelled) == [f"{n}-camera {c}" for n in ("market1501", "cuhk03np") for c in (1, 2)]
    assert list(found.tests) == list(found.labelled) == ["market1501", "cuhk03np"]
    assert sum(map(len, found.unlabelled.values())) == 8
    assert list(load(tmp_path, first).unlabelled) == ["camera 1", "camera 2"]
    again = with_tracklets(found, (first, second), "identity")
    assert list(again) == list(found.unlabelled)
    people = [set() if (t := target.tracklets) is None else set(t.tolist()) for target in again.values()]
    assert all(people) and people[0] & people[1], "people of one set are those of all its cameras"
    assert not (people[0] | people[1]) & (people[2] | people[3]), "people of two sets are different people"
    assert all(target.tracklets is None for target in found.unlabelled.values()), "the leak spread"


def test_a_set_may_be_there_for_the_test_alone(tmp_path):
    unseen = TargetData(**{**market(tmp_path / "c" / "detected", train=()).model_dump(), "name": "cuhk03np"})
    found = load(tmp_path, market(tmp_path / "m"), unseen.model_copy(update={"root": str(tmp_path / "c")}))
    assert list(found.tests) == ["market1501", "cuhk03np"] and list(found.labelled) == ["market1501"]


def test_no_half_may_be_missing_everywhere(tmp_path):
    with pytest.raises(DataError, match="targets: got no training pictures in market1501, expected some; complete"):
        load(tmp_path, market(tmp_path / "a", train=()))
    with pytest.raises(DataError, match="targets: got no test pictures in market1501, expected some; complete that"):
        load(tmp_path, market(tmp_path / "b", test=()))


def test_a_street_that_was_drawn_by_half_is_drawn_again(tmp_path, monkeypatch):
    from reid_mtda.workflow import targets as module

    drawn = []
    monkeypatch.setattr(module, "draw_crops", lambda folder, *, part, **_: drawn.append(part))
    monkeypatch.setattr(module, "load_dataset", lambda *_, **__: (labelled(), None))
    half = tmp_path / "data/street/bounding_box_train"
    half.mkdir(parents=True)
    module.load_pictures_of(TargetData(name="street"), Run(tmp_path, 0))
    assert drawn == ["train", "test"]
    (tmp_path / "data/street/query").mkdir()
    module.load_pictures_of(TargetData(name="street"), Run(tmp_path, 0))
    assert drawn == ["train", "test"]


def test_what_training_sees_has_no_field_for_labels():
    assert set(Benchmark.__dataclass_fields__) == {"unlabelled", "labelled", "tests"}
    assert not {"labels", "pids", "num_classes"} & set(UnlabelledSet.__dataclass_fields__)
