"""What stands behind a confirmed match, in one file that others can check: pictures, times, who decided, the audit."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import reid_mtda
from reid_mtda.errors import ReidError, StorageError
from reid_mtda.gallery.search import iso_utc
from reid_mtda.service.app_state import AppState
from reid_mtda.service.audit import Audit
from reid_mtda.service.audit_chain import AuditEntry, Head, entry_hash, head_text, parse_head
from reid_mtda.service.queries import number_of
from reid_mtda.service.review import CONFIRMED, Review, ReviewError
from reid_mtda.service.roles import Principal, Role
from reid_mtda.types import Sighting

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
_ACTIONS = ("review_proposed", "review_decided", "search", "sighting_opened", "picture_opened")
_MOST_BYTES = 500_000_000
_ABOUT = """What is in here

review.json   the question, its score, both decisions with their times (UTC)
query.jpg     the picture searched for, as both reviewers saw it
candidate.jpg the sighting found; sighting.json where and when it was
crops/        further crops of it, where its camera keeps them
model.json    the model that answered when this was made; the entry 'search' names the one that compared them
audit.jsonl   entries of the audit about this review, each with its hash
manifest.json SHA-256 of these files, and the head of the audit's chain when this was made

To check it: 'sha256sum -c SHA256SUMS' here, and 'reid-mtda evidence verify FILE [--state STATE]', which with the state
folder of the service also finds the entries and the head in its audit.

The service keeps no frames: other people are in these pictures only where they stood within a crop. A score says how
alike two pictures are to a model; it is no proof of identity.
"""


@dataclass(frozen=True)
class EvidenceReport:
    """What a package was found to be: of which review, how many files, and the audit's head in it."""

    review: int
    files: int
    head: str
    is_in_audit: bool


def make_evidence(parts: AppState, who: Principal, number: int) -> bytes:
    """The package of a confirmed review, a zip file; audited before it is handed out.

    Args:
        parts: the service.
        who: a reviewer who sees both cameras.
        number: of the review.

    Raises:
        AccessError: a role below reviewer.
        ReviewError: no such review, or two people did not confirm it.
        StorageError: the audit refused.
    """
    who.need(Role.REVIEWER)
    review = parts.reviews.get(who, number)
    if review.state != CONFIRMED:
        raise ReviewError(f"review {number}: is {review.state}; evidence is made of what two people confirmed", 409)
    files = dict(_files(parts, who, review))
    head = parts.audit.head
    card = {
        "format": FORMAT,
        "made_by": f"reid_mtda {reid_mtda.__version__}",
        "review": number,
        "audit_head": head_text(head),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    manifest = json.dumps(card, indent=2, sort_keys=True).encode()
    digest = hashlib.sha256(manifest).hexdigest()
    parts.audit.add(who, "evidence", review=number, manifest=digest)
    files[MANIFEST] = manifest
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in sorted({**files, SUMS: sums.encode()}.items()):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)  # its own clock says nothing
    return made.getvalue()


def _files(parts: AppState, who: Principal, review: Review) -> Iterator[tuple[str, bytes]]:
    yield "README.txt", _ABOUT.encode()
    told = {**asdict(review), "first": iso_utc(review.first_s), "second": iso_utc(review.second_s or 0.0)}
    del told["first_token"], told["second_token"]  # the audit's entries name them, by id
    yield "review.json", _json(told)
    yield "query.jpg", parts.reviews.picture(who, review.id)
    gallery = parts.system.gallery
    candidate = number_of(gallery, review.candidate_key)
    row = gallery.lookup([candidate]).get(candidate) if candidate is not None else None
    if row is None:
        raise ReviewError(f"review {review.id}: the sighting that was found is gone; nothing can be shown of it", 409)
    yield "sighting.json", _json(_sighting(row))
    try:
        yield "candidate.jpg", row.thumbnail.read_bytes()
    except OSError:
        raise ReviewError(f"review {review.id}: the picture of what was found is gone", 409) from None
    if parts.system.kept is not None:
        for file, data in parts.system.kept.pictures(row.camera, row.track_id):
            yield f"crops/{file}", data
    yield "model.json", _json(asdict(parts.system.model.manifest))
    entries = sorted(_entries(parts.audit, review), key=lambda entry: entry.number)
    yield "audit.jsonl", b"".join(json.dumps(asdict(entry), sort_keys=True).encode() + b"\n" for entry in entries)


