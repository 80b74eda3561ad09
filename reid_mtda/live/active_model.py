"""The model that answers and its gallery, replaced together; one queue of crops in front of them for everybody."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import numpy as np

from reid_mtda.centring import CameraMeans
from reid_mtda.errors import ModelError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.batcher import Batcher, BatcherSettings
from reid_mtda.live.camera import ActiveModel
from reid_mtda.live.cameras import Start, join
from reid_mtda.live.drift import DriftMonitor
from reid_mtda.model import Model
from reid_mtda.types import FloatArray, ImageArray

_SEARCH_WAIT_S = 10.0


class ModelServer:
    """What answers now.

    Args:
        model: the model.
        gallery: bound to the same model; closed in the end.
        settings: of the queue.
        start_thread: starts the embedder's thread.
        references: folder for what drift is measured against; None: it is forgotten in the end.
        adapted: what the cameras looked like when the model was adapted to them, as in ``DriftMonitor``.
    """

    def __init__(
        self,
        model: Model,
        gallery: Gallery,
        settings: BatcherSettings,
        start_thread: Start,
        *,
        references: Path | None = None,
        adapted: Mapping[str, FloatArray] | None = None,
    ) -> None:
        self._settings, self._start_thread, self._references = settings, start_thread, references
        self._lock = threading.Lock()
        self._embedders: list[threading.Thread] = []
        self._running = False
        self.batches = self.batched_crops = 0
        self.embed_seconds = 0.0
        self.serving = self._make(model, gallery, adapted)
        # Held by whoever deletes from galleries or exchanges them: else one would be missed, or fill up again.
        self.galleries_lock = threading.RLock()
        # The former model's gallery, kept for a rollback; erasure and retention reach it.
        self.previous_gallery: Gallery | None = None

    @property
    def drift_monitor(self) -> DriftMonitor:
        """What the embeddings of the model that answers say about themselves."""
        return self.serving.drift_monitor

    def start(self) -> None:
        """Let the embedder work."""
        with self._lock:
            self._running = True
            self._start_embedder(self.serving)

    def embed_one(self, crop: ImageArray, *, key: str = "search") -> FloatArray:
        """The embedding float32 (D,) of a crop uint8 (h, w, 3), through the same queue as the cameras'.

        Raises:
            ModelError: the model is too busy or fails.
        """
        future = self.serving.batcher.submit([crop], key=key)
        if future is None:
            raise ModelError("search: too many searches wait for the model; try again in a few seconds")
        try:
            return np.asarray(future.result(_SEARCH_WAIT_S)[0], np.float32)
        except FutureTimeoutError:
            future.cancel()
            raise ModelError(f"search: the model did not answer within {_SEARCH_WAIT_S:.0f} s; try again") from None

    def recentre(self, centring: CameraMeans | None) -> None:
        """Compare with other means from now on, or with None as they are; as ``Gallery.recentre`` does."""
        serving = self.serving
        serving.gallery.recentre(centring)
        serving.drift_monitor.forget_within()

    def switch(
        self,
        model: Model,
        gallery: Gallery,
        adapted: Mapping[str, FloatArray] | None = None,
    ) -> Gallery:
        """Answer with another model and its gallery from now on; returns the old gallery, still open.

        Nothing is added to the old gallery once this returned: cameras embed anew what was under way.

        Args:
            model: the model.
            gallery: where sightings stand.
            adapted: what the cameras looked like when the model was adapted to them, embeddings (N, D) by camera.
        """
        serving = self._make(model, gallery, adapted)
        with self._lock:
            old, self.serving = self.serving, serving
            if self._running:
                self._start_embedder(serving)
        old.retire()
        return old.gallery

    def stop(self, deadline: float) -> None:
        """Embed what waits."""
        self.serving.batcher.close()
        for thread in self._embedders:
            join(thread, deadline)

    def close(self) -> None:
        """Close the galleries."""
        self.serving.gallery.close()
        if self.previous_gallery is not None:
            self.previous_gallery.close()

    def _make(self, model: Model, gallery: Gallery, adapted: Mapping[str, FloatArray] | None) -> ActiveModel:
        if gallery.model_id != model.model_id:
            raise ModelError(f"gallery {gallery.folder} holds model {gallery.model_id}, got {model.model_id}")
        file = None if self._references is None else self._references / f"references-{model.model_id}.json"
        drift_monitor = DriftMonitor(file, model.embedding_dim, adapted, gallery.as_compared)
        return ActiveModel(model, Batcher(model, self._settings, on_batch=self._count), gallery, drift_monitor)

    def _start_embedder(self, serving: ActiveModel) -> None:
        self._embedders = [thread for thread in self._embedders if thread.is_alive()]
        self._embedders.append(self._start_thread(serving.batcher.run, "embedder"))

    def _count(self, crops: int, seconds: float) -> None:
        self.batches += 1
        self.batched_crops += crops
        self.embed_seconds += seconds
