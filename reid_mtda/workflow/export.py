"""The job of ``export``: a model folder from weights, by whatever program they were trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reid_mtda.crop_network import crop_size
from reid_mtda.errors import ConfigError, DataError, ModelError
from reid_mtda.files import not_a_folder
from reid_mtda.model import load_model, write_manifest
from reid_mtda.model_folder import ONNX
from reid_mtda.networks import SUFFIXES, choose_device
from reid_mtda.types import ImageArray, ModelManifest, Preprocess
from reid_mtda.vision.picture_files import find_pictures
from reid_mtda.vision.preprocess import read_image

if TYPE_CHECKING:
    from reid_mtda.models.embedder import Embedder


@dataclass(frozen=True)
class GivenNetwork:
    """What weights of whatever origin do not say of themselves.

    Args:
        crops: a folder of real crops on which torch and the export are compared, and a ready-made file is tried.
        arch: the network of weights in torchreid's names.
        height: of the crops, px; None: as the file says, else 256.
        width: of the crops, px; None: as the file says, else 128.
        bgr255: a ready-made file takes BGR in 0..255.
        output: which output of a ready-made file is the embedding; needed where it has several.
    """

    crops: Path | None = None
    arch: str | None = None
    height: int | None = None
    width: int | None = None
    bgr255: bool = False
    output: str | None = None


def export_weights(
    weights: Path,
    out: Path,
    given: GivenNetwork | None = None,
    *,
    device: str = "cpu",
) -> ModelManifest:
    """Make a model folder from a run's checkpoint, weights in torchreid's names, or a ready-made ONNX / IR file.

    Args:
        weights: a checkpoint of this program; ``.pth``, ``.pth.tar``, ``.npz`` or ``.safetensors`` in torchreid's
            names; or ``.onnx``, ``.xml``.
        out: the model folder to make.
        given: what the file itself does not say.
        device: where the model folder is tried in the end, as for ``load_model``.

    Raises:
        ModelError: unreadable or unfit weights, or an export that answers otherwise than torch.
        DataError: no crops to compare the export on; a ready-made file needs none.
        ConfigError: ``output`` or ``bgr255`` for weights that are not a ready-made file, or a device that is not there.
    """
    weights, given = Path(weights), given or GivenNetwork()
    if device != "cpu":  # before the work
        choose_device(weights if weights.suffix.lower() in SUFFIXES else Path(ONNX), device)
    manifest = _export(weights, out, given)
    if device != "cpu":
        load_model(out, device=device)  # which compares the device with the CPU
    return manifest


def _export(weights: Path, out: Path, given: GivenNetwork) -> ModelManifest:
    height, width, crops, arch = given.height, given.width, given.crops, given.arch
    bgr255, output = given.bgr255, given.output
    if weights.suffix.lower() in SUFFIXES:
        known = crop_size(weights) if height is None or width is None else None
        own_height, own_width = known or (256, 128)
        preprocess = Preprocess(height=height or own_height, width=width or own_width)
        if bgr255:
            preprocess = replace(preprocess, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), channels="BGR")
        return write_manifest(
            weights,
            out,
            arch=arch or weights.stem,
            preprocess=preprocess,
            trained_on=weights.name,
            output=output,
            crops=[] if crops is None else _read_crops(crops),
        )
    if output is not None or bgr255:
        option = "--output" if output is not None else "--bgr255"
        raise ConfigError(
            f"{option}: is for a network in a file ending in {' or '.join(SUFFIXES)}, got {weights.name}; leave it out"
        )
    from reid_mtda.export import export_student

    model = _build(weights, arch)
    default = Preprocess() if arch else _trained_size(weights)
    if crops is None:
        raise DataError(
            f"{weights}: got no real crops to compare the export with torch on; name a folder of some with --crops"
        )
    return export_student(
        model,
        out,
        arch=model.spec.arch,
        preprocess=Preprocess(height=height or default.height, width=width or default.width),
        trained_on=weights.name,
        check_crops=_read_crops(crops),
    )


def _read_crops(folder: Path) -> list[ImageArray]:
    """Some pictures of a folder."""
    found = find_pictures(folder) if folder.is_dir() else ()
    if not found:
        what = "no pictures there" if folder.is_dir() else not_a_folder(folder)
        raise DataError(f"--crops {folder}: {what}, expected a folder of real crops to try the export on")
    return [read_image(path) for path in found[:32]]


def _build(weights: Path, arch: str | None) -> Embedder:
    from reid_mtda.models.checkpoint import is_checkpoint, load_embedder
    from reid_mtda.models.embedder import EmbedderSpec, build_embedder
    from reid_mtda.models.foreign_weights import load_zoo_weights

    if arch is None:
        if weights.is_file() and not is_checkpoint(weights):
            raise ModelError(
                f"{weights}: not a checkpoint of this program; where it holds weights in torchreid's names, name their "
                "network with --arch, e.g. --arch osnet_x0_25"
            )
        return load_embedder(weights)
    model = build_embedder(EmbedderSpec(arch=arch, neck=False), seed=0)
    load_zoo_weights(model, weights)
    return model.eval()


def _trained_size(weights: Path) -> Preprocess:
    """The crop size stored beside a checkpoint's weights."""
    from reid_mtda.models.checkpoint import load_tensors

    _, card = load_tensors(weights, kind="embedder")
    size = card.get("input")
    return Preprocess(height=size[0], width=size[1]) if size else Preprocess()
