"""Which model answers, on disk: a restart goes on with it, and still knows the one before, to go back to."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from reid_mtda.errors import ReidError
from reid_mtda.files import write_json
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.model import Model, load_model

log = logging.getLogger(__name__)

FILE = "serving.json"


@dataclass(frozen=True)
class Place:
    """A model and the gallery that belongs to it: two folders."""

    model: Path
    gallery: Path


@dataclass(frozen=True, eq=False)
class ServingRecord:
    """What to serve with: the loaded model, where it lies, and the one before, if any.

    ``started_with`` is the id of the model that the service was told to serve; another one makes a new beginning.
    ``is_complete``: all that the gallery before has is in the one now; a change that a kill interrupted left it False.
    ``left_over``: galleries of other models, which neither erasure nor retention reaches.
    """

    model: Model
    now: Place
    started_with: str
    before: Place | None = None
    is_complete: bool = True
    left_over: tuple[Path, ...] = ()

    def open_before(self) -> Gallery | None:
        """The gallery of the model before, which erasure and retention must reach as long as one can go back to it."""
        if self.before is None or not self.before.gallery.is_dir():
            return None
        try:
            return Gallery.open(self.before.gallery)
        except ReidError as error:
            log.warning("the gallery of the model before cannot be used: %s", error)
            return None


def gallery_for(state: Path, model_id: str) -> Path:
    """Where the gallery of a model put in service is made."""
    return Path(state).resolve() / "galleries" / model_id


def load_serving(state: Path, model: Path, gallery: Path, device: str = "cpu") -> ServingRecord:
    """Load ``model``, or the one that was put in service in its place.

    Where ``model`` answers though another one did last, because it was asked for or the other cannot be used, the
    other's gallery counts as the one before: within reach of erasure and retention, carried over, and to go back to.

    Args:
        state: the service's state folder.
        model: the model folder that was asked for.
        gallery: the gallery folder that was asked for.
        device: where the model runs, as for ``load_model``.

    Raises:
        ModelError: ``model`` cannot be used; one put in its place that cannot is named in the log, and left out.
    """
    asked = Place(Path(model).resolve(), Path(gallery).resolve())
    opened = load_model(asked.model, device=device)
    told = ServingRecord(opened, asked, opened.model_id)
    try:
        kept = json.loads((Path(state) / FILE).read_text(encoding="utf-8"))
        now, before = _place(kept["now"]), _place(kept["before"])
        model_id, is_complete = str(kept["model_id"]), bool(kept.get("is_complete", True))
        is_asked_again = kept["started_with"] == opened.model_id
    except FileNotFoundError:
        return _with_left_over(state, told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = "%s cannot be read (%s); serving %s; galleries of other models beside it are not reached by erasure"
        log.warning(text, Path(state) / FILE, type(error).__name__, model)
        return told
    there = [place for place in (now, before) if place.gallery != asked.gallery and place.gallery.is_dir()]
    told = replace(told, before=there[0] if there else None, is_complete=not there)
    if not is_asked_again:
        # What the one before had is in the one now, which counts as the one before from here on.
        return _with_left_over(state, told, before.gallery) if is_complete else told
    try:
        opened = load_model(now.model, device=device)
        if opened.model_id != model_id or not now.gallery.is_dir():
            raise ReidError(f"{now.model}: holds another model than {model_id}, or its gallery is gone")
    except ReidError as error:
        log.error(
            "the model put in service last cannot be used, serving %s: %s; what was seen since is carried over, and "
            "once the model is put back one can go back to it",
            model,
            error,
        )
        return _with_left_over(state, told)
    return _with_left_over(state, ServingRecord(opened, now, told.started_with, before, is_complete))


def _with_left_over(state: Path, serving: ServingRecord, *others: Path) -> ServingRecord:
    reached = {serving.now.gallery, *([serving.before.gallery] if serving.before else [])}
    there = [path for path in {*gallery_for(state, "").glob("*"), *others} if path.is_dir() and path not in reached]
    return replace(serving, left_over=tuple(sorted(there)))


def keep_serving(
    state: Path, *, started_with: str, model_id: str, now: Place, before: Place, is_complete: bool
) -> None:
    """Record that ``model_id`` answers at ``now``, and ``before`` until then; ``is_complete`` as in ``ServingRecord``.

    Args:
        state: the service's state folder.
        started_with: the model folder that the service was started with.
        model_id: of the model whose vectors it holds.
        now: the model that serves and its gallery.
        before: the model before it and its gallery, to go back to; None: there is none.
        is_complete: sightings of the model before were all carried over.

    Raises:
        StorageError: the disk refused.
    """
    places = {name: {"model": p.model, "gallery": p.gallery} for name, p in (("now", now), ("before", before))}
    card = {"started_with": started_with, "model_id": model_id, "is_complete": is_complete}
    write_json(Path(state) / FILE, {**card, **places})


def _place(value: dict[str, str]) -> Place:
    return Place(Path(value["model"]), Path(value["gallery"]))


def is_model_folder(model: Path) -> bool:
    """A card, and weights beside it."""
    return (model / "manifest.json").is_file() and any(model.glob("model.*"))


def model_in(folder: Path) -> Path | None:
    """The model of a candidate: the folder itself, or the student of the adaptation that ran in it."""
    return next((place for place in (folder, folder / "student") if (place / "manifest.json").is_file()), None)


def abandon_gallery(gallery: Gallery, *, is_made: bool) -> None:
    """Leave no gallery behind that neither erasure nor retention would reach."""
    gallery.close()
    if is_made:
        _remove(gallery.folder)


def clear_gallery(gallery: Path, *, is_ours: bool) -> None:
    """Empty a gallery of a model that went; one that the service made is removed whole."""
    if is_ours:
        return _remove(gallery)
    try:
        with Gallery.open(gallery) as opened:
            opened.delete(opened.sightings())
    except ReidError as error:
        log.error("%s: could not be emptied; remove it: %s", gallery, error)


def _remove(gallery: Path) -> None:
    try:
        shutil.rmtree(gallery)
    except OSError as error:
        log.error("%s: could not be removed (%s); the next start tries again", gallery, error.strerror or error)
