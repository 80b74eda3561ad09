"""Masks hide what is under them from everything behind, zones know who stands in them."""

import numpy as np
import pytest

from reid_mtda.camera_settings import Camera
from reid_mtda.site import Site
from reid_mtda.types import Frame
from reid_mtda.vision.masks import covered, mask_frames, masked_source, stands_in
from reid_mtda.vision.video import read_frames
from reid_mtda.workflow.footage import harvest_site

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
CORNER = ((0.75, 0.75), (1.0, 0.75), (1.0, 1.0), (0.75, 1.0))


def test_a_mask_is_painted_over_and_the_rest_is_as_it_was():
    image = np.random.default_rng(0).integers(0, 100, (40, 80, 3), dtype=np.uint8)
    frame, before = Frame("gate", 7, 1.5, image), image.copy()
    painted = mask_frames([LEFT, CORNER])(frame)
    hidden = covered([LEFT, CORNER], 40, 80)
    assert (painted.image[hidden] == 114).all() and (painted.image[~hidden] == before[~hidden]).all()
    assert 0.5 < hidden.mean() < 0.62 and (painted.camera, painted.index, painted.time_s) == ("gate", 7, 1.5)
    assert (image == before).all()  # others hold the frame, too
    assert mask_frames([])(frame) is frame


def test_another_resolution_is_masked_as_well():
    paint = mask_frames([LEFT])
    for height, width in ((40, 80), (90, 160), (40, 80)):
        image = np.zeros((height, width, 3), np.uint8)
        assert (paint(Frame("gate", 0, 0.0, image)).image[:, : width // 2] == 114).all()


def test_who_stands_in_a_zone_has_the_feet_there():
    boxes = np.array([[0, 0, 10, 100], [40, 0, 60, 99], [60, 0, 90, 100], [10, -50, 20, 130]], np.float32)
    assert stands_in(LEFT, boxes, 100, 100).tolist() == [True, True, False, True]
    assert stands_in(LEFT, np.zeros((0, 4), np.float32), 100, 100).tolist() == []


def test_harvested_footage_shows_nothing_of_what_is_masked(tmp_path):
    url = "synthetic://street?camera=gate&seed=7&duration=20"
    whole = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    site = Site("shop", tmp_path, {"seen": Camera(url=url), "half": Camera(url=url, masks=(LEFT,))})
    frames = masked_source(read_frames(url, camera="half", fps=5), (LEFT,))
    assert frames.expected == 100 and (next(frames).image[:, :300] == 114).all()
    frames.close()
    reports, failures = harvest_site(site, tmp_path / "crops")
    assert not failures and 0 < reports["half"].crops < reports["seen"].crops
    hidden = Site("shop", tmp_path, {"none": Camera(url=url, masks=(whole,))})
    assert harvest_site(hidden, tmp_path / "crops")[0]["none"].detections == 0


@pytest.mark.parametrize("masks", [(), (LEFT,)])
def test_other_masks_are_another_harvest(tmp_path, masks):
    url = "synthetic://street?camera=gate&seed=7&duration=3"
    site = Site("shop", tmp_path, {"gate": Camera(url=url, masks=(CORNER,))})
    harvest_site(site, tmp_path / "crops")
    _, failures = harvest_site(Site("shop", tmp_path, {"gate": Camera(url=url, masks=masks)}), tmp_path / "crops")
    assert "was harvested with other settings (camera.masks" in failures["gate"]
