"""Pseudo-identities: people are found again across cameras despite each camera's own offset, and never invented."""

import numpy as np
import pytest

from reid_mtda.data.association import camera_normalised, match_cameras

DIM = 48


def town(cameras, *, people=12, crops=4, present=None, offset=3.0, noise=0.15, seed=0):
    """Synthetic embeddings: person + camera offset + noise, a tracklet per person numbered anew in each camera."""
    rng = np.random.default_rng(seed)
    persons = rng.normal(size=(people, DIM))
    embeddings, tracklets, truth = {}, {}, {}
    for number, camera in enumerate(cameras):
        pids = rng.permutation((present or {}).get(camera, range(people)))
        shift = rng.normal(size=DIM) * offset
        rows = np.repeat(persons[pids], crops, axis=0) + shift + rng.normal(size=(len(pids) * crops, DIM)) * noise
        embeddings[camera] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        tracklets[camera] = np.repeat(np.arange(len(pids)) * 2 + 5 * number, crops)
        truth[camera] = np.repeat(pids, crops)
    return embeddings, tracklets, truth


def pairs_right(identities, truth):
    """(share of true cross-camera pairs that were joined, share of joined pairs that are true)."""
    cameras = np.concatenate([np.full(len(rows), n) for n, rows in enumerate(truth.values())])
    found = np.concatenate([identities[camera] for camera in truth])
    real = np.concatenate(list(truth.values()))
    across = cameras[:, None] < cameras[None, :]
    joined, same = found[:, None] == found[None, :], real[:, None] == real[None, :]
    both = (joined & same & across).sum()
    return both / max((same & across).sum(), 1), both / max((joined & across).sum(), 1)


@pytest.mark.parametrize("cameras", [("gate", "plaza"), ("a", "b", "c"), ("a", "b", "c", "d")])
def test_people_are_found_despite_each_cameras_offset(cameras):
    embeddings, tracklets, truth = town(cameras)
    recall, precision = pairs_right(match_cameras(embeddings, tracklets), truth)
    assert recall > 0.9 and precision > 0.95


def test_without_normalising_per_camera_they_are_not(monkeypatch):
    """The mutant: the offset is what the embeddings of a camera have most in common."""
    monkeypatch.setattr("reid_mtda.data.association.camera_normalised", lambda rows: rows)
    embeddings, tracklets, truth = town(("a", "b"), noise=0.5)
    recall, _ = pairs_right(match_cameras(embeddings, tracklets), truth)
    monkeypatch.undo()
    better, _ = pairs_right(match_cameras(embeddings, tracklets), truth)
    assert better > recall + 0.1


def test_where_most_people_pass_one_camera_a_threshold_claims_fewer_strangers():
    """Everybody has a nearest neighbour elsewhere; a stranger's is no more alike than others of one camera are."""
    present = {"a": range(40), "b": range(32, 72)}  # a tenth of them pass both
    embeddings, tracklets, truth = town(("a", "b"), people=72, present=present, noise=0.5)
    free, asked = (
        pairs_right(match_cameras(embeddings, tracklets, negative_quantile=quantile), truth) for quantile in (0, 0.995)
    )
    assert free[1] < 0.4 < 0.5 < asked[1] and asked[0] == free[0] == 1


def test_crops_of_a_tracklet_stay_together_and_numbers_run_over_all_cameras():
    embeddings, tracklets, _ = town(("a", "b", "c"))
    found = match_cameras(embeddings, tracklets)
    for camera, own in found.items():
        assert own.dtype == np.int64 and own.shape == (len(embeddings[camera]),) and (own >= 0).all()
        assert all(len(set(own[tracklets[camera] == track])) == 1 for track in set(tracklets[camera].tolist()))
    every = np.unique(np.concatenate(list(found.values())))
    assert every.tolist() == list(range(len(every)))


def test_two_tracklets_of_one_camera_are_never_each_others_match_alone():
    embeddings, tracklets, _ = town(("a",))
    assert len(set(match_cameras(embeddings, tracklets)["a"].tolist())) == 12


def test_a_person_whom_one_camera_alone_saw_is_their_own_identity():
    embeddings, tracklets, truth = town(("a", "b"), present={"a": range(12), "b": range(1, 12)})
    found = match_cameras(embeddings, tracklets)
    alone = set(found["a"][truth["a"] == 0].tolist())
    assert len(alone) == 1 and not alone & set(found["b"].tolist())


