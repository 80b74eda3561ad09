"""One execution and its folder: resolved config, seed, versions, numbers, checkpoints, times of its stages."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid_mtda.errors import ConfigError, StorageError
from reid_mtda.files import atomic_write, json_value, lock_folder, write_json
from reid_mtda.provenance import versions

log = logging.getLogger(__name__)

PRECISIONS = ("fp32", "bf16")
"""Numbers in which backbones may be computed."""


@dataclass(frozen=True)
class Compute:
    """Where and in which numbers a run computes; ``models.device.choose_compute`` checks them against the machine.

    ``device`` is torch's name of one, e.g. ``cuda:0``. With ``precision`` bf16 backbones are computed in bfloat16;
    weights, embeddings and losses are float32 always.
    """

    device: str = "cpu"
    precision: str = "fp32"


RUN_FORMAT = 2
"""Of ``run.json`` and what lies beside it; runs of 0.1 have none."""

HOST = Compute()
"""The CPU, in float32."""


@dataclass(frozen=True)
class Run:
    """A run folder: ``run.json`` (config, seed, versions), ``metrics.jsonl``, ``checkpoints/``; and where it computes.

    The same run may go on with another ``compute``: what it learns differs in rounding, not in what it learns from.
    """

    folder: Path
    seed: int
    compute: Compute = HOST

    @property
    def checkpoints(self) -> Path:
        """Folder of resumable states."""
        return self.folder / "checkpoints"

    def child_seed(self, name: str) -> int:
        """A 32-bit seed for the part ``name``: the same run seed and name always give the same number."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "little")

    def rng(self, name: str) -> np.random.Generator:
        """A NumPy generator of its own for the part ``name``."""
        return np.random.default_rng(self.child_seed(name))

    def child(self, name: str, *, drawn_as: str = "") -> Run:
        """A run inside this one, for one step of a longer job; its seed derives from this run's and ``name``.

        Steps that are compared with each other draw the same where they are ``drawn_as`` one.
        """
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return Run(folder=folder, seed=self.child_seed(drawn_as or name), compute=self.compute)

    def mark(self, path: Path) -> str:
        """By what this run knows its file ``path`` again: a hash of its config and seed, and the file's place in it."""
        card = self.folder / "run.json"
        kept = json.loads(card.read_text(encoding="utf-8")) if card.exists() else {}
        text = json.dumps([kept.get("config"), kept.get("seed")], sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {path.relative_to(self.folder).as_posix()}"

    def record(self, part: str, **numbers: float | int | str) -> None:
        """Append one line of numbers to ``metrics.jsonl``."""
        line = json.dumps({"time_s": round(time.time(), 3), "part": part, **numbers}, default=json_value)
        try:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise StorageError(f"{self.folder}: metrics could not be written ({error.strerror}); free space") from error

    def recorded_bytes(self) -> int:
        """Length of ``metrics.jsonl``: a saved state keeps it, for ``forget_records`` when it is resumed."""
        return self._metrics.stat().st_size if self._metrics.is_file() else 0

    def forget_records(self, after_bytes: int) -> None:
        """Cut ``metrics.jsonl`` back to ``after_bytes``, so that steps done again after a resume stand in it once."""
        if self.recorded_bytes() > after_bytes:
            os.truncate(self._metrics, after_bytes)

    @property
    def _metrics(self) -> Path:
        return self.folder / "metrics.jsonl"


def open_run(folder: Path, *, seed: int, config: Mapping[str, Any], compute: Compute = HOST) -> Run:
    """Open a run folder, or the same run again to resume it; until it ends, this process alone may work there.

    Args:
        folder: the run folder, made where it is missing.
        seed: of everything that the run draws.
        config: what decides its results, as JSON can hold it.
        compute: where it computes; kept for people, and free to change when the run goes on.

    Raises:
        ConfigError: the folder holds a run of another config or seed: resuming it would mix two experiments; or one
            that reid-mtda 0.1 made; or another process works in it.
        StorageError: the folder cannot be made or written.
    """
    folder = Path(folder)
    lock_folder(folder)
    card = folder / "run.json"
    wanted = json.loads(json.dumps({"config": config, "seed": seed}, default=json_value))
    if card.exists():
        try:
            there = json.loads(card.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{card}: damaged ({error}); remove {folder} or choose another folder") from None
        if not isinstance(there, dict):
            raise ConfigError(f"{card}: damaged, expected a run's card; remove {folder} or choose another folder")
        check_run_format(there, folder)
        changed = sorted(_changes(there.get("config"), wanted["config"]))
        if there.get("seed") != seed:
            changed.append("seed")
        if changed:
            raise ConfigError(
                f"{folder}: holds a run with other settings ({', '.join(changed[:5])}); "
                "choose another folder, or remove this one to start again"
            )
        began = there.get("compute", asdict(HOST))
        if began != asdict(compute):
            log.warning(
                "%s: began with %s and goes on with %s; its results are of both", folder, began, asdict(compute)
            )
        return Run(folder=folder, seed=seed, compute=compute)
    made = {"format": RUN_FORMAT, "versions": versions(), "command": shlex.join(sys.argv), "started_s": time.time()}
    write_json(card, {**wanted, **made, "compute": asdict(compute)})
    return Run(folder=folder, seed=seed, compute=compute)


def check_run_format(card: Mapping[str, Any], folder: Path) -> None:
    """Refuse the ``card`` (``run.json``) of a run of reid-mtda 0.1: its settings and files have other names.

    Raises:
        ConfigError: it is.
    """
    if card.get("format") != RUN_FORMAT:
        made_by = (card.get("versions") or {}).get("reid-mtda", "0.1")
        raise ConfigError(
            f"{folder}: holds a run of an earlier version (reid-mtda {made_by}), which this one does not read or go on "
            "with; choose another folder, or that version for it (its exported models serve on as they are)"
        )


def _changes(there: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in there.keys() | wanted.keys():
            yield from _changes(there.get(key), wanted.get(key), f"{path}.{key}" if path else str(key))
    elif there != wanted:
        yield path or "config"


@contextlib.contextmanager
def stage(run: Run, name: str) -> Iterator[None]:
    """Time a stage of a job and its peak memory; ``stages.json`` of the run keeps one entry per stage.

    A stage that is resumed adds its seconds to those already spent. Peak memory is that of the whole process while
    the stage ran, where the system lets its high-water mark be reset (Linux); elsewhere since the process began.
    """
    _reset_peak_memory()
    began = time.perf_counter()
    try:
        yield
    finally:
        path = run.folder / "stages.json"
        stages = _stages(path)
        before = stages.get(name, {"seconds": 0.0, "peak_mb": 0.0})
        stages[name] = {
            "seconds": round(before["seconds"] + time.perf_counter() - began, 2),
            "peak_mb": round(max(before["peak_mb"], peak_memory_mb()), 1),
        }
        # Sorted keys would lose the order in which the stages ran.
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(stages, indent=2) + "\n", encoding="utf-8")


def _stages(path: Path) -> dict[str, Any]:
    """The times kept so far; none where the file is missing or damaged: they never stop a job."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _reset_peak_memory() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb() -> float:
    """The process's resident high-water mark in MB (10^6 bytes)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024 / 1e6
