"""One queue of crops in front of the model for all cameras: batching across cameras is where CPU speed comes from."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from pydantic import Field

from reid_mtda.errors import ModelError, ReidError
from reid_mtda.model import Model
from reid_mtda.schema import Strict
from reid_mtda.types import FloatArray, ImageArray


class BatcherSettings(Strict):
    """How crops wait for each other."""

    max_batch: int = Field(default=32, ge=1, le=1024, description="Crops embedded at once.")
    max_wait_s: float = Field(default=0.03, ge=0, le=1, description="Seconds the first crop waits for company.")
    max_waiting: int = Field(default=64, ge=1, description="Crops of one camera that may wait; more are refused.")


@dataclass(frozen=True)
class _Request:
    key: str
    crops: tuple[ImageArray, ...]
    future: Future[FloatArray]
    asked_s: float


class Batcher:
    """Collects crops of all askers and embeds them together; fair by turns, so that no camera starves another.

    ``submit`` may be called from any thread; ``run`` is the body of one thread, which ``live.system`` starts.

    Args:
        model: embeds them.
        settings: sizes and waits.
        on_batch: told (crops in the batch, seconds of embedding) after each.
    """

    def __init__(
        self,
        model: Model,
        settings: BatcherSettings | None = None,
        *,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        self._model = model
        self._settings = settings or BatcherSettings()
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._queues: dict[str, deque[_Request]] = {}
        self._waiting: dict[str, int] = {}
        self._closed = False

    def submit(self, crops: Sequence[ImageArray], *, key: str) -> Future[FloatArray] | None:
        """Ask for the embeddings float32 (B, D) of B >= 1 crops; None when ``key`` has too many waiting.

        Args:
            crops: uint8 (h, w, 3) RGB each.
            key: whose they are: a camera's name, or a searcher's.
        """
        request = _Request(key, tuple(crops), Future(), time.monotonic())
        with self._changed:
            if self._closed:
                raise ModelError("embedding: the service is stopping; ask again later")
            there = self._waiting.get(key, 0)
            # A large request passes when nothing else of its asker waits: else it could never pass.
            if there and there + len(request.crops) > self._settings.max_waiting:
                return None
            self._queues.setdefault(key, deque()).append(request)
            self._waiting[key] = there + len(request.crops)
            self._changed.notify()
        return request.future

    @property
    def depth(self) -> int:
        """Crops waiting."""
        with self._changed:
            return sum(self._waiting.values())

    def close(self) -> None:
        """Take no more; ``run`` embeds what waits and returns."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def run(self) -> None:
        """Embed batch after batch until closed and empty."""
        while batch := self._next_batch():
            self._work(batch)

    def _next_batch(self) -> list[_Request]:
        """The next requests, one of each asker in turn; [] when closed and empty."""
        limit = self._settings.max_batch
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(self._queues.values()))
            if not any(self._queues.values()):
                return []
            oldest = min(queue[0].asked_s for queue in self._queues.values() if queue)
            patience = oldest + self._settings.max_wait_s - time.monotonic()
            if patience > 0:
                self._changed.wait_for(lambda: self._closed or sum(self._waiting.values()) >= limit, patience)
            batch: list[_Request] = []
            size = 0
            while size < limit and any(self._queues.values()):
                for key in list(self._queues):
                    request = self._queues[key].popleft()
                    self._waiting[key] -= len(request.crops)
                    if not self._queues[key]:
                        del self._queues[key], self._waiting[key]
                    else:  # whoever was served goes to the end of the line
                        self._queues[key] = self._queues.pop(key)
                    batch.append(request)
                    size += len(request.crops)
                    if size >= limit:
                        break
            return batch

    def _work(self, batch: list[_Request]) -> None:
        batch = [request for request in batch if request.future.set_running_or_notify_cancel()]
        crops = [crop for request in batch for crop in request.crops]
        if not crops:
            return
        began = time.perf_counter()
        try:
            rows = self._model.embed(crops)
        except Exception as error:
            kept = error if isinstance(error, ReidError) else ModelError(f"embedding failed ({type(error).__name__})")
            for request in batch:
                request.future.set_exception(kept)
            return
        if self._on_batch is not None:
            self._on_batch(len(crops), time.perf_counter() - began)
        start = 0
        for request in batch:
            request.future.set_result(rows[start : start + len(request.crops)])
            start += len(request.crops)
