"""Whom to search for: a sighting, an uploaded picture, or somebody picked from a live picture."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from reid_mtda.errors import GalleryError, ReidError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.gallery.search import is_blank, largest_person
from reid_mtda.live.system import LiveSystem
from reid_mtda.service.roles import Principal, Role
from reid_mtda.service.transition_times import Seen
from reid_mtda.types import Detect, FloatArray, ImageArray, Sighting
from reid_mtda.vision.crops import THUMBNAIL_PX, encode_jpeg
from reid_mtda.vision.preprocess import check_image_size, decode_image

_PICKS = 200
_PICK_S = 600.0
_NOBODY = (
    "no person found in this picture; choose one that shows somebody, or ask for the whole picture to be searched for "
    "(whole_picture, on the page under 'Narrow it down')"
)
_WHOLE = "No person was found in the picture; all of it was searched for."


class SearchError(ReidError):
    """A search that cannot be made; ``status`` is what HTTP calls it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, eq=False)
class Query:
    """Who is searched for: the vector (D,), the picture as JPEG, where it comes from, and where they were, if known.

    ``remark`` says what is to be known of the picture, e.g. that nobody was found in it; ``said_camera`` is the camera
    that whoever uploaded it says took it.
    """

    key: str
    vector: FloatArray
    picture: bytes
    model_id: str
    sighting_id: int | None = None
    camera: str | None = None
    seen: Seen | None = None
    remark: str = ""
    said_camera: str | None = None

    @property
    def taken_by(self) -> str | None:
        """The camera that took the picture, as far as anybody knows; None: it comes from elsewhere."""
        return self.camera or self.said_camera


@dataclass(frozen=True, eq=False)
class Pick:
    """A person cut out of a live picture, kept for some minutes while the form is filled in."""

    id: str
    user: str
    camera: str
    track_id: int
    made_s: float
    seen_s: float
    crop: ImageArray = field(repr=False)


def live_prefix(camera: str, track_id: int | None = None) -> str:
    """How the keys of queries begin that were picked from a camera's live picture: of one track, or of any."""
    return f"live/{camera}/" if track_id is None else f"live/{camera}/{track_id}/"


def live_prefixes(sighting_keys: Iterable[str]) -> tuple[str, ...]:
    """How the keys of queries begin that were picked live of the people of these sightings.

    >>> live_prefixes(["gate/5/100.000", "gate/5/160.000"])
    ('live/gate/5/',)
    """
    tracks = (key.rsplit("/", 2)[:2] for key in sighting_keys)
    return tuple(sorted({live_prefix(camera, int(track)) for camera, track in tracks}))


def number_of(gallery: Gallery, key: str) -> int | None:
    """The number that the sighting called ``key`` has in ``gallery``; None for one that is not in it, or an upload."""
    camera, *track = key.rsplit("/", 2)
    rows = gallery.of_track(camera, int(track[0])) if len(track) == 2 else {}
    return max((number for number, row in rows.items() if row.key == key), default=None)


