"""Recombined crops: whose upper and lower body they show, what keeps its colours, that the seed decides."""

import numpy as np

from reid_mtda.data.part_mix import mix_parts, recoloured


def people(count=6, height=64, width=32):
    """Plain crops, each of a grey of its own."""
    greys = np.linspace(40, 220, count).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (count, height, width, 3)).copy()


def nearest(values, greys):
    dist = np.abs(values[:, None] - greys[None, :])
    return dist.min(axis=1), dist.argmin(axis=1)


def test_upper_and_lower_body_are_of_two_of_the_given_people():
    given = people()
    made = mix_parts(given, 80, seed=0)
    assert made.shape == (80, 64, 32, 3) and made.dtype == np.uint8
    greys = given[:, 0, 0, 0].astype(int)
    far, whose = zip(*(nearest(made[:, row, 0, 0].astype(int), greys) for row in (2, -1)), strict=True)
    assert max(map(np.max, far)) <= 2, "the edge column, background, has another colour"
    assert (whose[0] != whose[1]).all(), "one person is both halves"
    assert len(set(zip(*(each.tolist() for each in whose), strict=True))) > 15


def test_the_head_and_the_background_keep_their_colours():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (64, 32, 3)).astype(np.uint8)
    turned = recoloured(picture, np.random.default_rng(3))
    assert np.abs(turned[:, 0].astype(int) - picture[:, 0]).mean() < 6
    assert np.abs(turned[:, 16].astype(int) - picture[:, 16]).mean() > 20
    given = rng.integers(0, 256, (2, 64, 32, 3)).astype(np.uint8)
    for crop in mix_parts(given, 20, seed=0):
        head = crop[:9]
        assert any(np.array_equal(head, one[:9]) or np.array_equal(head, one[:9, ::-1]) for one in given)


def test_the_seed_decides_and_nothing_is_made_of_one_person():
    given = people()
    assert np.array_equal(mix_parts(given, 5, seed=4), mix_parts(given, 5, seed=4))
    assert not np.array_equal(mix_parts(given, 5, seed=4), mix_parts(given, 5, seed=5))
    assert len(mix_parts(given[:1], 5, seed=0)) == 0 and len(mix_parts(given, 0, seed=0)) == 0
