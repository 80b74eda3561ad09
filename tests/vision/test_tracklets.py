import itertools
from pathlib import Path

import numpy as np
import pytest

from reid_mtda.errors import ConfigError
from reid_mtda.types import Detections, Frame, Tracklet
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.tracklets import TrackletBuilder, crop_quality
from reid_mtda.vision.video import read_frames

SIZE = (120, 320)
Box = tuple[float, float, float, float]


def frame(index: int, fps: float = 5.0, start: float = 1000.0, image: np.ndarray | None = None) -> Frame:
    """A noisy frame whose pixels all tell its index."""
    if image is None:
        image = np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        image[..., 0] = index % 256
    return Frame("gate", index, start + index / fps, image)


def people(*boxes: Box, score: float = 0.9) -> Detections:
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(xyxy, np.full(len(boxes), score, np.float32))


def walker(index: int, y: float = 20.0) -> Box:
    """Somebody who walks right, 6 px a frame."""
    return (10 + 6 * index, y, 40 + 6 * index, y + 70)


def run(builder: TrackletBuilder, frames: dict[int, Detections]) -> list[Tracklet]:
    ended = [tracklet for index, found in frames.items() for tracklet in builder.update(frame(index), found)]
    return ended + builder.flush()


def test_one_person_is_one_tracklet_of_its_own_pixels() -> None:
    (tracklet,) = run(TrackletBuilder("gate"), {index: people(walker(index)) for index in range(20)})
    assert (tracklet.camera, tracklet.track_id) == ("gate", 0)
    assert tracklet.start_s == pytest.approx(1000, abs=0.5) and tracklet.end_s == pytest.approx(1003.8)
    assert 4 <= len(tracklet.crops) <= 8
    for crop, box, index, time_s in zip(
        tracklet.crops, tracklet.xyxy, tracklet.frame_index, tracklet.time_s, strict=True
    ):
        np.testing.assert_allclose(box, walker(index))
        assert time_s == pytest.approx(1000 + index / 5)
        x0, y0, x1, y1 = (int(side) for side in walker(index))
        np.testing.assert_array_equal(crop, frame(int(index)).image[y0:y1, x0:x1])
        assert crop.base is None  # a copy: it does not hold the frame


def test_crops_are_spread_over_time_and_bounded() -> None:
    for length in (20, 45):
        (tracklet,) = run(
            TrackletBuilder("gate", max_crops=4), {index: people(walker(index)) for index in range(length)}
        )
        assert 2 <= len(tracklet.crops) <= 4
        assert tracklet.frame_index[0] < length / 2 < tracklet.frame_index[-1]


def test_two_people_who_pass_side_by_side_are_two() -> None:
    both = {
        index: people((10 + 6 * index, 0, 40 + 6 * index, 55), (300 - 6 * index, 60, 330 - 6 * index, 118))
        for index in range(20)
    }
    found = run(TrackletBuilder("gate"), both)
    assert sorted(tracklet.track_id for tracklet in found) == [0, 1]
    for tracklet in found:
        assert len(set(np.sign(np.diff(tracklet.xyxy[:, 0])))) == 1  # each keeps to its way


def test_active_are_the_tracked_boxes_of_the_last_frame() -> None:
    builder = TrackletBuilder("gate")
    assert len(builder.active) == 0 and builder.active.track_id is not None
    for index in range(5):
        builder.update(frame(index), people(walker(index)))
    np.testing.assert_allclose(builder.active.xyxy, [walker(4)])
    assert builder.active.track_id is not None and builder.active.track_id.tolist() == [0]
    builder.update(frame(5), people())
    assert len(builder.active) == 0


def test_a_person_gone_for_long_enough_ends() -> None:
    builder = TrackletBuilder("gate", lost_s=1.0)
    for index in range(10):
        assert builder.update(frame(index), people(walker(index))) == []
    ended = {index: builder.update(frame(index), people()) for index in range(10, 20)}
    assert [index for index, tracklets in ended.items() if tracklets] == [15]  # 1.2 s after frame 9
    assert builder.flush() == []


def test_a_short_gap_does_not_end_a_person() -> None:
    frames = {index: people(walker(index)) if index not in (8, 9) else people() for index in range(18)}
    assert [tracklet.track_id for tracklet in run(TrackletBuilder("gate", lost_s=1.0), frames)] == [0]


