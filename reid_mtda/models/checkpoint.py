"""Weights on disk: safetensors with a JSON card in its header, never pickles; written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from reid_mtda.errors import ModelError
from reid_mtda.files import atomic_write
from reid_mtda.models.embedder import Embedder, EmbedderSpec, build_embedder
from reid_mtda.runs import Run
from reid_mtda.schema import Strict, parse

_KIND = "reid_mtda"
RUN_AGAIN = "delete it and run the same command again"

SpecT = TypeVar("SpecT", bound=Strict)
NetworkT = TypeVar("NetworkT", bound=nn.Module)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], *, kind: str, card: Mapping[str, Any]) -> None:
    """Write named tensors and a JSON card; ``kind`` says what the file is (``embedder``, ``resume``).

    Args:
        path: the file.
        tensors: by name.
        kind: what the file holds, e.g. ``embedder``.
        card: what is written down with them, as JSON can hold it.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(plain, temporary, metadata={_KIND: json.dumps({"kind": kind, **card})})
        except SafetensorError as error:  # its form of a full or read-only disk
            raise OSError(str(error)) from error


def load_tensors(
    path: Path, *, kind: str, remedy: str = "expected a .safetensors file"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``save_tensors`` wrote; ``remedy`` ends the message about a file that is none of it.

    Args:
        path: the file.
        kind: what the file holds, e.g. ``embedder``.
        remedy: what to do where it cannot be read.

    Raises:
        ModelError: the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {}).get(_KIND, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({error}); {remedy}") from None
    if not isinstance(card, dict) or card.get("kind") != kind:
        got = card.get("kind") if isinstance(card, dict) else "a file of another program"
        raise ModelError(f"{path}: got {got!r}, expected a checkpoint of kind {kind!r}; {remedy}")
    return tensors, card


def save_network(
    path: Path, model: nn.Module, spec: Strict, *, kind: str, run: Run | None = None, card: Mapping[str, Any]
) -> None:
    """Write a network with its spec, and with the mark of ``run`` where it is a file of one.

    Args:
        path: the file.
        model: the network.
        spec: what builds the network again.
        kind: what the file holds, e.g. ``embedder``.
        run: the run that it belongs to; None: none.
        card: what is written down with them, as JSON can hold it.
    """
    mark = {"run": run.mark(path)} if run else {}
    save_tensors(path, model.state_dict(), kind=kind, card={"spec": spec.model_dump(), **mark, **card})


def load_network(
    path: Path, spec: type[SpecT], build: Callable[..., NetworkT], *, kind: str, run: Run | None = None
) -> NetworkT:
    """Build the network stored at ``path`` by ``build(spec, seed=0)``, in eval mode.

    Args:
        path: the file.
        spec: the type of what builds the network again.
        build: makes the network from its spec.
        kind: what the file holds, e.g. ``embedder``.
        run: the run that it belongs to; None: none.

    Raises:
        ModelError: missing, damaged, of another kind, weights that do not fit the spec beside them, or with ``run`` a
            file that another run or another step of this one wrote.
    """
    tensors, card = load_tensors(path, kind=kind, **({"remedy": RUN_AGAIN} if run else {}))
    if run and card.get("run", run.mark(path)) != run.mark(path):
        raise ModelError(f"{path}: was written by another run, or as another file of this one; {RUN_AGAIN}")
    model = build(parse(spec, card.get("spec") or {}, where=str(path)), seed=0)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{path}: weights do not fit the stored spec ({str(error).splitlines()[0]})") from None
    return model.eval()


def save_embedder(path: Path, model: Embedder, *, run: Run | None = None, **card: Any) -> None:
    """Write an Embedder with its spec, so that ``load_embedder`` needs nothing else.

    Args:
        path: the file.
        model: the network.
        run: the run that it belongs to; None: none.
        **card: what is written down with it, as JSON can hold it.
    """
    save_network(path, model, model.spec, kind="embedder", run=run, card=card)


def load_embedder(path: Path, *, run: Run | None = None) -> Embedder:
    """Build the Embedder stored at ``path``, in eval mode; refusals as for ``load_network``."""
    return load_network(path, EmbedderSpec, build_embedder, kind="embedder", run=run)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is one that ``save_tensors`` wrote, of whatever kind, or a damaged one of that ending."""
    try:
        with safe_open(path, framework="pt") as file:
            return _KIND in (file.metadata() or {})
    except (SafetensorError, OSError):
        return path.suffix == ".safetensors"
