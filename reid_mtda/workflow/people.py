"""Whom an adaptation's cameras showed, written down before anything is learnt from them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict

from reid_mtda.config import AdaptConfig
from reid_mtda.data.batches import load_pictures
from reid_mtda.data.enough_people import people_seen, too_few_people
from reid_mtda.errors import ReidError
from reid_mtda.files import write_json
from reid_mtda.models.device import placed
from reid_mtda.models.embedder import Embedder
from reid_mtda.runs import Run
from reid_mtda.train.common import embed_pictures
from reid_mtda.types import FloatArray, UnlabelledSet

log = logging.getLogger(__name__)

PEOPLE = "people.json"


def find_too_few(
    run: Run, network: Embedder, targets: Mapping[str, UnlabelledSet], config: AdaptConfig
) -> dict[str, str]:
    """Count each target's people as ``network`` tells them apart, write ``people.json``, name those with too few.

    Args:
        run: gives folder, seed and device.
        network: the network.
        targets: unlabelled crops by camera.
        config: settings of the whole run.

    Returns:
        A line by camera, each of which is logged as a warning, too: hours before there is a student.
    """
    model, rows = placed(copy.deepcopy(network), run.compute), dict[str, FloatArray]()
    for camera, target in targets.items():
        try:
            pictures = load_pictures(target.paths, config.input.preprocess())
        except ReidError as error:  # its teacher fails of the same and is told of
            log.info("camera %s: its people are not counted: %s", camera, error)
        else:
            rows[camera] = embed_pictures(model, pictures).embedding.numpy()
    seen = people_seen(rows, {camera: targets[camera] for camera in rows})
    lines = too_few_people(seen, config.least_people)
    write_json(
        run.folder / PEOPLE,
        {
            "least_people": config.least_people,
            "cameras": {camera: asdict(found) for camera, found in seen.items()},
            "too_few": lines,
        },
    )
    for line in lines.values():
        log.warning("%s", line)
    return lines
