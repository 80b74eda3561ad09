"""How long people stay in zones: one visit for one stay, whatever flickers; those who pass by once are none."""

import numpy as np
import pytest
from streets import street, until

from reid_mtda.camera_settings import Camera
from reid_mtda.live.zone_times import ZoneTimes, ZoneVisit
from reid_mtda.types import Detections

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def people(**feet):
    """People by track as t1=x, standing at x of a picture 100 wide."""
    xs = np.array(list(feet.values()), np.float32)
    boxes = np.stack([xs - 5, np.full_like(xs, 20), xs + 5, np.full_like(xs, 90)], axis=1).reshape(-1, 4)
    tracks = np.array([int(name[1:]) for name in feet], np.int64)
    return Detections(boxes, np.ones(len(xs), np.float32), tracks)


def told(zones, times, **feet):
    return [visit for time_s in times for visit in zones.update(time_s, people(**feet), 100, 100)]


def test_a_stay_is_one_visit_although_it_flickers():
    zones = ZoneTimes({"left": LEFT}, lost_s=2.0)
    assert told(zones, np.arange(0, 10, 0.5), t1=20.0, t2=80.0) == []
    assert zones.counts()["left"].now == 1
    assert told(zones, [10.0, 11.0], t1=60.0) == []  # sways over the border, and comes back
    assert told(zones, [11.4, 12.0], t1=20.0) == []
    visits = told(zones, [13.0, 14.5], t2=80.0)
    assert visits == [ZoneVisit("left", 1, 0.0, 12.0)] and visits[0].dwell_s == 12.0
    count = zones.counts()["left"]
    assert (count.now, count.visits, count.total_s, count.longest_s, count.mean_s) == (0, 1, 12.0, 12.0, 12.0)


def test_who_is_seen_once_is_no_visit():
    zones = ZoneTimes({"left": LEFT})
    told(zones, [0.0], t1=20.0)
    assert zones.counts()["left"].now == 0 and told(zones, [5.0], t2=80.0) == []
    assert zones.counts()["left"].visits == 0 and zones.counts()["left"].mean_s == 0


def test_a_recording_that_begins_again_ends_all_visits():
    zones = ZoneTimes({"left": LEFT})
    told(zones, [10.0, 11.0], t1=20.0)
    assert told(zones, [0.0], t1=20.0) == [ZoneVisit("left", 1, 10.0, 11.0)]


def test_memory_is_bounded_by_who_is_there():
    zones = ZoneTimes({"left": LEFT})
    for number in range(1000):
        told(zones, [number * 3.0, number * 3.0 + 1], **{f"t{number}": 20.0})
    assert len(zones._stays) <= 2 and zones.counts()["left"].visits >= 998


@pytest.mark.timeout(60)
def test_visits_of_a_running_camera_are_events_and_counts(make):
    camera = street("gate")["gate"]
    whole = {"all": ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), "none": ((0.0, 0.0), (0.1, 0.0), (0.0, 0.1))}
    system = make({"gate": Camera(url=camera.url, zones=whole, masks=(((0.0, 0.0), (1.0, 0.0), (1.0, 0.1)),))})
    with system:
        until(lambda: any(event.kind == "zone_visit" for event in system.events.after(0)))
        event = next(event for event in system.events.after(0) if event.kind == "zone_visit")
        assert (
            event.camera == "gate"
            and event.detail["zone"] == "all"
            and event.detail["left_s"] > event.detail["entered_s"]
        )
        state = system.pool.state("gate")
        assert state.zones["all"].visits >= 1 and state.zones["none"].visits == 0
        picture = system.pool.worker("gate").picture
        assert (picture.frame.image[0, -40:-2] == 114).all()  # what the page shows is masked, too