def test_false_alarms_are_dropped() -> None:
    flicker = {index: people(walker(index)) if index < 3 else people() for index in range(12)}
    assert run(TrackletBuilder("gate", min_hits=5), flicker) == []
    assert len(run(TrackletBuilder("gate", min_hits=1), flicker)) == 1
    assert run(TrackletBuilder("gate"), {index: people() for index in range(5)}) == []


def test_somebody_who_stays_is_handed_out_in_pieces_of_one_track() -> None:
    builder = TrackletBuilder("gate", max_age_s=4.0, max_crops=4)
    stays = {index: people((50 + index % 3, 20, 80 + index % 3, 100)) for index in range(100)}
    found = run(builder, stays)
    assert {tracklet.track_id for tracklet in found} == {0}
    assert len(found) == 5
    for before, after in itertools.pairwise(found):
        assert before.end_s < after.start_s <= before.end_s + 0.21
        assert before.end_s - before.start_s == pytest.approx(4.0, abs=0.25)
    indices = np.concatenate([tracklet.frame_index for tracklet in found])
    assert len(set(indices.tolist())) == len(indices)


def test_memory_is_bounded_by_max_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_mtda.vision.tracklets.MAX_ACTIVE", 3)
    builder = TrackletBuilder("gate", min_hits=2, lost_s=100.0)
    for number in range(12):  # one after the other appears at another place for three frames
        for step in range(3):
            x = 20.0 * number
            builder.update(frame(3 * number + step), people((x, 20, x + 18, 100)))
            assert len(builder._pieces) <= 3
    assert len(builder.flush()) == 3


def test_the_best_crops_are_kept() -> None:
    """Of each time slot the crop that is sharp and not covered by somebody else."""

    def shown(index: int) -> tuple[Frame, Detections]:
        image = frame(index).image
        if index % 2:  # every other frame is out of focus
            image = np.full_like(image, 128)
        return Frame("gate", index, 1000 + index / 5, image), people(walker(index))

    builder = TrackletBuilder("gate", max_crops=4)
    for index in range(30):
        builder.update(*shown(index))
    (tracklet,) = builder.flush()
    assert len(tracklet.crops) >= 2
    assert all(index % 2 == 0 for index in tracklet.frame_index)


def test_quality_prefers_sharp_large_lone_and_whole() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (96, 48, 3), dtype=np.uint8)
    box, nobody = np.array([100, 10, 148, 106], np.float32), np.zeros((0, 4), np.float32)
    size = (120, 320)
    good = crop_quality(sharp, box, nobody, size)
    blurred = np.full_like(sharp, 100) + sharp // 16
    assert good > crop_quality(blurred, box, nobody, size) > 0
    assert good > crop_quality(sharp[:48, :24], box / 2, nobody, size)
    assert good > crop_quality(sharp, box, np.array([[120, 10, 170, 106]], np.float32), size)
    assert good == crop_quality(sharp, box, np.array([[200, 10, 230, 106]], np.float32), size)
    assert good > crop_quality(sharp, np.array([0, 10, 48, 106], np.float32), nobody, size)
    assert good > crop_quality(sharp, np.array([60, 10, 160, 106], np.float32), nobody, size)  # two abreast
    assert crop_quality(sharp, box, box[None], size) == 0


def test_boxes_beyond_the_frame_are_cut_to_it() -> None:
    frames = {index: people((-20 + index, -5, 30 + index, 200)) for index in range(6)}
    (tracklet,) = run(TrackletBuilder("gate"), frames)
    assert all(crop.shape[0] == SIZE[0] and 1 <= crop.shape[1] <= 36 for crop in tracklet.crops)


def test_a_clock_that_steps_back_ends_all_and_goes_on() -> None:
    builder = TrackletBuilder("gate")
    for index in range(6):
        builder.update(frame(index), people(walker(index)))
    (ended,) = builder.update(frame(6, start=0.0), people(walker(6)))
    assert ended.track_id == 0 and ended.end_s == pytest.approx(1001.0)
    for index in range(7, 12):
        assert builder.update(frame(index, start=0.0), people(walker(index))) == []
    (later,) = builder.flush()
    assert later.track_id == 1 and later.start_s < 100


def test_jitter_and_equal_times_are_borne() -> None:
    builder = TrackletBuilder("gate")
    for index, time_s in enumerate([0.0, 0.2, 0.2, 0.15, 0.4, 0.6, 0.8]):
        builder.update(Frame("gate", index, time_s, frame(index).image), people(walker(index)))
    (tracklet,) = builder.flush()
    assert np.all(np.diff(tracklet.time_s) > 0)


