"""Teacher outputs: each crop once, in whose teacher_id, and which crops are taken for one person."""

import numpy as np
import pytest
import torch
from builders import PREPROCESS, same_weights, target_set

from reid_mtda.data.batches import load_pictures
from reid_mtda.errors import DataError
from reid_mtda.models.embedder import EmbedderSpec, build_embedder
from reid_mtda.train.common import embed_pictures, recompute_batchnorm
from reid_mtda.train.teacher_outputs import TargetPool, TeacherOutputs, compute_teacher_outputs, embed_targets
from reid_mtda.types import UnlabelledSet

SPEC = EmbedderSpec(arch="resnet10_w4", num_classes=6)


def plain(name, count, tracklets=None, cameras=None):
    numbers = [None if given is None else np.array(given, np.int64) for given in (tracklets, cameras)]
    return UnlabelledSet(tuple(f"{name}{n}" for n in range(count)), name, *numbers)


def silent(count, dim=2, teacher_id=""):
    return TeacherOutputs(torch.zeros(count, dim), None, teacher_id)


def teaching_of(*targets, shared_numbers=False, **teacher_outputs):
    given = {target.domain: teacher_outputs.get(target.domain, silent(len(target))) for target in targets}
    return TargetPool.of({target.domain: target for target in targets}, given, shared_numbers=shared_numbers)


def people_in(rooms, *, per_person=5, people=8, dim=16, noise=0.05, shift=1.0):
    """Embeddings by camera of the same people, each camera with an offset of its own; person of each crop."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (people, dim))
    found = {}
    for room in rooms:
        rows = np.repeat(centres, per_person, axis=0) + rng.normal(0, noise, (people * per_person, dim))
        rows = rows + shift * rng.normal(0, 1, dim)
        found[room] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found, np.repeat(np.arange(people), per_person)


def agree(found, truth):
    """Whether two numberings part the rows alike."""
    return np.array_equal(found[:, None] == found[None], truth[:, None] == truth[None])


# --- teacher outputs


def test_a_lesson_holds_every_crop_once_as_the_teacher_sees_it(tmp_path):
    target, teacher = target_set(tmp_path, "gate"), build_embedder(SPEC, seed=3)
    teacher_output = compute_teacher_outputs(teacher, target, PREPROCESS)
    pictures = load_pictures(target.paths, PREPROCESS)
    with torch.no_grad():
        wanted = [teacher.eval()(pictures.normalised(pictures.unit(np.array([n])))) for n in range(len(target))]
    torch.testing.assert_close(
        teacher_output.embedding, torch.cat([one.embedding for one in wanted]), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(teacher_output.logits, torch.cat([one.logits for one in wanted]), rtol=1e-4, atol=1e-5)
    assert teacher_output.teacher_id == ""


# --- numbers


def test_crops_are_numbered_target_after_target():
    pool = teaching_of(plain("gate", 3), plain("empty", 0), plain("plaza", 2))
    assert pool.paths == ("gate0", "gate1", "gate2", "plaza0", "plaza1")
    assert pool.target.tolist() == [0, 0, 0, 2, 2]
    assert pool.camera.tolist() == [0, 0, 0, 1, 1]
    assert pool.place.tolist() == [0, 1, 2, 0, 1]


def test_cameras_of_a_set_are_cameras_apart_from_those_of_the_next():
    pool = teaching_of(plain("market", 4, cameras=[5, 2, 5, 2]), plain("gate", 2), plain("cuhk", 2, cameras=[2, 5]))
    assert pool.target.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert pool.camera.tolist() == [1, 0, 1, 0, 2, 2, 3, 4]


@pytest.mark.parametrize("shared_numbers", [False, True])
def test_tracklets_of_two_targets_are_one_only_where_numbers_are_shared(shared_numbers):
    pool = teaching_of(
        plain("gate", 4, [3, 3, -1, 90]), plain("none", 1), plain("plaza", 3, [3, -1, 7]), shared_numbers=shared_numbers
    )
    found = pool.tracklets
    assert found[[2, 4, 6]].tolist() == [-1] * 3
    assert found[0] == found[1] != found[3]
    assert (found[0] == found[5]) == shared_numbers
    assert len(set(found.tolist())) == (4 if shared_numbers else 5)


def test_a_space_holds_the_lessons_of_its_targets_in_their_order():
    both = {
        name: TeacherOutputs(torch.full((2, 3), float(n)), None, "model")
        for n, name in enumerate(("gate", "plaza"), start=1)
    }
    hall = TeacherOutputs(torch.zeros(1, 7), torch.ones(1, 4))
    pool = teaching_of(plain("gate", 2), plain("hall", 1), plain("plaza", 2), hall=hall, **both)
    assert {teacher_id: members for teacher_id, (members, _) in pool.spaces.items()} == {"model": (0, 2), "hall": (1,)}
    joined = pool.spaces["model"][1]
    assert joined.logits is None and joined.embedding[:, 0].tolist() == [1, 1, 2, 2]
    assert pool.place.tolist() == [0, 1, 0, 2, 3]
    assert torch.equal(pool.spaces["hall"][1].logits, hall.logits)


def test_adapted_teachers_share_a_space_and_ready_made_ones_do_not():
    pool = teaching_of(
        plain("a", 2), plain("b", 1), plain("c", 2), plain("d", 1),
        a=TeacherOutputs(torch.full((2, 3), 1.0), None), b=TeacherOutputs(torch.full((1, 3), 2.0), None, "x"),
        c=TeacherOutputs(torch.full((2, 3), 3.0), None), d=TeacherOutputs(torch.full((1, 5), 4.0), None, "y"),
    )  # fmt: skip
    spaces = pool.embeddings()
    assert [list(space) for space in spaces] == [["a", "c"], ["b"], ["d"]]
    assert {name: rows[0, 0] for space in spaces for name, rows in space.items()} == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_a_lesson_of_another_length_is_refused():
    with pytest.raises(
        DataError, match=r"got a teacher output for 3 crops, expected 2, those of gate; compute it again"
    ):
        teaching_of(plain("gate", 2), gate=silent(3))


# --- people


def test_tracklets_of_one_person_are_joined_across_cameras():
    seen, truth = people_in(["a", "b", "c"])
    pool = teaching_of(*(plain(room, len(truth), truth) for room in seen))
    joined = pool.pseudo_identities([seen], cross_camera=True)
    assert agree(joined, np.tile(truth, 3))
    assert np.array_equal(pool.pseudo_identities([seen], cross_camera=False), pool.tracklets)


def test_people_of_different_spaces_are_never_one():
    """Sizes may differ: nothing of one space is held against the other."""
    seen, truth = people_in(["a", "b"])
    pool = teaching_of(*(plain(room, len(truth), truth) for room in seen))
    apart = pool.pseudo_identities([{"a": seen["a"]}, {"b": seen["b"][:, :9]}], cross_camera=True)
    assert agree(apart, np.concatenate([truth, truth + 100]))
    turned = pool.pseudo_identities([{"b": seen["b"]}, {"a": seen["a"]}], cross_camera=True)
    assert agree(turned, apart)


@pytest.mark.parametrize("cross_camera", [True, False])
def test_without_tracklets_people_are_clusters_over_all_cameras_or_within_each(cross_camera):
    seen, truth = people_in(["a", "b"], per_person=4 if cross_camera else 8, shift=0.2)
    pool = teaching_of(*(plain(room, len(truth)) for room in seen))
    found = pool.pseudo_identities([seen], cross_camera=cross_camera)
    assert agree(found, np.concatenate([truth, truth + (0 if cross_camera else 100)]))


def test_normalising_is_what_finds_people_under_another_light():
    seen, truth = people_in(["a", "b"], per_person=4, shift=2.0)
    pool = teaching_of(*(plain(room, len(truth)) for room in seen))
    assert agree(pool.pseudo_identities([seen], cross_camera=True), np.tile(truth, 2))
    assert not agree(pool.pseudo_identities([seen], cross_camera=True, normalised=False), np.tile(truth, 2))


def test_a_camera_without_tracklets_beside_others_with_them_is_clustered_not_left_out():
    seen, truth = people_in(["a", "b"], per_person=12, shift=0.2)
    pool = teaching_of(plain("a", len(truth), truth), plain("b", len(truth)))
    assert agree(pool.pseudo_identities([seen], cross_camera=False), np.concatenate([truth, truth + 100]))
    assert agree(pool.pseudo_identities([seen], cross_camera=True), np.tile(truth, 2))


def test_the_cameras_of_a_whole_data_set_are_told_apart():
    """A set as one target: each of its cameras is normalised by itself, and a person's tracklets there are joined."""
    seen, truth = people_in(["a", "b", "c"], shift=3.0)
    cameras = np.repeat([0, 1, 2], len(truth))
    tracklets = np.concatenate([truth, truth + 10, truth + 20])
    whole = teaching_of(plain("set", 3 * len(truth), tracklets, cameras))
    rows = {"set": np.concatenate(list(seen.values()))}
    assert agree(whole.pseudo_identities([rows], cross_camera=True), np.tile(truth, 3))
    blind = teaching_of(plain("set", 3 * len(truth), tracklets))
    assert agree(blind.pseudo_identities([rows], cross_camera=True), tracklets), "one camera joins no tracklets"


