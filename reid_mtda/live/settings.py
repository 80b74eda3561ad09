"""The live system's settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reid_mtda.live.batcher import BatcherSettings
from reid_mtda.live.streams import StreamSettings
from reid_mtda.schema import Strict


class LiveSettings(Strict):
    """How the live system works."""

    streams: StreamSettings = Field(default_factory=StreamSettings)
    batcher: BatcherSettings = Field(default_factory=BatcherSettings)
    retention_every_s: float = Field(default=300.0, gt=0, description="Seconds between two looks for old sightings.")
    retention_from: Literal["arrival", "sighting"] = Field(
        default="arrival",
        description="From when a camera's retention_days count: when a sighting came in, which of indexed footage is "
        "later, or when the person was seen.",
    )
    min_free_pictures_mb: float = Field(
        default=500.0, ge=0, description="Below this much free disk sightings are stored without their pictures."
    )
    min_free_mb: float = Field(default=200.0, ge=0, description="Below this much free disk no sightings are stored.")
    kept_tracklets: int = Field(
        default=500, ge=1, description="Tracklets of one camera whose crops are kept to adapt to, where it is opted in."
    )
    site_every_s: float = Field(default=3.0, gt=0, description="Seconds between two looks at the site's files.")
    max_cameras: int = Field(default=128, ge=1, description="Cameras at most.")