def test_a_long_gap_starts_anew() -> None:
    builder = TrackletBuilder("gate")
    for index in range(6):
        builder.update(frame(index), people(walker(index)))
    (ended,) = builder.update(frame(6, start=5000.0), people(walker(6)))
    assert ended.end_s == pytest.approx(1001.0)


def test_builders_are_independent_and_numbers_go_on_from_where_told() -> None:
    first, second = TrackletBuilder("a"), TrackletBuilder("b", first_track_id=100)
    for index in range(8):
        first.update(frame(index), people(walker(index)))
        second.update(frame(index), people(walker(index), (250 - 6 * index, 20, 280 - 6 * index, 90)))
    assert [tracklet.track_id for tracklet in first.flush()] == [0]
    assert sorted(tracklet.track_id for tracklet in second.flush()) == [100, 101]
    for index in range(8):
        second.update(frame(index), people(walker(index)))
    assert [tracklet.track_id for tracklet in second.flush()] == [102]


@pytest.mark.parametrize("fps", [2.0, 5.0, 25.0])
def test_a_walker_is_followed_at_every_rate(fps: float) -> None:
    builder = TrackletBuilder("gate", fps=fps)
    for number in range(round(6 * fps)):
        x = 10 + 20 * number / fps  # 20 px/s
        builder.update(frame(number, fps), people((x, 20, x + 30, 90)))
    (tracklet,) = builder.flush()
    assert tracklet.end_s - tracklet.start_s > 4.0


@pytest.mark.parametrize("fps", [0.01, 0.05, 0.5])
def test_somebody_who_stays_is_seen_however_rare_the_frames(fps: float) -> None:
    builder = TrackletBuilder("gate", fps=fps)
    ended = [one for index in range(8) for one in builder.update(frame(index, fps), people((50, 20, 80, 100)))]
    found = [*ended, *builder.flush()]
    assert {tracklet.track_id for tracklet in found} == {0} and found[0].start_s < 1000 + 3 / fps
    builder = TrackletBuilder("gate", fps=fps)
    for index in range(4):
        builder.update(frame(index, fps), people((50, 20, 80, 100)))
    assert len([one for index in range(4, 9) for one in builder.update(frame(index, fps), people())]) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_crops": 0}, "tracklets of camera 'gate': max_crops must be >= 1, got 0"),
        ({"fps": 0.0}, "fps must be > 0, got 0"),
        ({"lost_s": float("nan")}, "lost_s must be > 0, got nan"),
    ],
)
def test_settings_out_of_range_are_named(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrackletBuilder("gate", **setting)  # type: ignore[arg-type]


@pytest.mark.data
def test_tracklets_of_a_real_street_hold_one_person_each(development_data: Path) -> None:
    folder = development_data / "video" / "pets_s2l1"
    rows = np.loadtxt(folder / "gt_mot_768x576.txt", delimiter=",")
    find = load_detector(str(development_data / "weights" / "yolox_nano.onnx"), min_score=0.3, min_height_px=24)
    builder = TrackletBuilder("pets", fps=5.0)
    found: list[Tracklet] = []
    for picture in read_frames(str(folder / "vtest_480x360_795f_10fps.mp4"), camera="pets", fps=5.0, start_time_s=0):
        if picture.index >= 300:
            break
        found += builder.update(picture, find(picture.image))
    found += builder.flush()
    crops = same = 0
    for tracklet in found:
        names = []
        for box, index in zip(tracklet.xyxy, tracklet.frame_index, strict=True):
            truth = rows[rows[:, 0] == index + 1]
            xywh = truth[:, 2:6] * 0.625  # 768x576 to 480x360
            sides = np.minimum(box[2:], xywh[:, :2] + xywh[:, 2:]) - np.maximum(box[:2], xywh[:, :2])
            both = np.prod(np.clip(sides, 0, None), axis=1)
            iou = both / (np.prod(box[2:] - box[:2]) + np.prod(xywh[:, 2:], axis=1) - both)
            names.append(int(truth[iou.argmax(), 1]) if iou.max() >= 0.3 else -1)
        people_seen = [name for name in names if name >= 0]
        crops += len(names)
        same += max((people_seen.count(name) for name in set(people_seen)), default=0)
    assert len(found) >= 8 and crops >= 40
    assert same / crops > 0.88
