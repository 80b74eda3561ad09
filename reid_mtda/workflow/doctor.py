"""What stands in the way of a running service: packages, devices, networks, cameras, disk, clock and time zone."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from reid_mtda.camera_settings import AUTO, MOTION
from reid_mtda.errors import ReidError
from reid_mtda.model import load_model
from reid_mtda.schema import load_yaml
from reid_mtda.service.settings import ServiceSettings
from reid_mtda.service.site_time import site_time
from reid_mtda.site import Site, load_site, resolve, resolve_detector
from reid_mtda.vision.camera_detector import choose_detector
from reid_mtda.vision.detect import load_detector
from reid_mtda.vision.first_frame import first_frames
from reid_mtda.workflow.pull import verify_models
from reid_mtda.zoo.folder import models_folder, resolve_model

PACKAGE = "reid-mtda"
_EXTRAS = {
    "serve": "for the service",
    "openvino": "for OpenVINO networks and faster ones on Intel processors",
    "train": "to adapt on this machine",
}
_AHEAD_S = 3600.0
_TORCH_S = 60.0
CLOCK = "clock.json"

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``note``: it may be wanted otherwise; ``fault``: ``text`` says what needs doing."""

    part: str
    name: str
    state: State
    text: str


@dataclass(frozen=True)
class Wanted:
    """What is to be looked at besides the machine itself; None leaves it out."""

    site: Path | None = None
    model: Path | None = None
    gallery: Path | None = None
    state: Path | None = None
    config: Path | None = None
    timeout_s: float = 10.0