class Queries:
    """Makes queries, within somebody's rights; people picked live are held in memory for some minutes.

    Args:
        system: the live system.
        detect: finds people in uploaded pictures; None: an upload is one person.
    """

    def __init__(self, system: LiveSystem, detect: Detect | None) -> None:
        self._system, self._detect = system, detect
        self._lock = threading.Lock()
        self._detect_lock = threading.Lock()
        self._picks: OrderedDict[str, Pick] = OrderedDict()

    def pick(self, principal: Principal, camera: str, track_id: int) -> Pick:
        """Cut a person out of the newest picture of a camera.

        Args:
            principal: who asks.
            camera: the camera's name.
            track_id: the track's number.

        Raises:
            AccessError: a role below operator.
            SearchError: no such camera for this person, or nobody of that number in its picture.
        """
        principal.need(Role.OPERATOR)
        if not principal.sees(camera) or camera not in self._system.pool.states():
            raise SearchError(f"camera {camera[:64]!r}: no such camera", 404)
        picture = self._system.pool.worker(camera).picture
        crop = picture.crop(track_id) if picture is not None else None
        if picture is None or crop is None:
            raise SearchError(f"camera {camera!r}: person {track_id} has left the picture; choose another one", 404)
        pick = Pick(
            secrets.token_urlsafe(12), principal.user, camera, track_id, time.time(), picture.frame.time_s, crop
        )
        with self._lock:
            self._picks[pick.id] = pick
            while len(self._picks) > _PICKS or (self._picks and self._first_pick().made_s < time.time() - _PICK_S):
                self._picks.popitem(last=False)
        return pick

    def _first_pick(self) -> Pick:
        return next(iter(self._picks.values()))

    def of_pick(self, principal: Principal, pick_id: str) -> Query:
        """The query of a picked person.

        Raises:
            AccessError: a role below operator.
            SearchError: not picked by this person, or too long ago.
        """
        pick = self._held(principal, pick_id)
        picture = encode_jpeg(pick.crop, longest_px=THUMBNAIL_PX)
        seen = Seen(pick.camera, pick.seen_s, pick.seen_s)
        key = live_prefix(pick.camera, pick.track_id) + hashlib.sha256(picture).hexdigest()
        return self._query(key, pick.crop, picture, camera=pick.camera, seen=seen)

    def picked(self, principal: Principal, pick_id: str) -> bytes:
        """The picture of a picked person, JPEG.

        Raises:
            AccessError: a role below operator.
            SearchError: not picked by this person, or too long ago.
        """
        return encode_jpeg(self._held(principal, pick_id).crop, longest_px=THUMBNAIL_PX)

    def forget(self, prefixes: Iterable[str]) -> int:
        """Let go of the people picked whose queries' keys would begin so; how many."""
        gone = tuple(prefixes)
        with self._lock:
            ids = [n for n, pick in self._picks.items() if live_prefix(pick.camera, pick.track_id).startswith(gone)]
            for number in ids:
                del self._picks[number]
        return len(ids)

    def _held(self, principal: Principal, pick_id: str) -> Pick:
        principal.need(Role.OPERATOR)
        with self._lock:
            pick = self._picks.get(pick_id)
        is_theirs = pick is not None and pick.user == principal.user and principal.sees(pick.camera)
        if pick is None or not is_theirs or pick.made_s < time.time() - _PICK_S:
            raise SearchError("the person picked is no longer held; click the live picture again", 404)
        return pick

    def of_upload(
        self,
        principal: Principal,
        data: bytes,
        *,
        seen_camera: str | None = None,
        seen_s: float | None = None,
        whole: bool = False,
    ) -> Query:
        """The query of an uploaded picture: its largest person.

        Args:
            principal: who searches.
            data: the file.
            seen_camera: the camera that took it, if known; with ``seen_s``, or alone in a gallery that is centred.
            seen_s: when, POSIX seconds.
            whole: search for the whole picture where nobody is found in it.

        Raises:
            AccessError: a role below operator.
            ImageError: no picture, or one out of bounds; seen from its header, before decoding.
            SearchError: nobody in the picture, half of where and when, or no such camera for this person.
        """
        principal.need(Role.OPERATOR)
        seen = self._seen(principal, seen_camera, seen_s)
        image = decode_image(data, where="picture")
        check_image_size("picture", *image.shape[:2])
        person, remark = self._person(image)
        if person is None and not whole:
            raise SearchError(_NOBODY, 422)
        crop = image if person is None else person
        key = f"upload:{hashlib.sha256(data).hexdigest()}"
        query = self._query(key, crop, encode_jpeg(crop, longest_px=THUMBNAIL_PX), seen=seen)
        return replace(query, remark=remark, said_camera=seen_camera)

    def _person(self, image: ImageArray) -> tuple[ImageArray | None, str]:
        """The person in an uploaded picture, None where nobody is in it, and what is to be said of that."""
        if is_blank(image):
            return None, _WHOLE
        if self._detect is None:
            return image, (
                "Whether a person is in the picture was not looked at: the site's cameras find people by motion, "
                "which needs a film."
            )
        with self._detect_lock:
            person = largest_person(image, self._detect, self._system.model.manifest)
        return person, _WHOLE if person is None else ""

    def _seen(self, principal: Principal, camera: str | None, time_s: float | None) -> Seen | None:
        if camera is None and time_s is None:
            return None
        if camera is None or (time_s is None and not self._system.gallery.is_centred):
            raise SearchError("got only one of seen_camera and seen_s, expected both: where and when", 422)
        if time_s is not None and not -1e11 < time_s < 1e11:
            raise SearchError(f"seen_s: got {time_s}, expected POSIX seconds", 422)
        if not principal.sees(camera) or camera not in self._system.pool.states():
            raise SearchError(f"camera {camera[:64]!r}: no such camera", 404)
        return None if time_s is None else Seen(camera, time_s, time_s)

    def of_sighting(self, principal: Principal, number: int) -> Query:
        """The query of a sighting, with the vector that stands in the gallery.

        Raises:
            AccessError: a role below operator.
            SearchError: no such sighting for this person.
        """
        principal.need(Role.OPERATOR)
        sighting = self.sighting(principal, number)
        gallery = self._system.gallery
        try:
            vector = gallery.vector(number)
        except GalleryError:
            raise SearchError(f"sighting {number}: no such sighting", 404) from None
        try:
            picture = sighting.thumbnail.read_bytes()
        except OSError:  # stored without one while the disk was full: its vector can be searched for all the same
            picture = encode_jpeg(np.full((96, 48, 3), 128, np.uint8), longest_px=THUMBNAIL_PX)
        return Query(sighting.key, vector, picture, gallery.model_id, number, sighting.camera, Seen.of(sighting))

    def sighting(self, principal: Principal, number: int) -> Sighting:
        """A sighting that this person may see.

        Raises:
            SearchError: there is none; one of another's camera looks the same.
        """
        found = self._system.gallery.lookup([number]).get(number) if 0 < number < 2**62 else None
        if found is None or not principal.sees(found.camera):
            raise SearchError(f"sighting {number}: no such sighting", 404)
        return found

    def _query(
        self, key: str, crop: ImageArray, picture: bytes, *, camera: str | None = None, seen: Seen | None = None
    ) -> Query:
        model_id = self._system.model.manifest.model_id
        return Query(key, self._system.model_server.embed_one(crop), picture, model_id, None, camera, seen)
