"""What the API takes and gives, as types: they are its documentation, too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field

from reid_mtda.camera_settings import Camera, Travel
from reid_mtda.gallery.filter import Filter
from reid_mtda.gallery.search import iso_utc
from reid_mtda.live.state import CameraState
from reid_mtda.live.streams import StreamState
from reid_mtda.service.review import Review
from reid_mtda.service.searches import Asked, Judged, Search
from reid_mtda.types import Sighting


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected printable characters alone")
    return text


Printable = Annotated[str, AfterValidator(_printable)]
"""Words that people read again in the audit: no line breaks, no control characters."""

Name = Annotated[Printable, Field(min_length=1, max_length=64)]
Id = Annotated[int, Field(ge=1, lt=2**62)]


class Body(BaseModel):
    """What a request brings; a key that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class ErrorOut(BaseModel):
    """Every refusal."""

    class Detail(BaseModel):
        """``kind`` is for programs, ``message`` for people."""

        kind: str
        message: str

    error: Detail


class SightingOut(BaseModel):
    """One person before one camera for one stretch of time; times in POSIX seconds and ISO 8601 UTC."""

    sighting_id: int
    camera: str
    track_id: int
    start_s: float
    end_s: float
    start: str
    end: str
    thumbnail_url: str

    @classmethod
    def of(cls, number: int, sighting: Sighting) -> SightingOut:
        """The API's form of a sighting."""
        return cls(
            sighting_id=number,
            camera=sighting.camera,
            track_id=sighting.track_id,
            start_s=sighting.start_s,
            end_s=sighting.end_s,
            start=iso_utc(sighting.start_s),
            end=iso_utc(sighting.end_s),
            thumbnail_url=f"/api/v1/sightings/{number}/thumbnail",
        )


class SightingsOut(BaseModel):
    """A page of sightings, newest first; ``next`` is the next page's ``before``, None at the end."""

    sightings: list[SightingOut]
    next: int | None


class HitOut(SightingOut):
    """One answer; ``is_match`` says that ``score`` reaches the calibrated ``threshold``."""

    rank: int
    score: float
    threshold: float
    is_match: bool

    @classmethod
    def judged(cls, rank: int, judged: Judged) -> HitOut:
        """The API's form of a hit."""
        base = SightingOut.of(judged.hit.sighting_id, judged.hit.sighting)
        return cls(
            **base.model_dump(),
            rank=rank,
            score=round(judged.hit.score, 6),
            threshold=round(judged.threshold, 6),
            is_match=judged.is_match,
        )


class LeftOutOut(BaseModel):
    """Sightings at least as alike as the hits that were left out by the site's travel times, and why in words."""

    too_soon: int
    too_late: int
    message: str


class SearchOut(BaseModel):
    """An answer. ``matches`` 0 means *no match*: nothing reaches its threshold; the hits are shown all the same.

    ``path`` numbers the matches that one person can have made, in order of time. ``unknown_cameras`` were asked for
    and are none that you see: nothing of them is among the hits. ``remark`` says what is to be known of the picture.
    ``is_centred``: each camera's mean was subtracted before comparing, from the picture that of ``taken_by``, or
    of all cameras where that is null. ``is_reranked``: the order is by common neighbours, scores are as they were.
    """

    search_id: str
    model_id: str
    gallery_size: int
    is_calibrated: bool
    matches: int
    milliseconds: float
    hits: list[HitOut]
    path: list[int]
    left_out: LeftOutOut
    unknown_cameras: list[str]
    remark: str
    is_centred: bool
    taken_by: str | None
    is_reranked: bool

    @classmethod
    def of(cls, search: Search) -> SearchOut:
        """The API's form of a search."""
        return cls(
            search_id=search.id,
            model_id=search.query.model_id,
            gallery_size=search.gallery_size,
            is_calibrated=search.is_calibrated,
            matches=len(search.matches),
            milliseconds=round(search.milliseconds, 3),
            hits=[HitOut.judged(rank, judged) for rank, judged in enumerate(search.hits, start=1)],
            path=[judged.hit.sighting_id for judged in search.path],
            left_out=LeftOutOut(
                too_soon=search.left_out.too_soon, too_late=search.left_out.too_late, message=str(search.left_out)
            ),
            unknown_cameras=list(search.unknown_cameras),
            remark=search.query.remark,
            is_centred=search.is_centred,
            taken_by=search.query.taken_by,
            is_reranked=search.asked.rerank,
        )


