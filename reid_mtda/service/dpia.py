"""What a data protection impact assessment asks about the processing, as the configuration answers it."""

from __future__ import annotations

from collections.abc import Mapping

import reid_mtda
from reid_mtda.camera_settings import Camera
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.vision.address import redact_url


def dpia_sheet(site: str, cameras: Mapping[str, Camera], settings: ServiceSettings) -> str:
    """A sheet in Markdown: what is processed where, why, for how long, who sees it, what people must still write.

    Args:
        site: its name.
        cameras: as their files say, or as they run now.
        settings: of the service.
    """
    parts = [
        f"# Data protection impact assessment: the facts about {site}",
        f"Made from the configuration by reid_mtda {reid_mtda.__version__}. It describes the processing and the "
        "measures that the program takes (GDPR Art. 35(7)(a), (d)). Necessity, proportionality and risk (b, c) are for "
        "people to judge.",
        _missing(cameras, settings),
        _of_cameras(cameras),
        _of_processing(cameras, settings),
        _of_recipients(cameras, settings),
        _MEASURES,
        _LIMITS,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def missing(cameras: Mapping[str, Camera], settings: ServiceSettings) -> list[str]:
    """What an assessment needs and the configuration does not say, or says in a way that asks for a reason."""
    found = []
    for name, camera in cameras.items():
        for key in ("purpose", "legal_basis", "sign_text"):
            if getattr(camera, key) is None:
                found.append(f"{name}: no {key} in its file")
        if camera.retention_days > 30:
            found.append(f"{name}: sightings are kept {camera.retention_days:g} days; write down why so long")
        if camera.pictures_in_events:
            found.append(f"{name}: pictures leave this service with events; write down to whom and on what basis")
        if camera.keep_for_adaptation:
            found.append(f"{name}: crops are kept to train on; a model trained on them outlives them")
    hooks = [hook.url for hook in settings.notify.webhooks if hook.url.lower().startswith("http://")]
    found += [f"{redact_url(url)}: events are posted without encryption" for url in hooks]
    if settings.notify.mqtt is not None and not settings.notify.mqtt.tls:
        found.append(f"{settings.notify.mqtt.host}: events go to the broker without encryption")
    return found


def _missing(cameras: Mapping[str, Camera], settings: ServiceSettings) -> str:
    found = missing(cameras, settings)
    if not found:
        return "## To be written or decided\n\nNothing that the configuration could hold is missing."
    return "## To be written or decided\n\n" + "\n".join(f"- {line}" for line in found)


def _of_cameras(cameras: Mapping[str, Camera]) -> str:
    rows = [
        "| camera | source | purpose | legal basis | kept for | crops to train on | pictures in events |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, camera in cameras.items():
        cells = (
            name,
            redact_url(camera.url),
            camera.purpose or "**missing**",
            camera.legal_basis or "**missing**",
            f"{camera.retention_days:g} days",
            "yes" if camera.keep_for_adaptation else "no",
            "yes" if camera.pictures_in_events else "no",
        )
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    signs = [f"- {name}: {_cell(camera.sign_text)}" for name, camera in cameras.items() if camera.sign_text]
    return "## Cameras\n\n" + "\n".join(rows) + ("\n\nText of the signs:\n\n" + "\n".join(signs) if signs else "")


def _of_processing(cameras: Mapping[str, Camera], settings: ServiceSettings) -> str:
    where = {"arrival": "when they came in", "sighting": "when somebody was seen"}[settings.live.retention_from]
    lines = [
        "People are detected and followed within one camera; of each stretch the service stores a vector, one picture "
        "of the person cut out, camera, track number and times. Frames are not stored.",
        "Vectors compare how people look, clothing above all; faces are not searched for, names are not known.",
        f"Sightings are deleted after each camera's days, counted from {where}; a clock that jumps deletes nothing.",
        f"A match is said at a threshold of at most {settings.false_match_rate:g} false matches a comparison, measured "
        "on people who cannot be the same; until that can be measured the service says that it cannot.",
    ]
    kept = [name for name, camera in cameras.items() if camera.keep_for_adaptation]
    if kept:
        lines.append(
            f"Crops of {', '.join(kept)} are kept to adapt the model, {settings.live.kept_tracklets} tracklets a "
            "camera at most, and deleted with their sightings. What a model learnt stays in it."
        )
    return "## Processing\n\n" + "\n".join(f"- {line}" for line in lines)


def _of_recipients(cameras: Mapping[str, Camera], settings: ServiceSettings) -> str:
    notify = settings.notify
    told = [f"MQTT broker {notify.mqtt.host}:{notify.mqtt.port}"] if notify.mqtt else []
    told += [f"webhook {hook.name}, {redact_url(hook.url)}" for hook in notify.webhooks]
    told += [f"log {log.file or log.syslog}" for log in notify.logs]
    if not told:
        return "## Recipients\n\nNobody outside of the service is told of events."
    pictures = ", ".join(name for name, camera in cameras.items() if camera.pictures_in_events) or "no camera"
    what = f"They get camera and times of sightings, pictures of {pictures}, never a vector, and keep it by own rules."
    return "## Recipients\n\n" + "\n".join(f"- {line}" for line in told) + f"\n\n{what}"


def _cell(text: str | None) -> str:
    return " ".join((text or "").replace("|", "\\|").split())


_MEASURES = """## Measures of the program

- Access by token with role, end and cameras; only hashes are stored; wrong ones are slowed down.
- Each search needs a purpose and a case reference; what the audit cannot note is not done; its entries form a chain.
- A match is decided by two people, never by one, and never by the program alone.
- Erasure takes vector, picture, crops, reviews and waiting events, overwrites the bytes, and gives a receipt.
- Backups hold what was erased since; how long they are kept is for people to rule."""

_LIMITS = """## What the program does not do

There is no watch-list, no search by words or attributes, no face recognition and no standing identity of a person."""
