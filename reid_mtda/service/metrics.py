"""What Prometheus reads: taken from the system's own counts at the moment of asking, so nothing is counted twice."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reid_mtda.live.disk_guard import StorageLevel, free_disk_mb
from reid_mtda.live.state import CameraState
from reid_mtda.live.streams import StreamState
from reid_mtda.live.system import LiveSystem
from reid_mtda.service.calibration import Calibration
from reid_mtda.service.notify.outbox import SinkCounts

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_Table = dict[str, tuple[str, Callable[[CameraState], float]]]


class Metrics:
    """A registry of its own per service."""

    def __init__(self, system: LiveSystem, calibration: Calibration) -> None:
        self.registry = CollectorRegistry()
        self._search = Histogram(
            "reid_search_seconds", "Time of one gallery search.", buckets=_BUCKETS, registry=self.registry
        )
        self._requests = CounterRequests()
        self.registry.register(_Live(system, calibration))
        self.registry.register(self._requests)

    def follow_outbox(self, counts: Callable[[], Mapping[str, SinkCounts]]) -> None:
        """Tell of the events that wait for others."""
        self.registry.register(_Outbox(counts))

    def searched(self, seconds: float) -> None:
        """A search took so long."""
        self._search.observe(seconds)

    def answered(self, status: int) -> None:
        """A request was answered."""
        self._requests.add(status)

    def text(self) -> bytes:
        """All metrics in Prometheus' text form."""
        return generate_latest(self.registry)


