"""What the API for admins takes and gives, as types: tokens, erasure, audit, the model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from reid_mtda.gallery.search import iso_utc
from reid_mtda.live.model_gate import GateReport
from reid_mtda.live.site_means import MeanOfCamera
from reid_mtda.live.thresholds import Thresholds
from reid_mtda.service.audit_chain import AuditEntry
from reid_mtda.service.schemas import Body, Id, Name, Printable
from reid_mtda.service.token_issue import TOKEN_DAYS
from reid_mtda.service.tokens import TokenInfo


class TokenIn(Body):
    """A token to make; ``cameras`` None: all."""

    user: Name
    role: Literal["viewer", "operator", "reviewer", "admin"]
    days: float = Field(default=TOKEN_DAYS, gt=0, le=3650)
    cameras: list[Name] | None = Field(default=None, max_length=1000)


class TokenOut(BaseModel):
    """A token without its secret."""

    id: str
    user: str
    role: str
    cameras: list[str] | None
    created: str
    expires: str
    revoked: str | None
    created_by: str

    @classmethod
    def of(cls, token: TokenInfo) -> TokenOut:
        """The API's form of a token."""
        return cls(
            id=token.id,
            user=token.user,
            role=token.role.label,
            cameras=None if token.cameras is None else list(token.cameras),
            created=iso_utc(token.created_s),
            expires=iso_utc(token.expires_s),
            revoked=None if token.revoked_s is None else iso_utc(token.revoked_s),
            created_by=token.created_by,
        )


class NewTokenOut(TokenOut):
    """The only time that the token itself is shown."""

    token: str


class EraseIn(Body):
    """What to erase: sightings by number, or all of a camera up to a time; with a reason for the receipt."""

    sighting_ids: list[Id] | None = Field(default=None, min_length=1, max_length=10_000)
    model_id: str | None = Field(
        default=None,
        max_length=64,
        description="The model that answered when the numbers were read. They change with the model: under another one "
        "nothing is erased.",
    )
    camera: Name | None = None
    before_s: float | None = Field(default=None, gt=-1e11, lt=1e11, description="POSIX seconds; with camera alone")
    reason: Printable = Field(min_length=3, max_length=200)


class ReceiptOut(BaseModel):
    """Proof of an erasure: the audit entry that records it, what went, and what of it is still on the disk."""

    receipt: int
    hash: str
    sightings: list[int]
    reviews: int
    crops: int
    left: list[str]
    time: str


class AuditOut(BaseModel):
    """One audit entry."""

    number: int
    time: str
    user: str
    action: str
    detail: dict[str, Any]
    before: str
    hash: str

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditOut:
        """The API's form of an entry."""
        return cls(time=iso_utc(entry.time_s), **{n: getattr(entry, n) for n in cls.model_fields if n != "time"})


class AuditPageOut(BaseModel):
    """A page of the audit, newest first."""

    entries: list[AuditOut]
    next: int | None


class ThresholdOut(BaseModel):
    """A threshold between two cameras (both empty: for all others).

    ``upper_rate`` is the upper end of the false-match rate's 95 % interval; the ``negatives`` are worth so many
    ``independent`` comparisons. ``found_within_rate``: of two halves of one tracklet, so within one camera; what it is
    between cameras nobody can measure without labels.
    """

    cameras: tuple[str, str]
    threshold: float
    negatives: int
    independent: int
    false_match_rate: float
    upper_rate: float
    positives: int
    found_within_rate: float | None


class MeanOut(BaseModel):
    """The mean of one camera that is subtracted before embeddings are compared.

    ``origin``: ``adaptation`` (the model's own), ``sightings`` (``made`` anew here), ``common`` (it has none).
    ``people``: about how many it is of; ``share``: what it counts beside the mean of all cameras, 0 to 1.
    """

    origin: str
    people: int
    share: float
    made: str | None

    @classmethod
    def of(cls, mean: MeanOfCamera) -> MeanOut:
        """The API's form of where a mean comes from."""
        made = None if mean.made_s is None else iso_utc(mean.made_s)
        return cls(origin=mean.origin, people=mean.people, share=round(mean.share, 3), made=made)


class ModelOut(BaseModel):
    """The model that answers and how its thresholds were set.

    ``drift`` by camera: 1 - cosine of its last 200 sightings' mean embedding to that of the crops that the model was
    adapted to, or of its first 200 sightings with this model where it was not adapted to that camera.
    ``expected_false_matches``: other people that one search of this gallery matches at most, on average (95 %);
    ``calibration`` says why there is no threshold yet. ``learnt_from``: sightings that do not count for
    thresholds, for the model learnt from them. ``is_centred``: each camera's mean is subtracted before
    embeddings are compared, those of ``camera_means``.
    """

    model_id: str
    arch: str
    embedding_dim: int
    trained_on: str
    gallery_size: int
    is_calibrated: bool
    calibration: str
    asked_rate: float
    expected_false_matches: float | None
    thresholds: list[ThresholdOut]
    drift: dict[str, float]
    learnt_from: int
    is_centred: bool
    camera_means: dict[str, MeanOut]


class CandidateIn(Body):
    """A model folder among the candidates, by name."""

    name: Name


class GateOut(BaseModel):
    """The gate's comparison; scores by camera as (current, candidate), 0.5 is chance; checks: mAP on the check set.

    ``site`` by name, within and between cameras: (current, candidate, most that may be lost, 95 %).
    """

    passes: bool
    reason: str
    scores: dict[str, tuple[float, float]]
    skipped: list[str]
    checks: dict[str, tuple[float, float]]
    site: dict[str, tuple[float, float, float]]

    @classmethod
    def of(cls, report: GateReport) -> GateOut:
        """The API's form of a comparison."""
        scores, checks = (
            {name: (comparison.current, comparison.candidate) for name, comparison in comparisons.items()}
            for comparisons in (report.cameras, report.checks)
        )
        skipped = list(report.skipped)
        site = {name: (one.current, one.candidate, one.most_lost) for name, one in report.site.items()}
        return cls(passes=report.passes, reason=report.reason, scores=scores, skipped=skipped, checks=checks, site=site)


class JobOut(BaseModel):
    """A change of model."""

    candidate: str
    state: str
    message: str
    done: int
    total: int


class ModelsOut(BaseModel):
    """Candidates, whether one can go back, and the last change."""

    candidates: list[str]
    can_roll_back: bool
    job: JobOut | None


def thresholds_out(thresholds: Thresholds) -> list[ThresholdOut]:
    """The API's form of thresholds."""
    return [
        ThresholdOut(
            cameras=pair,
            threshold=value.threshold,
            negatives=value.negatives,
            independent=round(value.independent),
            false_match_rate=value.false_match_rate,
            upper_rate=value.upper_rate,
            positives=value.positives,
            found_within_rate=value.found_rate if value.positives else None,
        )
        for pair, value in sorted(thresholds.pairs.items())
    ]