def test_a_third_camera_must_agree_where_there_is_one():
    """Persons 0-5 pass all cameras; 6 passes a and b alone, so nobody vouches for them."""
    present = {"a": range(7), "b": range(7), "c": range(6)}
    embeddings, tracklets, truth = town(("a", "b", "c"), present=present, noise=0.02)
    asked = match_cameras(embeddings, tracklets)
    free = match_cameras({name: embeddings[name] for name in "ab"}, {name: tracklets[name] for name in "ab"})
    of_six = lambda found, camera: set(found[camera][truth[camera] == 6].tolist())  # noqa: E731
    assert of_six(free, "a") == of_six(free, "b")
    assert of_six(asked, "a") != of_six(asked, "b")


def test_crops_without_a_tracklet_stay_out():
    embeddings, tracklets, truth = town(("a", "b"))
    tracklets["a"] = np.where(truth["a"] == 3, -1, tracklets["a"])
    tracklets["b"][0] = -1
    found = match_cameras(embeddings, tracklets)
    assert ((found["a"] == -1) == (truth["a"] == 3)).all()
    assert found["b"][0] == -1 and (found["b"][1:] >= 0).all()


def test_empty_cameras_and_no_cameras_are_values():
    embeddings, tracklets, _ = town(("a", "b"))
    nothing = {"empty": np.zeros((0, DIM), np.float32)}
    no_tracks = {"empty": np.zeros(0, np.int64)}
    found = match_cameras({**nothing, **embeddings}, {**no_tracks, **tracklets})
    same = match_cameras(embeddings, tracklets)
    assert found["empty"].shape == (0,) and all(np.array_equal(found[camera], same[camera]) for camera in same)
    assert match_cameras({}, {}) == {}
    assert match_cameras(nothing, no_tracks)["empty"].shape == (0,)
    untracked = match_cameras({"a": embeddings["a"]}, {"a": np.full(len(embeddings["a"]), -1)})
    assert (untracked["a"] == -1).all()


def test_normalised_rows_have_length_one_and_no_common_part():
    rows = town(("a",))[0]["a"]
    found = camera_normalised(rows)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert np.linalg.norm(found.mean(axis=0)) < 0.1 < np.linalg.norm(rows.mean(axis=0))
    assert np.isfinite(camera_normalised(rows[:1])).all()


def test_simultaneous_tracklets_of_a_camera_never_become_one_person():
    """A chain over three cameras joins two tracklets of the first; if it saw both at once, all matches are undone."""
    rows = np.eye(6, dtype=np.float32)
    a = np.stack([rows[0] + 0.6 * rows[1], rows[2] + 0.6 * rows[3], rows[4]])
    b = np.stack([rows[0] + 0.7 * rows[1], rows[5], rows[4]])
    c = np.stack([rows[1] + 0.5 * rows[0] + 0.4 * rows[2], rows[3] + rows[2], rows[4]])
    embeddings = {"a": a, "b": b, "c": c}
    tracklets = {name: np.arange(3) for name in embeddings}
    chained = np.array([0, 0, 0, 0, 1, 2])
    from reid_mtda.data.association import _without_contradictions

    cameras = np.array([0, 1, 2, 0, 1, 2])
    apart = np.array([[0, 1], [0, 9], [0, 9], [2, 3], [0, 9], [0, 9]], float)
    at_once = np.array([[0, 2], [0, 9], [0, 9], [1, 3], [0, 9], [0, 9]], float)
    unknown = np.full((6, 2), np.nan)
    for spans in (apart, unknown):
        assert _without_contradictions(chained, cameras, spans).tolist() == chained.tolist()
    undone = _without_contradictions(chained, cameras, at_once)
    assert len(set(undone.tolist())) == 6 and undone[4:].tolist() == [1, 2]
    spans = {name: np.tile([[0.0, 1.0]], (3, 1)) for name in embeddings}
    found = match_cameras(embeddings, tracklets, normalised=False, spans=spans)
    assert all(len(set(numbers.tolist())) == 3 for numbers in found.values())
    assert found["a"][2] == found["b"][2] == found["c"][2]