class SearchIn(Body):
    """A search by a sighting, or by a person picked from a live picture."""

    sighting_id: Id | None = None
    pick_id: Name | None = None
    purpose: str = Field(max_length=200)
    case_reference: str = Field(max_length=64)
    k: int = Field(default=20, ge=1, le=200)
    cameras: list[Name] | None = Field(default=None, max_length=1000)
    start_s: float | None = None
    end_s: float | None = None
    min_score: float | None = Field(default=None, ge=-1, le=1)
    keep_unreachable: bool = False
    rerank: bool = False

    @property
    def asked(self) -> Asked:
        """How many, and where to look."""
        where = Filter(self.cameras, self.start_s, self.end_s, self.min_score)
        return Asked(self.k, where, self.keep_unreachable, self.rerank)


class PickIn(Body):
    """Who is meant in the newest picture of a camera."""

    track_id: int = Field(ge=0, lt=2**62)


class PickOut(BaseModel):
    """A person cut out, held for ten minutes."""

    pick_id: str
    camera: str


def _from(*path: str) -> Any:
    """A field that is read from an attribute of an attribute."""
    return Field(validation_alias=AliasPath(path[0], *path[1:]))


class ZoneOut(BaseModel):
    """A zone since the start: people in it now, visits that are over, and the seconds of one."""

    model_config = ConfigDict(from_attributes=True)

    now: int
    visits: int
    mean_s: Annotated[float, AfterValidator(lambda seconds: round(seconds, 1))]
    longest_s: Annotated[float, AfterValidator(lambda seconds: round(seconds, 1))]


class CameraOut(BaseModel):
    """A camera and how it is."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    url: str
    state: StreamState = _from("stream", "state")
    message: str
    is_healthy: bool
    since: Annotated[str, BeforeValidator(iso_utc)] = _from("stream", "since_s")
    fps: Annotated[float, AfterValidator(lambda fps: round(fps, 2))] = _from("stream", "fps")
    target_fps: float = _from("settings", "fps")
    frames: int = _from("counts", "frames")
    dropped: int = _from("stream", "dropped")
    stalls: int = _from("stream", "stalls")
    restarts: int = _from("stream", "restarts")
    detections: int = _from("counts", "detections")
    too_low: int = _from("counts", "too_low")
    tracklets: int = _from("counts", "tracklets")
    sightings: int = _from("counts", "sightings")
    refused: int = _from("counts", "refused")
    retention_days: float = _from("settings", "retention_days")
    keep_for_adaptation: bool = _from("settings", "keep_for_adaptation")
    found_by: str
    zones: dict[str, ZoneOut]
    height_px: int = _from("stream", "height_px")
    width_px: int = _from("stream", "width_px")

    @classmethod
    def of(cls, state: CameraState) -> CameraOut:
        """The API's form of a camera."""
        return cls.model_validate(state)


class CameraIn(Camera):
    """A camera to add while running: as its file would be, but for what names files of the server's machine."""

    name: Name
    url: str = Field(min_length=1, max_length=2000)
    detector: Name = "auto"
    device: Literal["cpu"] = "cpu"
    neighbours: dict[Name, Travel] = Field(default={}, max_length=1000)

    def camera(self) -> Camera:
        """Its settings; travel times go as they are: what they leave unsaid means something."""
        return Camera(**self.model_dump(exclude={"name", "neighbours"}), neighbours=self.neighbours)


class ReviewIn(Body):
    """The first decision on a hit of one's own search."""

    search_id: Name
    sighting_id: Id
    decision: Literal["same", "different"]


class DecisionIn(Body):
    """The second decision."""

    decision: Literal["same", "different"]


class ReviewOut(BaseModel):
    """A review; keys name pictures for good, ids as long as the gallery stands."""

    id: int
    state: str
    query_id: int | None
    query_camera: str | None
    candidate_id: int
    candidate_camera: str
    score: float
    case_reference: str
    first_user: str
    first_decision: str
    first: str
    second_user: str | None
    second_decision: str | None
    second: str | None

    @classmethod
    def of(cls, review: Review) -> ReviewOut:
        """The API's form of a review."""
        return cls(
            first=iso_utc(review.first_s),
            second=None if review.second_s is None else iso_utc(review.second_s),
            **{name: getattr(review, name) for name in cls.model_fields if name not in ("first", "second")},
        )