def test_crops_without_a_tracklet_are_nobody_where_others_have_one():
    seen, truth = people_in(["a", "b"])
    gaps = np.where(np.arange(len(truth)) % 5 == 0, -1, truth)
    pool = teaching_of(plain("a", len(truth), gaps), plain("b", len(truth), truth))
    for cross_camera in (True, False):
        found = pool.pseudo_identities([seen], cross_camera=cross_camera)
        assert np.array_equal(found < 0, np.concatenate([gaps < 0, truth < 0]))


# --- what the student sees


def test_targets_are_embedded_with_statistics_of_all_or_each_of_its_own(tmp_path):
    targets = {name: target_set(tmp_path, name, tint) for name, tint in {"a": (0.6, 1, 1), "b": (1, 1, 0.6)}.items()}
    pool = TargetPool.of(
        {**targets, "none": plain("none", 0)}, {name: silent(20) for name in targets} | {"none": silent(0)}
    )
    pictures = load_pictures(pool.paths, PREPROCESS)
    model = build_embedder(SPEC, seed=0).eval()
    before = build_embedder(SPEC, seed=0).eval()
    shared = embed_targets(model, pictures, pool)
    own = embed_targets(model, pictures, pool, own_statistics=True)
    assert same_weights(model, before), "the averaged student moved"
    assert shared["none"].shape == (0, model.embedding_dim)
    for name, target in targets.items():
        alone = load_pictures(target.paths, PREPROCESS)
        assert np.allclose(shared[name], embed_pictures(before, alone).embedding, atol=1e-5)
        adapted = build_embedder(SPEC, seed=0).eval()
        recompute_batchnorm(adapted, alone)
        assert np.allclose(own[name], embed_pictures(adapted, alone).embedding, atol=1e-5)
        assert not np.allclose(own[name], shared[name], atol=1e-3)
