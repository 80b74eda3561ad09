"""How a row of a results table embeds pictures: by one network, or each camera's by its own; plain and centred."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from reid_mtda.camera_means import write_cameras
from reid_mtda.centring import camera_means, centre
from reid_mtda.data.pseudo_labels import count_people
from reid_mtda.errors import DataError
from reid_mtda.evaluation.evaluate import Features, name_cameras
from reid_mtda.model import Model, load_model
from reid_mtda.models.device import device_of
from reid_mtda.models.embedder import Embedder
from reid_mtda.types import FloatArray, IdentitySet, IntArray, ModelManifest, Preprocess, RetrievalSplit, UnlabelledSet

EmbedPaths = Callable[[Sequence[Path]], FloatArray]
"""Picture files -> float32 (N, D)."""

EmbedSide = Callable[[IdentitySet, tuple[str, ...], str], FloatArray]
"""Pictures, names of their cameras by camid, name of their data set -> float32 (N, D)."""

MEAN_CROPS = 500
"""Crops of a camera, evenly spread over those there are, of which its mean embedding is taken for a table."""


def torch_model(model: Embedder, preprocess: Preprocess) -> Model:
    """Wrap a torch network, as it is in memory, as a ``Model``."""
    model.eval()

    def embed(crops: FloatArray) -> FloatArray:
        with torch.inference_mode():
            embedding = model(torch.from_numpy(crops).to(device_of(model))).embedding
            return np.asarray(embedding.cpu().numpy(), np.float32)

    return Model(ModelManifest("in memory", model.spec.arch, model.embedding_dim, preprocess, "in memory"), embed)


def opened_late(open_model: Callable[[], Model]) -> EmbedPaths:
    """Open a network when there are pictures for it, and let it go after them: one is in memory at a time."""
    return lambda paths: open_model().embed(paths)


def remembering(embed: EmbedPaths) -> EmbedPaths:
    """Embed each picture once, however often it is asked for; its embedding stays in memory."""
    known: dict[Path, FloatArray] = {}

    def embed_new(paths: Sequence[Path]) -> FloatArray:
        new = [path for path in dict.fromkeys(paths) if path not in known]
        if new:
            known.update(zip(new, embed(new), strict=True))
        return np.stack([known[path] for path in paths])

    return embed_new


def by_one(embed: EmbedPaths) -> EmbedSide:
    """Embed all pictures by one network."""
    return lambda side, names, title: embed(side.paths)


def by_camera(networks: Mapping[str, EmbedPaths]) -> EmbedSide:
    """Embed each camera's pictures by the network of its name, or of its data set's.

    Pictures of a camera without one, which failed or which the site lacks, become zeros and find nobody.
    """

    def embed(side: IdentitySet, names: tuple[str, ...], title: str) -> FloatArray:
        rows: dict[int, FloatArray] = {}
        for camid in np.unique(side.camids):
            network = next((networks[key] for key in _keys(title, names[camid]) if key in networks), None)
            if network is None:
                continue
            mine = np.flatnonzero(side.camids == camid)
            own = network([side.paths[row] for row in mine])
            rows |= dict(zip(mine.tolist(), own, strict=True))
        if not rows:
            raise DataError(
                f"{title}: no camera of the test pictures has a network of its own, got {', '.join(networks)}"
            )
        nothing = np.zeros_like(next(iter(rows.values())))
        return np.stack([rows.get(number, nothing) for number in range(len(side))])

    return embed


def embed_test(
    split: RetrievalSplit, title: str, embed: EmbedSide, targets: Mapping[str, UnlabelledSet]
) -> tuple[Features, Features | None]:
    """Both sides of a test, plain, and with each camera's mean subtracted.

    Means are those of the cameras' unlabelled crops among ``targets``; without any there are no centred features.
    Every picture is embedded once, whatever it serves for.

    Args:
        split: query and gallery of the test.
        title: how the test is called.
        embed: embeds the pictures of one side.
        targets: unlabelled crops by camera.
    """
    names, query, gallery = name_cameras(split), split.query, split.gallery
    crops = _unlabelled_crops(split, title, targets)
    rows = _embed_once([query, gallery, *(side for side, _ in crops.values())], names, title, embed)
    plain = Features(rows[0], query.pids, query.camids, rows[1], gallery.pids, gallery.camids)
    if not crops:
        return plain, None
    embeddings = dict(zip(crops, rows[2:], strict=True))
    people = {name: count_people(embeddings[name], tracklets) for name, (_, tracklets) in crops.items()}
    means = camera_means(embeddings, people)
    sides = [
        centre(own, [names[camid] for camid in side.camids], means)
        for own, side in zip(rows[:2], (query, gallery), strict=True)
    ]
    return plain, Features(sides[0], query.pids, query.camids, sides[1], gallery.pids, gallery.camids)


def write_means(
    folder: Path, manifest: ModelManifest, targets: Mapping[str, UnlabelledSet], titles: Sequence[str]
) -> None:
    """Write the means of each camera's unlabelled crops beside an exported model, at most 500 crops of a camera.

    Args:
        folder: the model folder.
        manifest: its card.
        targets: crops by camera or set, as `load_targets` names them.
        titles: of the data sets, which names of cameras begin with there, and not in the sets themselves.
    """
    embed, rows, people = load_model(folder).embed, {}, {}
    for key, target in targets.items():
        title = next((title for title in titles if key.startswith(f"{title}-")), None)
        cameras = np.zeros(len(target), np.int64) if target.cameras is None else target.cameras
        for camid in np.unique(cameras):
            own = np.flatnonzero(cameras == camid)
            own = own[np.linspace(0, len(own) - 1, min(len(own), MEAN_CROPS)).round().astype(np.int64)]
            if target.cameras is None:
                name = key if title is None else key.removeprefix(f"{title}-")
            else:
                name = f"camera {camid + 1}" if len(targets) == 1 else f"{key}, camera {camid + 1}"
            rows[name] = embed([target.paths[row] for row in own])
            people[name] = count_people(rows[name], None if target.tracklets is None else target.tracklets[own])
    write_cameras(folder, manifest, rows, people)


def _embed_once(sides: Sequence[IdentitySet], names: tuple[str, ...], title: str, embed: EmbedSide) -> list[FloatArray]:
    """The embeddings of each of ``sides``, of which several may hold one picture."""
    camera = {path: camid for side in sides for path, camid in zip(side.paths, side.camids, strict=True)}
    unknown = np.full(len(camera), -1, np.int64)
    rows = embed(IdentitySet(tuple(camera), unknown, np.array(list(camera.values()), np.int64)), names, title)
    place = {path: row for row, path in enumerate(camera)}
    return [rows[[place[path] for path in side.paths]] for side in sides]


def _unlabelled_crops(
    split: RetrievalSplit, title: str, targets: Mapping[str, UnlabelledSet]
) -> dict[str, tuple[IdentitySet, IntArray | None]]:
    """Crops of each camera of a test that means may be taken of, and their tracklets; a camera without any is left out.

    At most ``MEAN_CROPS`` of a camera, evenly spread.
    """
    found = {}
    for camid, name in enumerate(name_cameras(split)):
        target = next((targets[key] for key in _keys(title, name) if key in targets), None)
        if target is None:
            continue
        own = np.arange(len(target)) if target.cameras is None else np.flatnonzero(target.cameras == camid)
        if len(own) > MEAN_CROPS:
            own = own[np.linspace(0, len(own) - 1, MEAN_CROPS).round().astype(np.int64)]
        if len(own):
            numbers = np.full((2, len(own)), [[-1], [camid]], np.int64)
            crops = IdentitySet(tuple(target.paths[row] for row in own), numbers[0], numbers[1])
            found[name] = crops, None if target.tracklets is None else target.tracklets[own]
    return found


def _keys(title: str, camera: str) -> tuple[str, str, str]:
    """What a camera's network or target may be called."""
    return f"{title}-{camera}", camera, title
