"""The adaptation algorithms: one file and one visible loop each."""

from collections.abc import Callable

from reid_mtda.models.embedder import Embedder
from reid_mtda.schema import Strict
from reid_mtda.train.cluster_contrast import ClusterContrastSettings, adapt_cluster_contrast
from reid_mtda.train.dmmd import DmmdSettings, adapt_dmmd

METHODS: dict[str, tuple[type[Strict], Callable[..., Embedder]]] = {
    "dmmd": (DmmdSettings, adapt_dmmd),
    "cluster": (ClusterContrastSettings, adapt_cluster_contrast),
}
"""Teacher methods by name: (settings class, function). A new method is one file and one line here."""