def examine(wanted: Wanted, *, wall: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Look at everything, and say of each thing whether something needs doing.

    Args:
        wanted: what the service is, or will be, started with.
        wall: POSIX seconds, for tests.
    """
    yield from _packages()
    yield from _devices()
    yield from _networks(wanted.model)
    settings = ServiceSettings()
    if wanted.config is not None:
        try:
            settings = load_yaml(wanted.config, ServiceSettings)
            yield Finding("settings", str(wanted.config), "ok", "sound")
        except ReidError as error:
            yield Finding("settings", str(wanted.config), "fault", str(error))
    site = None
    if wanted.site is not None:
        try:
            site = load_site(wanted.site)
        except ReidError as error:
            yield Finding("site", str(wanted.site), "fault", str(error))
    if site is not None:
        yield from _cameras(site, wanted.timeout_s)
    folders = {"models": models_folder()}
    if wanted.gallery is not None:
        folders["gallery"] = wanted.gallery
        folders["state"] = wanted.state or wanted.gallery.with_name(f"{wanted.gallery.name}-service")
    elif wanted.state is not None:
        folders["state"] = wanted.state
    yield from _disks(folders, settings)
    yield _clock(folders.get("state"), wall())
    yield _zone(site)


# ------------------------------------------------------------------------------------------- packages and devices


def _packages() -> Iterator[Finding]:
    """The package and what it requires, by extra; metadata alone is read."""
    try:
        yield Finding("package", PACKAGE, "ok", f"{metadata.version(PACKAGE)}, Python {platform.python_version()}")
        required = [Requirement(text) for text in metadata.requires(PACKAGE) or []]
    except metadata.PackageNotFoundError:
        yield Finding("package", PACKAGE, "fault", "is not installed as a package; run: pip install reid-mtda")
        return
    for extra, purpose in {"": "", **_EXTRAS}.items():
        mine = [one for one in required if (one.marker.evaluate({"extra": extra}) if one.marker else not extra)]
        absent = [one.name for one in mine if _version(one.name) is None]
        old = [
            f"{one.name} {_version(one.name)}"
            for one in mine
            if (has := _version(one.name)) and has not in one.specifier
        ]
        name = extra or "base"
        install = f"pip install '{PACKAGE}[{extra}]'" if extra else f"pip install {PACKAGE}"
        if extra and absent:
            yield Finding("package", name, "note", f"without {', '.join(absent)}; {purpose}: {install}")
        elif absent or old:
            parts = [f"without {', '.join(absent)}"] * bool(absent) + [f"unfit {', '.join(old)}"] * bool(old)
            yield Finding("package", name, "fault", f"{'; '.join(parts)}; run: {install}")
        else:
            yield Finding("package", name, "ok", f"{len(mine)} packages")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    """What can run networks; torch is asked only where its build has more than the CPU, and in another process."""
    try:
        import onnxruntime

        found = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
        yield Finding("device", "ONNX Runtime", "ok", f"{onnxruntime.__version__}: {', '.join(found)}")
    except Exception as error:  # a broken native library raises what it likes
        yield Finding("device", "ONNX Runtime", "fault", f"cannot be loaded ({error}); install onnxruntime again")
    if _version("openvino") is not None:
        try:
            import openvino

            yield Finding(
                "device", "OpenVINO", "ok", f"{openvino.__version__}: {', '.join(openvino.Core().available_devices)}"
            )
        except Exception as error:
            yield Finding("device", "OpenVINO", "fault", f"cannot be loaded ({error}); install openvino again")
    if (torch := _version("torch")) is not None:
        yield Finding("device", "PyTorch", "ok", f"{torch}: {_torch_devices(torch)}")


def _torch_devices(version: str) -> str:
    if version.endswith("+cpu"):
        return "cpu"
    code = (
        "import torch; print(','.join(['cpu'] + ['cuda'] * torch.cuda.is_available() + "
        "['mps'] * torch.backends.mps.is_available()))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_TORCH_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "could not be asked"
    return done.stdout.strip()


# ------------------------------------------------------------------------------------------------------- networks


def _networks(model: Path | None) -> Iterator[Finding]:
    try:
        faults = verify_models()
    except ReidError as error:
        yield Finding("networks", "models folder", "fault", str(error))
        faults = {}
    for name, fault in faults.items():
        remedy = f"{fault}; run 'reid-mtda models pull {name}', or add it again"
        yield Finding(
            "networks", name, "fault" if fault else "ok", remedy if fault else "its files are those that came in"
        )
    if not faults:
        yield Finding(
            "networks", "models folder", "note",
            f"no ready-made networks in {models_folder()}; 'reid-mtda models pull' fetches a detector and a "
            "re-identification network",
        )  # fmt: skip
    if model is not None:
        try:
            opened = load_model(resolve_model(model), threads=1)
            yield Finding(
                "networks", str(model), "ok", f"model {opened.model_id}, {opened.embedding_dim} numbers a person"
            )
        except ReidError as error:
            yield Finding("networks", str(model), "fault", str(error))


# -------------------------------------------------------------------------------------------------------- cameras


def _cameras(site: Site, timeout_s: float) -> Iterator[Finding]:
    """Each camera's detector, and its first frame: all at once, none longer than ``timeout_s``."""
    for detector, device in sorted({(one.detector, one.device) for one in site.cameras.values()}):
        names = [name for name, one in site.cameras.items() if (one.detector, one.device) == (detector, device)]
        yield _detector(site, detector, device, names)
    addresses = {name: resolve(site, camera.url) for name, camera in site.cameras.items()}
    for name, answer in first_frames(addresses, timeout_s=timeout_s).items():
        if isinstance(answer, str):
            yield Finding("camera", name, "fault", answer)
            continue
        height, width = answer.frame.image.shape[:2]
        kind = "live" if answer.is_live else "recording"
        yield Finding("camera", name, "ok", f"{kind}, {width}x{height}, first frame after {answer.took_s:.1f} s")


def _detector(site: Site, detector: str, device: str, names: list[str]) -> Finding:
    where, reason = f"{detector} ({', '.join(names)})", "works"
    try:
        if detector == AUTO:
            chosen = choose_detector()
            detector, reason = chosen.name, f"{chosen.name}, {chosen.reason}"
            device = "auto" if detector == MOTION else device
        load_detector(resolve_detector(site, detector), threads=1, device=device)
    except ReidError as error:
        return Finding("detector", where, "fault", str(error))
    if detector == MOTION:
        return Finding("detector", where, "note", "finds what moves, people or not; 'reid-mtda models pull' has better")
    return Finding("detector", where, "ok", reason)


# ---------------------------------------------------------------------------------------------- disk, clock, zone


def _disks(folders: dict[str, Path], settings: ServiceSettings) -> Iterator[Finding]:
    for name, folder in folders.items():
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        try:
            free_mb = shutil.disk_usage(there).free / 1e6
        except OSError as error:
            yield Finding("disk", name, "fault", f"{there}: cannot be measured ({error.strerror}); check the folder")
            continue
        least, what = settings.live.min_free_pictures_mb, "pictures are not kept"
        if free_mb < settings.live.min_free_mb:
            least, what = settings.live.min_free_mb, "sightings are not kept"
        if name != "models" and free_mb < least:
            yield Finding(
                "disk", name, "fault", f"{folder}: {free_mb:.0f} MB free, below {least:.0f} MB {what}; free some"
            )
        else:
            yield Finding("disk", name, "ok", f"{folder}: {free_mb / 1000:.1f} GB free")


def _clock(state: Path | None, now_s: float) -> Finding:
    """The wall clock against what the service noted last, else against when it last wrote a file."""
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))
    if state is None or not state.is_dir():
        return Finding("clock", "wall clock", "ok", f"{shown}; nothing to compare it with")
    try:
        last_s = float(json.loads((state / CLOCK).read_text(encoding="utf-8"))["wall_s"])
    except (OSError, ValueError, KeyError, TypeError):
        last_s = max((path.stat().st_mtime for path in state.iterdir() if path.is_file()), default=now_s)
    if now_s < last_s - _AHEAD_S:
        hours = (last_s - now_s) / 3600
        return Finding(
            "clock", "wall clock", "fault", f"{shown} is {hours:.1f} hours before what the service saw last; set it"
        )
    return Finding(
        "clock", "wall clock", "ok", f"{shown}, {(now_s - last_s) / 3600:.1f} hours after what the service saw last"
    )


def _zone(site: Site | None) -> Finding:
    said = site.timezone if site is not None else None
    zone = site_time(said)
    if said is None:
        return Finding(
            "clock", "time zone", "note", f"{zone.name}, that of this machine; state 'timezone' in the site's site.yaml"
        )
    return Finding("clock", "time zone", "ok", zone.name)