def _sighting(row: Sighting) -> dict[str, Any]:
    return {"camera": row.camera, "track_id": row.track_id, "start": iso_utc(row.start_s), "end": iso_utc(row.end_s)}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode()


def _entries(audit: Audit, review: Review) -> Iterator[AuditEntry]:
    """Entries about a review: its decisions, the search that found it, and who looked at the sighting."""
    search_id = ""
    for action in _ACTIONS:
        before: int | None = None
        while page := audit.entries(before=before, limit=500, action=action):
            for entry in page:
                detail = entry.detail
                if detail.get("review") == review.id:
                    search_id = search_id or str(detail.get("search_id", ""))
                    yield entry
                elif search_id and detail.get("search_id") == search_id:
                    yield entry
            before = page[-1].number
            if page[-1].time_s < review.first_s - 7200:  # an answer is kept for two hours
                break


def verify_evidence(file: Path, state: Path | None = None) -> EvidenceReport:
    """Check a package: every hash, every entry's own hash, and with ``state`` that the service's audit holds them.

    Raises:
        StorageError: it was changed, is cut or no such package; or the audit does not hold what it says.
    """
    where = str(file)
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MOST_BYTES:
                raise StorageError(f"{where}: holds more than {_MOST_BYTES / 1e6:.0f} MB; no package is as large")
            files = {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError:
        raise StorageError(f"{where}: no such file; check the path") from None
    except (zipfile.BadZipFile, EOFError, zlib.error, OSError, NotImplementedError) as error:
        raise StorageError(f"{where}: is cut or damaged ({error}); ask for it again") from None
    try:
        card = json.loads(files[MANIFEST])
        told, head = dict(card["files"]), parse_head(card["audit_head"])
        entries = [json.loads(line) for line in files["audit.jsonl"].splitlines()]
    except (KeyError, ValueError, TypeError):
        raise StorageError(f"{where}: not a package of evidence, or damaged; ask for it again") from None
    if card.get("format") != FORMAT:
        raise StorageError(f"{where}: got format {card.get('format')!r}, expected {FORMAT}; use another version")
    if others := set(files) ^ {*told, MANIFEST, SUMS}:
        raise StorageError(f"{where}: files were added or taken out: {', '.join(sorted(others))[:200]}")
    for name, digest in told.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise StorageError(f"{where}: {name} was changed")
    for entry in entries:
        if _hash_of(entry) != entry.get("hash"):
            raise StorageError(f"{where}: entry {entry.get('number')} of the audit was changed")
    if state is not None:
        _find_in_audit(where, state, head, entries, hashlib.sha256(files[MANIFEST]).hexdigest())
    return EvidenceReport(int(card["review"]), len(told), card["audit_head"], state is not None)


def _hash_of(entry: dict[str, Any]) -> str:
    text = json.dumps(entry.get("detail"), sort_keys=True, separators=(",", ":"))
    number, time_s, before = (entry.get(key) for key in ("number", "time_s", "before"))
    # What was put there by other hands may be of any type: it must not match, rather than fail.
    return entry_hash(number, time_s, str(entry.get("user")), str(entry.get("action")), text, before)  # type: ignore[arg-type]


def _find_in_audit(where: str, state: Path, head: Head, entries: list[dict[str, Any]], manifest: str) -> None:
    audit = Audit(state)
    try:
        report = audit.verify(heads=[head])
        if not report.is_sound:
            raise StorageError(f"{where}: the audit of {state} does not fit to it ({report.fault})")
        for entry in entries:
            there = audit.entries(before=int(entry["number"]) + 1, limit=1)
            if not there or there[0].hash != entry["hash"]:
                raise StorageError(f"{where}: entry {entry['number']} does not stand in the audit of {state}")
        before: int | None = None
        while page := audit.entries(before=before, limit=500, action="evidence"):
            if any(entry.detail.get("manifest") == manifest for entry in page):
                return
            before = page[-1].number
        raise StorageError(f"{where}: the audit of {state} does not say that it handed this package out")
    except (KeyError, ValueError, TypeError) as error:
        raise ReidError(f"{where}: its entries cannot be read ({type(error).__name__})") from None
    finally:
        audit.close()
