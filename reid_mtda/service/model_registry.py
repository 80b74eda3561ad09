"""New students: judged by the gate, put in service with a gallery of their own, and taken back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from reid_mtda.camera_means import read_cameras
from reid_mtda.centring import CameraMeans
from reid_mtda.errors import ReidError, StorageError
from reid_mtda.gallery.gallery import Gallery
from reid_mtda.live.holdout import Holdout
from reid_mtda.live.learnt import LearntPeople
from reid_mtda.live.model_gate import GateReport, compare_models
from reid_mtda.live.reindex import carry_over, drop_gone
from reid_mtda.live.site_means import SiteMeans
from reid_mtda.live.system import LiveSystem
from reid_mtda.model import Model, load_model
from reid_mtda.service.audit import Audit
from reid_mtda.service.queries import SearchError, number_of
from reid_mtda.service.review import Reviews
from reid_mtda.service.roles import Principal
from reid_mtda.service.searches import Searches
from reid_mtda.service.serving_record import (
    Place,
    ServingRecord,
    abandon_gallery,
    clear_gallery,
    gallery_for,
    is_model_folder,
    keep_serving,
    model_in,
)
from reid_mtda.service.transition_times import travel_times
from reid_mtda.types import ModelManifest

log = logging.getLogger(__name__)

Actor = str | Principal
"""Who changes the model; of a ``Principal`` the audit notes the token, too."""


@dataclass(frozen=True)
class Job:
    """A change of model under way or over: ``state`` is running, done or failed."""

    candidate: str
    state: str
    message: str = ""
    done: int = 0
    total: int = 0


class ModelRegistry:
    """Which model answers, and how it is changed.

    Args:
        system: the live system.
        state: folder of the service's files; galleries of new models are made in it.
        serving: the model that answers now, and the one before it.
        candidates: folder of model folders, or of adaptations' run folders, to choose from; it need not be there.
        means: of the site's cameras, which a model's embeddings are centred with.
        holdout: labelled pictures that the gate looks at, too.
    """

    def __init__(
        self,
        system: LiveSystem,
        state: Path,
        serving: ServingRecord,
        audit: Audit,
        reviews: Reviews,
        searches: Searches,
        candidates: Path,
        means: SiteMeans,
        holdout: Holdout | None = None,
    ) -> None:
        self._system, self._state, self._candidates, self._means = system, Path(state), candidates, means
        self._audit, self._reviews, self._searches = audit, reviews, searches
        self._check_set = holdout
        self._lock = threading.Lock()
        self._now, self._before = serving.now, serving.before
        self._device = serving.model.device
        self._started_with = serving.started_with
        self.job: Job | None = None
        system.periodic_checks.append(self.poll)

    def restore(self, serving: ServingRecord) -> None:
        """At the start: go on as the last process left off, the gallery set aside within reach again."""
        aside = self._system.model_server.previous_gallery = serving.open_before()
        for folder in serving.left_over:
            self._audit.add("service", "gallery_removed", gallery=folder.name)
            clear_gallery(folder, is_ours=folder.parent == gallery_for(self._state, ""))
        self._keep(serving.model.manifest, serving.now, serving.before, is_complete=serving.is_complete)
        self._renumber()
        if aside is not None and not serving.is_complete:
            self._begin("service", "change_resumed", "the last change of the model", lambda: self._complete(aside))

    def candidates(self) -> list[str]:
        """Names of the model folders to choose from, and of the adaptations that made one."""
        try:
            return sorted(path.name for path in self._candidates.iterdir() if model_in(path))
        except OSError:  # the folder is not there, or no longer
            return []

    def poll(self) -> None:
        """Notice when the folder of a model went while running: nothing stops, but nothing starts from it either."""
        found = []
        if not is_model_folder(self._now.model):
            advice = "the model goes on from memory, but the service could not be started again; put it back"
            found.append(
                f"model {self._system.model.manifest.model_id}: its folder {self._now.model} is gone; {advice}"
            )
        if self._before is not None and not is_model_folder(self._before.model):
            found.append(f"the model before: its folder {self._before.model} is gone; there is no way back to it")
        self._system.alerts.put("model", "; ".join(found))

    @property
    def can_roll_back(self) -> bool:
        """There was a model before."""
        return self._before is not None

    def compare_models(self, user: Actor, name: str) -> GateReport:
        """Compare a candidate with the model that answers, on what the cameras saw lately and the check set; audited.

        Raises:
            SearchError: no such candidate.
            ModelError: its folder cannot be used.
            ConfigError: models are to be centred, and it says too little of its cameras.
            ImageError: a picture of the check set is gone.
        """
        candidate = load_model(self._folder(name), device=self._device)
        seen = self._system.samples.all()
        learnt = [LearntPeople(model, self._system.gallery.footage()) for model in (self._system.model, candidate)]
        new = [one for one in seen if not any(of.include(one.camera, one.start_s, one.end_s) for of in learnt)]
        report = compare_models(
            new,
            self._system.model,
            candidate,
            centring=(self._system.gallery.centring, self._centring(candidate)),
            cameras=self._system.pool.states(),
            travel=travel_times(self._system).stated,
            holdout=self._check_set,
            stopped=self._system.is_stopping,
        )
        report = replace(report, learnt=len(seen) - len(new))
        scores, check_scores = (
            {camera: [round(v.current, 4), round(v.candidate, 4)] for camera, v in comparisons.items()}
            for comparisons in (report.cameras, report.checks)
        )
        self._audit.add(
            user,
            "candidate_judged",
            candidate=name,
            model_id=candidate.model_id,
            passes=report.passes,
            skipped=report.skipped,
            reason=report.reason,
            scores=scores,
            check_scores=check_scores,
        )
        return report

    def promote(self, user: Actor, name: str) -> Job:
        """Put a candidate in service once the gate lets it pass; its gallery is made in the background.

        Raises:
            SearchError: no such candidate, it does not pass, or another change is under way.
        """
        report = self.compare_models(user, name)
        if not report.passes:
            raise SearchError(f"candidate {name}: does not pass the gate, {report.reason}; nothing was changed", 409)
        folder = self._folder(name)
        return self._begin(
            user, "promotion_begun", name, lambda: self._change(user, name, folder), f"; {report.reason}"
        )

    def roll_back(self, user: Actor) -> Job:
        """Go back to the model before, with all that was seen since.

        Raises:
            SearchError: there is none, or another change is under way.
        """
        if (before := self._before) is None:
            raise SearchError("there is no model to go back to", 409)
        name = "the model before"
        return self._begin(user, "rollback_begun", name, lambda: self._change(user, name, before.model, before.gallery))

    def _folder(self, name: str) -> Path:
        # What is listed is a name of that folder: nothing leads out of it.
        model = model_in(self._candidates / name) if name in self.candidates() else None
        if model is None:
            raise SearchError(f"candidate {name[:64]!r}: no such model folder among the candidates", 404)
        return model.resolve()

    def _begin(self, user: Actor, action: str, name: str, work: Callable[[], None], remark: str = "") -> Job:
        with self._lock:
            if self.job is not None and self.job.state == "running":
                raise SearchError(f"{self.job.candidate} is being put in service; wait for it", 409)
            self._audit.add(user, f"model_{action}", candidate=name)
            self.job = job = Job(name, "running")
        self._system.spawn(lambda: self._work(user, name, work, remark), "re-index")
        return job

    def _work(self, user: Actor, name: str, work: Callable[[], None], remark: str) -> None:
        try:
            work()
            self.job = Job(name, "done", f"model {self._system.model.manifest.model_id} answers{remark}")
        except ReidError as error:
            log.error("changing the model: %s", error)
            self.job = Job(name, "failed", str(error))
            self._note_failure(user, name, str(error))
        except Exception:
            log.exception("changing the model")
            self.job = Job(name, "failed", "something failed here; it is in the service's log")
            self._note_failure(user, name, "a fault of the service, see its log")

    def _note_failure(self, user: Actor, name: str, message: str) -> None:
        try:
            self._audit.add(user, "model_change_failed", candidate=name, message=message)
        except StorageError as error:  # that it was begun is noted, and nothing was changed
            log.error("changing the model: %s", error)

    def _progress(self, part: str, done: int, total: int) -> None:
        if self.job is not None:
            self.job = Job(self.job.candidate, "running", part, done, total)

    def _change(self, user: Actor, name: str, model: Path, gallery: Path | None = None) -> None:
        new = load_model(model, device=self._device)
        gallery = gallery or gallery_for(self._state, new.model_id)
        if new.model_id == self._system.model.manifest.model_id:
            raise SearchError(f"{name} is the model that answers already", 409)
        self._exchange(user, Place(model, gallery), new)

    def _complete(self, aside: Gallery) -> None:
        """Carry over what a change that was interrupted did not."""
        self._carry_over(aside, self._system.gallery, self._system.model)
        self._renumber()
        self._keep(self._system.model.manifest, self._now, self._before, is_complete=True)

    def _carry_over(self, old: Gallery, new: Gallery, model: Model) -> None:
        """While cameras and people go on.

        Raises:
            SearchError: the service stops.
        """
        carry_over(
            old,
            new,
            model,
            lock=self._system.model_server.galleries_lock,
            stopped=self._system.is_stopping,
            progress=self._progress,
        )
        if self._system.is_stopping():
            raise SearchError("the service stopped before the new gallery was complete; start it again", 503)

    def _keep(self, manifest: ModelManifest, now: Place, before: Place | None, *, is_complete: bool) -> None:
        if before is not None:
            keep_serving(
                self._state,
                started_with=self._started_with,
                model_id=manifest.model_id,
                now=now,
                before=before,
                is_complete=is_complete,
            )

    def _exchange(self, user: Actor, place: Place, model: Model) -> None:
        system, previous_gallery = self._system, self._system.model_server.previous_gallery
        reopened = previous_gallery is not None and previous_gallery.folder.resolve() == place.gallery
        is_made = not place.gallery.exists()
        centring = self._centring(model)
        new = previous_gallery if reopened and previous_gallery is not None else Gallery.open(place.gallery, model)
        new.recentre(centring)  # the one set aside was opened without its model
        old_id = system.model.manifest.model_id
        with ExitStack() as undo:
            if not reopened:
                undo.callback(abandon_gallery, new, is_made=is_made)
            self._carry_over(system.gallery, new, model)
            with system.model_server.galleries_lock:
                if not reopened:  # erasure and retention did not reach it until now
                    drop_gone(system.gallery, new)
                self._audit.add(user, "model_switched", model_id=model.model_id, instead_of=old_id, sightings=len(new))
                # Written down first: after a kill the next start serves what the new model saw, and completes it.
                self._keep(model.manifest, place, self._now, is_complete=False)
                undo.pop_all()
                old = system.switch(model, new, read_cameras(place.model, model.manifest))
                system.model_server.previous_gallery = old
                self._before, self._now = self._now, place
                carry_over(old, new, model)  # what came since
                self._renumber()
                if previous_gallery is not None and not reopened:
                    # Nobody can go back to it, and neither erasure nor retention would reach it any more. All that it
                    # held is in the new one.
                    previous_gallery.delete(previous_gallery.sightings())
                    previous_gallery.close()
                self._keep(model.manifest, place, self._before, is_complete=True)

    def _centring(self, model: Model) -> CameraMeans | None:
        """What embeddings of ``model`` are centred with at this site."""
        return self._means.of(model, {*self._system.pool.states(), *self._system.gallery.cameras()})

    def _renumber(self) -> None:
        """Sightings may have other numbers now: those that a review names are looked up, and no others."""
        gallery = self._system.gallery
        self._reviews.renumber(lambda key: number_of(gallery, key))
        self._searches.forget_all()
