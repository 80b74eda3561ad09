import numpy as np
import pytest

from reid_mtda.centring import SHRINKAGE, camera_means, centre
from reid_mtda.errors import DataError, ShapeError
from reid_mtda.evaluation.average_precision import rank_scores


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def site(people, crops=8, bias=2.0, seed=0):
    """Two cameras with a bias each; both saw the same people: embeddings (N, 16), identities, cameras."""
    rng = np.random.default_rng(seed)
    person, camera = rng.standard_normal((people, 16)), bias * rng.standard_normal((2, 16))
    pids, cams = (np.repeat(np.arange(people), 2 * crops), np.tile(np.repeat([0, 1], crops), people))
    return unit(person[pids] + camera[cams] + 0.3 * rng.standard_normal((len(pids), 16))), pids, cams


def names(cams):
    return [f"camera {cam}" for cam in cams]


def means_of(rows, cams, people):
    by_camera = {f"camera {cam}": rows[cams == cam] for cam in np.unique(cams)}
    return camera_means(by_camera, dict.fromkeys(by_camera, people))


def scores(rows, pids, cams):
    return rank_scores((rows, pids, cams), (rows, pids, cams)).mAP


def test_centring_finds_people_across_cameras():
    """The means come from other people than those searched for."""
    rows, pids, cams = site(120)
    seen, tested = pids < 60, pids >= 60
    means = means_of(rows[seen], cams[seen], 60)
    centred = centre(rows[tested], names(cams[tested]), means)
    assert scores(centred, pids[tested], cams[tested]) > scores(rows[tested], pids[tested], cams[tested]) + 0.1
    np.testing.assert_allclose(np.linalg.norm(centred, axis=1), 1, atol=1e-6)


def test_means_of_few_people_do_not_harm():
    """Two cameras that saw two people each, others in each: unshrunk, the means would take those people away."""
    rows, pids, cams = site(120, bias=0.3)
    first = (pids < 2) & (cams == 0) | (pids >= 2) & (pids < 4) & (cams == 1)
    tested = pids >= 4
    shrunk, whole = (means_of(rows[first], cams[first], people) for people in (2, 10**9))
    plain, careful, rash = (
        scores(each, pids[tested], cams[tested])
        for each in (rows[tested], *(centre(rows[tested], names(cams[tested]), means) for means in (shrunk, whole)))
    )
    assert careful > plain - 0.01 > rash + 0.05


def test_weights_are_those_of_the_formula():
    rows = {"a": np.full((3, 2), 1, np.float32), "b": np.full((5, 2), 4, np.float32), "c": np.zeros((0, 2), np.float32)}
    means = camera_means(rows, {"a": 10, "b": 20})
    common = (10 * 1 + 20 * 4) / 30
    np.testing.assert_allclose(means.common, common)
    np.testing.assert_allclose(means.by_camera["a"], common + 10 / (10 + SHRINKAGE) * (1 - common))
    np.testing.assert_allclose(means.by_camera["b"], common + 20 / (20 + SHRINKAGE) * (4 - common))
    assert set(means.by_camera) == {"a", "b"}


def test_a_picture_from_elsewhere_gets_the_common_mean():
    rows, _, cams = site(30)
    means = means_of(rows, cams, 30)
    expected = unit(rows[:3] - means.common)
    np.testing.assert_allclose(centre(rows[:3], [None, "another", None], means), expected, atol=1e-6)


def test_a_picture_without_an_embedding_keeps_none():
    rows, _, cams = site(30)
    means = means_of(rows, cams, 30)
    assert not centre(np.zeros((2, 16), np.float32), ["camera 0", None], means).any()
    assert not centre(means.by_camera["camera 1"][None], ["camera 1"], means).any()
    assert centre(np.zeros((0, 16), np.float32), [], means).shape == (0, 16)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: camera_means({}, {}), DataError, "no crops"),
        (lambda: camera_means({"a": np.ones((2, 3), np.float32)}, {}), DataError, "got None people for the 2 crops"),
        (
            lambda: camera_means(
                {"a": np.ones((2, 3), np.float32), "b": np.ones((2, 4), np.float32)}, {"a": 1, "b": 1}
            ),
            ShapeError,
            "a: 3, b: 4",
        ),
        (
            lambda: centre(
                np.ones((2, 3), np.float32), ["a"], camera_means({"a": np.ones((2, 3), np.float32)}, {"a": 1})
            ),
            ShapeError,
            "got 1 cameras for 2 rows",
        ),
        (
            lambda: centre(
                np.ones((2, 4), np.float32), ["a", "a"], camera_means({"a": np.ones((2, 3), np.float32)}, {"a": 1})
            ),
            ShapeError,
            "expected float32 (any, 3)",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