class CounterRequests(Collector):
    """Requests by class of status."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, status: int) -> None:
        """Count one."""
        kind = f"{status // 100}xx"
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """The family."""
        family = CounterMetricFamily("reid_http_requests", "Requests answered.", labels=["status"])
        for kind, count in sorted(self._counts.items()):
            family.add_metric([kind], count)
        yield family


class _Outbox(Collector):
    def __init__(self, counts: Callable[[], Mapping[str, SinkCounts]]) -> None:
        self._counts = counts

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("reid_events_waiting", "Events that wait to be told.", labels=["sink"])
        dropped = CounterMetricFamily("reid_events_dropped", "Events dropped before they were told.", labels=["sink"])
        refused = CounterMetricFamily("reid_events_refused", "Events that the receiver refused.", labels=["sink"])
        for sink, counts in self._counts().items():
            waiting.add_metric([sink], counts.waiting)
            dropped.add_metric([sink], counts.dropped)
            refused.add_metric([sink], counts.refused)
        yield from (waiting, dropped, refused)


class _Live(Collector):
    def __init__(self, system: LiveSystem, calibration: Calibration) -> None:
        self._system, self._calibration = system, calibration
        self._recall = SampledRecall(system)

    def describe(self) -> list[Metric]:
        return []  # asked at registration, when nothing is known yet

    def collect(self) -> Iterator[Metric]:
        yield from self._cameras()
        yield from self._model()
        yield from self._process()

    def _cameras(self) -> Iterator[Metric]:
        states = self._system.pool.states()
        counters: _Table = {
            "frames": ("Frames analysed.", lambda s: s.counts.frames),
            "frames_dropped": ("Frames replaced by a newer one before analysis.", lambda s: s.stream.dropped),
            "stream_stalls": ("Streams given up for want of frames.", lambda s: s.stream.stalls),
            "stream_restarts": ("Streams opened again.", lambda s: s.stream.restarts),
            "detections": ("People detected, once per frame.", lambda s: s.counts.detections),
            "detections_too_low": ("People lower than min_height_px, left out.", lambda s: s.counts.too_low),
            "tracklets": ("Tracklets ended.", lambda s: s.counts.tracklets),
            "sightings": ("Sightings added to the gallery.", lambda s: s.counts.sightings),
            "tracklets_refused": ("Tracklets lost for want of room or disk.", lambda s: s.counts.refused),
            "sightings_without_picture": ("Sightings stored without a picture.", lambda s: s.counts.without_picture),
            "faults": ("Frames or sightings that failed.", lambda s: s.counts.failed),
            "detect_seconds": ("Seconds of detection.", lambda s: s.counts.seconds["detect"]),
            "track_seconds": ("Seconds of tracking.", lambda s: s.counts.seconds["track"]),
            "add_seconds": ("Seconds of writing sightings.", lambda s: s.counts.seconds["add"]),
        }
        for name, (text, value) in counters.items():
            counter = CounterMetricFamily(f"reid_{name}", text, labels=["camera"])
            for camera, state in states.items():
                counter.add_metric([camera], value(state))
            yield counter
        gauges: _Table = {
            "camera_fps": ("Frames read a second.", lambda s: s.stream.fps),
            "camera_healthy": ("1 when frames flow and are worked on.", lambda s: float(s.is_healthy)),
            "camera_pending": ("Tracklets waiting for their embedding.", lambda s: s.pending),
            "camera_hung_readers": ("Readers that hang in a driver.", lambda s: s.hung_readers),
            "camera_last_frame_timestamp_seconds": ("When the last frame came.", lambda s: s.stream.last_frame_s or 0),
            "camera_silent_seconds": ("Since a frame came, while frames are wanted.", lambda s: s.stream.silent_s),
            "searchable_delay_seconds": (
                "Median of the last waits from a person's last frame to their sighting being searchable.",
                lambda s: float(np.median(s.counts.delays_s)) if s.counts.delays_s else float("nan"),
            ),
        }
        for name, (text, value) in gauges.items():
            gauge = GaugeMetricFamily(f"reid_{name}", text, labels=["camera"])
            for camera, state in states.items():
                gauge.add_metric([camera], value(state))
            yield gauge
        family = GaugeMetricFamily("reid_camera_state", "1 for the state a camera is in.", labels=["camera", "state"])
        for camera, state in states.items():
            for one in StreamState:
                family.add_metric([camera, one.value], float(state.stream.state is one))
        yield family
        yield from self._zones()

    def _zones(self) -> Iterator[Metric]:
        labels = ["camera", "zone"]
        here = GaugeMetricFamily("reid_zone_people", "People who stand in the zone now.", labels=labels)
        visits = CounterMetricFamily("reid_zone_visits", "Visits to the zone that are over.", labels=labels)
        seconds = CounterMetricFamily("reid_zone_dwell_seconds", "Seconds of those visits.", labels=labels)
        for camera, state in self._system.pool.states().items():
            for zone, count in state.zones.items():
                here.add_metric([camera, zone], count.now)
                visits.add_metric([camera, zone], count.visits)
                seconds.add_metric([camera, zone], count.total_s)
        yield from (here, visits, seconds)

    def _model(self) -> Iterator[Metric]:
        system = self._system
        model_server = system.model_server
        yield CounterMetricFamily("reid_embedding_batches", "Batches embedded.", value=model_server.batches)
        yield CounterMetricFamily("reid_embedded_crops", "Crops embedded.", value=model_server.batched_crops)
        yield CounterMetricFamily("reid_embedding_seconds", "Seconds of embedding.", value=model_server.embed_seconds)
        waiting = model_server.serving.batcher.depth
        yield GaugeMetricFamily("reid_crops_waiting", "Crops in front of the model.", value=waiting)
        if (recall := self._recall.now()) is not None:
            yield GaugeMetricFamily("reid_index_recall", "Sampled recall@10 against exact search.", value=recall)
        kept = GaugeMetricFamily("reid_kept_crops", "Crops kept to adapt to.", labels=["camera"])
        for camera, count in (system.kept.count() if system.kept else {}).items():
            kept.add_metric([camera], count)
        yield kept
        yield GaugeMetricFamily("reid_gallery_size", "Sightings in the gallery.", value=len(system.gallery))
        info = GaugeMetricFamily("reid_model_info", "1 for the model that answers.", labels=["model_id", "arch"])
        info.add_metric([system.model.manifest.model_id, system.model.manifest.arch], 1)
        yield info
        drift = GaugeMetricFamily(
            "reid_embedding_drift",
            "1 - cosine of the last 200 embeddings' mean to that at adaptation, else to the first 200's by model.",
            labels=["camera"],
        )
        for camera, value in system.model_server.drift_monitor.drift().items():
            drift.add_metric([camera], value)
        yield drift
        within = GaugeMetricFamily(
            "reid_tracklet_consistency", "Median cosine between the halves of one tracklet.", labels=["camera"]
        )
        for camera, scores in system.model_server.drift_monitor.within().items():
            if scores:
                within.add_metric([camera], float(np.median(scores)))
        yield within
        thresholds = GaugeMetricFamily("reid_match_threshold", "Calibrated threshold.", labels=["left", "right"])
        for (left, right), pair in self._calibration.current().pairs.items():
            thresholds.add_metric([left or "any", right or "any"], pair.threshold)
        yield thresholds

    def _process(self) -> Iterator[Metric]:
        system = self._system
        yield GaugeMetricFamily("reid_memory_bytes", "Resident memory of the process.", value=resident_bytes())
        alerts = GaugeMetricFamily("reid_alert", "1 while something is wrong with the subject.", labels=["subject"])
        for subject in system.alerts.all():
            alerts.add_metric([subject], 1)
        yield alerts
        yield GaugeMetricFamily("reid_uptime_seconds", "Since the start.", value=time.time() - system.started_s)
        free = free_disk_mb(system.gallery.folder) * 1e6
        yield GaugeMetricFamily("reid_disk_free_bytes", "Free disk where the gallery lies.", value=free)
        level = system.disk.level
        yield GaugeMetricFamily(
            "reid_disk_low", "1 while pictures are not stored.", value=float(level is not StorageLevel.PICTURES)
        )
        yield GaugeMetricFamily(
            "reid_disk_full", "1 while sightings are not stored either.", value=float(level is StorageLevel.NOTHING)
        )


class SampledRecall:
    """How many of the ten nearest the index finds, measured on a few sightings every ten minutes at most.

    Exact search here is over a sample of the gallery, so that a large one costs no more than a small one: of the
    sample's rows that belong to the true answer above the index's last score, how many did the index give?
    """

    def __init__(self, system: LiveSystem, *, every_s: float = 600.0, queries: int = 5, sample: int = 5000) -> None:
        self._system, self._every_s, self._queries, self._sample = system, every_s, queries, sample
        self._due, self._value = 0.0, None  # type: tuple[float, float | None]

    def now(self) -> float | None:
        """The share found, None while the gallery is too small to say."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every_s
            self._value = self._measure()
        return self._value

    def _measure(self) -> float | None:
        gallery = self._system.gallery
        numbers = gallery.numbers()
        if len(numbers) < 50:
            self._due = 0.0
            return None
        rng = np.random.default_rng(len(numbers))
        chosen = rng.choice(numbers, min(self._sample, len(numbers)), replace=False).tolist()
        vectors = gallery.vectors(chosen, as_compared=True)
        matrix, ids = np.stack(list(vectors.values())), np.array(list(vectors))
        found = wanted = 0
        asked = ids[: self._queries].tolist()
        given_as, taken_by = gallery.vectors(asked), gallery.lookup(asked)
        for number in asked:
            if number not in given_as or number not in taken_by:  # deleted meanwhile
                continue
            answer = gallery.search(given_as[number], 10, camera=taken_by[number].camera)
            given = {hit.sighting_id for hit in answer.hits}
            near = matrix @ vectors[number] >= answer.hits[-1].score + 1e-6
            wanted += int(near.sum())
            found += sum(int(number) in given for number in ids[near])
        return found / wanted if wanted else None


def resident_bytes() -> int:
    """Memory of this process in RAM."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
